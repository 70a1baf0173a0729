"""Watching: the shape of each day's requests and the error of the answers; one alert for each cause."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from icekeel.core.errors import BundleError, Fault, StateError
from icekeel.core.frames import Floats
from icekeel.core.time import DAY
from icekeel.define import Model
from icekeel.monitoring import LATENESS, SHAPES, Baseline, Finding, Profile, Reference, Signal, examine
from icekeel.operations.projections.projections import Settled
from icekeel.operations.workspace import Workspace
from icekeel.registry import CHAMPION, PROFILE_FILE, Registry, read
from icekeel.training.problem import Problem, action_costs

REFUSED, MODEL = "refused", "model"
MEANT = 90 * DAY
"""Alerts opened before are not looked through for an alarm of today."""
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Duty:
    """The end of one day: `day` since 1970 has passed at `at`, its midnight UTC."""

    day: int
    at: int


Report = Callable[[int, str, Sequence[Signal]], None]
Between = Callable[[int, int], Iterable[Settled]]
"""The answers of one model that were settled in `[since, until)`, in that order."""


class Watch:
    """Looks at a day of each model.

    Args:
        workspace: The definitions, and where bundles lie.
        registry: What versions expect.
        report: Told what was found: when, of which model, and the signals.
    """

    def __init__(self, workspace: Workspace, registry: Registry, *, report: Report) -> None:
        self._workspace = workspace
        self._registry = registry
        self.report = report
        self._baselines: dict[str, tuple[str, Baseline, Reference]] = {}

    def baseline(self, model: str) -> tuple[str, Baseline] | None:
        """The champion, and what is usual for it; None without one, or with a damaged one."""
        known = self._baseline(model)
        return None if known is None else known[:2]

    def _baseline(self, model: str) -> tuple[str, Baseline, Reference] | None:
        try:
            alias = self._registry.aliases(model).get(CHAMPION)
        except StateError:  # answers are counted on without the registry, in the cells of before
            return self._baselines.get(model)
        if alias is None:
            return None
        if self._baselines.get(model, ("",))[0] != alias.version:
            try:
                digest = self._registry.version(alias.version).digest
                baseline = read_baseline(self._workspace.bundles, digest)
            except BundleError as error:
                log.error("reference_refused", extra={"model": model, "why": str(error)})
                return None
            budget = self._workspace.project.models[model].watch.false_alarms_per_year * SHAPES
            reference = Reference.of(baseline.profiler, baseline.past_days(), rate=budget / 365)
            self._baselines[model] = (alias.version, baseline, reference)
        return self._baselines[model]

    def look(self, duty: Duty, model: Model, profile: Profile | None) -> bool:
        """Look at the day's shapes; gives whether the error alarmed in it. A second look at a day changes nothing."""
        signals, known = list[Signal](), self._baseline(model.name)
        if known is not None and profile is not None:
            signals = [_shape(found, duty) for found in examine(known[2], profile) if found.flagged]
        self.report(duty.at, model.name, signals)
        told = self._registry.alerts(model.name, duty.at - MEANT)
        return any(duty.at - DAY < alert.evidence.get("error_alarm_at", 0) <= duty.at for alert in told)


def read_baseline(bundles: Path, digest: str) -> Baseline:
    """What is usual for a version, by its bundle.

    Raises:
        BundleError: it is damaged, or of a version from before minutes were watched (`no_baseline`).
    """
    try:
        return msgspec.json.decode(read(bundles, digest).files[PROFILE_FILE], type=Baseline)
    except (KeyError, msgspec.DecodeError) as error:
        what, hint = "the version does not say what is usual for it", "train it again"
        raise BundleError(Fault("no_baseline", what, digest[:12], hint=hint)) from error


def _shape(found: Finding, duty: Duty) -> Signal:
    """The shape of one column of a stream, as a signal."""
    subject: Any
    subject, _, column = found.column.partition("|")[2].partition(".")
    name = column.partition(".")[0] if subject == "source" else column
    sentence = found.sentence.replace(found.column, column, 1)
    late = found.larger and subject == "source" and column.endswith(f".{LATENESS}")
    return Signal(subject, name, sentence, found.distance, "late" if late else "shape", since=duty.day * DAY)


def error_name(model: Model) -> str:
    """What the error of one answer is called: `rmse` is of many, of one it is the square."""
    return "squared error" if model.error == "rmse" else model.error


def row_errors(model: Model, predictions: Sequence[float], rows: Sequence[Settled]) -> Floats:
    """The error of each answer; not finite where the target admits none, as 0 does not for `mape`."""
    problem = Problem(model.task, model.error)  # type: ignore[arg-type]  # checked with the project
    target = np.array([row.target for row in rows], dtype=np.float64)
    with np.errstate(all="ignore"):
        return problem.row_errors(target, np.array(predictions, dtype=np.float64))


def costs(model: Model, predictions: Sequence[float], rows: Sequence[Settled]) -> Floats:
    """What each answer cost: of the action's two mistakes where there is an action, else the error itself."""
    if model.action is None:
        return row_errors(model, predictions, rows)
    target = np.array([row.target for row in rows], dtype=np.float64)
    return action_costs(model.action, np.array(predictions, dtype=np.float64), target)


def scored(model: Model, rows: Iterable[Settled]) -> list[Settled]:
    """The answers whose error is a number, by what the model said.

    Also where the guard refused, or a fall-back answered: guards of two versions flag different requests, so leaving
    those out would make the version look better whose guard flags more.
    """
    asked = list(rows)
    finite = np.isfinite(row_errors(model, [row.prediction for row in asked], asked))
    if lost := int((~finite).sum()):
        log.warning("answers_not_scored", extra={"model": model.name, "answers": lost, "error": model.error})
    return [row for row, counts in zip(asked, finite, strict=True) if counts]


def shown(rows: Iterable[Settled], version: str) -> list[Settled]:
    """The answers of a version that callers got: what the guard kept from them alarms nobody, it was found before."""
    return [row for row in rows if row.version == version and row.verdict != REFUSED and row.source == MODEL]
