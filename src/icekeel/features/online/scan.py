"""Answers of a view's aggregates from the chunks of one key: no I/O.

A settled chunk inside a span counts by its summary; of all others the rows are read.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from icekeel.core.frames import Bools, Floats, Ints
from icekeel.core.time import FOREVER

from ..aggregates import Function, View
from .chunks import NULLS, SUMMARY, Buffer, Layout, arrays_of, heads_of, summaries_of


class Scanner:
    """Answers of one view.

    Attributes:
        low: Smallest age that any span holds.
        high: Largest age that any span holds.
        empty: The answers for a key without rows.
    """

    __slots__ = ("_bounds", "_groups", "_layout", "empty", "high", "low")

    def __init__(self, view: View, layout: Layout) -> None:
        self._layout = layout
        groups: dict[tuple[int, int, int], list[_Task]] = {}
        for position, a in enumerate(view.aggregates):
            task = _Task(
                position, _COMPUTE[a.function], a.column, layout.pairs.index((a.column, a.where)), a.k
            )
            groups.setdefault((a.span.low, a.span.high, a.where), []).append(task)
        self._groups = list(groups.items())
        self.low = min((low for low, _, _ in groups), default=0)
        self.high = max((high for _, high, _ in groups), default=-1)
        bounds = [bound for low, high, _ in groups for bound in (high, low - 1)]
        self._bounds: Ints = np.array(bounds, np.int64)
        self.empty = [_EMPTY.get(a.function, math.nan) for a in view.aggregates]

    def answer(self, buffers: Sequence[Buffer], at: int) -> list[float]:
        """One number per aggregate of the view, NaN for null.

        Args:
            buffers: The key's chunks in the order of time; those that no span touches may be left out.
            at: Time of the question.
        """
        answers = list(self.empty)
        if buffers:
            key = _Key(buffers, self._layout, at, at - self._bounds)
            for number, ((low, high, where), tasks) in enumerate(self._groups):
                window = _Window(key, number, at - high, at - low, where)
                if window.touched:
                    for task in tasks:
                        answers[task.position] = task.compute(window, task)
        return answers


class _Task(NamedTuple):
    """One aggregate: `position` is its place among the answers, `pair` that in the summaries."""

    position: int
    compute: Callable[[_Window, _Task], float]
    column: int
    pair: int
    k: int


class _Opened(NamedTuple):
    """Arrays of a chunk; `visible` is None where every row is, `cuts` bound the rows of each group."""

    time: Ints
    values: Floats
    visible: Bools | None
    cuts: list[int]
    nulls: int


class _Key:
    """The chunks of one key as seen at one time, each decoded when first needed."""

    __slots__ = ("_bounds", "_buffers", "_heads", "_layout", "_opened", "at", "firsts", "lasts", "summed")

    def __init__(self, buffers: Sequence[Buffer], layout: Layout, at: int, bounds: Ints) -> None:
        self._buffers, self._layout, self.at, self._bounds = buffers, layout, at, bounds
        self._heads = heads_of(buffers)
        self.firsts = [head.first for head in self._heads]
        self.lasts = [head.last for head in self._heads]
        self.summed = [head.settled <= at and bool(head.flags & SUMMARY) for head in self._heads]
        self._opened: dict[int, _Opened] = {}

    def open(self, index: int) -> _Opened:
        """Arrays of a chunk."""
        opened = self._opened.get(index)
        if opened is None:
            head = self._heads[index]
            (time, start, end), values = arrays_of(self._buffers[index], head, self._layout)
            all_visible = head.settled <= self.at and head.min_end == FOREVER
            visible = None if all_visible else (start <= self.at) & (self.at < end)
            cuts = time.searchsorted(self._bounds).tolist()
            opened = self._opened[index] = _Opened(time, values, visible, cuts, head.flags & NULLS)
        return opened

    def summaries(self, indices: Sequence[int]) -> Floats:
        """Summaries of the chunks named, shape (chunks, pairs, 5)."""
        return summaries_of([self._buffers[index] for index in indices], self._layout)


class _Part(NamedTuple):
    """Rows `begin` to `end` of a chunk; of these `mask` count (None: all)."""

    chunk: _Opened
    begin: int
    end: int
    mask: Bools | None

    def times(self) -> Ints:
        """Event times that count."""
        time = self.chunk.time[self.begin : self.end]
        return time if self.mask is None else time[self.mask]

    def column(self, column: int) -> Floats:
        """Values that count, without nulls."""
        x = self.chunk.values[column, self.begin : self.end]
        if self.mask is not None:
            x = x[self.mask]
        return x[~np.isnan(x)] if self.chunk.nulls else x


class _Window:
    """The rows of one group, in chunks `touched`: those of `rest` are read, `block` sums up the others.

    Attributes:
        block: Summaries, shape (chunks, pairs, 5), or None.
        totals: Per pair the number of values and their sum in `block`.
    """

    __slots__ = (
        "_columns",
        "_key",
        "_number",
        "_parts",
        "_where",
        "at",
        "block",
        "rest",
        "totals",
        "touched",
    )

    def __init__(self, key: _Key, number: int, oldest: int, newest: int, where: int) -> None:
        self._key, self._number, self._where, self.at = key, number, where, key.at
        self._parts: dict[int, _Part] = {}
        self._columns: dict[int, Floats] = {}
        begin, end = bisect_left(key.lasts, oldest), bisect_right(key.firsts, newest)
        self.touched = range(begin, end)
        self.rest: Sequence[int] = self.touched
        self.block: Floats | None = None
        inside = range(bisect_left(key.firsts, oldest), bisect_right(key.lasts, newest))
        summed = [index for index in inside if key.summed[index]]
        if summed:
            self.rest = [index for index in self.touched if index not in inside or not key.summed[index]]
            self.block = key.summaries(summed)
            self.totals = self.block[:, :, :2].sum(axis=0).tolist()

    def part(self, index: int) -> _Part:
        """The rows of one chunk."""
        part = self._parts.get(index)
        if part is None:
            chunk = self._key.open(index)
            begin, end = chunk.cuts[2 * self._number : 2 * self._number + 2]
            mask = None if chunk.visible is None else chunk.visible[begin:end]
            if self._where >= 0:
                passed = chunk.values[self._where, begin:end] == 1.0
                mask = passed if mask is None else mask & passed
            part = self._parts[index] = _Part(chunk, begin, end, mask)
        return part

    def column(self, column: int) -> Floats:
        """Values that count in `rest`."""
        x = self._columns.get(column)
        if x is None:
            x = self._columns[column] = self.join(self.rest, column)
        return x

    def join(self, indices: Sequence[int], column: int) -> Floats:
        """Values that count in the chunks named."""
        if len(indices) == 1:
            return self.part(indices[0]).column(column)
        return np.concatenate([np.empty(0), *[self.part(index).column(column) for index in indices]])

    def latest(self, column: int, k: int) -> Floats:
        """The last `k` values that count, fewer where there are fewer, in the order of time."""
        found: list[Floats] = []
        for index in reversed(self.touched):
            found.append(self.part(index).column(column)[-k:])
            k -= len(found[-1])
            if k <= 0:
                break
        return found[0] if len(found) == 1 else np.concatenate(found[::-1])


def _count(window: _Window, task: _Task) -> float:
    n = 0.0 if window.block is None else window.totals[task.pair][0]
    for index in window.rest:
        _, begin, end, mask = window.part(index)
        n += end - begin if mask is None else np.count_nonzero(mask)
    return n


def _moments(window: _Window, task: _Task) -> tuple[float, float]:
    x = window.column(task.column)
    n, total = float(len(x)), float(np.add.reduce(x))
    if window.block is not None:
        more, rest = window.totals[task.pair]
        n, total = n + more, total + rest
    return n, total


def _sum(window: _Window, task: _Task) -> float:
    return _moments(window, task)[1]


def _mean(window: _Window, task: _Task) -> float:
    n, total = _moments(window, task)
    return total / n if n else math.nan


def _std(window: _Window, task: _Task) -> float:
    """Squared deviations of parts add up about a common mean (Chan, Golub and LeVeque 1983, eq. 2.1)."""
    n, total = _moments(window, task)
    if n < 2:
        return math.nan
    mean = total / n
    off = window.column(task.column) - mean
    squares = float(np.add.reduce(off * off))
    if window.block is not None:
        count, sums, inner = window.block[:, task.pair, :3].T
        off = sums / np.maximum(count, 1.0) - mean
        squares += float((inner + count * off * off).sum())
    return math.sqrt(squares / (n - 1))


def _min(window: _Window, task: _Task) -> float:
    x = window.column(task.column)
    best = float(np.minimum.reduce(x)) if len(x) else math.inf
    if window.block is not None:
        best = min(best, float(window.block[:, task.pair, 3].min()))
    return math.nan if best == math.inf else best


def _max(window: _Window, task: _Task) -> float:
    x = window.column(task.column)
    best = float(np.maximum.reduce(x)) if len(x) else -math.inf
    if window.block is not None:
        best = max(best, float(window.block[:, task.pair, 4].max()))
    return math.nan if best == -math.inf else best


def _first(window: _Window, task: _Task) -> float:
    for index in window.touched:
        x = window.part(index).column(task.column)
        if len(x):
            return float(x[0])
    return math.nan


def _last(window: _Window, task: _Task) -> float:
    x = window.latest(task.column, 1)
    return float(x[-1]) if len(x) else math.nan


def _last_mean(window: _Window, task: _Task) -> float:
    x = window.latest(task.column, task.k)
    return float(np.add.reduce(x)) / len(x) if len(x) else math.nan


def _last_change(window: _Window, task: _Task) -> float:
    x = window.latest(task.column, task.k + 1)
    return float(x[-1] - x[0]) if len(x) == task.k + 1 else math.nan


def _distinct(window: _Window, task: _Task) -> float:
    return float(len(np.unique(window.join(window.touched, task.column))))


def _since(window: _Window, task: _Task) -> float:
    for index in reversed(window.touched):
        times = window.part(index).times()
        if len(times):
            return float(window.at - int(times[-1]))
    return math.nan


_EMPTY = {Function.COUNT: 0.0, Function.SUM: 0.0, Function.DISTINCT: 0.0}
_COMPUTE: dict[Function, Callable[[_Window, _Task], float]] = {
    Function.COUNT: _count,
    Function.SUM: _sum,
    Function.MEAN: _mean,
    Function.MIN: _min,
    Function.MAX: _max,
    Function.STD: _std,
    Function.FIRST: _first,
    Function.LAST: _last,
    Function.DISTINCT: _distinct,
    Function.SINCE: _since,
    Function.LAST_MEAN: _last_mean,
    Function.LAST_CHANGE: _last_change,
}
