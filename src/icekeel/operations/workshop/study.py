"""What features are worth: those that a model has, and one that it might get."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

import lmdb
import numpy as np

from icekeel.core.errors import Fault, ProjectError, nearest
from icekeel.define import Model, Project
from icekeel.define.features import Feature, FeaturesMeta
from icekeel.define.reading import reads_of
from icekeel.features.aggregates import View
from icekeel.features.plan import Plan
from icekeel.training import Bench, Problem
from icekeel.training.dataset import Learnable
from icekeel.training.pipeline import rows_with_outcome

from .feature_report import FeatureReport, Say, Stretch, Worth, nulls_of, report_features, same
from .reading_cost import ReadingCosts, reading_costs
from .workshop import Workshop


@dataclass(frozen=True, slots=True)
class TriedFeature:
    """What one new feature gains.

    Attributes:
        error, error_value: Which error, and what it is with the feature on all later rows.
        worth: The error without it minus the error with it.
        later, gains: The stretches of later rows, in order of time, and the worth in each.
        nulls: Share of all rows with an outcome.
        cost_us: CPU of reading it online; None where its windows are not kept there yet.
        history_s: CPU seconds that its windows took for all past questions; 0 where they were kept.
        same_as: Features that say the same.
        verdict: Whether it is worth having, in a sentence.
    """

    feature: str
    model: str
    rung: str
    error: str
    error_value: float
    worth: Worth
    later: list[Stretch]
    gains: list[float]
    request: list[str]
    reads: list[str]
    nulls: float
    cost_us: float | None
    history_s: float
    same_as: list[str]
    verdict: str


class Study:
    """Measures features on a project's history.

    Args:
        project, plans: The definitions.
        workshop: Prepares past questions.
        projected: The online store, for reading; None where there is none.
        views: Every view that is kept there.
        now: Time up to which anything is known, microseconds UTC.
    """

    def __init__(
        self,
        project: Project,
        plans: Mapping[str, Plan],
        workshop: Workshop,
        *,
        projected: Callable[[], AbstractContextManager[lmdb.Environment | None]],
        views: Sequence[View],
        now: int,
    ) -> None:
        self._project = project
        self._plans = plans
        self._workshop = workshop
        self._projected = projected
        self._views = views
        self._now = now

    def report(self, name: str, say: Say) -> FeatureReport:
        """The report on the features of a model.

        Raises:
            TrainingError: there is too little history to tell.
        """
        model = self._project.models[name]
        features = model.features.icekeel_features
        _, data = self._workshop.prepare(name, self._now, say)
        _, rows = rows_with_outcome(features, data)
        costs = self._costs(name, features, data)
        return report_features(model, features, rows, self._workshop.rung(name), costs, say)

    def attempt(self, name: str, feature: str, say: Say) -> TriedFeature:
        """The gain of one feature that the model does not have, or of one that it has just got.

        Raises:
            ProjectError: there is no such feature, or it cannot be a feature of this model.
            TrainingError: there is too little history to tell.
        """
        model = self._project.models[name]
        new = find_feature(self._project, model, feature)
        old = [one for one in model.features.icekeel_features if one != new]
        _, data = self._workshop.prepare(name, self._now, say)
        began = time.process_time()
        if new not in self._plans[name].features:
            values = self._workshop.compute(name, [new], data, self._now)
            data = replace(data, features=data.features.with_columns(values.columns))
        spent = time.process_time() - began
        say(f"{new.name} of {len(data.asked_at):,} past questions: {spent:.1f} s")
        _, rows = rows_with_outcome([*old, new], data)
        rung = self._workshop.rung(name)
        say(f"{rung.name}, learnt from earlier rows with and without it, judged on later ones")
        problem = Problem(model.task, model.error)  # type: ignore[arg-type]  # checked with the project
        bench = Bench(problem, rung, rows, rng=np.random.default_rng(0), folds=2, tested=0.5, seeds=2)
        difference, gains = bench.without([new.name], seeds=2)
        worth = Worth.of(difference, model)
        column = rows.frame[new.name]
        twins = [one.name for one in old if same(rows.frame[one.name], column)]
        return TriedFeature(
            feature=new.name,
            model=name,
            rung=rung.name,
            error=model.error,
            error_value=bench.error,
            worth=worth,
            later=[Stretch.of(later) for later in bench.later],
            gains=gains,
            request=reads_of(new.node)["request"],
            reads=reads_of(new.node)["windows"],
            nulls=float(nulls_of(column).mean()),
            cost_us=self._costs(name, [new], data).of(new),
            history_s=spent,
            same_as=twins,
            verdict=_verdict(new.name, model.error, worth)
            + (f"; it says the same as {', '.join(twins)}" if twins else ""),
        )

    def _costs(self, name: str, features: Sequence[Feature], data: Learnable) -> ReadingCosts:
        with self._projected() as online:
            return reading_costs(
                self._plans[name], features, data.requests, data.asked_at, online, self._views
            )


def find_feature(project: Project, model: Model, name: str) -> Feature:
    """A feature of the project by name: the model's own, or one of any class of features, `Ideas.load` or `load`.

    Raises:
        ProjectError: there is none, several differ, or it cannot be a feature of this model.
    """
    own: FeaturesMeta = model.features
    sets: dict[str, FeaturesMeta] = {own.__name__: own, **project.feature_sets}
    named = {f"{place}.{one.name}": one for place, each in sets.items() for one in each.icekeel_features}
    found = {place: one for place, one in named.items() if name in (place, one.name)}
    if not found:
        known = list(named if "." in name else dict.fromkeys(one.name for one in named.values()))
        hint = nearest(name, known) or "write it in the project file, in a class Ideas(ik.Features)"
        allowed = ", ".join(sets if "." in name else known)
        raise ProjectError(Fault("unknown_feature", f'no feature "{name}"', "", "", allowed, hint))
    place = f"{own.__name__}.{name}"
    if place not in found:
        if len({one.node for one in found.values()}) > 1:
            what, allowed = f'several features are named "{name}"', ", ".join(found)
            raise ProjectError(Fault("ambiguous_feature", what, "", "", allowed))
        place = next(iter(found))
    fit = model.features_fit(f'Model "{model.name}"', sets[place.partition(".")[0]])
    if faults := [fault for fault in fit if fault.where == place]:
        raise ProjectError(*faults)
    feature = found[place]
    taken = any(one.name == feature.name and one.node != feature.node for one in own.icekeel_features)
    return replace(feature, name=place) if taken else feature


def _verdict(feature: str, error: str, worth: Worth) -> str:
    figures = f"{abs(worth.gain):.3g}, gain [{worth.low:+.3g}, {worth.high:+.3g}], {worth.usd_per_year:+,.0f} $ a year"
    if worth.low > 0:
        return f"{feature} is worth having: {error} falls by {figures}"
    moves = "falls" if worth.gain > 0 else "rises"
    why = "it does harm" if worth.high < 0 else "no gain is shown"
    return f"{feature} is not worth having: {why}, {error} {moves} by {figures}"
