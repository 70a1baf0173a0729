from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest

from icekeel.core.frames import Ints
from icekeel.core.time import FOREVER
from icekeel.features.aggregates import Aggregate, Function, Span, View
from icekeel.features.online import chunks
from icekeel.features.online.chunks import (
    END,
    TIME,
    Editor,
    Info,
    Layout,
    about,
    append,
    describe,
    end_rows,
    ids_of,
    index_of,
    lengthen,
    merge,
    retain,
    split,
    summaries_of,
    summary,
)

SPAN = Span(1, 100)
VIEW = View(
    "v",
    "t",
    ("k",),
    ("x", "w"),
    (
        Aggregate(Function.SUM, SPAN, 0),
        Aggregate(Function.SUM, SPAN, 0, where=1),
        Aggregate(Function.COUNT, SPAN),
    ),
    1000,
    0,
)
LAYOUT = Layout(VIEW)
PAST = -10_000
"""A horizon that drops nothing."""


def rows(times: Sequence[int], ids: Sequence[str] | None = None, *, words: int = 1) -> Ints:
    """Rows with x = 0, 0.5, 1 ... and w = 0, 1, 0 ..., available one microsecond after they happened."""
    n = len(times)
    out = np.zeros((n, LAYOUT.ids + words), np.int64)
    out[:, :3] = np.array([times, np.add(times, 1), [FOREVER] * n]).T
    out[:, 3:5] = np.array([np.arange(n) * 0.5, np.arange(n) % 2.0]).T.copy().view(np.int64)
    names = np.array([(i.encode()) for i in ids or [f"e{time:04d}" for time in times]], f"S{8 * words}")
    out[:, 5:] = names.view(np.int64).reshape(n, words)
    return out


class Key:
    """One key, stored in dictionaries."""

    def __init__(self) -> None:
        self.head: bytes | None = None
        self.chunks: dict[int, bytes] = {}

    def change(self, fresh: Ints, endings: Sequence[chunks.Ending] = (), horizon: int = PAST) -> int:
        """Gives how many rows were dropped."""
        editor = Editor(self.head, LAYOUT, self.chunks.__getitem__)
        editor.change(fresh, endings, horizon)
        return self.keep(editor)

    def keep(self, editor: Editor) -> int:
        self.head = editor.encode()
        for number, chunk in editor.chunks.items():
            if chunk is None:
                del self.chunks[number]
            else:
                self.chunks[number] = chunk
        return editor.dropped

    def rows(self) -> Ints:
        """All rows in order; checks that what is said of them holds."""
        assert self.head is not None
        info = Info._make(chunks.INFO.unpack_from(self.head))
        index = index_of(self.head, info, LAYOUT)
        parts = []
        for entry, totals in zip(index, summaries_of(index, LAYOUT), strict=True):
            told = Info._make(entry[:8].tolist())
            part = chunks.rows_of(self.chunks[told.number], told.rows, told.width)
            assert about(part, LAYOUT, told.number) == told
            if told.rows >= chunks.ROWS or entry is not index[-1]:
                assert np.array_equal(totals.ravel(), summary(part, LAYOUT)) or told.rows < chunks.ROWS
            parts.append(part)
        assert sorted(index[:, 0].tolist()) == sorted(self.chunks)
        tail = chunks.rows_of(self.head[len(self.head) - 8 * info.rows * info.width :], info.rows, info.width)
        if info.rows:
            assert about(tail, LAYOUT, info.number) == info
            parts.append(tail)
        assert all(a[-1, TIME] < b[0, TIME] for a, b in pairwise(parts))
        width = max(part.shape[1] for part in parts)
        return np.concatenate([chunks.widened(part, width) for part in parts])


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "ROWS", 8)
    monkeypatch.setattr(chunks, "TAIL_BYTES", 3 * 48)


def test_what_is_known_of_rows_is_the_same_one_key_or_many() -> None:
    some = rows([1, 2, 3, 4, 5])
    some[1, 3] = np.array([np.nan]).view(np.int64)[0]
    some[4, 3] = np.array([-1e200]).view(np.int64)[0]
    some[3, END] = 77
    begins = np.array([0, 3])
    assert describe(some, begins, LAYOUT) == [about(some[:3], LAYOUT), about(some[3:], LAYOUT)]
    assert about(some[:3], LAYOUT) == Info(0, 3, 6, chunks.NULLS, 1, 3, 4, FOREVER)
    assert about(some[3:], LAYOUT, 9) == Info(9, 2, 6, chunks.LARGE, 4, 5, 77, 77)
    assert describe(some[:0], begins[:0], LAYOUT) == []


@pytest.mark.usefixtures("small")
def test_rows_that_come_in_order_are_appended_as_bytes_and_edited_alike() -> None:
    fast, slow = Key(), Key()
    for number in range(40):
        fresh = rows([10 * number, 10 * number + 1])
        slow.change(fresh)
        info, raw = about(fresh, LAYOUT), fresh.tobytes()
        if (longer := append(fast.head, info, raw, LAYOUT)) is not None:
            fast.head = longer
        elif fast.head and (joined := lengthen(fast.head, info, raw, LAYOUT, PAST, fast.chunks.__getitem__)):
            fast.head, fast.chunks[joined[1]] = joined[0], joined[2]
        else:
            fast.change(fresh)
        assert (fast.head, fast.chunks) == (slow.head, slow.chunks)
    assert len(fast.rows()) == 80
    assert len(fast.chunks) == 9


