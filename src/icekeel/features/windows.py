"""The window kernel: aggregates over windows of event versions, for many questions at once, exactly.

A version counts for a question asked at `t` iff its age `t - time` lies in the span and
`start <= t < end`. Versions come in two sorts, and each has its tree (see `trees`):

- *settled*: known before they enter any window asked for and not replaced before they leave it. For a
  question they are a range of the rows sorted by (key, time); on clean data these are all rows.
- *unsettled*: late, corrected, announced. Each counts from `max(start, time + low)` until
  `min(end, time + high + 1)`, which is a range of the questions sorted by (key, at).

Nothing is scanned pair by pair, so late rows on a hot key cost O(log) each like all others. Pure: NumPy in,
NumPy out; memory is a small multiple of the input. Cost O((rows + questions) log) per span at worst.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from icekeel.core.frames import Array, Floats, Ints

from .aggregates import Aggregate, Function, Span
from .trees import COUNT, MAX, MIN, MOMENTS, SUM, Ends, Fold, count_distinct, spread

K = TypeVar("K")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Versions:
    """Versions of events in any order; arrays of shape `(n,)`.

    Attributes:
        key: Entity code, 0 or above.
        time: Event time, microseconds.
        start: Available from (included).
        end: Replaced from (from then on it counts no more); FOREVER while newest.
        order: Rank of the event by (event time, id); breaks ties of `time`.
        columns: Value columns, NaN for null, without infinities.
    """

    key: Ints
    time: Ints
    start: Ints
    end: Ints
    order: Ints
    columns: tuple[Floats, ...]


@dataclass(frozen=True, slots=True)
class Questions:
    """Whom and when it is asked about; arrays of shape `(m,)`, any order. Key -1 is an unknown entity.

    `params` are what SHARE_OF and RANK_OF ask about (`Aggregate.of`), NaN for null.
    """

    key: Ints
    at: Ints
    params: tuple[Floats, ...] = ()


@dataclass(frozen=True, slots=True)
class _Need:
    """One partial per question: what several aggregates may share."""

    column: int
    where: int
    fold: Fold
    span: Span


def aggregate(versions: Versions, questions: Questions, aggregates: Sequence[Aggregate]) -> list[Floats]:
    """One array `(n_questions,)` per aggregate, NaN for null, in the order of the questions.

    Counts, extremes, first, last and distinct are exact. Sums only ever add, pair by pair: their error is
    of the order of `1e-16 * log2(n) * sum(|x|)`, that of a standard deviation `1e-16 * log2(n) * max(|x|)`.
    A sum beyond the range of float64 is infinite.
    """
    order = np.lexsort((questions.at, questions.key))
    asked = _Timeline(questions.key[order], questions.at[order])
    rows = _Rows.sorted(versions)
    partials: dict[_Need, Floats] = {}
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        for ahead in (False, True):  # apart, since what is settled for one side rarely is for the other
            side = [one for one in aggregates if (one.span.low <= 0) is ahead]
            needs = list(dict.fromkeys(need for one in side for need in _needs(one)))
            partials |= _fold_all(versions, rows, asked, needs)
        answers = []
        for one in aggregates:
            answer = np.empty(len(order))
            answer[order] = _finish(one, versions, rows, asked, [partials[need] for need in _needs(one)])
            answers.append(answer)
    return answers


class _Timeline:
    """Sorted (key, time) pairs, searchable with one binary search over a combined code.

    Where key and time together need more than 62 bits, the code drops the lowest bits of time and the few
    pairs that then share a code are told apart by bisection.
    """

    def __init__(self, key: Ints, time: Ints) -> None:
        self.key, self.time = key, time
        self._origin = int(time.min()) if len(time) else 0
        self._reach = int(time.max()) - self._origin + 1 if len(time) else 0
        self._beyond = int(key[-1]) + 1 if len(key) else 0
        bits = ((self._reach + 1) * (self._beyond + 1)).bit_length()
        self._shift = max(0, bits - 62)
        self._width = (self._reach >> self._shift) + 1
        self._code = self._encode(key, time)

    def __len__(self) -> int:
        return len(self.key)

    def _encode(self, key: Ints, time: Ints) -> Ints:
        offset = np.clip(time, self._origin, self._origin + self._reach) - self._origin
        return np.asarray(np.minimum(key, self._beyond) * self._width + (offset >> self._shift))

    def find(self, key: Ints, time: Ints) -> Ints:
        """Position of the first pair that is not before (key, time); `(n,)`."""
        code = self._encode(key, time)
        low = np.searchsorted(self._code, code)
        if not self._shift:
            return low
        high = np.searchsorted(self._code, code, side="right")
        while len(open_ := np.flatnonzero(low < high)):
            middle = (low[open_] + high[open_]) >> 1
            before = self.time[middle] < time[open_]
            low[open_[before]] = middle[before] + 1
            high[open_[~before]] = middle[~before]
        return low


@dataclass(frozen=True, slots=True)
class _Rows:
    """Versions sorted by (key, time, order).

    Attributes:
        source: Position in the caller's arrays.
        rank: Position in the order of all rows, which ranks the rows of one key by (time, order).
    """

    source: Ints
    rank: Ints
    line: _Timeline
    start: Ints
    end: Ints

    @classmethod
    def sorted(cls, versions: Versions) -> _Rows:
        """All versions, sorted once for all aggregates."""
        key: Array = versions.key
        if len(key) and key.max() < 2**16:
            key = key.astype(np.uint16)  # sorted by radix: several times faster
        source = np.lexsort((versions.order, versions.time, key))
        line = _Timeline(versions.key[source], versions.time[source])
        return cls(source, np.arange(len(source)), line, versions.start[source], versions.end[source])

    def take(self, mask: Array) -> _Rows:
        """The rows chosen by a mask."""
        if mask.all():
            return self
        line = _Timeline(self.line.key[mask], self.line.time[mask])
        return _Rows(self.source[mask], self.rank[mask], line, self.start[mask], self.end[mask])

    def reach(self, span: Span, asked: _Timeline) -> tuple[Ints, Ints, Ints]:
        """Rows that count for some question, and the questions `[first, last)` that each counts for."""
        time = self.line.time
        first = asked.find(self.line.key, np.maximum(self.start, time + span.low))
        last = asked.find(self.line.key, np.minimum(self.end, time + (span.high + 1)))
        rows = np.flatnonzero(first < last)
        return rows, first[rows], last[rows]


def _read(versions: Versions, source: Ints, column: int, where: int) -> tuple[Array | None, Floats]:
    """Which of these rows the pair concerns (None: all), and their values (ones where no column is read)."""
    mask = None if where < 0 else versions.columns[where][source] == 1.0
    values = np.ones(len(source)) if column < 0 else versions.columns[column][source]
    if column >= 0:
        given = ~np.isnan(values)
        mask = given if mask is None else mask & given
    if mask is None or mask.all():
        return None, values
    return mask, values[mask]


def _fold_all(
    versions: Versions, rows: _Rows, asked: _Timeline, needs: Sequence[_Need]
) -> dict[_Need, Floats]:
    if not needs:
        return {}
    low, high = min(need.span.low for need in needs), max(need.span.high for need in needs)
    settled = (rows.start <= rows.line.time + low) & (rows.end > rows.line.time + high)
    partials = _fold_settled(versions, rows.take(settled), asked, needs)
    if not settled.all():
        _add_unsettled(versions, rows.take(~settled), asked, partials)
    return partials


def _fold_settled(
    versions: Versions, rows: _Rows, asked: _Timeline, needs: Sequence[_Need]
) -> dict[_Need, Floats]:
    """Partials over rows for which the span alone decides."""
    partials: dict[_Need, Floats] = {}
    ages = {age for need in needs for age in (need.span.high, need.span.low - 1)}
    cuts = {age: rows.line.find(asked.key, asked.time - age) for age in ages}
    for (column, where), group in _grouped(needs, lambda need: (need.column, need.where)).items():
        mask, values = _read(versions, rows.source, column, where)
        ranks = rows.rank if mask is None else rows.rank[mask]
        kept = None if mask is None else np.concatenate(([0], np.cumsum(mask)))
        for fold, members in _grouped(group, lambda need: need.fold).items():
            ranges = fold.ranges(values, ranks)
            for need in members:
                lo, hi = cuts[need.span.high], cuts[need.span.low - 1]
                partials[need] = ranges(lo, hi) if kept is None else ranges(kept[lo], kept[hi])
    return partials


def _add_unsettled(versions: Versions, rows: _Rows, asked: _Timeline, partials: dict[_Need, Floats]) -> None:
    for span, needs in _grouped(list(partials), lambda need: need.span).items():
        reached, first, last = rows.reach(span, asked)
        source, rank = rows.source[reached], rows.rank[reached]
        for need in needs:
            mask, values = _read(versions, source, need.column, need.where)
            keep = slice(None) if mask is None else mask
            leaves = need.fold.leaves(values, rank[keep])
            more = spread(need.fold, leaves, first[keep], last[keep], len(asked))
            partials[need] = need.fold.merge(partials[need], more)


def _grouped(items: Sequence[T], key: Callable[[T], K]) -> dict[K, list[T]]:
    groups: dict[K, list[T]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return groups


def _folds(one: Aggregate) -> tuple[Fold, ...]:
    match one.function:
        case Function.FIRST:
            return (Ends(1, latest=False),)
        case Function.LAST_MEAN:
            return (Ends(one.k, latest=True),)
        case Function.LAST_CHANGE:
            return (Ends(one.k + 1, latest=True),)
    return _PLAIN[one.function]


_PLAIN: dict[Function, tuple[Fold, ...]] = {
    Function.COUNT: (COUNT,),
    Function.SUM: (SUM,),
    Function.MEAN: (SUM, COUNT),
    Function.MIN: (MIN,),
    Function.MAX: (MAX,),
    Function.STD: (MOMENTS,),
    Function.LAST: (Ends(1, latest=True),),
    Function.SINCE: (Ends(1, latest=True),),
    Function.DISTINCT: (),
}


def _needs(one: Aggregate) -> list[_Need]:
    return [_Need(one.column, one.where, fold, one.span) for fold in _folds(one)]


def _finish(
    one: Aggregate, versions: Versions, rows: _Rows, asked: _Timeline, partials: list[Floats]
) -> Floats:
    match one.function:
        case Function.COUNT | Function.SUM:
            return partials[0]
        case Function.MEAN:
            return np.asarray(partials[0] / partials[1])
        case Function.MIN | Function.MAX:
            return np.where(np.isinf(partials[0]), np.nan, partials[0])
        case Function.STD:
            n, _, squares = partials[0].T
            return np.where(n < 2, np.nan, np.sqrt(squares / (n - 1)))
        case Function.DISTINCT:
            return _distinct(one, versions, rows, asked)
    return _from_ends(one, versions, rows, asked, partials[0])


def _distinct(one: Aggregate, versions: Versions, rows: _Rows, asked: _Timeline) -> Floats:
    reached, first, last = rows.reach(one.span, asked)
    mask, values = _read(versions, rows.source[reached], one.column, one.where)
    keep = slice(None) if mask is None else mask
    codes = np.unique(values, return_inverse=True)[1]
    return count_distinct(codes, first[keep], last[keep], len(asked))


def _from_ends(one: Aggregate, versions: Versions, rows: _Rows, asked: _Timeline, ends: Floats) -> Floats:
    there = np.isfinite(ends)
    ranks = np.abs(ends[there]).astype(np.int64)
    if one.function is Function.SINCE:
        since = np.full(len(asked), np.nan)
        since[there[:, 0]] = asked.time[there[:, 0]] - rows.line.time[ranks]
        return since
    values = np.full(ends.shape, np.nan)
    values[there] = versions.columns[one.column][rows.source[ranks]]
    if one.function is Function.LAST_MEAN:
        return np.asarray(np.where(there, values, 0.0).sum(axis=1) / there.sum(axis=1))
    if one.function is Function.LAST_CHANGE:
        return np.asarray(values[:, 0] - values[:, -1])
    return values[:, 0]
