"""What somebody who decides about a model must know of it, from what was measured: the content of its page.

Everything is read: from the version's training, from what its bundle holds, and from answers whose outcome is known.
Money is in the project's own terms: what 0.01 of error costs a year (`ik.usd_per_year`), what a missed and a false
action cost.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import lmdb
import msgspec
import numpy as np

from icekeel.core.time import DAY, format_time, parse_time
from icekeel.define import Model
from icekeel.define.reading import kind_of
from icekeel.engines import Interval, load_engine
from icekeel.engines.similar import SIMILAR_FILE, Case, SimilarCases
from icekeel.registry import INTERVAL_FILE, Bundle, Registry, Version, read
from icekeel.training.mistakes import Amounts, Choices, Example, mistakes

from .audits import findings_of
from .explain import Reason, main_reasons
from .projections import AnswerProjection
from .watch import REFUSED, scored
from .workspace import Workspace

MODEL = "model"
LIVE = 90 * DAY
"""How far back answers are counted."""
FEWEST = 100
"""Answers with outcomes from which on it is told how the model does in life."""
CASES = 10


@dataclass(frozen=True, slots=True)
class Rival:
    """Another way to do the same, and what it would cost a year instead.

    Attributes:
        name: Rung of the ladder.
        error: In the backtest.
        usd_per_year: More than what serves; below 0 it would be cheaper.
        simpler: Whether it comes before what serves on the ladder.
    """

    name: str
    error: float
    usd_per_year: float
    simpler: bool


@dataclass(frozen=True, slots=True)
class FeaturesGain:
    """Errors of the same algorithm on the same rows: on the baseline's features and on the model's."""

    plain: float
    made: float


@dataclass(frozen=True, slots=True)
class Life:
    """Answers that callers got lately, and whose outcome is known.

    Attributes:
        since: ISO 8601.
        wrong: Of the version's own answers; None where fewer than `FEWEST` are known.
    """

    since: str
    answers: int
    wrong: Amounts | Choices | None


@dataclass(frozen=True, slots=True)
class Briefing:
    """All that the page and the model card say.

    Attributes:
        definition, version: What it is about.
        rung, reason: Which kind of model, and why that one.
        wrong: Errors on the latest stretch of the backtest, which it had not learnt from.
        rivals: The other rungs, simplest first.
        coverage: Share of outcomes that its intervals are to hold; None without intervals.
        importance: Feature and its share of what all save, largest first.
        kinds: Feature -> what sort it is, see `define.reading.kind_of`.
        example: An ordinary past request; None for versions of before it was kept.
        reasons: What moved that prediction.
        cases: The past cases most like it, asked before it.
        audits: What the audits found in training and since, as `Finding`.
        guard: What training measured of the guard; empty without one.
        alerts: What is wrong at present, in sentences.
        overrides: Why it serves although a gate failed; empty as a rule.
        features_gain: Of the rung that serves; None where it was not measured.
        meta: Of the bundle, see `registry.Contents`.
    """

    definition: Model
    version: Version
    rung: str
    reason: str
    wrong: Amounts | Choices | None
    life: Life
    rivals: Sequence[Rival]
    importance: Sequence[tuple[str, float]]
    kinds: Mapping[str, str]
    coverage: float | None
    example: Example | None
    reasons: Sequence[Reason]
    cases: Sequence[Case]
    audits: Sequence[Mapping[str, Any]]
    guard: Mapping[str, Any]
    alerts: Sequence[str]
    overrides: Sequence[str]
    features_gain: FeaturesGain | None = None
    meta: Mapping[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """All of it that is data, as JSON values."""
        held = {name: getattr(self, name) for name in self.__dataclass_fields__ if name != "definition"}
        found: dict[str, Any] = msgspec.to_builtins({**held, "model": self.definition.name})
        return found


def briefing(
    workspace: Workspace,
    registry: Registry,
    version: Version,
    online: lmdb.Environment | None,
    *,
    now: int,
) -> Briefing:
    """What there is to say of a version.

    Args:
        online: The projections, where outcomes are; None where there are none.

    Raises:
        BundleError: its bundle is damaged or gone.
    """
    model = workspace.project.models[version.model]
    bundle = read(workspace.bundles, version.digest)
    metrics = version.metrics
    example = msgspec.convert(metrics["example"], Example) if "example" in metrics else None
    reasons, cases = _example(model, bundle, example)
    features = [one for one in workspace.plans[model.name].features if one.name in bundle.meta["definitions"]]
    interval = bundle.files.get(INTERVAL_FILE)
    return Briefing(
        definition=model,
        version=version,
        rung=str(bundle.meta["rung"]),
        reason=str(version.ladder.get("reason", "")),
        wrong=_wrong(model, metrics.get("mistakes")),
        life=_life(workspace, model, version, online, now),
        rivals=_rivals(model, version, str(bundle.meta["rung"])),
        importance=[(str(name), float(share)) for name, share in metrics.get("importance", ())],
        kinds={feature.name: kind_of(feature.node) for feature in features},
        coverage=None if interval is None else msgspec.json.decode(interval, type=Interval).coverage,
        example=example,
        reasons=reasons,
        cases=cases,
        audits=findings_of(registry, version),
        guard=metrics.get("guard") or {},
        alerts=[
            str(alert.evidence.get("title") or alert.cause)
            for alert in registry.alerts(model.name, open_only=True)
        ],
        overrides=[
            change.override
            for change in registry.history(model.name)
            if change.version == version.name and change.override
        ],
        meta=bundle.meta,
    )


def _wrong(model: Model, kept: Any) -> Amounts | Choices | None:
    if kept is None:
        return None
    if model.task == "probability":
        return msgspec.convert(kept, Choices)
    return msgspec.convert(kept, Amounts)


def _life(
    workspace: Workspace, model: Model, version: Version, online: lmdb.Environment | None, now: int
) -> Life:
    """How the version's own answers did, as far as outcomes have come."""
    since = now - LIVE
    rows = []
    if online is not None:
        try:
            answers = AnswerProjection(online, model, workspace.project)
            with online.begin() as txn:
                rows = [row for row in answers.settled(txn, since, now + 1) if row.version == version.name]
        except (lmdb.ReadonlyError, lmdb.NotFoundError):  # the keeper has not begun
            rows = []
    own = scored(model, (row for row in rows if row.source == MODEL and row.verdict != REFUSED))
    wrong = None
    if len(own) >= FEWEST:
        truth, said = (
            np.array([getattr(row, name) for row in own], dtype=np.float64) for name in ("target", "answer")
        )
        wrong = mistakes(model, truth, said)
    return Life(format_time(since), len(own), wrong)


