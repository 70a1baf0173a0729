"""Versions on trial: what came of each arm, and carrying the verdict out.

A challenger answers its part of the units and is judged by their outcomes, at least hourly; a version in shadow answers
nobody and is judged at midnight on the champion's own questions, since there the day is the observation. Every look may
be made again, and a look that decides nothing leaves no trace.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any, Protocol

import numpy as np

from icekeel.core.errors import Fault, ProjectError
from icekeel.core.time import DAY, FOREVER, format_second, parse_duration
from icekeel.define import Model
from icekeel.experiments import (
    Failures,
    Metric,
    PairedDays,
    RolloutPlan,
    RolloutState,
    Tally,
    Units,
    Verdict,
    failing,
    log_mismatch,
)
from icekeel.experiments import decide as judge
from icekeel.journal import Writer
from icekeel.operations.alerts.alerting import SKEW
from icekeel.operations.monitors.watch import costs, error_name, scored
from icekeel.operations.projections.projections import Settled
from icekeel.operations.workshop.workshop import crown, decide, start, tested_by_split
from icekeel.registry import CHALLENGER, CHAMPION, SHADOW, Alias, Registry, Trial, Version, trials

from .rows import Rows

PART = 10_000
"""Settled answers that are read at a time."""
COST = ""
"""The name under which the target's own cost or error is read, where no primary metric is declared."""


class Source(Protocol):
    """Where settled answers come from: `icekeel.operations.projections.projections.Results`."""

    def settled(self, metric: str, since: int, until: int) -> Iterable[Settled]:
        """Those settled in `[since, until)`, in that order."""

    def fresh(self, metric: str) -> list[Settled] | None:
        """Those settled since this was last asked; None for "read all of them"."""

    def struck(self) -> Mapping[tuple[str, str, float], tuple[int, int]]:
        """(phase, kind, share of the challenger) -> units of each arm that failed."""


@dataclass(frozen=True, slots=True)
class Standing:
    """A trial as it stands at one look.

    Attributes:
        units: By metric, the primary one first; none in shadow.
        looks: In shadow, the end of each day and what was known then.
        held: Why nothing is decided although the evidence would; empty where nothing is held.
    """

    at: int
    trial: Trial
    plan: RolloutPlan
    state: RolloutState
    verdict: Verdict
    units: Mapping[str, Units]
    rows: Mapping[str, Rows] = field(default_factory=dict)
    held: str = ""
    looks: Sequence[tuple[int, PairedDays]] = ()


