"""How a challenger becomes champion: who sees it, what is measured, in which steps."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal

from icekeel.core.errors import Fault, shorten
from icekeel.core.kinds import Kind

from .conduct import duration_faults, range_faults
from .expressions import Cat, Expression, Flag, Id, is_between, is_number, lift
from .nodes import AskedAt, EventField, Node, Outcome, RequestField, Windowed, broken, shallow, walk

ARMS = ("champion", "challenger")


@dataclass(frozen=True, slots=True)
class Metric:
    """What an experiment measures of each unit: the sum of an outcome over its answers.

    Attributes:
        value: An expression over one outcome: `result.revenue.sum(absent=0)`. Of a flag, such as
            `result.won.mean(absent=0)`, each unit counts as 1 or 0: a conversion.
        name: In reports and reasons; by default the column that it reads.
        better: Whether more or less of it is wanted.
        margin: How much of it may be lost, as a share of the champion's value.
        cap: The most that a unit counts for: of revenue a few units would else decide.
        level: Instead of the mean, how many answers lie beyond this value, which is a quantile of past data: "the 95th
            percentile no more than 10 % above 800" is `level=800, margin=.1, better="lower"`.
        per: `"unit"`, or `"answer"`: the sum of a unit's values by the number of its answers.
    """

    value: Any
    name: str = ""
    better: Literal["higher", "lower"] = "higher"
    margin: float = 0.0
    cap: float | None = None
    level: float | None = None
    per: Literal["unit", "answer"] = "unit"

    @property
    def node(self) -> Node:
        """What it is computed from."""
        return lift(self.value)

    @property
    def outcome(self) -> Outcome:
        """The one outcome that it is made of."""
        return next(node for node in shallow(self.node) if isinstance(node, Outcome))

    @property
    def called(self) -> str:
        """Its name."""
        if self.name:
            return self.name
        read = next((node for node in shallow(self.node) if isinstance(node, Outcome)), None)
        fields = [] if read is None or read.value is None else list(walk(read.value))
        return next((node.name for node in fields if isinstance(node, EventField)), "events")

    @property
    def kind(self) -> Literal["conversion", "mean", "ratio", "capped", "quantile"]:
        """How units are compared, see `icekeel.experiments.Metric`."""
        if self.level is not None:
            return "quantile"
        if self.cap is not None:
            return "capped"
        if self.per == "answer":
            return "ratio"
        value = self.outcome.value
        flag = value is not None and value.kind is Kind.FLAG and self.outcome.function in _OF_FLAGS
        return "conversion" if self.node.kind is Kind.FLAG or (flag and self.node == self.outcome) else "mean"


_OF_FLAGS = ("mean", "max", "last", "first")


@dataclass(frozen=True, slots=True)
class Layer:
    """A part of all units, which experiments of the same layer divide among themselves.

    Units are drawn for each layer anew: experiments of different layers meet the same units by chance alone, those of
    one layer never.

    Attributes:
        name: The layers of one name are one.
        start, end: This experiment's part, between 0 and 1. A part that stays where it is moves nobody.
    """

    name: str
    start: float = 0.0
    end: float = 1.0


@dataclass(frozen=True, slots=True)
class Rollout:
    """How a challenger becomes champion: a split test, in steps, where the answer changes what happens (`influences=True`).

    Where it does not, a challenger answers in shadow, on the champion's own questions, until paired answers show that it is
    better: that needs fewer answers, and nobody gets one that has not yet proved itself.

    Attributes:
        unit: Request field whose value decides the arm.
        share: Part of the units that the challenger gets, where there are no steps.
        split: Whether a challenger that reads other features than the champion is split although the answer changes nothing.
        steps: Parts of the units that it gets one after the other: `(.01, .1, .5)`. It goes on while no harm is
            shown; the last one decides.
        shadow: How long it first answers in shadow, unseen, as `"1d"`; one that fails there goes no further.
        primary: What must become better: an expression over outcomes, or `ik.Metric(...)`. None: the cost of the action's
            mistakes, else the error.
        not_worse: Guardrails: `(expression, margin)`, or `ik.Metric(..., margin=)`. None may lose more than its margin.
        alpha: Chance of promoting a challenger that is no better, however often one looks.
        minimum_days, maximum_days: No promotion before, a decision at the latest after.
        step_days: How long a step lasts at least: no more than one a day.
        tuned_for: Units of an even split at which a split test is sharpest, as `icekeel experiment power` says for the
            effect that is looked for; by default 10,000.
        layer: The part of all units that take part.
        only: Which requests take part: a flag over fields of the request.
        forced: Unit -> the arm that answers it, for people who test; they do not count.
        segments: Fields of the request by which the report tells results apart, at most three.
        covariate: A feature that says what a unit was worth before; results get narrower by what it explains (CUPED).
    """

    unit: Any
    share: float = 0.2
    split: bool = False
    steps: Sequence[float] = ()
    shadow: str = ""
    primary: Any = None
    not_worse: Sequence[Any] = ()
    alpha: float = 0.05
    minimum_days: float = 3
    maximum_days: float = 60
    step_days: float = 1
    tuned_for: float | None = None
    layer: Layer | None = None
    only: Flag | None = None
    forced: Mapping[str, str] = field(default_factory=dict)
    segments: Sequence[Any] = ()
    covariate: Any = None

    @property
    def stages(self) -> tuple[float, ...]:
        """The shares of the challenger, one after the other."""
        return tuple(self.steps) or (self.share,)

    @property
    def even(self) -> bool:
        """Whether both arms are equally large, as they are where the share grows in steps."""
        return bool(self.steps)

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Metrics of outcomes, the primary one first where there is one."""
        rails = [one if isinstance(one, Metric) else Metric(one[0], margin=one[1]) for one in self.not_worse]
        if self.primary is None:
            return tuple(rails)
        return (self.primary if isinstance(self.primary, Metric) else Metric(self.primary), *rails)

    @property
    def segment_fields(self) -> tuple[str, ...]:
        """Names of the request's fields that tell results apart."""
        return tuple(one.node.name for one in self.segments)


