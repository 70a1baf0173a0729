from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from icekeel.core.time import FOREVER
from icekeel.features.aggregates import Aggregate, Function, Span, View
from icekeel.features.online import chunks
from icekeel.features.online.chunks import (
    Layout,
    Rows,
    decode,
    encode,
    end_rows,
    head_of,
    merge,
    retain,
    split,
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
    100,
    0,
)
LAYOUT = Layout(VIEW)


def rows(times: Sequence[int], ids: Sequence[str] | None = None) -> Rows:
    n = len(times)
    ints = np.array([times, np.add(times, 1), [FOREVER] * n], np.int64)
    names = ids or [f"e{time:04d}" for time in times]
    return Rows(
        ints, np.array([np.arange(n) * 0.5, np.arange(n) % 2]), np.array([i.encode() for i in names], "S")
    )


def test_a_chunk_reads_as_it_was_written() -> None:
    written = rows([-5, 3, 9])
    written.values[0, 1] = np.nan
    read, head = decode(encode(written, LAYOUT), LAYOUT), head_of(encode(written, LAYOUT))
    assert (head.rows, head.first, head.last, head.settled, head.min_end) == (3, -5, 9, 10, FOREVER)
    assert head.flags == chunks.NULLS
    assert np.array_equal(read.ints, written.ints)
    assert np.array_equal(read.values, written.values, equal_nan=True)
    assert read.ids.tolist() == written.ids.tolist()


def test_a_large_chunk_sums_up_the_rows_that_have_not_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "SUMMED", 4)
    four = end_rows(rows([1, 2, 3, 4, 5]), [(5, b"e0005", 6, 40)])
    four.values[0, 0] = np.nan
    buffer = encode(four, LAYOUT)
    assert head_of(buffer).settled == 40
    (summary,) = chunks.summaries_of([buffer], LAYOUT)
    found = dict(zip(LAYOUT.pairs, summary.tolist(), strict=True))
    assert found[-1, -1][0] == 4
    assert found[0, -1] == [3, 3.0, 0.5, 0.5, 1.5]
    assert found[0, 1] == [2, 2.0, 0.5, 0.5, 1.5]
    assert decode(buffer, LAYOUT).ids.tolist() == four.ids.tolist()


def test_merging_orders_ties_by_id() -> None:
    both = merge(rows([1, 5, 5, 9], ["a", "b", "d", "a"]), rows([5, 5, 7], ["a", "c-long", "x"]))
    assert both.ints[0].tolist() == [1, 5, 5, 5, 5, 7, 9]
    assert both.ids.tolist() == [b"a", b"a", b"b", b"c-long", b"d", b"x", b"a"]


def test_ending_finds_the_row_by_time_id_and_start() -> None:
    ended = end_rows(rows([5, 5, 7], ["a", "b", "a"]), [(5, b"b", 6, 50), (5, b"b", 99, 1), (8, b"a", 9, 1)])
    assert ended.ints[2].tolist() == [FOREVER, 50, FOREVER]


def test_only_rows_that_can_count_are_retained() -> None:
    some = rows([10, 20, 30, 40])
    some.ints[2, 1:3] = 100, 31
    assert retain(some, 110, 90).ints[0].tolist() == [40]
    assert retain(some, 99, 89).ints[0].tolist() == [10, 20, 40]


@pytest.mark.parametrize(
    ("times", "last", "sizes"),
    [
        (range(9), True, [4, 4, 1]),
        (range(9), False, [3, 3, 3]),
        ([0, 1, 1, 1, 1, 1, 1, 2, 3], True, [1, 6, 2]),
        ([1] * 9, True, [9]),
        ([], True, []),
    ],
)
def test_splitting_cuts_between_different_times(
    monkeypatch: pytest.MonkeyPatch, times: Sequence[int], last: bool, sizes: list[int]
) -> None:
    monkeypatch.setattr(chunks, "ROWS", 4)
    parts = split(rows(list(times)), last=last)
    assert [len(part) for part in parts] == sizes
    assert [time for part in parts for time in part.ints[0].tolist()] == list(times)
