"""What somebody who decides about a model must know of it, from what was measured: the content of its page.

Everything is read: from the version's training, from what its bundle holds, and from answers whose outcome is known.
Money is in the project's own terms: what 0.01 of error costs a year (`ik.usd_per_year`), what a missed and a false
action cost.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import lmdb
import msgspec
import numpy as np

from icekeel.core.errors import BundleError, Fault
from icekeel.core.time import DAY, format_time, parse_time
from icekeel.define import Model
from icekeel.define.reading import kind_of
from icekeel.engines import Interval, load_engine
from icekeel.engines.similar import SIMILAR_FILE, Case, SimilarCases
from icekeel.operations.monitors.watch import REFUSED, scored
from icekeel.operations.projections.projections import AnswerProjection
from icekeel.operations.workspace import Workspace
from icekeel.registry import INTERVAL_FILE, Bundle, Registry, Version
from icekeel.training.mistakes import Amounts, Choices, Example, mistakes
from icekeel.training.worth import FeatureWorth

from .dossier import Dossier, dossier
from .explain import Reason, main_reasons

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
        definition, dossier: What it is about.
        wrong: Errors on the latest stretch of the backtest, which it had not learnt from.
        rivals: The other rungs, simplest first.
        coverage: Share of outcomes that its intervals are to hold; None without intervals.
        importance: Feature and its share of what all save, largest first.
        kinds: Feature -> what sort it is, see `define.reading.kind_of`.
        example: An ordinary past request; None for versions of before it was kept.
        reasons: What moved that prediction.
        cases: The past cases most like it, asked before it.
        guard: What training measured of the guard; empty without one.
        alerts: What is wrong at present, in sentences.
        features: What they gain over the baseline's, by the latest whole ladder; None where it was not measured.
    """

    definition: Model
    dossier: Dossier
    wrong: Amounts | Choices | None
    life: Life
    rivals: Sequence[Rival]
    importance: Sequence[tuple[str, float]]
    kinds: Mapping[str, str]
    coverage: float | None
    example: Example | None
    reasons: Sequence[Reason]
    cases: Sequence[Case]
    guard: Mapping[str, Any]
    alerts: Sequence[str]
    features: FeatureWorth | None

    @property
    def version(self) -> Version:
        """Which it is about."""
        return self.dossier.version

    def as_dict(self) -> dict[str, Any]:
        """All of it that is data, as JSON values."""
        held = {name: getattr(self, name) for name in self.__dataclass_fields__ if name != "definition"}
        held |= {"dossier": self.dossier.as_dict(), "rung": self.version.rung, "audits": self.dossier.audits}
        found: dict[str, Any] = msgspec.to_builtins(
            {"model": self.definition.name, "version": self.version, **held}
        )
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
    found = dossier(workspace, registry, version.name)
    if found.bundle is None or found.contents is None:
        raise BundleError(Fault("damaged", found.damage, version.name, hint=f"icekeel train {model.name}"))
    bundle = found.bundle
    metrics = version.metrics
    example = msgspec.convert(metrics["example"], Example) if "example" in metrics else None
    reasons, cases = _example(model, bundle, example)
    features = [one for one in workspace.plans[model.name].features if one.name in found.contents.definitions]
    interval = bundle.files.get(INTERVAL_FILE)
    return Briefing(
        definition=model,
        dossier=found,
        wrong=_wrong(model, metrics.get("mistakes")),
        life=_life(workspace, model, version, online, now),
        rivals=_rivals(model, version),
        importance=[(str(name), float(share)) for name, share in metrics.get("importance", ())],
        kinds={feature.name: kind_of(feature.node) for feature in features},
        coverage=None if interval is None else msgspec.json.decode(interval, type=Interval).coverage,
        example=example,
        reasons=reasons,
        cases=cases,
        guard=metrics.get("guard") or {},
        alerts=[
            str(alert.evidence.get("title") or alert.cause)
            for alert in registry.alerts(model.name, open_only=True)
        ],
        features=_features(registry, version),
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


def _features(registry: Registry, version: Version) -> FeatureWorth | None:
    """By its own ladder, or the latest before it with the same features: a scheduled retrain climbs none."""
    measured = [
        one.metrics["worth"]["features"]
        for one in registry.versions(version.model)
        if one.number <= version.number and one.features == version.features and one.metrics.get("worth")
    ]
    return msgspec.convert(measured[-1], FeatureWorth) if measured and measured[-1] else None


def _rivals(model: Model, version: Version) -> list[Rival]:
    rung, steps = version.rung, version.ladder.get("steps", ())
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
