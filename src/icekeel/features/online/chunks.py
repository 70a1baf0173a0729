"""How the rows of one key are stored, and the arithmetic on them: no I/O.

Two kinds of record hold a key of a view. Its **head** is small, so that a read finds most of what it needs at once:

    about the tail     `Info`, 8 int64; `number` is the one that the next chunk gets
    index              per chunk, in the order of time, its `Info` and its summary: per (column, where) pair
                       5 float64 over the rows that have not ended: n, sum, squared deviations, min, max
    tail               the newest rows

A **chunk** is rows and nothing else. Rows are sorted by (time, id, start) within and across chunks, the tail last;
rows of equal time are never parted, so that the first and last times tell where a row is. New rows are appended to
the tail; a tail that has grown joins the last chunk, or becomes the next one once that is full. The last chunk has no
summary until it is full: readers always open it.

A row is little-endian words of 8 bytes: time, start, end, the value columns (float64, NaN for null), the id padded with
NUL. Row after row, so that appending is bytes plus bytes. Rows of one record have one width; a longer id widens those
written after it.

From `settled` on, the latest of all starts and ends, exactly the rows that have not ended are visible.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np

from icekeel.core.frames import Array, Floats, Ints
from icekeel.core.time import FOREVER

from ..aggregates import View

FORMAT = 2
"""Of heads, chunks and what is remembered of events."""
ROWS = 512
"""Rows that a chunk is filled to; half as many again before late rows split it."""
TAIL_BYTES = 1536
"""Most bytes in a tail, or as many as the index has: then rewriting the head costs little, in LMDB no extra page."""

TIME, START, END, VALUES = 0, 1, 2, 3
"""Words of a row: where each is, and where the value columns begin."""
NULLS, LARGE = 1, 2
"""Flags: some column has a null; some value is so large that sums or squares may overflow."""
_LARGE = 1e150

Buffer = bytes | memoryview
Pair = tuple[int, int]
Ending = tuple[int, bytes, int, int]
"""Time, id and start of a stored row, and its new end."""


class Info(NamedTuple):
    """What is known of the rows of a chunk or tail without opening it; `width` is the words of a row."""

    number: int
    rows: int
    width: int
    flags: int
    first: int
    last: int
    settled: int
    min_end: int


About: TypeAlias = tuple[int, int, int, int, int, int, int, int]
"""The same as a plain tuple, which is faster to make."""
INFO = struct.Struct("<8q")
_INFO_WORDS = 8
FIRST, LAST, MIN_END = 4, 5, 7
"""Where these are in an entry of the index."""


class Layout:
    """What of a view decides how its rows are written.

    Attributes:
        back: How far back the view reaches.
        ids: Word of a row at which its id begins.
        pairs: The (column, where) pairs that summaries hold.
        stride: Words of an entry in the index.
    """

    __slots__ = ("back", "ids", "pairs", "stride")

    def __init__(self, view: View) -> None:
        self.back = view.back
        self.ids = VALUES + len(view.columns)
        self.pairs: tuple[Pair, ...] = tuple(sorted({(a.column, a.where) for a in view.aggregates}))
        self.stride = _INFO_WORDS + 5 * len(self.pairs)


def index_of(head: Buffer, info: Info, layout: Layout) -> Ints:
    """The index of a head, shape (chunks, stride), not copied."""
    size = len(head) - INFO.size - 8 * info.rows * info.width
    return np.frombuffer(head, "<i8", size // 8, INFO.size).reshape(-1, layout.stride)


def summaries_of(index: Ints, layout: Layout) -> Floats:
    """Summaries in an index, shape (chunks, pairs, 5)."""
    return index[:, _INFO_WORDS:].view(np.float64).reshape(len(index), len(layout.pairs), 5)


def rows_of(buffer: Buffer, n: int, width: int) -> Ints:
    """Rows, shape (n, width), not copied; ValueError where there are not so many."""
    return np.frombuffer(buffer, "<i8").reshape(n, width)


def widened(rows: Ints, width: int) -> Ints:
    """The same rows in `width` words."""
    if rows.shape[1] >= width:
        return rows
    out = np.zeros((len(rows), width), np.int64)
    out[:, : rows.shape[1]] = rows
    return out


def about(rows: Ints, layout: Layout, number: int = 0) -> Info:
    """What is known of these rows (at least one)."""
    ends, size = rows[:, END], np.abs(rows[:, VALUES : layout.ids].view(np.float64))
    settled, min_end = int(rows[:, START].max()), int(ends.min())
    if min_end != FOREVER:
        settled = max(settled, int(ends.max(where=ends != FOREVER, initial=-FOREVER)))
    largest = float(size.max(initial=0.0))
    flags = LARGE * (largest > _LARGE)
    if largest != largest:  # noqa: PLR0124  a null
        flags = NULLS | LARGE * bool((size > _LARGE).any())
    n, width = rows.shape
    return Info(number, n, width, flags, int(rows[0, TIME]), int(rows[-1, TIME]), settled, min_end)


def describe(rows: Ints, begins: Ints, layout: Layout) -> list[About]:
    """What is known of the rows from each of `begins` to the next, `number` left 0."""
    if len(begins) < 2:  # far faster, and the rule where events come one by one
        return [about(rows, layout) for _ in begins]
    ends, values = rows[:, END], rows[:, VALUES : layout.ids].view(np.float64)
    changed = np.maximum(rows[:, START], np.where(ends == FOREVER, -FOREVER, ends))
    flags = np.isnan(values).any(axis=1) * NULLS | (np.abs(values) > _LARGE).any(axis=1) * LARGE
    beyond = np.append(begins[1:], len(rows))
    columns = (
        begins * 0, beyond - begins, begins * 0 + rows.shape[1], np.bitwise_or.reduceat(flags, begins),
        rows[begins, TIME], rows[beyond - 1, TIME],
        np.maximum.reduceat(changed, begins), np.minimum.reduceat(ends, begins),
    )  # fmt: skip
    return list(zip(*(column.tolist() for column in columns), strict=True))


def append(head: bytes | None, info: About, rows: bytes, layout: Layout) -> bytes | None:
    """The head with rows appended to its tail; None where that is not enough, and an `Editor` is needed.

    Args:
        head: As stored; None for a key without rows.
        rows: At least one.
    """
    if head is None:
        return None if len(rows) > TAIL_BYTES else INFO.pack(*info) + rows
    number, n, width, flags, first, last, settled, min_end = INFO.unpack_from(head)
    _, more, wide, more_flags, since, until, changed, ending = info
    size = 8 * n * width
    room = max(TAIL_BYTES, len(head) - INFO.size - size) - size
    if since <= last or len(rows) > room or (n and width != wide):
        return None
    about = INFO.pack(
        number, n + more, wide, flags | more_flags, min(first, since), until, max(settled, changed),
        min(min_end, ending),
    )  # fmt: skip
    return about + head[INFO.size :] + rows


def lengthen(
    head: bytes, about: About, rows: bytes, layout: Layout, horizon: int, fetch: Callable[[int], Buffer]
) -> tuple[bytes, dict[int, bytes]] | None:
    """The head after its tail and `rows` have joined the last chunk, or become the first, as `append` would add them.

    Rows that no question can meet are let be until they are an eighth of the window old.

    Returns:
        The head, and the chunk by its number. None where that is not enough, and an `Editor` is needed.
    """
    info, tail = Info._make(about), Info._make(INFO.unpack_from(head))
    end = len(head) - 8 * tail.rows * tail.width
    place = end - 8 * layout.stride
    old = Info._make(INFO.unpack_from(head, place)) if place > 0 else _NOTHING._replace(number=tail.number)
    joined = [one for one in (old, tail, info) if one.rows]
    n, oldest = sum(one.rows for one in joined), horizon - layout.back - layout.back // 8
    if (
        n >= ROWS or old.rows >= ROWS or info.first <= tail.last or joined[0].first < oldest
        or any(one.width != info.width or one.min_end <= horizon for one in joined)
    ):  # fmt: skip
        return None
    flags = tail.flags | old.flags | info.flags
    settled, min_end = max(one.settled for one in joined), min(one.min_end for one in joined)
    chunk = INFO.pack(old.number, n, info.width, flags, joined[0].first, info.last, settled, min_end)
    following = max(tail.number, old.number + 1)
    empty = INFO.pack(following, 0, info.width, 0, FOREVER, info.last, -FOREVER, FOREVER)
    index = head[INFO.size : max(place, INFO.size)]
    parts = (fetch(old.number) if old.rows else b"", head[end:], rows)
    still_open = bytes(8 * (layout.stride - _INFO_WORDS))
    return b"".join((empty, index, chunk, still_open)), {old.number: b"".join(parts)}


_NOTHING = Info(0, 0, 0, 0, FOREVER, -FOREVER, -FOREVER, FOREVER)


def is_due(head: bytes, layout: Layout, horizon: int) -> bool:
    """Whether some row of a key may be one that no question later than `horizon` can meet."""
    info = Info._make(INFO.unpack_from(head))
    oldest = horizon - layout.back
    if info.min_end <= horizon or info.first < oldest:
        return True
    index = index_of(head, info, layout)
    return len(index) > 0 and bool(index[:, MIN_END].min() <= horizon or index[0, FIRST] < oldest)


class Editor:
    """The rows of one key while they are changed.

    Args:
        head: As stored; None for a key without rows.

    Attributes:
        chunks: What became of chunks: the new bytes by number, None to delete it.
        dropped: Rows dropped because no question can meet them any more.
    """

    def __init__(self, head: bytes | None, layout: Layout, fetch: Callable[[int], Buffer]) -> None:
        self._layout, self._fetch = layout, fetch
        self.chunks: dict[int, bytes | None] = {}
        self.dropped = 0
        self._index: Ints = np.empty((0, layout.stride), np.int64)
        self._tail: Ints = np.empty((0, layout.ids), np.int64)
        self._next = 0
        if head is not None:
            info = Info._make(INFO.unpack_from(head))
            self._next = info.number
            self._index = index_of(head, info, layout)
            self._tail = rows_of(head[len(head) - 8 * info.rows * info.width :], info.rows, info.width)

    def rows(self) -> Iterator[Ints]:
        """All rows, part by part, in order."""
        yield from (self._open(place) for place in range(len(self._index)))
        yield self._tail

    def change(self, fresh: Ints, endings: Sequence[Ending], horizon: int) -> None:
        """Adds rows and ends stored ones, both in the order of time, each chunk touched once."""
        firsts = self._index[:, FIRST]
        edge = int(self._index[-1, LAST]) if len(self._index) else -FOREVER
        late = int(fresh[:, TIME].searchsorted(edge, "right"))
        rows_by_chunk = (firsts.searchsorted(fresh[:late, TIME], "right") - 1).clip(0)
        ended: dict[int, list[Ending]] = {}
        for ending in endings:
            inside = ending[0] <= edge
            place = max(int(firsts.searchsorted(ending[0], "right")) - 1, 0) if inside else len(firsts)
            ended.setdefault(place, []).append(ending)
        open_endings = ended.pop(len(firsts), None)
        # From behind, since a chunk may become several or none.
        for place in sorted({*rows_by_chunk.tolist(), *ended}, reverse=True):
            self._amend(place, fresh[:late][rows_by_chunk == place], ended.get(place, ()), horizon)
        if open_endings:
            self._tail = self._retain(end_rows(self._tail, open_endings, self._layout), horizon)
        self._tail = merge(self._tail, fresh[late:], self._layout)
        if self._tail.nbytes > max(TAIL_BYTES, self._index.nbytes):
            self._close_tail(horizon)

    def prune(self, horizon: int) -> None:
        """Drops what no question later than `horizon` can meet."""
        due = (self._index[:, MIN_END] <= horizon) | (self._index[:, FIRST] < horizon - self._layout.back)
        for place in np.flatnonzero(due)[::-1].tolist():
            self._amend(place, self._tail[:0], (), horizon)
        self._tail = self._retain(self._tail, horizon)

    def encode(self) -> bytes | None:
        """The new head; None where no row is left."""
        if len(self._tail):
            tail = about(self._tail, self._layout, self._next)
        elif len(self._index):
            last = Info._make(self._index[-1, :_INFO_WORDS].tolist())
            tail = _NOTHING._replace(number=self._next, width=last.width, last=last.last)
        else:
            return None
        return b"".join((INFO.pack(*tail), self._index.tobytes(), self._tail.tobytes()))

    def _open(self, place: int) -> Ints:
        number, n, width = self._index[place, :3].tolist()
        return rows_of(self.chunks.get(number) or self._fetch(number), n, width)

    def _amend(self, place: int, fresh: Ints, endings: Sequence[Ending], horizon: int) -> None:
        rows = self._open(place)
        if endings:
            rows = end_rows(rows, endings, self._layout)
        rows = merge(self._retain(rows, horizon), fresh, self._layout)
        parts = -(-len(rows) // ROWS) if len(rows) > ROWS * 3 // 2 else 1
        self._put(place, rows, -(-len(rows) // parts))

    def _close_tail(self, horizon: int) -> None:
        """Moves the tail to the last chunk, or to new ones where that is full."""
        gone = int(self._index[:, LAST].searchsorted(horizon - self._layout.back))
        for number, rows_gone in self._index[:gone, :2].tolist():
            self.dropped += rows_gone
            self.chunks[number] = None
        self._index = self._index[gone:]
        place, rows = len(self._index), self._tail
        if place and self._index[-1, 1] < ROWS:
            place -= 1
            rows = merge(self._open(place), rows, self._layout)
        self._tail = self._tail[:0]
        self._put(place, self._retain(rows, horizon), ROWS)

    def _put(self, place: int, rows: Ints, size: int) -> None:
        """Puts chunks of about `size` rows where the chunk at `place` is, or behind the last."""
        numbers = self._index[place : place + 1, 0].tolist()
        last = place + 1 >= len(self._index)
        parts = split(rows, size)
        entries = np.zeros((len(parts), self._layout.stride), np.int64)
        for part, entry in zip(parts, entries, strict=True):
            number = numbers.pop() if numbers else self._next
            self._next = max(self._next, number + 1)
            info = about(part, self._layout, number)
            entry[:_INFO_WORDS] = info
            if not last or part is not parts[-1] or info.rows >= ROWS:
                entry[_INFO_WORDS:] = summary(part, self._layout).view(np.int64)
            self.chunks[number] = part.tobytes()
        self.chunks |= dict.fromkeys(numbers)
        self._index = np.concatenate((self._index[:place], entries, self._index[place + 1 :]))

    def _retain(self, rows: Ints, horizon: int) -> Ints:
        kept = retain(rows, horizon, self._layout.back)
        self.dropped += len(rows) - len(kept)
        return kept


def ids_of(rows: Ints, layout: Layout) -> Array:
    """The ids of rows, as fixed-width bytes."""
    width = 8 * (rows.shape[1] - layout.ids)
    return np.ascontiguousarray(rows[:, layout.ids :]).view(f"S{width}")[:, 0]


def end_rows(rows: Ints, endings: Iterable[Ending], layout: Layout) -> Ints:
    """Rows of which those named, where found, end anew."""
    rows = rows.copy()
    if not len(rows):
        return rows
    ids = ids_of(rows, layout)
    for at, name, since, until in endings:
        low, high = rows[:, TIME].searchsorted(at), rows[:, TIME].searchsorted(at, "right")
        same = (rows[low:high, START] == since) & (ids[low:high] == name)
        rows[low:high, END][same] = until
    return rows


def merge(old: Ints, fresh: Ints, layout: Layout) -> Ints:
    """Both together, sorted; each is sorted already."""
    if not len(old) or not len(fresh):
        return old if len(old) else fresh
    width = max(old.shape[1], fresh.shape[1])
    both = np.concatenate((widened(old, width), widened(fresh, width)))
    if old[-1, TIME] < fresh[0, TIME]:
        return both
    order = np.argsort(both[:, TIME], kind="stable")
    # Only rows that share their time with an added row can be out of order now.
    time, added = both[order, TIME], fresh[:, TIME]
    tied = np.flatnonzero(added[np.minimum(added.searchsorted(time), len(added) - 1)] == time)
    if len(tied) > len(added):
        among = order[tied]
        ids = ids_of(both[among], layout)
        order[tied] = among[np.lexsort((both[among, START], ids, time[tied]))]
    return both[order]


def retain(rows: Ints, horizon: int, back: int) -> Ints:
    """Rows that can still count for some question later than `horizon`."""
    keep = (rows[:, END] > np.maximum(rows[:, START], horizon)) & (rows[:, TIME] >= horizon - back)
    return rows if keep.all() else rows[keep]


def split(rows: Ints, size: int) -> list[Ints]:
    """Rows cut to chunks of about `size`, between different times only."""
    time, begin, out = rows[:, TIME], 0, []
    while begin < len(rows):
        end = min(begin + size, len(rows))
        if end < len(rows) and time[end] == time[end - 1]:
            end = max(int(time.searchsorted(time[end])), begin)
            end = end if end > begin else int(time.searchsorted(time[begin], "right"))
        out.append(rows[begin:end])
        begin = end
    return out


def summary(rows: Ints, layout: Layout) -> Floats:
    """Summary of the rows that have not ended, 5 for each pair."""
    values = rows[rows[:, END] == FOREVER, VALUES : layout.ids].view(np.float64).T
    out = []
    with np.errstate(over="ignore", invalid="ignore"):
        for column, where in layout.pairs:
            kept = values if where < 0 else values[:, values[where] == 1.0]
            x = kept[column] if column >= 0 else np.zeros(kept.shape[1])
            x = x[~np.isnan(x)]
            total = np.add.reduce(x)
            off = x - total / max(len(x), 1)
            limits = (x.min(), x.max()) if len(x) else (np.inf, -np.inf)
            out.append((len(x), total, np.add.reduce(off * off), *limits))
    return np.array(out, np.float64).ravel()