def _rivals(model: Model, version: Version, rung: str) -> list[Rival]:
    steps = version.ladder.get("steps", ())
    errors = {str(step["rung"]): float(step["error"]) for step in steps}
    if rung not in errors:
        return []
    point = model.choose.within.error_point
    order = list(errors)
    return [
        Rival(name, error, (error - errors[rung]) / 0.01 * point, order.index(name) < order.index(rung))
        for name, error in errors.items()
        if name != rung
    ]


def _example(model: Model, bundle: Bundle, shown: Example | None) -> tuple[Sequence[Reason], Sequence[Case]]:
    """Why the example's prediction is what it is, and the cases most like it that were asked before it."""
    if shown is None:
        return [], []
    engine = load_engine(bundle.files)
    explained = engine.explain([shown.features.get(column.name) for column in engine.columns])
    reasons = main_reasons(explained, shown.features, probability=model.task == "probability")
    if SIMILAR_FILE not in bundle.files:
        return reasons, []
    cases = SimilarCases.load(bundle.files)
    asked = parse_time(shown.asked_at)
    # Most cases are older than a request of the last fold: among so many the ten are found.
    nearest = cases.nearest([shown.features.get(column.name) for column in cases.columns], 100 * CASES)
    return reasons, [case for case in nearest if case.asked_at < asked][:CASES]