def rollout_faults(rollout: Rollout, request: str, features: Mapping[str, Any], where: str) -> list[Fault]:
    """All that is wrong with a rollout.

    Args:
        request: Name of the model's request class.
        features: The model's features by name.
    """
    unit = rollout.unit
    found = range_faults(where, _numbers(rollout))
    if not (isinstance(unit, Id) and isinstance(unit.node, RequestField)):
        found.append(Fault("bad_unit", "unit= is an Id field of the request", where))
    if rollout.shadow:
        found += duration_faults(f"{where}, shadow", rollout.shadow, allowed='"1d"')
    if wrong := sorted(set(rollout.forced.values()) - set(ARMS)):
        found.append(Fault("bad_arm", "no such arm", f"{where}, forced", ", ".join(wrong), ", ".join(ARMS)))
    for one in rollout.segments:
        if not (isinstance(one, Cat | Flag) and isinstance(one.node, RequestField)):
            what = "a segment is a Cat or Flag field of the request"
            found.append(Fault("bad_segment", what, f"{where}, segments", shorten(one)))
    if rollout.covariate is not None:
        node = rollout.covariate.node if isinstance(rollout.covariate, Expression) else None
        if not any(one.node == node for one in features.values()):
            what = "a covariate is one of the model's features"
            found.append(Fault("bad_covariate", what, f"{where}, covariate", shorten(rollout.covariate)))
    found += _targeting_faults(rollout.only, request, f"{where}, only")
    return found + _metric_faults(rollout, where)


def _numbers(rollout: Rollout) -> Iterator[tuple[str, Any, bool, str]]:
    days = (rollout.minimum_days, rollout.maximum_days)
    stages = rollout.stages
    yield "share", rollout.share, is_between(0, rollout.share, 1), "between 0 and 1"
    rising = all(map(is_number, stages)) and all(a < b for a, b in pairwise((0.0, *stages, 1.0)))
    yield "steps", list(stages), rising, "rising, between 0 and 1"
    yield "alpha", rollout.alpha, is_between(0, rollout.alpha, 0.5), "between 0 and 0.5"
    yield "days", days, is_between(-1, days[0], days[1]) and days[0] >= 0, "0 or more, minimum below maximum"
    yield "step_days", rollout.step_days, is_number(rollout.step_days) and rollout.step_days >= 1, "1 or more"
    tuned = rollout.tuned_for
    yield "tuned_for", tuned, tuned is None or is_between(0, tuned, math.inf), "above 0"
    yield "segments", len(rollout.segments), len(rollout.segments) <= 3, "at most three"
    if (layer := rollout.layer) is not None:
        ends = layer.start, layer.end
        good = all(map(is_number, ends)) and 0 <= ends[0] < ends[1] <= 1
        yield f"layer {layer.name}", ends, good, "0 to 1, start below end"


