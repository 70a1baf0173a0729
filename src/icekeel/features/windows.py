"""The window kernel: aggregates over windows of event versions, for many questions at once, exactly.

A version counts for a question asked at `t` iff its age `t - time` lies in the span and
`start <= t < end`. For one span versions come in two sorts:

- *settled*: known before they enter the window and not replaced before they leave it, or before the last
  question about their key. For a question they are a range of the rows sorted by (key, time); on clean data
  these are all rows.
- *unsettled*: late, corrected, announced. Each counts from `max(start, time + low)` until
  `min(end, time + high + 1)`, which is a range of the questions sorted by (key, at).

Nothing is scanned pair by pair (see `trees`), so late rows on a hot key cost O(log) each like all others. Pure:
NumPy in, NumPy out; memory is a small multiple of the input. Cost O((rows + questions) log) per span at worst.

An answer, to its last bit, follows from the aggregate, its key's questions and its key's versions known up to the
last of them: not from other keys or aggregates, what came later, or the order of the input.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from icekeel.core.frames import Array, Bools, Floats, Ints
from icekeel.core.time import FOREVER

from .aggregates import Aggregate, Function, Span
from .trees import (
    MAX,
    MIN,
    MOMENTS,
    SUM,
    Additive,
    Ends,
    Fold,
    Layout,
    Ranges,
    count_distinct,
    count_reaching,
    count_up_to,
    spread,
)


@dataclass(frozen=True, slots=True)
class Versions:
    """Versions of events in any order; arrays of shape `(n,)`.

    Attributes:
        key: Entity code, 0 or above.
        time: Event time, microseconds.
        start: Available from (included).
        end: Replaced from (from then on it counts no more); FOREVER while newest.
        order: Rank of the event by (event time, id), or a function that ranks some rows by it; breaks ties of `time`.
        columns: Value columns, NaN for null, without infinities.
    """

    key: Ints
    time: Ints
    start: Ints
    end: Ints
    order: Ints | Callable[[Ints], Ints]
    columns: tuple[Floats, ...]


@dataclass(frozen=True, slots=True)
class Questions:
    """Whom and when it is asked about; arrays of shape `(m,)`, any order. Key -1 is an unknown entity.

    `params` are what SHARE_OF and RANK_OF ask about (`Aggregate.of`), NaN for null.
    """

    key: Ints
    at: Ints
    params: tuple[Floats, ...] = ()


def aggregate(versions: Versions, questions: Questions, aggregates: Sequence[Aggregate]) -> list[Floats]:
    """One array `(n_questions,)` per aggregate, NaN for null, in the order of the questions.

    Counts, extremes, first, last, distinct, shares and ranks are exact. Sums only ever add, pair by pair: their error
    is of the order of `1e-16 * log2(n) * sum(|x|)`, that of a standard deviation `1e-16 * log2(n) * max(|x|)`.
    What is beyond the range of float64 is null.
    """
    order = np.lexsort((questions.at, questions.key))
    kernel = _Kernel(versions, questions, order)
    windows = {span: _Window(kernel, span) for span in {one.span for one in aggregates}}
    answers: dict[Aggregate, Floats] = {}
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        for one in sorted(set(aggregates), key=lambda one: one.column):  # one sorted column is held at a time
            answers[one] = np.empty(len(order))
            values = windows[one.span].answer(one)
            answers[one][order] = np.where(np.isfinite(values), values, np.nan)
    return [answers[one] for one in aggregates]


Ties = Callable[[Ints], tuple[Ints, ...]]


class _Timeline:
    """Sorted (key, time) pairs, searchable with one binary search over a combined code.

    Where key and time together need more than 62 bits, the code drops the lowest bits of time and the few
    pairs that then share a code are told apart by bisection.
    """

    def __init__(self, key: Ints, time: Ints, ties: Ties = lambda rows: ()) -> None:
        """For pairs in any order; `ties` gives what else to sort rows of equal pairs by, the last first."""
        self._origin = int(time.min()) if len(time) else 0
        self._reach = int(time.max()) - self._origin + 1 if len(time) else 0
        self._beyond = int(key.max()) + 1 if len(key) else 0
        bits = ((self._reach + 1) * (self._beyond + 1)).bit_length()
        self._shift = max(0, bits - 62)
        self._width = (self._reach >> self._shift) + 1
        code = (time - self._origin) >> self._shift if self._shift else time - self._origin
        code += np.multiply(key, self._width, dtype=np.int64)
        self.source: Ints | None = None
        """Position in the caller's arrays of each pair; None where they came sorted."""
        if not (code[:-1] <= code[1:]).all():
            self.source = np.argsort(code)
        self._code = self.of(code)
        same = np.zeros(len(code) + 1, dtype=np.bool_)
        same[1:-1] = self._code[1:] == self._code[:-1]
        if len(tied := np.flatnonzero(same[1:] | same[:-1])):
            rows = tied if self.source is None else self.source[tied]
            exact = (time[rows], code[rows]) if self._shift else (code[rows],)
            ordered = rows[np.lexsort((*ties(rows), *exact))]
            if not np.array_equal(rows, ordered):
                self.source = np.arange(len(code)) if self.source is None else self.source
                self.source[tied] = ordered
        self._time = self.of(time) if self._shift else time

    def of(self, values: Array) -> Array:
        """An array of the caller's, in the order of this line."""
        return values if self.source is None else values[self.source]

    def _encode(self, key: Ints, time: Ints) -> Ints:
        offset = np.clip(time, self._origin, self._origin + self._reach)
        offset -= self._origin
        if self._shift:
            offset >>= self._shift
        offset += np.multiply(np.minimum(key, self._beyond), self._width, dtype=np.int64)
        return offset

    def find(self, key: Ints, time: Ints) -> Ints:
        """Position of the first pair that is not before (key, time); `(n,)`."""
        code = self._encode(key, time)
        low = np.searchsorted(self._code, code)
        if not self._shift:
            return low
        high = np.searchsorted(self._code, code, side="right")
        while len(open_ := np.flatnonzero(low < high)):
            middle = (low[open_] + high[open_]) >> 1
            before = self._time[middle] < time[open_]
            low[open_[before]] = middle[before] + 1
            high[open_[~before]] = middle[~before]
        return low