class Trials:
    """Judges what is on trial.

    Args:
        registry, journal: Where it is decided and recorded.
    """

    def __init__(self, registry: Registry, journal: Writer | None = None) -> None:
        self._registry = registry
        self._journal = journal
        self._rows: dict[tuple[Any, ...], Rows] = {}

    def look(self, at: int, model: Model, source: Source) -> None:
        """Judge the challenger, and at midnight the version in shadow, and do what follows."""
        aliases = self._registry.aliases(model.name)
        if CHAMPION not in aliases:
            return
        if CHALLENGER in aliases and model.rollout is not None:
            found = self.standing(at, model, source, trials(self._registry.history(model.name))[-1])
            self._conclude(at, model, CHALLENGER, aliases[CHALLENGER], found.verdict)
        if SHADOW in aliases and at % DAY == 0:
            self._judge_shadow(at, model, source, aliases[SHADOW])

    def look_for_failures(self, at: int, model: Model, source: Source) -> None:
        """Stop a challenger that fails, without waiting for outcomes."""
        alias = self._registry.aliases(model.name).get(CHALLENGER)
        if alias is None or model.rollout is None:
            return
        kinds = _failures(alias.salt, source)
        if broken := failing(kinds):
            self._conclude(
                at, model, CHALLENGER, alias, Verdict("stop", f"The challenger fails: {broken}.", {})
            )

    def stop(self, at: int, model: Model, name: str, alias: Alias, reason: str) -> None:
        """Stop what is on trial under a name, for a reason that needs no evidence."""
        self._conclude(at, model, name, alias, Verdict("stop", reason, {}))

    def standing(self, at: int, model: Model, source: Source, trial: Trial) -> Standing:
        """How a trial stands, by what was settled before `at`."""
        if trial.in_shadow:
            return self._standing_in_shadow(at, model, source, trial)
        plan, phases = plan_of(model), phases_of(model, trial)
        rows = {metric.name: self._read(model, source, trial, metric.name) for metric in plan.metrics}
        units = {metric.name: rows[metric.name].gather(metric, at) for metric in plan.metrics}
        tallies = {metric.name: Tally.of(metric, units[metric.name], phases) for metric in plan.metrics}
        stages = model.rollout.stages if model.rollout else (1.0,)
        reached = max(trial.steps[-1][0], trial.since)
        state = RolloutState(
            (at - trial.since) / DAY,
            tallies.pop(plan.primary.name),
            tallies,
            mismatch(units[plan.primary.name], phases),
            max(0, sum(share <= trial.share + 1e-9 for share in stages) - 1),
            (at - reached) / DAY,
            _failures(trial.salt, source),
        )
        verdict = judge(plan, state)
        verdict, held = self._trusted(model, plan, state, verdict)
        return Standing(at, trial, plan, state, verdict, units, rows, held)

    def _trusted(
        self, model: Model, plan: RolloutPlan, state: RolloutState, verdict: Verdict
    ) -> tuple[Verdict, str]:
        """A verdict, held where the data cannot be vouched for, and why."""
        held = "" if verdict.kind == "continue" or failing(state.failures) else self.doubt(model.name)
        if held and not (verdict.kind == "stop" and state.days >= plan.maximum_days):
            verdict = replace(verdict, kind="continue", reason=f"Held: {held}. {verdict.reason}")
        return verdict, held

    def doubt(self, model: str) -> str:
        """Why the data cannot be vouched for; empty if they can."""
        skewed = [one for one in self._registry.alerts(model, open_only=True) if one.cause == SKEW]
        for alert in [*self._registry.blocks(model), *skewed]:
            return f"an alert of {format_second(alert.at)} is open: {alert.title}"
        return ""

    def _read(self, model: Model, source: Source, trial: Trial, name: str) -> Rows:
        """The rows of a metric; of those read before only what is new."""
        declared = {metric.called for metric in model.rollout.metrics} if model.rollout else set()
        metric = name if name in declared else COST
        key = (model.name, trial.salt, trial.since, len(trial.steps), metric)
        # Kept again once all is taken in: what is fresh is given once, and a look may fail.
        rows, fresh = self._rows.pop(key, None), source.fresh(metric)
        if rows is None or fresh is None:  # not read yet, or another keeper's projections
            self._rows = {k: v for k, v in self._rows.items() if k[:4] == key[:4] or k[0] != model.name}
            rows, settled = Rows(), iter(source.settled(metric, trial.since, FOREVER))
        else:
            settled = iter(fresh)
        while part := list(islice(settled, PART)):
            exposed = [row for row in part if row.phase]
            if metric == COST:
                exposed = scored(model, exposed)
                values: Iterable[float] = costs(model, [row.prediction for row in exposed], exposed).tolist()
            else:
                values = [row.target for row in exposed]
            rows.add(trial, exposed, values)
        self._rows[key] = rows
        return rows

    def _judge_shadow(self, at: int, model: Model, source: Source, alias: Alias) -> None:
        """A version in shadow: stopped where it failed, sent on to its first units, or held against the champion."""
        trial = trials(self._registry.history(model.name), SHADOW)[-1]
        versions = self._registry.version(trial.champion), self._registry.version(trial.version)
        failed = sum(
            b for (name, *_), (_, b) in source.struck().items() if name == shadow_phase(alias.version)
        )
        if failed:
            reason = f"It could not answer {failed:,} of the units that it was asked about in shadow."
            self._conclude(at, model, SHADOW, alias, Verdict("stop", reason, {}))
        elif tested_by_split(model, *versions):
            self._leave_shadow(at, model, alias)
        elif paired_plan(model, *versions) is not None:
            found = self._standing_in_shadow(at, model, source, trial)
            self._conclude(at, model, SHADOW, alias, found.verdict)

    def _standing_in_shadow(self, at: int, model: Model, source: Source, trial: Trial) -> Standing:
        """The version in shadow against the champion, on the same questions."""
        champion, version = self._registry.version(trial.champion), self._registry.version(trial.version)
        plan = paired_plan(model, champion, version) or plan_of(model)
        looks = list(paired(model, source, trial, at))
        state = RolloutState((at - trial.since) / DAY, looks[-1][1] if looks else PairedDays())
        verdict, held = self._trusted(model, plan, state, judge(plan, state))
        return Standing(at, trial, plan, state, verdict, {}, held=held, looks=looks)

    def _leave_shadow(self, at: int, model: Model, alias: Alias) -> None:
        """Let a version that has answered in shadow for long enough answer its first units."""
        rollout = model.rollout
        wanted = parse_duration(rollout.shadow) if rollout and rollout.shadow else 0
        if self._journal is not None and at - alias.since >= wanted and not self.doubt(model.name):
            reason = f"{alias.version} failed at nothing in shadow"
            start(self._registry, self._journal, model, alias.version, reason=reason, at=at, by="loop")

    def _conclude(self, at: int, model: Model, name: str, alias: Alias, verdict: Verdict) -> None:
        """Carry a verdict out and record it, both or neither; `continue` leaves no trace."""
        if verdict.kind == "continue" or self._journal is None:
            return
        evidence = {metric: _plain(found) for metric, found in verdict.evidence.items()}

        def change() -> None:
            why: Any = {"reason": verdict.reason, "by": "loop", "evidence": evidence, "at": at}
            if verdict.kind == "promote":
                crown(self._registry, model.name, alias.version, **why)
            elif verdict.kind == "advance":
                share = next_share(model, alias.share)
                self._registry.set_alias(model.name, name, alias.version, share=share, **why)
            else:
                self._registry.drop_alias(model.name, name, **why)

        said: Any = {"reason": verdict.reason, "at": at, "evidence": evidence, "change": change}
        decide(self._registry, self._journal, model.name, verdict.kind, alias.version, **said)


