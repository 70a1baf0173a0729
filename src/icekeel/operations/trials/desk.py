"""Experiments as people meet them: what runs, what it would need, its report, and ending it by hand."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any

import lmdb
import numpy as np

from icekeel.core.errors import Fault, RegistryError, StateError
from icekeel.core.frames import Frame, Ints
from icekeel.core.time import DAY
from icekeel.data import Vault
from icekeel.define import Model
from icekeel.experiments import PairedDays
from icekeel.features.outcomes import historical_outcomes
from icekeel.journal import Writer
from icekeel.operations.monitors.watch import costs, scored
from icekeel.operations.projections.projections import Results
from icekeel.operations.workshop.workshop import decide, start
from icekeel.operations.workspace import Workspace
from icekeel.registry import CHALLENGER, CHAMPION, SHADOW, Decision, Registry, Trial, all_trials, trials
from icekeel.training.dataset import declared_questions, event_store, past_questions

from .report import Power, TrialReport, paired_sentences, power_of, report_of
from .trials import Standing, Trials, next_share, paired, plan_of

EFFECTS = (0.01, 0.02, 0.05, 0.1, 0.2)
"""Improvements that the power is told for, as shares of the mean."""


class TrialDesk:
    """The experiments of a project.

    Args:
        workspace: The definitions.
        registry: Where they are declared.
        online: The projections; None where the keeper has made none.
        now: Microseconds.
    """

    def __init__(
        self, workspace: Workspace, registry: Registry, online: lmdb.Environment | None, now: int
    ) -> None:
        self._workspace = workspace
        self._registry = registry
        self._online = online
        self._now = now

    def trials(self, models: Sequence[Model]) -> list[Trial]:
        """Every experiment of some models, the latest first."""
        found = [one for model in models for one in all_trials(self._registry.history(model.name))]
        return sorted(found, key=lambda one: one.since, reverse=True)

    def trial(self, model: Model, version: str = "") -> Trial:
        """The experiment of a version; the latest by default.

        Raises:
            RegistryError: there is none.
        """
        known = all_trials(self._registry.history(model.name))
        mine = [one for one in known if version in ("", one.version)]
        if not mine:
            allowed = ", ".join(one.version for one in known)
            hint = f"icekeel experiment start VERSION, or icekeel experiment power {model.name}"
            raise RegistryError(
                Fault("no_experiment", "there is no such experiment", model.name, version, allowed, hint)
            )
        return mine[-1]

    def standing(self, model: Model, trial: Trial) -> Standing:
        """How it stands now; one that is over, as it stood then.

        Raises:
            StateError: the keeper has not yet projected anything.
        """
        if self._online is None:
            what, hint = "nothing has been projected", "icekeel keep"
            raise StateError(Fault("no_online_state", what, model.name, hint=hint))
        source = Results.of(self._online, model, self._workspace.project)
        return Trials(self._registry).standing(trial.ended or self._now, model, source, trial)

    def report(self, model: Model, version: str = "") -> TrialReport:
        """The report of an experiment, the latest by default; raises what `trial` and `standing` do."""
        return report_of(model, self.standing(model, self.trial(model, version)))

    def power(self, model: Model, questions: Frame, effects: Sequence[float] = EFFECTS) -> list[Power]:
        """How large a test of each metric must be, from past questions and what came of them.

        Args:
            questions: See `past`.

        Raises:
            ProjectError: no rollout is declared.
            IcekeelError: no metric has past outcomes.
        """
        plan = plan_of(model)
        asked_at: Ints = questions["_asked_at"]
        named = {one.called: one for one in model.rollout.metrics} if model.rollout else {}
        unit = model.rollout.unit.node.name if model.rollout else ""
        found = []
        for metric in plan.metrics:
            declared = named.get(metric.name)
            if declared is None:
                found.append(self._power_of_cost(model, effects))
                continue
            values = self._outcomes(declared, questions)
            known = np.isfinite(values)
            days = (int(asked_at[known].max()) - int(asked_at[known].min())) / DAY if known.any() else 0.0
            found.append(power_of(metric, plan, questions[unit], values, days, effects, f"{unit} values"))
        return found

    def past(self, model: Model, folder: Any, vault: Vault | None) -> Frame:
        """Past questions with the time of each as `_asked_at`.

        Raises:
            SourceError, TrainingError: they cannot be read, or there are none.
        """
        plan, history = self._workspace.plans[model.name], self._workspace.history
        declared = declared_questions(model, plan, folder, history, vault)
        asked = past_questions(model, plan, declared, history, history.manifest(), now=self._now)
        return asked.requests.with_columns({"_asked_at": asked.asked_at})

    def _outcomes(self, metric: Any, questions: Frame) -> Any:
        history, project = self._workspace.history, self._workspace.project
        with closing(event_store(project.tables, history, history.manifest())) as store:
            return historical_outcomes(
                metric.node, metric.outcome, questions, questions["_asked_at"], store, now=self._now
            ).target

    def _power_of_cost(self, model: Model, effects: Sequence[float]) -> Power:
        """Of the cost of answers, from those of the champion that are settled."""
        from_ = self._settled_costs(model)
        plan = plan_of(model)
        if not from_:
            what = "the champion's answers have no outcomes yet"
            raise StateError(Fault("no_outcomes", what, model.name, hint="icekeel up, and some days"))
        unit, at, cost = (np.array(column) for column in zip(*from_, strict=True))
        days = (int(at.max()) - int(at.min())) / DAY
        found = power_of(plan.primary, plan, unit, cost, days, effects, "units")
        if model.influences or self._online is None:
            return found
        source = Results.of(self._online, model, self._workspace.project)
        latest = trials(self._registry.history(model.name), SHADOW)[-1:]
        looks = [look for one in latest for look in paired(model, source, one, one.ended or self._now)]
        past = looks[-1][1] if looks else PairedDays()
        return replace(found, sentences=[*found.sentences, *paired_sentences(plan, past, effects)])

    def _settled_costs(self, model: Model) -> list[tuple[str, int, float]]:
        if self._online is None:
            return []
        rows = list(
            Results.of(self._online, model, self._workspace.project).settled(
                "", self._now - 60 * DAY, self._now
            )
        )
        mine = scored(model, [row for row in rows if row.arm == CHAMPION])
        spent = costs(model, [row.prediction for row in mine], mine).tolist()
        return [(row.unit, row.asked_at, cost) for row, cost in zip(mine, spent, strict=True)]


def start_by_hand(
    registry: Registry, journal: Writer, model: Model, version: str, *, share: float | None, **why: Any
) -> Decision:
    """Begin an experiment.

    Raises:
        ProjectError: no rollout is declared.
        RegistryError: another runs, the version is champion, or it cannot be challenger.
    """
    plan_of(model)
    aliases = registry.aliases(model.name)
    running = aliases.get(CHALLENGER)
    if running is not None and running.version != version:
        what, hint = "another experiment runs", f"icekeel experiment stop {model.name}"
        raise RegistryError(Fault("experiment_runs", what, model.name, running.version, "", hint))
    if CHAMPION in aliases and aliases[CHAMPION].version == version:
        what = "the champion cannot be tested against itself"
        raise RegistryError(Fault("same_version", what, model.name, version))
    return start(registry, journal, model, version, share=share, **why)


def step_by_hand(
    registry: Registry, journal: Writer, model: Model, *, share: float | None, reason: str, by: str, at: int
) -> Decision:
    """Give the challenger another share: the next step's unless one is named.

    Raises:
        RegistryError: no experiment runs, it is at its last step, or the share is none.
    """
    alias = running_alias(registry, model)
    part = next_share(model, alias.share) if share is None else share
    if share is None and part == alias.share:
        what, hint = "it is at its last step", f"icekeel promote {alias.version}"
        raise RegistryError(Fault("last_step", what, model.name, f"{alias.share:g}", hint=hint))
    if not 0 < part < 1:
        raise RegistryError(Fault("bad_share", "expected a share", "--share", f"{part:g}", "between 0 and 1"))

    def change() -> None:
        registry.set_alias(model.name, CHALLENGER, alias.version, share=part, reason=reason, by=by, at=at)

    why = f"by {by}: {reason} (from {alias.share:g} to {part:g} of units)"
    return decide(registry, journal, model.name, "step", alias.version, reason=why, at=at, change=change)


def stop_by_hand(
    registry: Registry, journal: Writer, model: Model, *, reason: str, by: str, at: int
) -> Decision:
    """End an experiment, split or in shadow: the champion answers everybody again.

    Raises:
        RegistryError: none runs.
    """
    name = CHALLENGER if CHALLENGER in (aliases := registry.aliases(model.name)) else SHADOW
    alias = aliases.get(name) or running_alias(registry, model)

    def change() -> None:
        registry.drop_alias(model.name, name, reason=reason, by=by, at=at)

    why = f"by {by}: {reason}"
    return decide(registry, journal, model.name, "stop", alias.version, reason=why, at=at, change=change)


def running_alias(registry: Registry, model: Model) -> Any:
    """The challenger.

    Raises:
        RegistryError: there is none.
    """
    alias = registry.aliases(model.name).get(CHALLENGER)
    if alias is None:
        hint = f"icekeel experiment start VERSION; icekeel experiment list {model.name}"
        raise RegistryError(Fault("no_experiment", "no experiment runs", model.name, hint=hint))
    return alias