def _line(versions: Versions) -> _Timeline:
    def ties(rows: Ints) -> tuple[Ints, Ints]:
        order = versions.order
        return versions.start[rows], order(rows) if callable(order) else order[rows]

    return _Timeline(versions.key, versions.time, ties)


def in_order(versions: Versions) -> Versions:
    """The same versions, sorted: for several calls of `aggregate`, each of which would sort them."""
    line = _line(versions)
    columns = tuple(line.of(column) for column in versions.columns)
    key, time, start, end = map(line.of, (versions.key, versions.time, versions.start, versions.end))
    return Versions(key, time, start, end, np.arange(len(key)), columns)


class _Kernel:
    """Rows and questions, sorted once for all windows. *Rows* are positions in the caller's arrays, *ranks* in `line`."""

    def __init__(self, versions: Versions, questions: Questions, order: Ints) -> None:
        self.versions = versions
        self.line = _line(versions)
        self.key, self.at = questions.key[order], questions.at[order]
        self.params = [values[order] for values in questions.params]
        self.asked = _Timeline(self.key, self.at)
        opens = np.flatnonzero(np.diff(self.key, prepend=-2))
        sizes = np.diff(opens, append=len(order))
        self.layout = Layout.of(opens, sizes)
        self.shift = np.repeat(self.layout.shift, sizes)
        self.end = self._as_known()
        self._cuts: dict[int, Ints] = {}
        self._sorted: tuple[int, Floats] = (-1, np.zeros(0))

    def _as_known(self) -> Ints:
        """When versions are replaced; those replaced after the last question about their key never are."""
        replaced = np.flatnonzero(self.versions.end < FOREVER)
        if not len(replaced) or not len(self.key):
            return self.versions.end
        key = self.versions.key[replaced]
        last = np.searchsorted(self.key, key, side="right") - 1
        never = (last < 0) | (self.key[last] != key) | (self.versions.end[replaced] > self.at[last])
        end = np.array(self.versions.end)
        end[replaced[never]] = FOREVER
        return end

    def cut(self, age: int) -> Ints:
        """For each question the first rank of its key whose age is at most this."""
        if age not in self._cuts:
            self._cuts[age] = self.line.find(self.key, self.at - age)
        return self._cuts[age]

    def values(self, column: int) -> Floats:
        """A column by rank; the last one asked for is kept."""
        if self._sorted[0] != column:
            self._sorted = (column, self.line.of(self.versions.columns[column]))
        return self._sorted[1]

    def settled(self, span: Span) -> Bools | None:
        """Rows for which the span alone decides; None where that is all."""
        time = self.versions.time
        mask = self.versions.start <= time + span.low
        if len(replaced := np.flatnonzero(self.end < FOREVER)):
            mask[replaced] &= self.end[replaced] > time[replaced] + span.high
        return None if mask.all() else mask

    def chosen(self, column: int, where: int) -> Bools | None:
        """Rows whose column is not null and whose filter holds; None where that is all."""
        columns = self.versions.columns
        mask = None if where < 0 else columns[where] == 1.0
        if column >= 0 and np.isnan(columns[column]).any():
            mask = _both(mask, ~np.isnan(columns[column]))
        return mask

    def reach(self, span: Span, ranks: Ints) -> _Reach:
        """Those of these rows that count for some question."""
        rows = ranks if self.line.source is None else self.line.source[ranks]
        key, time = self.versions.key[rows], self.versions.time[rows]
        first = self.asked.find(key, np.maximum(self.versions.start[rows], time + span.low))
        last = self.asked.find(key, np.minimum(self.end[rows], time + (span.high + 1)))
        some = np.flatnonzero(first < last)
        return _Reach(rows[some], ranks[some], first[some], last[some])


