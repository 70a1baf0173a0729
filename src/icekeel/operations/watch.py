"""Watching: the shape of each day's requests and the error of the answers; one alert for each cause."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import msgspec
import numpy as np

from icekeel.core.errors import BundleError, StateError
from icekeel.core.frames import Floats
from icekeel.core.time import DAY
from icekeel.define import Model
from icekeel.monitoring import (
    Detector,
    Look,
    Profile,
    Profiler,
    Reference,
    Signal,
    Standardiser,
    examine,
    log_threshold,
)
from icekeel.registry import CHAMPION, PROFILE_FILE, Alias, Registry, read
from icekeel.training.problem import Problem

from .projections import Settled
from .workspace import Workspace

QUIET_DAYS = 21
"""Days of a version's own past that are needed to know what is usual for it."""
DRIFT_SHARE = 0.5
"""Part of the false-alarm budget for the shape of inputs; the rest is for the error of answers."""
REFUSED, MODEL = "refused", "model"
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Duty:
    """The end of one day: `day` since 1970 has passed at `at`, its midnight UTC."""

    day: int
    at: int


Report = Callable[[int, str, Sequence[Signal]], None]
Between = Callable[[int, int], Iterable[Settled]]
"""The answers of one model that were settled in `[since, until)`, in that order."""


@dataclass(slots=True)
class _ErrorWatch:
    """The daily error of one version since it became champion, day by day."""

    version: str
    since: int
    next_day: int
    past: list[tuple[int, float]]
    detector: Detector | None = None
    look: Look | None = None
    recent: list[float] = field(default_factory=list)

    def add(self, day: int, loss: float, bar: float) -> None:
        """One day's mean error: part of the quiet past until there is enough of that, watched from then on."""
        if self.detector is None and len(self.past) >= QUIET_DAYS:
            at = np.array([day * DAY for day, _ in self.past], dtype=np.int64)
            self.detector = Detector(Standardiser.fit(at, np.array([loss for _, loss in self.past])), bar)
        if self.detector is None:
            self.past.append((day, loss))
            return
        self.detector, self.look = self.detector.look(day * DAY, loss)
        self.recent = [*self.recent[-6:], loss]


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
        self._references: dict[str, tuple[str, Reference]] = {}
        self._errors: dict[str, _ErrorWatch] = {}

    def profiler(self, model: str) -> tuple[str, Profiler] | None:
        """The champion and the cells in which its training data were counted."""
        reference = self._reference(model)
        return None if reference is None else (reference[0], reference[1].profiler)

    def _reference(self, model: str) -> tuple[str, Reference] | None:
        try:
            alias = self._registry.aliases(model).get(CHAMPION)
        except StateError:  # answers are counted on without the registry, in the cells of before
            return self._references.get(model)
        if alias is None:
            return None
        if self._references.get(model, ("",))[0] != alias.version:
            try:
                bundle = read(self._workspace.bundles, self._registry.version(alias.version).digest)
            except BundleError as error:
                log.error("reference_refused", extra={"model": model, "why": str(error)})
                return None
            stored = msgspec.json.decode(bundle.files[PROFILE_FILE])
            profiler = Profiler.from_dict(stored["profiler"])
            days = [Profile.from_dict(day) for day in stored["days"]]
            budget = self._workspace.project.models[model].watch.false_alarms_per_year * DRIFT_SHARE
            self._references[model] = (alias.version, Reference.of(profiler, days, rate=budget / 365))
        return self._references[model]

    def look(
        self, duty: Duty, model: Model, between: Between, profile: Profile | None, champion: Alias
    ) -> bool:
        """Look at the day's inputs and at the error of what was settled; gives whether the error alarmed.

        A second look at the same day changes nothing.
        """
        signals = []
        reference = self._reference(model.name)
        if reference is not None and profile is not None:
            signals = [
                Signal("feature", found.column, found.sentence, found.distance)
                for found in examine(reference[1], profile)
                if found.flagged
            ]
        error = self._error_signal(duty, model, between, champion)
        self.report(duty.at, model.name, [*signals, *([error] if error else [])])
        opened = self._registry.alerts(model.name, open_only=True)
        return any(alert.evidence.get("error_alarm_at") == duty.at for alert in opened)

    def _error_signal(self, duty: Duty, model: Model, between: Between, champion: Alias) -> Signal | None:
        """An alarm if the daily error of the champion's answers has risen above the version's own past.

        An error that falls alarms nobody; its detector begins anew.
        """
        watch = self._errors.get(model.name)
        if watch is None or (watch.version, watch.since) != (champion.version, champion.since):
            quiet = self._registry.version(champion.version).metrics.get("daily_loss", [])
            past = [(int(day), float(loss)) for day, loss in quiet]
            watch = _ErrorWatch(champion.version, champion.since, champion.since // DAY, past)
            self._errors[model.name] = watch
        bar = log_threshold(365, 1, model.watch.false_alarms_per_year * (1 - DRIFT_SHARE))
        for day in range(watch.next_day, duty.day + 1):
            watch.next_day, watch.look = day + 1, None
            loss = _mean_error(model, between(day * DAY, (day + 1) * DAY), champion)
            if loss is not None:
                watch.add(day, loss, bar)
        if watch.look is None or not watch.look.alarm or watch.look.direction == "below":
            return None
        usual = float(np.mean([loss for _, loss in watch.past]))
        sentence = (
            f"{error_name(model)} of {champion.version} has risen: {np.mean(watch.recent):.4g} over the last "
            f"{len(watch.recent)} days against {usual:.4g} in its quiet past"
        )
        return Signal("outcome", error_name(model), sentence, watch.look.log_evidence)


def error_name(model: Model) -> str:
    """What the error of one answer is called: `rmse` is of many, of one it is the square."""
    return "squared error" if model.error == "rmse" else model.error


def row_errors(model: Model, predictions: Sequence[float], rows: Sequence[Settled]) -> Floats:
    """The error of each answer; not finite where the target admits none, as 0 does not for `mape`."""
    problem = Problem(model.task, model.error)  # type: ignore[arg-type]  # checked with the project
    target = np.array([row.target for row in rows], dtype=np.float64)
    with np.errstate(all="ignore"):
        return problem.row_errors(target, np.array(predictions, dtype=np.float64))


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


def _mean_error(model: Model, rows: Iterable[Settled], champion: Alias) -> float | None:
    """Mean error of what the champion said and callers got; None without one.

    What the guard kept from them alarms nobody: it was found before.
    """
    own = (row for row in rows if row.version == champion.version and row.asked_at >= champion.since)
    mine = scored(model, (row for row in own if row.verdict != REFUSED and row.source == MODEL))
    return float(row_errors(model, [row.prediction for row in mine], mine).mean()) if mine else None


def costs(model: Model, predictions: Sequence[float], rows: Sequence[Settled]) -> Floats:
    """What each answer cost: of the action's two mistakes where there is an action, else the error itself."""
    if model.action is None:
        return row_errors(model, predictions, rows)
    target = np.array([row.target for row in rows], dtype=np.float64)
    predicted = np.array(predictions, dtype=np.float64)
    acted, true = predicted > model.action.threshold, target > 0.5
    return np.where(acted & ~true, model.action.false, np.where(~acted & true, model.action.missed, 0.0))
