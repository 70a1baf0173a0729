"""Answers of a view's aggregates from the records of one key: no I/O.

Chunks that a bound of some window cuts, and those not settled at the time asked, are opened; their rows and the tail
make one block. All other chunks lie wholly between two bounds that follow one another, and count by their summaries.
So each (column, where) pair needs one binary search for all bounds, and per kind of partial one pass over the block
and one over the index; a window adds up the partials between its bounds. Nothing is ever subtracted.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from icekeel.core.frames import Array, Bools, Floats, Ints
from icekeel.core.time import FOREVER

from ..aggregates import Function, View
from .chunks import (
    END,
    INFO,
    LARGE,
    NULLS,
    ROWS,
    START,
    TIME,
    VALUES,
    Buffer,
    Info,
    Layout,
    index_of,
    rows_of,
    summaries_of,
)

Fetch = Callable[[int], Buffer]
"""Gives a chunk by number."""
_FEW = 3
"""With fewer chunks all are opened."""
_FIRST, _LAST, _SETTLED = 4, 5, 6
_N, _SUM, _SQUARES, _MIN, _MAX = range(5)
_KIND = {Function.SUM: _SUM, Function.MEAN: _SUM, Function.MIN: _MIN, Function.MAX: _MAX}
_PARTIALS: dict[int, tuple[np.ufunc, float, Callable[[float, float], float]]] = {
    _SUM: (np.add, 0.0, operator.add),
    _MIN: (np.minimum, math.inf, min),
    _MAX: (np.maximum, -math.inf, max),
}


class _Task(NamedTuple):
    """One aggregate: its place among the answers, and its window as two places among the bounds."""

    position: int
    function: Function
    low: int
    high: int
    k: int
    of: int


class _Group(NamedTuple):
    """The aggregates of one (column, where) pair; `kinds` of partials are needed for all bounds."""

    column: int
    where: int
    pair: int
    kinds: tuple[int, ...]
    tasks: tuple[_Task, ...]


class Scanner:
    """Answers of one view.

    Attributes:
        empty: The answers for a key without rows.
    """

    __slots__ = ("_ages", "_groups", "_layout", "empty")

    def __init__(self, view: View, layout: Layout) -> None:
        self._layout = layout
        ages = sorted({age for a in view.aggregates for age in (a.span.high, a.span.low - 1)}, reverse=True)
        places = {age: place for place, age in enumerate(ages)}
        self._ages: Ints = np.array(ages, np.int64)
        groups: dict[tuple[int, int], list[_Task]] = {}
        for position, a in enumerate(view.aggregates):
            window = places[a.span.high], places[a.span.low - 1]
            groups.setdefault((a.column, a.where), []).append(
                _Task(position, a.function, *window, a.k, a.of)
            )
        self._groups = [
            _Group(
                *pair,
                layout.pairs.index(pair),
                tuple(sorted({_KIND[task.function] for task in tasks if task.function in _KIND})),
                tuple(tasks),
            )
            for pair, tasks in groups.items()
        ]
        self.empty = [_EMPTY.get(a.function, math.nan) for a in view.aggregates]

    def answer(self, head: Buffer, fetch: Fetch, at: int, params: Sequence[float]) -> list[float]:
        """One number per aggregate of the view, NaN for null.

        Args:
            head: Of the key.
            fetch: Gives a chunk of the key by number.
            at: Time of the question.
            params: The question's parameters, NaN for null.
        """
        answers = list(self.empty)
        key = _Key(head, fetch, self._layout, at, at - self._ages)
        if key.flags & LARGE:
            with np.errstate(over="ignore", invalid="ignore"):
                self._fill(answers, key, params)
        else:
            self._fill(answers, key, params)
        return answers

    def _fill(self, answers: list[float], key: _Key, params: Sequence[float]) -> None:
        for group in self._groups:
            rows = _Selected(key, group)
            if not rows.any:
                continue
            partials = {kind: rows.partials(kind) for kind in group.kinds}
            for position, function, low, high, k, of in group.tasks:
                n = sum(rows.counts[low:high])
                if function is Function.COUNT:
                    answers[position] = float(n)
                elif not n:
                    continue
                elif function is Function.MEAN:
                    answers[position] = sum(partials[_SUM][high - 1 : low - 1 if low else None : -1]) / n
                elif function is Function.SUM:
                    answers[position] = sum(partials[_SUM][high - 1 : low - 1 if low else None : -1])
                elif function is Function.MIN:
                    answers[position] = min(partials[_MIN][low:high])
                elif function is Function.MAX:
                    answers[position] = max(partials[_MAX][low:high])
                else:
                    window = _Window(rows, low, high, n, k, math.nan if of < 0 else params[of], of < 0)
                    answers[position] = _COMPUTE[function](window)


class _Key:
    """The records of one key as seen at one time.

    Attributes:
        bounds: Times of the bounds, ascending.
        block: Rows of all opened chunks and of the tail, shape (n, width).
        cuts: For each bound how many rows of the block are before it.
        visible: Which rows of the block are; None where all are.
        flags: Of all rows.
        chunks: What the unopened chunks are, None where there is none.
    """

    __slots__ = ("at", "block", "bounds", "chunks", "cuts", "fetch", "flags", "layout", "values", "visible")

    def __init__(self, head: Buffer, fetch: Fetch, layout: Layout, at: int, bounds: Ints) -> None:
        info = Info._make(INFO.unpack_from(head))
        self.at, self.bounds, self.layout, self.fetch = at, bounds, layout, fetch
        self.chunks: _Chunks | None = None
        size = 8 * info.rows * info.width
        tail, width = head[len(head) - size :], info.width
        settled, min_end, self.flags = info.settled, info.min_end, info.flags
        if len(head) - size == INFO.size:
            self.block = rows_of(tail, width)
        else:
            index = index_of(head, info, layout)
            opened = index
            if len(index) >= _FEW:
                chosen = _choose(index, at, bounds)
                opened = index[chosen]
                if len(opened) < len(index):
                    self.chunks = _Chunks(index, ~chosen, layout, bounds)
                    self.flags |= int(np.bitwise_or.reduce(index[:, 3]))
            parts: list[Buffer] = []
            widths = {width} if info.rows else set()
            for number, _, chunk_width, flags, _, _, chunk_settled, chunk_end in opened[:, :8].tolist():
                parts.append(fetch(number))
                widths.add(chunk_width)
                self.flags |= flags
                settled, min_end = max(settled, chunk_settled), min(min_end, chunk_end)
            if len(widths) > 1:
                narrow = layout.ids
                blocks = [
                    rows_of(part, wide)[:, :narrow]
                    for part, wide in zip([*parts, tail], [*opened[:, 2].tolist(), width], strict=True)
                ]
                self.block = np.concatenate(blocks)
            else:
                self.block = rows_of(b"".join((*parts, tail)), *widths) if widths else np.empty((0, layout.ids), np.int64)
        block = self.block
        self.values = block.view(np.float64)
        self.cuts = block[:, TIME].searchsorted(bounds)
        self.visible: Bools | None = None
        if settled > at or min_end != FOREVER:
            self.visible = (block[:, START] <= at) & (at < block[:, END])


def _choose(index: Ints, at: int, bounds: Ints) -> Bools:
    """Which chunks must be opened: cut by a bound, not settled, or last, and in reach of some window."""
    firsts, lasts = np.ascontiguousarray(index[:, _FIRST]), np.ascontiguousarray(index[:, _LAST])
    chosen: Bools = index[:, _SETTLED] > at
    chosen[-1] = True
    cut = lasts.searchsorted(bounds)
    cut = cut[cut < len(index)]
    chosen[cut[firsts[cut] < bounds[: len(cut)]]] = True
    return chosen & (lasts >= bounds[0]) & (firsts < bounds[-1])


class _Chunks:
    """Chunks of which the summaries count, those that are `closed`."""

    __slots__ = ("closed", "cuts", "index", "offsets", "summaries")

    def __init__(self, index: Ints, closed: Bools, layout: Layout, bounds: Ints) -> None:
        self.index, self.closed = index, closed
        self.summaries = summaries_of(index[closed], layout)
        self.cuts: Ints = index[closed, _FIRST].searchsorted(bounds)
        """For each bound how many closed chunks are before it."""
        self.offsets: Ints = np.cumsum(np.where(closed, 0, index[:, 1]))
        """For each chunk how many rows of the block come from chunks up to it."""


class _Selected:
    """What counts for one (column, where) pair.

    Attributes:
        x: Values of the block that count, or times where no column is read.
        kept: Their places in the block; None where all are kept.
        cuts: For each bound how many of `x` are before it.
        counts: Between each bound and the next, how many count, closed chunks included.
        any: Whether any does.
    """

    __slots__ = ("any", "counts", "cuts", "group", "kept", "key", "x")

    def __init__(self, key: _Key, group: _Group) -> None:
        self.key, self.group = key, group
        self.x, mask = select(key.block, key.values, group, key.visible, key.flags)
        cuts = key.cuts
        self.kept: Ints | None = None
        if mask is not None:
            self.kept = np.flatnonzero(mask)
            self.x = self.x[self.kept]
            cuts = self.kept.searchsorted(cuts)
        self.cuts: list[int] = cuts.tolist()
        self.counts = [b - a for a, b in zip(self.cuts, self.cuts[1:])]
        if key.chunks is not None:
            more = _segments(np.add, 0.0, key.chunks.summaries[:, group.pair, _N], key.chunks.cuts.tolist())
            self.counts = list(map(operator.add, self.counts, more))
        self.any = any(self.counts)

    def partials(self, kind: int) -> list[float]:
        """Partials between each bound and the next."""
        ufunc, identity, both = _PARTIALS[kind]
        found = _segments(ufunc, identity, self.x, self.cuts)
        chunks = self.key.chunks
        if chunks is None:
            return found
        more = _segments(ufunc, identity, chunks.summaries[:, self.group.pair, kind], chunks.cuts.tolist())
        return list(map(both, found, more))


def select(
    block: Ints, values: Floats, group: _Group, visible: Bools | None, flags: int
) -> tuple[Array, Bools | None]:
    """The column that a pair reads (times where it reads none), and which rows count (None: all)."""
    mask = visible
    if group.where >= 0:
        passed = values[:, VALUES + group.where] == 1.0
        mask = passed if mask is None else mask & passed
    if group.column < 0:
        return block[:, TIME], mask
    x = values[:, VALUES + group.column]
    if flags & NULLS:
        given = ~np.isnan(x)
        mask = given if mask is None else mask & given
    return x, mask


def _segments(ufunc: np.ufunc, identity: float, x: Array, cuts: Sequence[int]) -> list[float]:
    """`ufunc` over the values between each cut and the next."""
    begins = [a for a, b in zip(cuts, cuts[1:]) if a < b]
    if not begins:
        return [identity] * (len(cuts) - 1)
    found: list[float] = ufunc.reduceat(x[: cuts[-1]], begins).tolist()
    if len(begins) == len(cuts) - 1:
        return found
    rest = iter(found)
    return [next(rest) if a < b else identity for a, b in zip(cuts, cuts[1:])]


class _Window(NamedTuple):
    """One window: `n` values between two bounds; `param` is what is asked about, the latest value if `own`."""

    rows: _Selected
    low: int
    high: int
    n: float
    k: int
    param: float
    own: bool

    def pieces(self, *, newest_first: bool) -> Iterator[Array]:
        """The values that count, in the order of time within a piece; each closed chunk is opened when it is due."""
        rows, chunks = self.rows, self.rows.key.chunks
        low, high = rows.cuts[self.low], rows.cuts[self.high]
        if chunks is None or chunks.cuts[self.low] == chunks.cuts[self.high]:
            yield rows.x[low:high]
            return
        closed = np.flatnonzero(chunks.closed)[chunks.cuts[self.low] : chunks.cuts[self.high]]
        offsets = chunks.offsets[closed]
        edges = (offsets if rows.kept is None else rows.kept.searchsorted(offsets)).clip(low, high).tolist()
        found = [(None, low, edges[0])]
        found += [
            piece
            for place, a, b in zip(closed.tolist(), edges, [*edges[1:], high], strict=True)
            for piece in ((place, 0, 0), (None, a, b))
        ]
        for place, a, b in reversed(found) if newest_first else found:
            if place is not None:
                yield rows_in(rows, place)
            elif a < b:
                yield rows.x[a:b]

    def all(self) -> Floats:
        """All values that count."""
        return np.concatenate(list(self.pieces(newest_first=False)))

    def latest(self, k: int) -> Array:
        """The last `k` values that count, fewer where there are fewer, in the order of time."""
        found: list[Array] = []
        for piece in self.pieces(newest_first=True):
            found.append(piece[-k:])
            k -= len(found[-1])
            if k <= 0:
                break
        return found[0] if len(found) == 1 else np.concatenate(found[::-1])


def rows_in(rows: _Selected, place: int) -> Array:
    """The values that count of a closed chunk."""
    key, chunks = rows.key, rows.key.chunks
    assert chunks is not None
    number, _, width, flags, _, _, _, min_end = chunks.index[place, :8].tolist()
    block = rows_of(key.fetch(number), width)
    visible = None if min_end == FOREVER else block[:, END] == FOREVER
    x, mask = select(block, block.view(np.float64), rows.group, visible, flags)
    return x if mask is None else x[mask]


def _std(window: _Window) -> float:
    """Squared deviations of parts add up about a common mean (Chan, Golub and LeVeque 1983, eq. 2.1)."""
    rows, n = window.rows, window.n
    if n < 2:
        return math.nan
    x = rows.x[rows.cuts[window.low] : rows.cuts[window.high]]
    chunks = rows.key.chunks
    total = float(np.add.reduce(x))
    if chunks is None:
        off = x - total / n
        return math.sqrt(float(np.add.reduce(off * off)) / (n - 1))
    count, sums, inner = chunks.summaries[
        chunks.cuts[window.low] : chunks.cuts[window.high], rows.group.pair, :3
    ].T
    mean = (total + float(np.add.reduce(sums))) / n
    off = x - mean
    squares = float(np.add.reduce(off * off))
    off = sums / np.maximum(count, 1.0) - mean
    squares += float(np.add.reduce(inner + count * off * off))
    return math.sqrt(squares / (n - 1))


def _first(window: _Window) -> float:
    return float(next(piece[0] for piece in window.pieces(newest_first=False) if len(piece)))


def _last(window: _Window) -> float:
    return float(window.latest(1)[-1])


def _last_mean(window: _Window) -> float:
    x = window.latest(window.k)
    return float(np.add.reduce(x)) / len(x)


def _last_change(window: _Window) -> float:
    x = window.latest(window.k + 1)
    return float(x[-1] - x[0]) if len(x) > window.k else math.nan


def _last_acceleration(window: _Window) -> float:
    k = window.k
    x = window.latest(2 * k + 1)
    return float((x[-1] - x[-1 - k]) - (x[-1 - k] - x[0])) if len(x) > 2 * k else math.nan


def _distinct(window: _Window) -> float:
    return float(len(np.unique(window.all())))


def _since(window: _Window) -> float:
    return float(window.rows.key.at - int(window.latest(1)[-1]))


def _relative(window: _Window, *, rank: bool) -> float:
    x = window.all()
    param = x[-1] if window.own else window.param
    if param != param:  # noqa: PLR0124
        return math.nan
    equal = np.count_nonzero(x == param)
    return (np.count_nonzero(x < param) + equal / 2) / len(x) if rank else equal / len(x)


_EMPTY = {Function.COUNT: 0.0, Function.SUM: 0.0, Function.DISTINCT: 0.0}
_COMPUTE: dict[Function, Callable[[_Window], float]] = {
    Function.STD: _std,
    Function.FIRST: _first,
    Function.LAST: _last,
    Function.DISTINCT: _distinct,
    Function.SINCE: _since,
    Function.LAST_MEAN: _last_mean,
    Function.LAST_CHANGE: _last_change,
    Function.LAST_ACCELERATION: _last_acceleration,
    Function.SHARE_OF: lambda window: _relative(window, rank=False),
    Function.RANK_OF: lambda window: _relative(window, rank=True),
}