@dataclass(frozen=True, slots=True)
class _Reach:
    """Rows in order of rank, and the questions `[first, last)` that each counts for."""

    rows: Ints
    ranks: Ints
    first: Ints
    last: Ints

    def take(self, mask: Bools | None) -> _Reach:
        """The rows chosen by a mask over the caller's arrays."""
        if mask is None:
            return self
        some = mask[self.rows]
        return _Reach(self.rows[some], self.ranks[some], self.first[some], self.last[some])


class _Window:
    """One span: which rows count in it for which question."""

    def __init__(self, kernel: _Kernel, span: Span) -> None:
        self._kernel = kernel
        self._span = span
        self._settled = kernel.settled(span)
        late = np.zeros(0, dtype=np.int64)
        if self._settled is not None:
            late = np.flatnonzero(~kernel.line.of(self._settled))
        self._late = kernel.reach(span, late)
        self._reads: dict[tuple[int, int], _Read] = {}

    def answer(self, one: Aggregate) -> Floats:
        """One aggregate for each of the sorted questions."""
        read = self._read(one)
        match one.function:
            case Function.COUNT:
                return read.count
            case Function.SUM:
                return read.fold(SUM, one.column)
            case Function.MEAN:
                return np.asarray(read.fold(SUM, one.column) / read.count)
            case Function.MIN | Function.MAX:
                found = read.fold(MIN if one.function is Function.MIN else MAX, one.column)
                return np.where(np.isinf(found), np.nan, found)
            case Function.STD:
                n, _, squares = read.fold(MOMENTS, one.column).T
                return np.where(n < 2, np.nan, np.sqrt(squares / (n - 1)))
            case Function.DISTINCT:
                reached, values = self._reached(one)
                codes = np.unique(values, return_inverse=True)[1]
                return count_distinct(codes, reached.first, reached.last, len(self._kernel.at))
            case Function.SHARE_OF | Function.RANK_OF:
                return self._relative(one, read)
        return _from_ends(one, read, self._kernel)

    def _read(self, one: Aggregate) -> _Read:
        which = (one.column, one.where)
        if which not in self._reads:
            chosen = self._kernel.chosen(*which)
            if chosen is None and (-1, -1) in self._reads:
                self._reads[which] = self._reads[-1, -1]
            else:
                cuts = self._kernel.cut(self._span.high), self._kernel.cut(self._span.low - 1)
                late = self._late.take(chosen)
                self._reads[which] = _Read(self._kernel, _both(self._settled, chosen), *cuts, late)
        return self._reads[which]

    def _reached(self, one: Aggregate) -> tuple[_Reach, Floats]:
        """All rows that one aggregate reads, settled or not, and their values."""
        chosen = self._kernel.chosen(one.column, one.where)
        ranks = (
            np.arange(len(self._kernel.versions.key))
            if chosen is None
            else np.flatnonzero(self._kernel.line.of(chosen))
        )
        reached = self._kernel.reach(self._span, ranks)
        return reached, self._kernel.versions.columns[one.column][reached.rows]

    def _relative(self, one: Aggregate, read: _Read) -> Floats:
        """Share or rank, by counting the values that have come into reach less those that have left it."""
        latest = Aggregate(Function.LAST, one.span, one.column, one.where)
        asked = self.answer(latest) if one.of < 0 else self._kernel.params[one.of]
        reached, values = self._reached(one)
        below, at_most = count_up_to(reached.first, values, asked)
        below_left, at_most_left = count_up_to(reached.last, values, asked)
        below -= below_left
        equal = (at_most - at_most_left) - below
        found = equal if one.function is Function.SHARE_OF else below + equal / 2
        return np.where(np.isnan(asked), np.nan, found / read.count)


