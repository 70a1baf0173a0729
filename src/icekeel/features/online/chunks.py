"""Rows of one key in sorted chunks, like the leaves of a B+ tree: layout and arithmetic, no I/O.

A chunk is, little-endian and contiguous:

    header      7 int64: rows, id width, flags, first time, last time, settled, earliest end
    summary     only in large chunks: per (column, where) pair 5 float64 over the rows that have not ended:
                n, sum, squared deviations, min, max
    time, start, end    int64 each
    columns     float64 each, NaN for null
    ids         fixed-width bytes, read only to order ties and to find rows

From `settled` on, the latest of all starts and ends, exactly the rows that have not ended are visible.
Rows are sorted by (time, id, start), and rows of equal time share a chunk, so that the first time names it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from icekeel.core.frames import Array, Floats, Ints
from icekeel.core.time import FOREVER

from ..aggregates import View

FORMAT = 1
"""Of chunks and of what is remembered of events."""
ROWS = 2048
"""Rows that a chunk holds at most, unless more have the same time."""
SUMMED = 512
"""Rows from which on a chunk carries its summary; below, reading it is as fast."""

_HEADER = struct.Struct("<7q")
NULLS, SUMMARY = 1, 2
"""Flags: some column has a null; a summary follows the header."""

Buffer = bytes | memoryview
Pair = tuple[int, int]
Ending = tuple[int, bytes, int, int]
"""Time, id and start of a stored row, and its new end."""


class Head(NamedTuple):
    """Header of a chunk."""

    rows: int
    id_width: int
    flags: int
    first: int
    last: int
    settled: int
    min_end: int


class Layout:
    """What of a view decides how its chunks are written: columns, summarised pairs, how far back it reaches."""

    __slots__ = ("back", "pairs", "width")

    def __init__(self, view: View) -> None:
        self.width = len(view.columns)
        self.back = view.back
        self.pairs: tuple[Pair, ...] = tuple(sorted({(a.column, a.where) for a in view.aggregates}))


@dataclass(frozen=True, slots=True)
class Rows:
    """Row versions sorted by (time, id, start).

    Attributes:
        ints: time, start, end; shape (3, n).
        values: Value columns; shape (columns, n).
        ids: Fixed-width bytes; shape (n,).
    """

    ints: Ints
    values: Floats
    ids: Array

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: slice | Array) -> Rows:
        return Rows(self.ints[:, index], self.values[:, index], self.ids[index])


def head_of(buffer: Buffer) -> Head:
    """Header of a chunk."""
    return Head._make(_HEADER.unpack_from(buffer))


def arrays_of(buffer: Buffer, head: Head, layout: Layout) -> tuple[Ints, Floats]:
    """Times, starts and ends, shape (3, n), and columns, shape (columns, n), of a chunk, not copied."""
    n, offset = head.rows, _payload(head, layout)
    ints = np.frombuffer(buffer, "<i8", 3 * n, offset).reshape(3, n)
    values = np.frombuffer(buffer, "<f8", layout.width * n, offset + 24 * n).reshape(layout.width, n)
    return ints, values


def heads_of(buffers: Sequence[Buffer]) -> list[Head]:
    """Headers of chunks."""
    joined = b"".join([buffer[: _HEADER.size] for buffer in buffers])
    return [Head._make(fields) for fields in _HEADER.iter_unpack(joined)]


def summaries_of(buffers: Iterable[Buffer], layout: Layout) -> Floats:
    """Summaries of chunks that have one, shape (chunks, pairs, 5)."""
    end = _HEADER.size + 40 * len(layout.pairs)
    joined = b"".join([buffer[_HEADER.size : end] for buffer in buffers])
    return np.frombuffer(joined, "<f8").reshape(-1, len(layout.pairs), 5)


def decode(buffer: Buffer, layout: Layout) -> Rows:
    """All rows of a chunk, not copied."""
    head = head_of(buffer)
    ids = np.frombuffer(
        buffer, f"S{head.id_width}", head.rows, _payload(head, layout) + 8 * head.rows * (3 + layout.width)
    )
    return Rows(*arrays_of(buffer, head, layout), ids)


def encode(rows: Rows, layout: Layout) -> bytes:
    """One chunk of rows (at least one)."""
    time, start, end = rows.ints
    newest = end == FOREVER
    settled = max(int(start.max()), int(end.max(where=~newest, initial=-FOREVER)))
    summed = len(rows) >= SUMMED
    flags = (NULLS if np.isnan(rows.values).any() else 0) | (SUMMARY if summed else 0)
    head = _HEADER.pack(
        *(len(rows), rows.ids.itemsize, flags),
        *(int(time[0]), int(time[-1]), settled, int(end.min())),
    )
    summary = _summary(rows.values[:, newest], layout.pairs).tobytes() if summed else b""
    return b"".join((head, summary, rows.ints.tobytes(), rows.values.tobytes(), rows.ids.tobytes()))


def end_rows(rows: Rows, ended: Iterable[Ending]) -> Rows:
    """Rows of which those named, where found, end anew."""
    ints = rows.ints.copy()
    time, start, end = ints
    for at, name, since, until in ended:
        low, high = time.searchsorted(at), time.searchsorted(at, "right")
        same = (start[low:high] == since) & (rows.ids[low:high] == name)
        end[low:high][same] = until
    return Rows(ints, rows.values, rows.ids)


def merge(old: Rows, fresh: Rows) -> Rows:
    """Both together, sorted; each is sorted already."""
    both = Rows(
        np.concatenate((old.ints, fresh.ints), axis=1),
        np.concatenate((old.values, fresh.values), axis=1),
        np.concatenate((old.ids, fresh.ids)),
    )
    if old.ints[0, -1] < fresh.ints[0, 0]:
        return both
    order = np.argsort(both.ints[0], kind="stable")
    time = both.ints[0, order]
    added = fresh.ints[0]
    # Only rows that share their time with an added row can be out of order now.
    tied = np.flatnonzero(added[np.minimum(added.searchsorted(time), len(added) - 1)] == time)
    if len(tied) > len(added):
        among = order[tied]
        order[tied] = among[np.lexsort((both.ints[1, among], both.ids[among], time[tied]))]
    return both[order]


def retain(rows: Rows, horizon: int, back: int) -> Rows:
    """Rows that can still count for some question at or after `horizon`."""
    time, start, end = rows.ints
    keep = (end > np.maximum(start, horizon)) & (time >= horizon - back)
    return rows if keep.all() else rows[keep]


def split(rows: Rows, *, last: bool) -> list[Rows]:
    """Rows cut to chunks, between different times only.

    The last chunks of a key are filled, since rows mostly arrive in the order of time; others are halved.
    """
    if len(rows) <= ROWS:
        return [rows] if len(rows) else []
    parts = -(-len(rows) // ROWS)
    step = ROWS if last else -(-len(rows) // parts)
    time, begin, out = rows.ints[0], 0, []
    while begin < len(rows):
        end = min(begin + step, len(rows))
        if end < len(rows):
            cut = int(time.searchsorted(time[end]))
            end = cut if cut > begin else int(time.searchsorted(time[end], "right"))
        out.append(rows[begin:end])
        begin = end
    return out


def _payload(head: Head, layout: Layout) -> int:
    return _HEADER.size + (40 * len(layout.pairs) if head.flags & SUMMARY else 0)


def _summary(values: Floats, pairs: Iterable[Pair]) -> Floats:
    """Summary of the rows given, shape (pairs, 5)."""
    out = []
    for column, where in pairs:
        kept = values if where < 0 else values[:, values[where] == 1.0]
        x = kept[column] if column >= 0 else np.zeros(kept.shape[1])
        x = x[~np.isnan(x)]
        total = np.add.reduce(x)
        off = x - total / max(len(x), 1)
        limits = (x.min(), x.max()) if len(x) else (np.inf, -np.inf)
        out.append((len(x), total, np.add.reduce(off * off), *limits))
    return np.array(out)
