"""What it costs to read a feature when a request is answered: measured on real requests."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import lmdb
import numpy as np

from icekeel.compile.closure import Row as Compute
from icekeel.core.frames import Frame, Ints
from icekeel.define.features import Feature
from icekeel.define.nodes import Windowed
from icekeel.define.reading import windows_of
from icekeel.features.aggregates import View
from icekeel.features.live import LiveFeatures
from icekeel.features.plan import Plan, make_plan
from icekeel.operations.projections.seen import as_answered

CALLS = 200
Row = list[float | int | str | None]


@dataclass(frozen=True, slots=True)
class ReadingCosts:
    """CPU microseconds, medians over requests.

    Attributes:
        windows: Of each window: the time of reading its view, divided evenly among the windows of that view.
        formulas: Of each feature's own formula, by name.
        request: Of all features of one request together.
    """

    windows: dict[Windowed, float]
    formulas: dict[str, float]
    request: float | None

    def of(self, feature: Feature) -> float | None:
        """One feature alone, with all its windows; None where those are not kept online."""
        windows = windows_of(feature.node)
        if any(window not in self.windows for window in windows):
            return None
        return self.formulas[feature.name] + sum(self.windows[window] for window in windows)

    def saved(self, kept: Sequence[Feature], deleted: Sequence[Feature]) -> float | None:
        """What a request costs less without some features: windows that others read stay."""
        if self.request is None:
            return None
        needed = {window for one in kept for window in windows_of(one.node)}
        gone = {window for one in deleted for window in windows_of(one.node)} - needed
        formulas = sum(self.formulas[one.name] for one in deleted)
        return formulas + sum(self.windows.get(window, 0.0) for window in gone)


def reading_costs(
    plan: Plan,
    features: Sequence[Feature],
    requests: Frame,
    asked_at: Ints,
    online: lmdb.Environment | None,
    views: Sequence[View],
) -> ReadingCosts:
    """The costs of some features on the latest of some past requests.

    Args:
        plan: Of the model: what is kept online for it.
        online: The store, open for reading, with the windows of `views`; None where there is none.
    """
    latest = np.arange(max(0, len(asked_at) - CALLS), len(asked_at))
    rows, times = as_answered(plan.inputs, requests.take(latest)), asked_at[latest].tolist()
    own = make_plan(plan.fields, features)
    slots = ["" if at in own.text_slots else 1.0 for at in range(len(own.slots))]
    formulas = {}
    for feature in features:
        compute = replace(own, features=(feature,)).compile()
        formulas[feature.name] = _median_us(partial(_formula, compute, slots), rows, times)
    if online is None:
        return ReadingCosts({}, formulas, None)
    nothing = replace(plan, features=(), lookups=(), ages=())
    alone = _median_us(LiveFeatures(online, nothing, views).read, rows, times)
    each: list[float] = []
    for lookup in plan.lookups:
        only = LiveFeatures(online, replace(nothing, lookups=(lookup,)), views)
        count = len(lookup.view.aggregates)
        each += [max(0.0, _median_us(only.read, rows, times) - alone) / count] * count
    windows = {window: each[slot] for window, slot in plan.slots.items()}
    return ReadingCosts(windows, formulas, _median_us(LiveFeatures(online, plan, views).read, rows, times))


def _formula(compute: Compute, slots: Sequence[float | str], row: Row, at: int) -> object:
    return compute(row, at, slots)


def _median_us(call: Callable[[Row, int], object], rows: Sequence[Row], times: Sequence[int]) -> float:
    taken = []
    for row, at in zip(rows, times, strict=True):
        began = time.process_time()
        for _ in range(5):
            call(row, at)
        taken.append((time.process_time() - began) / 5)
    return float(np.median(taken)) * 1e6 if taken else 0.0