class _Read:
    """The rows that one window reads of one column under one filter.

    Args:
        mask: Settled rows, in the caller's order; None where that is all.
        lo, hi: Ranks `[lo, hi)` in the window of each question.
        late: The unsettled rows.
    """

    def __init__(self, kernel: _Kernel, mask: Bools | None, lo: Ints, hi: Ints, late: _Reach) -> None:
        self._kernel = kernel
        self._late = late
        self._mask = None if mask is None else kernel.line.of(mask)
        if self._mask is not None:
            kept = np.zeros(len(self._mask) + 1, dtype=np.int64)
            np.cumsum(self._mask, out=kept[1:])
            lo, hi = kept[lo], kept[hi]
        self._lo, self._hi = lo, hi
        self._folded: dict[tuple[Additive, int], Floats] = {}

    @cached_property
    def count(self) -> Floats:
        """Rows of each question."""
        size = len(self._lo)
        settled = np.maximum(self._hi - self._lo, 0)
        return np.asarray(settled + count_reaching(self._late.first, self._late.last, size), dtype=np.float64)

    @cached_property
    def _ranges(self) -> Ranges:
        return Ranges(self._kernel.key, self._lo, self._hi)

    def fold(self, fold: Additive, column: int) -> Floats:
        """A column folded for each question."""
        if (fold, column) not in self._folded:
            values = self._kernel.values(column)
            settled = self._ranges.fold(fold, values if self._mask is None else values[self._mask])
            leaves = fold.leaves(self._kernel.versions.columns[column][self._late.rows], self._late.ranks)
            self._folded[fold, column] = self._with_late(fold, settled, leaves)
        return self._folded[fold, column]

    def ends(self, fold: Ends) -> Floats:
        """Ranks of the earliest or latest rows of each question."""
        ranks = None if self._mask is None else np.flatnonzero(self._mask)
        found = fold.nothing(len(self._lo))
        for nth in range(fold.k):
            there = np.flatnonzero(self._lo + nth < self._hi)
            rank = self._hi[there] - 1 - nth if fold.latest else self._lo[there] + nth
            rank = rank if ranks is None else ranks[rank]
            found[there, nth] = -rank if fold.latest else rank
        return self._with_late(fold, found, fold.leaves(np.zeros(0), self._late.ranks))

    def _with_late(self, fold: Fold, settled: Floats, leaves: Floats) -> Floats:
        late, kernel = self._late, self._kernel
        if not len(late.rows):
            return settled
        first = late.first + kernel.shift[late.first]
        last = late.last + kernel.shift[late.last - 1]
        places = spread(fold, leaves, first, last, kernel.layout.size)
        return np.asarray(fold.merge(settled, places[np.arange(len(settled)) + kernel.shift]))


def _both(one: Bools | None, other: Bools | None) -> Bools | None:
    if one is None or other is None:
        return other if one is None else one
    return one & other


def _from_ends(one: Aggregate, read: _Read, kernel: _Kernel) -> Floats:
    depth = {
        Function.LAST_MEAN: one.k,
        Function.LAST_CHANGE: one.k + 1,
        Function.LAST_ACCELERATION: 2 * one.k + 1,
    }
    ends = read.ends(Ends(depth.get(one.function, 1), latest=one.function is not Function.FIRST))
    there = np.isfinite(ends)
    ranks = np.abs(ends[there]).astype(np.int64)
    rows = ranks if kernel.line.source is None else kernel.line.source[ranks]
    if one.function is Function.SINCE:
        since = np.full(len(ends), np.nan)
        since[there[:, 0]] = kernel.at[there[:, 0]] - kernel.versions.time[rows]
        return since
    values = np.full(ends.shape, np.nan)
    values[there] = kernel.versions.columns[one.column][rows]
    match one.function:
        case Function.LAST_MEAN:
            return np.asarray(np.where(there, values, 0.0).sum(axis=1) / there.sum(axis=1))
        case Function.LAST_CHANGE:
            return np.asarray(values[:, 0] - values[:, -1])
        case Function.LAST_ACCELERATION:
            return np.asarray((values[:, 0] - values[:, one.k]) - (values[:, one.k] - values[:, -1]))
    return values[:, 0]