def plan_of(model: Model) -> RolloutPlan:
    """How a model's challenger is judged; without a primary metric by the cost of its answers, or their error."""
    rollout = model.rollout
    if rollout is None:
        what, hint = "the model declares no rollout", "rollout=ik.Rollout(unit=...)"
        raise ProjectError(Fault("no_rollout", what, model.name, hint=hint))
    declared = [
        Metric(one.called, one.kind, one.better == "lower", one.margin, one.cap, one.level)
        for one in rollout.metrics
    ]
    if rollout.primary is None:
        declared.insert(0, Metric(cost_name(model), "ratio"))
    return RolloutPlan(
        declared[0],
        tuple(declared[1:]),
        steps=rollout.stages,
        step_days=rollout.step_days,
        alpha=rollout.alpha,
        minimum_days=rollout.minimum_days,
        maximum_days=rollout.maximum_days,
        tuned_for=rollout.tuned_for,
    )


def paired_plan(model: Model, champion: Version, version: Version) -> RolloutPlan | None:
    """How a version in shadow is judged: refitted on the same features as `retrain=` says, on others as `rollout=` does.

    What reads other features must be better, what is refitted no worse than the margin; None where neither is declared.
    """
    retrain, rollout, name = model.retrain, model.rollout, cost_name(model)
    if retrain is not None and (rollout is None or champion.features == version.features):
        metric, days = Metric(name, margin=retrain.margin), (7.0, 90.0)
        return RolloutPlan(metric, steps=(), alpha=retrain.alpha, minimum_days=days[0], maximum_days=days[1])
    if rollout is None:
        return None
    days = rollout.minimum_days, rollout.maximum_days
    return RolloutPlan(
        Metric(name), steps=(), alpha=rollout.alpha, minimum_days=days[0], maximum_days=days[1]
    )


def phases_of(model: Model, trial: Trial) -> dict[str, float]:
    """Phase -> share of the challenger among the exposed."""
    return trial.phases(even=model.rollout is not None and model.rollout.even)


def next_share(model: Model, share: float) -> float:
    """The share of the next step; that of the last one where there is no further."""
    stages = model.rollout.stages if model.rollout else (share,)
    return min((stage for stage in stages if stage > share + 1e-9), default=share)


def cost_name(model: Model) -> str:
    """What an answer costs, in words."""
    return "cost per answer" if model.action is not None else error_name(model)


def shadow_phase(version: str) -> str:
    """Under what failures in shadow are kept."""
    return f"shadow of {version}"


def mismatch(units: Units, phases: Mapping[str, float]) -> float:
    """Log Bayes factor against the declared shares, over all phases."""
    names, place = np.unique(units.phase.astype(str), return_inverse=True)
    total = 0.0
    for code, name in enumerate(names):
        second = int(units.in_b[place == code].sum())
        first = int((place == code).sum()) - second
        total += float(log_mismatch([first, second], [1 - phases[name], phases[name]]))
    return total


def _failures(salt: str, source: Source) -> dict[str, Failures]:
    kinds: dict[str, list[tuple[int, int, float]]] = {}
    for (name, kind, share), (a, b) in source.struck().items():
        if name.startswith(f"{salt}@"):
            kinds.setdefault(kind, []).append((a, b, share))
    return {kind: Failures(tuple(cells)) for kind, cells in kinds.items()}


def paired(model: Model, source: Source, trial: Trial, until: int) -> Iterator[tuple[int, PairedDays]]:
    """The end of each day of settlement, and both versions' answers to the same questions as they were known then.

    A day on which the keeper had no time for some of them is left out whole: a busy hour is no ordinary one.
    """
    seen, busy = PairedDays(), set[int]()
    for day in range(trial.since // DAY, -(-until // DAY)):
        end = min((day + 1) * DAY, until)
        settled = source.settled(COST, max(day * DAY, trial.since), end)
        asked = (row for row in settled if row.asked_at >= trial.since)
        both = [r for r in scored(model, asked) if trial.version in r.shadows and r.version == trial.champion]
        busy |= {row.asked_at // DAY for row in both if math.isnan(row.shadows[trial.version])}
        mine = [row for row in both if math.isfinite(row.shadows[trial.version])]
        days = np.array([row.asked_at // DAY for row in mine], dtype=np.int64)
        said = [row.shadows[trial.version] for row in mine]
        seen += PairedDays.of(
            days, costs(model, [row.prediction for row in mine], mine), costs(model, said, mine)
        )
        if seen.days:
            yield end, PairedDays({day: pairs for day, pairs in seen.days.items() if day not in busy})


def _plain(found: Any) -> dict[str, float | None]:
    values = {name: float(getattr(found, name)) for name in found.__dataclass_fields__}
    return {name: value if math.isfinite(value) else None for name, value in values.items()}
