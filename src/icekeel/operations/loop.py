"""The duties of each day: watch, judge, retrain, and decide with a reason."""

from __future__ import annotations

import json
import logging
import math
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from icekeel.core.errors import BundleError
from icekeel.core.frames import Bools, Floats
from icekeel.core.time import DAY, format_time, parse_duration, to_datetime
from icekeel.define import Model, Project
from icekeel.define.nodes import Windowed, walk
from icekeel.experiments import PairedDays, RolloutPlan, RolloutState, Split, Verdict, log_mismatch
from icekeel.experiments import decide as judge
from icekeel.features.plan import Plan
from icekeel.journal import Alerted, Writer
from icekeel.monitoring import Alert as Finding
from icekeel.monitoring import (
    Detector,
    Profile,
    Profiler,
    Reference,
    Signal,
    Standardiser,
    examine,
    group,
    log_threshold,
)
from icekeel.registry import CHAMPION, PROFILE_FILE, Alert, Alias, Registry, read
from icekeel.serving.routing import CHALLENGER
from icekeel.training.problem import Problem

from .projections import Settled
from .workshop import SHADOW, decide

QUIET_DAYS = 21
DRIFT_SHARE = 0.5
"""Part of the false-alarm budget for the shape of inputs; the rest is for the error of answers."""
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Duty:
    """The end of one day: `day` since 1970 has passed at `at`, its midnight UTC."""

    day: int
    at: int


Train = Callable[[str, str, int, str], None]
"""Trains and admits: model, rung (empty: the ladder), now, reason."""