def _targeting_faults(only: Any, request: str, where: str) -> list[Fault]:
    if only is None:
        return []
    if not isinstance(only, Flag):
        return [Fault("bad_targeting", "only= is a flag over fields of the request", where, shorten(only))]
    nodes = list(walk(only.node))
    if faults := broken(nodes):
        return [fault.inside(where) for fault in faults]
    foreign = [
        node
        for node in nodes
        if isinstance(node, Windowed | EventField | Outcome | AskedAt)
        or (isinstance(node, RequestField) and node.request not in ("", request))
    ]
    what = "only= reads fields of the request and nothing else"
    return [Fault("bad_targeting", what, where, f"{len(foreign)} others")] if foreign else []


def _metric_faults(rollout: Rollout, where: str) -> list[Fault]:
    found: list[Fault] = []
    for one in rollout.not_worse:
        pair = (
            isinstance(one, tuple) and len(one) == 2 and isinstance(one[0], Expression) and is_number(one[1])
        )
        if not (pair or isinstance(one, Metric)):
            what = "a guardrail is (expression, margin) or ik.Metric(..., margin=)"
            found.append(Fault("bad_guardrail", what, f"{where}, not_worse", shorten(one)))
    if rollout.primary is not None and not isinstance(rollout.primary, Metric | Expression):
        what = "a metric is an expression over an outcome"
        return [*found, Fault("bad_metric", what, f"{where}, primary", shorten(rollout.primary))]
    if found:
        return found
    names = [metric.called for metric in rollout.metrics]
    for metric in rollout.metrics:
        found += _one_metric_faults(metric, f"{where}, metric {metric.called}")
    twice = sorted({name for name in names if names.count(name) > 1})
    hint = 'ik.Metric(..., name="...") tells them apart'
    return [*found, *(Fault("twice", "two metrics have one name", where, name, "", hint) for name in twice)]


def _one_metric_faults(metric: Metric, where: str) -> list[Fault]:
    if not isinstance(metric.value, Expression):
        return [
            Fault("bad_metric", "a metric is an expression over an outcome", where, shorten(metric.value))
        ]
    if faults := broken(walk(metric.node)):
        return [fault.inside(where) for fault in faults]
    outcomes = {node for node in shallow(metric.node) if isinstance(node, Outcome)}
    direct = [
        node
        for node in shallow(metric.node)
        if isinstance(node, RequestField | AskedAt | Windowed | EventField)
    ]
    hint = 'Results.where(id=Request.id).within("30d").revenue.sum(absent=0)'
    found = []
    if len(outcomes) != 1 or direct:
        what, got = "a metric is made of one outcome and constants", f"{len(outcomes)} outcomes"
        found.append(Fault("bad_metric", what, where, got, hint=hint))
    elif not metric.outcome.keyed.keys:
        found.append(Fault("bad_metric", "an outcome is found by a key of the request", where))
    checks = (
        ("margin", metric.margin, is_number(metric.margin) and 0 <= metric.margin < 1, "0 or more, below 1"),
        ("cap", metric.cap, metric.cap is None or is_between(0, metric.cap, math.inf), "above 0"),
        ("level", metric.level, metric.level is None or is_between(0, metric.level, math.inf), "above 0"),
        ("better", metric.better, metric.better in ("higher", "lower"), "higher, lower"),
        ("per", metric.per, metric.per in ("unit", "answer"), "unit, answer"),
        ("cap, level", "both", metric.cap is None or metric.level is None, "one of them"),
    )
    return found + range_faults(where, checks)


def layer_faults(rollouts: Mapping[str, Rollout]) -> list[Fault]:
    """Experiments of one layer that would meet the same units, or that draw other units.

    Args:
        rollouts: By name of the model; sound in themselves.
    """
    layers: dict[str, list[tuple[float, float, str, str]]] = {}
    for model, rollout in rollouts.items():
        if (layer := rollout.layer) is not None:
            unit = rollout.unit.node.name
            layers.setdefault(layer.name, []).append((layer.start, layer.end, model, unit))
    found = []
    for name, parts in layers.items():
        where = f'Layer "{name}"'
        for before, after in pairwise(sorted(parts)):
            if after[0] < before[1]:
                got = f"{before[2]} {before[0]:g} to {before[1]:g}, {after[2]} {after[0]:g} to {after[1]:g}"
                hint = "the parts of one layer sum to 1 at most; another layer draws its units anew"
                found.append(
                    Fault("layers_overlap", "two experiments of one layer overlap", where, got, hint=hint)
                )
        if len(units := {part[3] for part in parts}) > 1:
            what = "experiments of one layer draw one kind of unit"
            found.append(Fault("layer_units", what, where, ", ".join(sorted(units))))
    return found