@pytest.mark.parametrize(
    ("stored", "fresh"),
    [
        (rows([5]), rows([5], ["f"])),
        (rows([5]), rows([4])),
        (rows([5]), rows([6], words=2)),
        (rows(range(32)), rows([40])),
        (None, rows(range(33))),
    ],
    ids=["a tie", "late", "wider", "no room", "too many"],
)
def test_what_does_not_simply_follow_is_not_appended(stored: Ints | None, fresh: Ints) -> None:
    head = None if stored is None else append(None, about(stored, LAYOUT), stored.tobytes(), LAYOUT)
    assert stored is None or head is not None
    assert append(head, about(fresh, LAYOUT), fresh.tobytes(), LAYOUT) is None


@pytest.mark.usefixtures("small")
def test_late_rows_reach_their_chunk_which_splits_when_it_is_half_as_large_again() -> None:
    key = Key()
    key.change(rows(range(0, 400, 10)))
    assert len(key.chunks) == 5
    key.change(rows([5, 15, 25, 35, 45]))
    assert len(key.chunks) == 6
    key.change(rows([395, 396], words=2))
    assert key.rows()[:, TIME].tolist() == sorted([*range(0, 400, 10), 5, 15, 25, 35, 45, 395, 396])
    assert ids_of(key.rows(), LAYOUT).tolist()[-3:] == [b"e0390", b"e0395", b"e0396"]


@pytest.mark.usefixtures("small")
def test_ended_rows_are_found_wherever_they_are() -> None:
    key = Key()
    key.change(rows(range(30)))
    key.change(rows([30]))
    key.change(rows([]), [(3, b"e0003", 4, 50), (20, b"e0020", 21, 60), (30, b"e0030", 31, 70)])
    assert {int(row[TIME]): int(row[END]) for row in key.rows() if row[END] != FOREVER} == {
        3: 50,
        20: 60,
        30: 70,
    }


@pytest.mark.usefixtures("small")
def test_what_no_question_can_meet_is_dropped_with_its_chunk() -> None:
    key = Key()
    key.change(rows(range(30)))
    assert key.change(rows(range(2000, 2020)), horizon=1010) == 8
    assert key.rows()[:, TIME].tolist() == [*range(8, 30), *range(2000, 2020)]
    editor = Editor(key.head, LAYOUT, key.chunks.__getitem__)
    assert chunks.is_due(key.head or b"", LAYOUT, 5000)
    editor.prune(5000)
    assert key.keep(editor) == 42
    assert key.head is None and not key.chunks


def test_a_summary_is_of_the_rows_that_have_not_ended() -> None:
    four = end_rows(rows([1, 2, 3, 4, 5]), [(5, b"e0005", 6, 40)], LAYOUT)
    four[0, 3] = np.array([np.nan]).view(np.int64)[0]
    found = dict(zip(LAYOUT.pairs, summary(four, LAYOUT).reshape(-1, 5).tolist(), strict=True))
    assert found[-1, -1][0] == 4
    assert found[0, -1] == [3, 3.0, 0.5, 0.5, 1.5]
    assert found[0, 1] == [2, 2.0, 0.5, 0.5, 1.5]


def test_merging_orders_ties_by_id() -> None:
    both = merge(
        rows([1, 5, 5, 9], ["a", "b", "d", "a"]),
        rows([5, 5, 7], ["a", "c-longer-than-8", "x"], words=2),
        LAYOUT,
    )
    assert both[:, TIME].tolist() == [1, 5, 5, 5, 5, 7, 9]
    assert ids_of(both, LAYOUT).tolist() == [b"a", b"a", b"b", b"c-longer-than-8", b"d", b"x", b"a"]


def test_ending_finds_the_row_by_time_id_and_start() -> None:
    endings = [(5, b"b", 6, 50), (5, b"b", 99, 1), (8, b"a", 9, 1)]
    assert end_rows(rows([5, 5, 7], ["a", "b", "a"]), endings, LAYOUT)[:, END].tolist() == [
        FOREVER,
        50,
        FOREVER,
    ]


def test_only_rows_that_can_count_are_retained() -> None:
    some = rows([10, 20, 30, 40])
    some[1:3, END] = 100, 31
    assert retain(some, 110, 90)[:, TIME].tolist() == [40]
    assert retain(some, 99, 89)[:, TIME].tolist() == [10, 20, 40]


@pytest.mark.parametrize(
    ("times", "size", "sizes"),
    [
        (range(9), 4, [4, 4, 1]),
        (range(9), 3, [3, 3, 3]),
        ([0, 1, 1, 1, 1, 1, 1, 2, 3], 4, [1, 6, 2]),
        ([1] * 9, 4, [9]),
        ([], 4, []),
    ],
)
def test_splitting_cuts_between_different_times(times: Sequence[int], size: int, sizes: list[int]) -> None:
    parts = split(rows(list(times)), size)
    assert [len(part) for part in parts] == sizes
    assert [time for part in parts for time in part[:, TIME].tolist()] == list(times)