class Loop:
    """Does, for every model, what is due when a day has passed.

    Args:
        project, plans: The definitions.
        registry, bundles, journal: Where decisions are made and recorded.
        train: How a version is trained and admitted; in a process of its own by default.
    """

    def __init__(
        self,
        project: Project,
        plans: Mapping[str, Plan],
        *,
        registry: Registry,
        bundles: Path,
        journal: Writer,
        train: Train,
    ) -> None:
        self._project = project
        self._plans = plans
        self._registry = registry
        self._bundles = bundles
        self._journal = journal
        self._train = train
        self._references: dict[str, tuple[str, Reference]] = {}

    def due(self, last: int, now: int) -> list[Duty]:
        """The midnights in `(last, now]`; only the latest after a long pause, since each looks at all there is."""
        if not last:
            return []
        days = range(last // DAY + 1, now // DAY + 1)
        return [Duty(day - 1, day * DAY) for day in days][-31:]

    def do(self, duty: Duty, name: str, settled: Sequence[Settled], profile: Profile | None) -> None:
        """Watch, judge and retrain one model."""
        model = self._project.models[name]
        aliases = self._registry.aliases(name)
        if CHAMPION not in aliases:
            return
        alarmed = self._watch(duty, model, settled, profile, aliases[CHAMPION])
        if CHALLENGER in aliases:
            self._judge_split(duty, model, settled, aliases)
        if SHADOW in aliases:
            self._judge_shadow(duty, model, settled, aliases)
        self._retrain(duty, model, alarmed)

    # Watching

    def profiler(self, name: str) -> tuple[str, Profiler] | None:
        """The champion and the cells in which its training data were counted."""
        reference = self._reference(name)
        return None if reference is None else (reference[0], reference[1].profiler)

    def _reference(self, name: str) -> tuple[str, Reference] | None:
        alias = self._registry.aliases(name).get(CHAMPION)
        if alias is None:
            return None
        if self._references.get(name, ("",))[0] != alias.version:
            try:
                bundle = read(self._bundles, self._registry.version(alias.version).digest)
            except BundleError as error:
                log.error("reference_refused", extra={"model": name, "why": str(error)})
                return None
            stored = msgspec.json.decode(bundle.files[PROFILE_FILE])
            profiler = Profiler.from_dict(stored["profiler"])
            days = [Profile.from_dict(day) for day in stored["days"]]
            self._references[name] = (alias.version, Reference.of(profiler, days))
        return self._references[name]

    def _watch(
        self, duty: Duty, model: Model, settled: Sequence[Settled], profile: Profile | None, champion: Alias
    ) -> bool:
        """Look at yesterday's inputs and at the error of what was settled; gives whether the error alarmed."""
        signals = []
        reference = self._reference(model.name)
        if reference is not None and profile is not None:
            signals = [
                Signal("feature", found.column, found.sentence, found.distance)
                for found in examine(reference[1], profile)
                if found.flagged
            ]
        error = self._error_signal(duty, model, settled, champion)
        found = group(
            [*signals, *([error] if error else [])],
            model=model.name,
            at=duty.at,
            sources=_sources(self._plans[model.name]),
            open_alerts=self._open(model.name),
        )
        for finding in found:
            self._raise(finding)
        self._resolve(duty, model.name, {finding.cause for finding in found})
        return error is not None

    def _error_signal(
        self, duty: Duty, model: Model, settled: Sequence[Settled], champion: Alias
    ) -> Signal | None:
        """An alarm if the daily error of the champion's answers has left its past."""
        version = self._registry.version(champion.version)
        quiet = version.metrics.get("daily_loss", [])
        rows = [row for row in settled if row.version == champion.version and row.asked_at >= champion.since]
        days = daily_losses(model, rows, until=duty.at)
        if len(quiet) < QUIET_DAYS or not days:
            return None
        at = np.array([day * DAY for day, _ in quiet], dtype=np.int64)
        standardiser = Standardiser.fit(at, np.array([loss for _, loss in quiet], dtype=np.float64))
        budget = model.watch.false_alarms_per_year * (1 - DRIFT_SHARE)
        detector = Detector(standardiser, log_threshold(365, 1, budget))
        look = None
        for day, loss in days:
            detector, look = detector.look(day * DAY, loss)
        if look is None or not look.alarm or days[-1][0] != duty.day:
            return None
        usual = float(np.mean([loss for _, loss in quiet]))
        recent = float(np.mean([loss for _, loss in days[-7:]]))
        sentence = (
            f"{model.error} of {champion.version} has left its past: {recent:.4g} over the last "
            f"{min(7, len(days))} days against {usual:.4g} in the backtest ({look.direction} it)"
        )
        return Signal("outcome", model.error, sentence, look.log_evidence)

    def _open(self, model: str) -> list[Finding]:
        return [
            Finding(
                alert.id,
                alert.at,
                model,
                alert.cause,
                "",
                str(alert.evidence.get("title", "")),
                tuple(alert.evidence.get("sentences", ())),
                alert.todo,
                int(alert.evidence.get("last_seen", alert.at)),
                int(alert.evidence.get("times", 1)),
            )
            for alert in self._registry.alerts(model, open_only=True)
        ]

    def _raise(self, finding: Finding) -> None:
        evidence = {
            "title": finding.title,
            "sentences": list(finding.evidence),
            "last_seen": finding.last_seen,
            "times": finding.times,
        }
        alert = Alert(
            id=finding.id,
            at=finding.at,
            model=finding.model,
            cause=finding.cause,
            todo=finding.first_thing_to_do,
            evidence=evidence,
        )
        if self._registry.record(alert):
            self._journal.append(
                Alerted(
                    at=finding.at,
                    id=finding.id,
                    model=finding.model,
                    cause=finding.cause,
                    severity=finding.severity,
                    title=finding.title,
                    evidence=evidence,
                )
            )

    def _resolve(self, duty: Duty, model: str, causes: set[str]) -> None:
        """Close alerts whose cause was not found for three days."""
        for alert in self._registry.alerts(model, open_only=True):
            last = int(alert.evidence.get("last_seen", alert.at))
            if alert.cause not in causes and duty.at - last >= 3 * DAY:
                self._registry.resolve(alert.id, resolution="not found for three days", at=duty.at)

    # Judging

    def _judge_split(
        self, duty: Duty, model: Model, settled: Sequence[Settled], aliases: Mapping[str, Alias]
    ) -> None:
        """The challenger against the champion, each on its own units."""
        alias = aliases[CHALLENGER]
        rollout = model.rollout
        if rollout is None:
            return
        rows = [row for row in settled if row.asked_at >= alias.since]
        in_b = np.array([row.arm == CHALLENGER for row in rows], dtype=np.bool_)
        cost = costs(model, np.array([row.prediction for row in rows]), rows)
        units_a, units_b = _by_unit(rows, cost, ~in_b), _by_unit(rows, cost, in_b)
        plan = RolloutPlan(
            metric=_metric(model),
            share=alias.share,
            alpha=rollout.alpha,
            minimum_days=rollout.minimum_days,
            maximum_days=rollout.maximum_days,
        )
        state = RolloutState(
            (duty.at - alias.since) / DAY,
            Split.of("one", units_a, units_b),
            {},
            log_mismatch([len(units_a), len(units_b)], [1 - alias.share, alias.share]),
        )
        self._conclude(duty, model, CHALLENGER, alias, judge(plan, state))

    def _judge_shadow(
        self, duty: Duty, model: Model, settled: Sequence[Settled], aliases: Mapping[str, Alias]
    ) -> None:
        """The version in shadow against the champion, on the same questions."""
        alias, champion = aliases[SHADOW], aliases[CHAMPION]
        retrain = model.retrain
        rows = [
            row
            for row in settled
            if alias.version in row.shadows
            and row.version == champion.version
            and row.asked_at >= alias.since
        ]
        if retrain is None or not rows:
            return
        standing = costs(model, np.array([row.prediction for row in rows]), rows)
        shadow = costs(model, np.array([row.shadows[alias.version] for row in rows]), rows)
        days = np.array([row.asked_at // DAY for row in rows], dtype=np.int64)
        plan = RolloutPlan(
            metric=_metric(model),
            share=0.0,
            alpha=retrain.alpha,
            margin=retrain.margin,
            minimum_days=7,
            maximum_days=90,
        )
        state = RolloutState((duty.at - alias.since) / DAY, PairedDays.of(days, standing, shadow))
        self._conclude(duty, model, SHADOW, alias, judge(plan, state))

    def _conclude(self, duty: Duty, model: Model, name: str, alias: Alias, verdict: Verdict) -> None:
        """Carry a verdict out and record it; `continue` leaves no trace."""
        if verdict.kind == "continue":
            return
        evidence = {metric: _plain(found) for metric, found in verdict.evidence.items()}
        with self._registry.atomically():
            if verdict.kind == "promote":
                self._registry.set_alias(
                    model.name,
                    CHAMPION,
                    alias.version,
                    reason=verdict.reason,
                    by="loop",
                    evidence=evidence,
                    at=duty.at,
                )
            self._registry.drop_alias(
                model.name, name, reason=verdict.reason, by="loop", evidence=evidence, at=duty.at
            )
        decide(
            self._registry,
            self._journal,
            model.name,
            verdict.kind,
            alias.version,
            reason=verdict.reason,
            at=duty.at,
            evidence=evidence,
        )

    # Retraining

    def _retrain(self, duty: Duty, model: Model, alarmed: bool) -> None:
        retrain = model.retrain
        if retrain is None:
            return
        newest = max(version.at for version in self._registry.versions(model.name))
        if _scheduled(retrain.every, newest, duty.at):
            reason = f"scheduled: every {retrain.every}"
        elif alarmed and retrain.on_alarm and duty.at - newest >= 7 * DAY:
            reason = "the error of the answers raised an alarm"
        else:
            return
        aliases = self._registry.aliases(model.name)
        if CHALLENGER in aliases:
            return  # a version born now would be judged against a champion that may change any day
        champion = self._registry.version(aliases[CHAMPION].version)
        rung = str(champion.ladder.get("winner", ""))
        self._train(model.name, rung, duty.at, reason)


def daily_losses(model: Model, rows: Sequence[Settled], *, until: int) -> list[tuple[int, float]]:
    """Day of settlement and mean error of the answers settled on it, before `until`."""
    problem = Problem(model.task, model.error)  # type: ignore[arg-type]  # checked with the project
    kept = [row for row in rows if row.settled_at < until]
    if not kept:
        return []
    errors = problem.row_errors(
        np.array([row.target for row in kept]), np.array([row.prediction for row in kept])
    )
    days, place, counts = np.unique(
        [row.settled_at // DAY for row in kept], return_inverse=True, return_counts=True
    )
    means = np.bincount(place, errors) / counts
    return list(zip(days.tolist(), means.tolist(), strict=True))


def costs(model: Model, predictions: Floats, rows: Sequence[Settled]) -> Floats:
    """What each answer cost: of the action's two mistakes where there is an action, else the error itself."""
    target = np.array([row.target for row in rows], dtype=np.float64)
    if model.action is None:
        problem = Problem(model.task, model.error)  # type: ignore[arg-type]  # checked with the project
        return problem.row_errors(target, np.asarray(predictions, dtype=np.float64))
    acted = predictions > model.action.threshold
    true = target > 0.5
    return np.where(acted & ~true, model.action.false, np.where(~acted & true, model.action.missed, 0.0))


def _metric(model: Model) -> str:
    return "cost per answer" if model.action is not None else model.error


def _by_unit(rows: Sequence[Settled], cost: Floats, chosen: Bools) -> Floats:
    """Mean cost of each unit of an arm: one observation per unit of randomisation."""
    units = [row.unit for row, keep in zip(rows, chosen, strict=True) if keep]
    if not units:
        return np.zeros(0)
    _, place, counts = np.unique(units, return_inverse=True, return_counts=True)
    return np.asarray(np.bincount(place, cost[chosen]) / counts, dtype=np.float64)


def _plain(found: Any) -> dict[str, float | None]:
    values = {name: float(getattr(found, name)) for name in found.__dataclass_fields__}
    return {name: value if math.isfinite(value) else None for name, value in values.items()}


def _sources(plan: Plan) -> dict[str, list[str]]:
    """Feature -> the event tables it is computed from."""
    return {
        feature.name: sorted({node.keyed.table for node in walk(feature.node) if isinstance(node, Windowed)})
        for feature in plan.features
    }


def _scheduled(every: str, newest: int, now: int) -> bool:
    """Whether a retrain is due at midnight `now`, the newest version being from `newest`."""
    if every == "month":
        return to_datetime(now).day == 1 and now - newest >= 7 * DAY
    if every == "week":
        return to_datetime(now).weekday() == 0 and now - newest >= 3 * DAY
    return now - newest >= parse_duration(every)


def train_in_child(folder: Path) -> Train:
    """Training in a process of its own, through the command line, so that the keeper's memory stays small."""

    def run(model: str, rung: str, now: int, reason: str) -> None:
        command = [
            sys.executable,
            "-m",
            "icekeel",
            "train",
            model,
            "--project",
            str(folder),
            "--now",
            format_time(now),
        ]
        command += ["--reason", reason, "--json", *(["--rung", rung] if rung else [])]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            log.error("training_failed", extra={"model": model, "why": done.stderr.strip()[-2000:]})
        else:
            log.info("trained", extra={"model": model, "result": json.loads(done.stdout)})

    return run
