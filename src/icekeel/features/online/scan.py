"""Answers of a view's aggregates from the records of one key: no I/O.

Chunks that a bound of some window cuts, and those not settled at the time asked, are opened; their rows and the tail
make one block. All other chunks lie wholly between two bounds that follow one another, and count by their summaries.
So each (column, where) pair needs one binary search for all bounds, and per kind of partial one pass over the block
and one over the index; a window adds up the partials between its bounds. Nothing is ever subtracted.

Of many keys at once the blocks of ordinary ones are laid end to end, so that a pass is made once for all of them; the
partials are those of each key alone, bit for bit, since no part ever crosses a bound.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

import numpy as np

from icekeel.core.frames import Array, Bools, Floats, Ints
from icekeel.core.time import FOREVER

from ..aggregates import EMPTY, Aggregate, Function, View
from .chunks import END, INFO, LARGE, NULLS, START, TIME, VALUES, Buffer, Layout, rows_of, summaries_of

Fetch = Callable[[int], Buffer]
"""Gives a chunk by number."""
FEW = 3
"""Up to so many chunks are all opened: that is as fast as to choose among them."""
_ROWS, _FLAGS, _FIRST, _LAST, _SETTLED, _MIN_END, _ABOUT = 1, 3, 4, 5, 6, 7, 8
_N, _SUM, _SQUARES, _MIN, _MAX = range(5)
_COUNT, _MEAN, _OTHER = 5, 6, 7
_PARTIALS: dict[int, tuple[np.ufunc, float, Callable[[float, float], float]]] = {
    _SUM: (np.add, 0.0, operator.add),
    _MIN: (np.minimum, math.inf, min),
    _MAX: (np.maximum, -math.inf, max),
}
_TOTAL: dict[int, Callable[[list[float]], float]] = {_SUM: sum, _MEAN: sum, _MIN: min, _MAX: max}
_KINDS = {
    Function.COUNT: _COUNT,
    Function.SUM: _SUM,
    Function.MEAN: _MEAN,
    Function.MIN: _MIN,
    Function.MAX: _MAX,
}


class _Task(NamedTuple):
    """One aggregate: its place among the answers, and its window as two places among the bounds.

    `part` is the place of its partials among those of the group, `span` cuts the window out of them, newest first.
    """

    position: int
    kind: int
    low: int
    high: int
    part: int
    span: slice
    aggregate: Aggregate


class _Group(NamedTuple):
    """The aggregates of one (column, where) pair.

    `partials` of these kinds are needed between all bounds, and no more than they if it is `simple`.
    """

    column: int
    where: int
    pair: int
    partials: tuple[int, ...]
    simple: bool
    tasks: tuple[_Task, ...]


class Scanner:
    """Answers of one view.

    Attributes:
        empty: The answers for a key without rows.
    """

    __slots__ = ("_ages", "_groups", "_is_simple", "_layout", "empty")

    def __init__(self, view: View, layout: Layout) -> None:
        self._layout = layout
        self._ages = sorted(
            {age for a in view.aggregates for age in (a.span.high, a.span.low - 1)}, reverse=True
        )
        places = {age: place for place, age in enumerate(self._ages)}
        groups: dict[tuple[int, int], list[tuple[int, Aggregate]]] = {}
        for position, a in enumerate(view.aggregates):
            groups.setdefault((a.column, a.where), []).append((position, a))
        self._groups: list[_Group] = []
        for pair, members in groups.items():
            kinds = [_KINDS.get(a.function, _OTHER) for _, a in members]
            partials = sorted({_SUM if kind == _MEAN else kind for kind in kinds} & _PARTIALS.keys())
            tasks = []
            for (position, a), kind in zip(members, kinds, strict=True):
                low, high = places[a.span.high], places[a.span.low - 1]
                span = slice(high - 1, low - 1 if low else None, -1)
                part = partials.index(_SUM if kind == _MEAN else kind) if kind in _TOTAL else -1
                tasks.append(_Task(position, kind, low, high, part, span, a))
            simple = pair[1] < 0 and _OTHER not in kinds
            pair_at = layout.pairs.index(pair)
            self._groups.append(_Group(*pair, pair_at, tuple(partials), simple, tuple(tasks)))
        self._is_simple = all(group.simple for group in self._groups)
        self.empty = [EMPTY.get(a.function, math.nan) for a in view.aggregates]

    def answer(self, head: Buffer, fetch: Fetch, at: int, params: Sequence[float]) -> list[float]:
        """One number per aggregate of the view, NaN for null.

        Args:
            params: The question's parameters, NaN for null.
        """
        key = _Key(head, fetch, self._layout, at, [at - age for age in self._ages])
        return self._answer(key, params)

    def answer_many(
        self, records: Sequence[tuple[Buffer, Fetch]], at: int, params: Sequence[Sequence[float]]
    ) -> list[list[float]]:
        """What `answer` gives for each of several keys."""
        bounds = [at - age for age in self._ages]
        keys = [_Key(head, fetch, self._layout, at, bounds) for head, fetch in records]
        plain = [key for key in keys if key.is_plain] if self._is_simple else []
        found: dict[int, list[float]] = {}
        for width in {key.width for key in plain}:
            alike = [key for key in plain if key.width == width]
            found.update(zip(map(id, alike), self._answer_plain(alike, bounds), strict=True))
        return [
            found.get(id(key)) or self._answer(key, asked) for key, asked in zip(keys, params, strict=True)
        ]

    def _answer_plain(self, keys: Sequence[_Key], bounds: Sequence[int]) -> Iterator[list[float]]:
        """The answers of keys whose rows all count, each in rows of one width."""
        size = 8 * keys[0].width
        block = rows_of(b"".join([part for key in keys for part in key.parts] + [bytes(size)]), -1, size // 8)
        times, searched = block[:, TIME], np.array(bounds)
        cuts = np.empty((len(keys), len(bounds)), np.int64)
        begins = list(accumulate((key.n for key in keys), initial=0))
        for place, (begin, end) in enumerate(pairwise(begins)):
            cuts[place] = times[begin:end].searchsorted(searched)
        cuts += np.array(begins[:-1])[:, None]
        gaps = cuts[:, :-1] == cuts[:, 1:]
        parts: list[list[list[list[float]]]] = []
        for group in self._groups:
            x = block.view(np.float64)[:, VALUES + group.column]
            parts.append([])
            for kind in group.partials:
                ufunc, identity, _ = _PARTIALS[kind]
                # The row of zeros at the end is there to be pointed at: a part may begin behind the last row.
                partials = ufunc.reduceat(x, cuts.ravel()).reshape(cuts.shape)[:, :-1]
                partials[gaps] = identity
                parts[-1].append(partials.tolist())
        for place, before in enumerate(cuts.tolist()):
            answers = list(self.empty)
            for group, partials_of in zip(self._groups, parts, strict=True):
                _total(answers, group, before, [one[place] for one in partials_of])
            yield answers

    def _answer(self, key: _Key, params: Sequence[float]) -> list[float]:
        answers = list(self.empty)
        key.load()
        if key.flags & LARGE:
            with np.errstate(over="ignore", invalid="ignore"):
                self._fill(answers, key, params)
            answers = [one if math.isfinite(one) else math.nan for one in answers]
        else:
            self._fill(answers, key, params)
        return answers

    def _fill(self, answers: list[float], key: _Key, params: Sequence[float]) -> None:
        cuts, plain = key.cuts, key.closed is None and not key.flags & NULLS
        for group in self._groups:
            rows: _Selected | None = None
            before: Sequence[float] = cuts.at
            if plain and group.simple:  # most are: no need to select rows
                x = key.values[:, VALUES + group.column]
                partials = [cuts.partials(kind, x) for kind in group.partials]
            else:
                rows = _Selected(key, group)
                before = rows.before
                partials = [rows.partials(kind) for kind in group.partials]
            _total(answers, group, before, partials, rows, params)


def _total(
    answers: list[float],
    group: _Group,
    before: Sequence[float],
    partials: Sequence[list[float]],
    rows: _Selected | None = None,
    params: Sequence[float] = (),
) -> None:
    """The answers of one group from how many rows are before each bound, and the partials between them."""
    for position, kind, low, high, part, span, aggregate in group.tasks:
        if n := before[high] - before[low]:
            if kind == _COUNT:
                answers[position] = float(n)
            elif rows is not None and kind == _OTHER:
                window = _Window(rows, low, high, n, aggregate, params)
                answers[position] = _COMPUTE[aggregate.function](window)
            else:
                total = _TOTAL[kind](partials[part][span])
                answers[position] = total / n if kind == _MEAN else total


class _Key:
    """The records of one key as seen at one time.

    Attributes:
        parts: The rows of the opened chunks and of the tail, `n` of `width` words in all.
        block: What is visible of them, shape (n, width); `values` are the same as float64. From `load` on.
        cuts: For each bound how many rows of the block are before it. From `load` on.
        flags: Of all rows.
        closed: The chunks that are not opened, None where there is none.
    """

    __slots__ = (
        "_bounds", "_shapes", "_whole", "at", "block", "closed", "cuts", "fetch", "flags", "layout", "n", "parts",
        "values", "width",
    )  # fmt: skip

    def __init__(self, head: Buffer, fetch: Fetch, layout: Layout, at: int, bounds: list[int]) -> None:
        self.at, self.fetch, self.layout, self._bounds = at, fetch, layout, bounds
        self.closed: _Closed | None = None
        _, n, width, self.flags, _, _, settled, min_end = INFO.unpack_from(head)
        tail = len(head) - 8 * n * width
        self.parts: list[Buffer] = []
        self._shapes: list[Any] = []
        self.width = width
        if tail != INFO.size:
            size = 8 * layout.stride
            if tail <= INFO.size + FEW * size:
                chunks: list[Any] = [INFO.unpack_from(head, at) for at in range(INFO.size, tail, size)]
            else:
                chunks = self._choose(head[INFO.size : tail], bounds)
            mixed, last = False, n
            for number, more, chunk_width, flags, _, _, chunk_settled, chunk_end in chunks:
                self.parts.append(fetch(number))
                mixed |= chunk_width != width
                n += more
                self.flags |= flags
                settled, min_end = max(settled, chunk_settled), min(min_end, chunk_end)
            if mixed:
                self._shapes = [*(about[1:3] for about in chunks), (last, width)]
        self.parts.append(head[tail:])
        self.n = n
        self._whole = settled <= at and min_end == FOREVER

    @property
    def is_plain(self) -> bool:
        """Whether `parts` hold all rows, and every one of them and of its values counts."""
        return self._whole and not self.flags and not self._shapes and self.closed is None

    def load(self) -> None:
        """Join the parts, and find the bounds in them."""
        if self._shapes:
            blocks = [rows_of(part, *shape) for part, shape in zip(self.parts, self._shapes, strict=True)]
            self.block = np.concatenate([block[:, : self.layout.ids] for block in blocks])
        else:
            whole = self.parts[0] if len(self.parts) == 1 else b"".join(self.parts)
            self.block = rows_of(whole, self.n, self.width)
        if not self._whole:
            block = self.block
            (seen,) = ((block[:, START] <= self.at) & (self.at < block[:, END])).nonzero()
            self.block = block.take(seen, axis=0)
            if self.closed is not None:
                self.closed.offsets = seen.searchsorted(self.closed.offsets)
        self.values = self.block.view(np.float64)
        self.cuts = _Cuts.of(self.block[:, TIME].searchsorted(self._bounds))

    def _choose(self, raw: Buffer, bounds: list[int]) -> list[Any]:
        """What is known of the chunks in an index that are to be opened; others are `closed`."""
        index = np.frombuffer(raw, "<i8").reshape(-1, self.layout.stride)
        firsts, lasts = np.ascontiguousarray(index[:, _FIRST]), np.ascontiguousarray(index[:, _LAST])
        chosen: Bools = index[:, _SETTLED] > self.at
        chosen[-1] = True
        cut = lasts.searchsorted(bounds)
        cut = cut[: cut.searchsorted(len(index))]
        chosen[cut[firsts[cut] < bounds[: len(cut)]]] = True
        chosen &= (lasts >= bounds[0]) & (firsts < bounds[-1])
        if not chosen.all():
            self.closed = _Closed(index, ~chosen, self.layout, bounds)
            self.flags |= int(np.bitwise_or.reduce(index[:, _FLAGS]))
        opened: list[Any] = index[chosen, :_ABOUT].tolist()
        return opened


class _Cuts(NamedTuple):
    """How many values are before each bound: `at`, of which `begins` begin what can be reduced.

    `gaps` are the stretches between bounds that hold none; `rest` of them are at the end.
    """

    at: list[int]
    begins: Ints
    gaps: list[int]
    rest: int

    @classmethod
    def of(cls, cuts: Ints) -> _Cuts:
        """From how many are before each bound."""
        at: list[int] = cuts.tolist()
        used = size = len(at) - 1
        while used and at[used - 1] == at[-1]:
            used -= 1
        gaps = [place for place in range(used) if at[place] == at[place + 1]] if len(set(at)) <= used else []
        return cls(at, cuts[:used], gaps, size - used)

    def partials(self, kind: int, x: Array) -> list[float]:
        """Partials of the values between each bound and the next."""
        ufunc, identity, _ = _PARTIALS[kind]
        found: list[float] = []
        if len(self.begins):
            found = ufunc.reduceat(x[: self.at[-1]], self.begins).tolist()
        for place in self.gaps:
            found[place] = identity
        return found + [identity] * self.rest if self.rest else found


class _Closed:
    """Chunks that count by their summaries.

    Attributes:
        index: Their part of the index.
        summaries: Shape (chunks, pairs, 5).
        cuts: For each bound how many of them are before it.
        offsets: For each of them how many rows of the block are before it.
    """

    __slots__ = ("cuts", "index", "offsets", "summaries")

    def __init__(self, index: Ints, closed: Bools, layout: Layout, bounds: list[int]) -> None:
        self.index = index[closed]
        self.summaries = summaries_of(self.index, layout)
        self.cuts = _Cuts.of(self.index[:, _FIRST].searchsorted(bounds))
        self.offsets: Ints = np.cumsum(np.where(closed, 0, index[:, _ROWS]))[closed]


class _Selected:
    """What counts for one (column, where) pair.

    Attributes:
        x: Values of the block that count, or times where no column is read.
        kept: Their places in the block; None where all are kept.
        cuts: For each bound how many of `x` are before it.
        before: For each bound how many count before it, those in closed chunks included.
    """

    __slots__ = ("before", "cuts", "group", "kept", "key", "x")

    def __init__(self, key: _Key, group: _Group) -> None:
        self.key, self.group, self.cuts = key, group, key.cuts
        self.kept: Ints | None = None
        self.x, mask = _column(key.block, group, key.flags)
        if mask is not None:
            (self.kept,) = mask.nonzero()
            self.x = self.x.take(self.kept)
            self.cuts = _Cuts.of(self.kept.searchsorted(key.cuts.at))
        self.before: Sequence[float] = self.cuts.at
        if key.closed is not None:
            counts = np.append(0.0, np.cumsum(key.closed.summaries[:, group.pair, _N]))
            self.before = list(map(operator.add, self.before, counts[key.closed.cuts.at].tolist()))

    def partials(self, kind: int) -> list[float]:
        """Partials between each bound and the next."""
        found = self.cuts.partials(kind, self.x)
        closed = self.key.closed
        if closed is None:
            return found
        more = closed.cuts.partials(kind, closed.summaries[:, self.group.pair, kind])
        return list(map(_PARTIALS[kind][2], found, more))


def _column(block: Ints, group: _Group, flags: int) -> tuple[Array, Bools | None]:
    """The column that a pair reads (times where it reads none), and which rows count (None: all)."""
    values = block.view(np.float64)
    mask: Bools | None = None if group.where < 0 else values[:, VALUES + group.where] == 1.0
    if group.column < 0:
        return block[:, TIME], mask
    x = values[:, VALUES + group.column]
    if flags & NULLS:
        given = ~np.isnan(x)
        mask = given if mask is None else mask & given
    return x, mask


class _Window(NamedTuple):
    """One window: `n` values between two bounds."""

    rows: _Selected
    low: int
    high: int
    n: float
    aggregate: Aggregate
    params: Sequence[float]

    def pieces(self, *, newest_first: bool) -> Iterator[Array]:
        """The values that count, in the order of time within a piece; a closed chunk is opened when it is due."""
        rows, closed = self.rows, self.rows.key.closed
        low, high = rows.cuts.at[self.low], rows.cuts.at[self.high]
        begin, end = (closed.cuts.at[self.low], closed.cuts.at[self.high]) if closed is not None else (0, 0)
        if closed is None or begin == end:
            yield rows.x[low:high]
            return
        offsets = closed.offsets[begin:end]
        edges = (offsets if rows.kept is None else rows.kept.searchsorted(offsets)).clip(low, high).tolist()
        found: list[tuple[int, int]] = [(low, edges[0])]
        for place, piece in zip(range(begin, end), pairwise([*edges, high]), strict=True):
            found += [(-1, place), piece]
        for a, b in reversed(found) if newest_first else found:
            if a < 0:
                yield _opened(rows, closed, b)
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


def _opened(rows: _Selected, closed: _Closed, place: int) -> Array:
    """The values that count of a closed chunk."""
    key = rows.key
    number, n, width, flags, _, _, _, min_end = closed.index[place, :_ABOUT].tolist()
    block = rows_of(bytes(key.fetch(number)), n, width)
    if min_end != FOREVER:
        block = block[block[:, END] == FOREVER]
    x, mask = _column(block, rows.group, flags)
    return x if mask is None else x[mask]


def _std(window: _Window) -> float:
    """Squared deviations of parts add up about a common mean (Chan, Golub and LeVeque 1983, eq. 2.1)."""
    rows, n = window.rows, window.n
    if n < 2:
        return math.nan
    x = rows.x[rows.cuts.at[window.low] : rows.cuts.at[window.high]]
    closed = rows.key.closed
    total = float(np.add.reduce(x))
    if closed is None:
        off = x - total / n
        return math.sqrt(float(np.add.reduce(off * off)) / (n - 1))
    inside = slice(closed.cuts.at[window.low], closed.cuts.at[window.high])
    count, sums, inner = closed.summaries[inside, rows.group.pair, :3].T
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
    x = window.latest(window.aggregate.k)
    return float(np.add.reduce(x)) / len(x)


def _last_change(window: _Window) -> float:
    x = window.latest(window.aggregate.k + 1)
    return float(x[-1] - x[0]) if len(x) > window.aggregate.k else math.nan


def _last_acceleration(window: _Window) -> float:
    k = window.aggregate.k
    x = window.latest(2 * k + 1)
    return float((x[-1] - x[-1 - k]) - (x[-1 - k] - x[0])) if len(x) > 2 * k else math.nan


def _distinct(window: _Window) -> float:
    return float(len(np.unique(window.all())))


def _since(window: _Window) -> float:
    return float(window.rows.key.at - int(window.latest(1)[-1]))


def _relative(window: _Window, *, rank: bool) -> float:
    x = window.all()
    of = window.aggregate.of
    param = x[-1] if of < 0 else window.params[of]
    if param != param:  # noqa: PLR0124
        return math.nan
    equal = np.count_nonzero(x == param)
    found = (np.count_nonzero(x < param) + equal / 2) / len(x) if rank else equal / len(x)
    return float(found)  # NumPy's own numbers cannot be written as JSON


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
