from __future__ import annotations

import math

import numpy as np
import pytest

from icekeel.core.frames import Ints
from icekeel.core.time import FOREVER
from icekeel.features.aggregates import Aggregate, Function, Span
from icekeel.features.windows import Questions, Versions, aggregate

NAN = float("nan")
LAST_10 = Span(1, 10)
NEXT_10 = Span(-9, 0)


def ints(*values: int) -> Ints:
    return np.array(values, dtype=np.int64)


def versions(*rows: tuple[int, int, int, int, int, float]) -> Versions:
    """Rows of (key, time, start, end, order, value)."""
    whole = np.array([row[:5] for row in rows], dtype=np.int64).reshape(-1, 5)
    key, time, start, end, order = whole.T
    return Versions(key, time, start, end, order, (np.array([row[5] for row in rows], dtype=np.float64),))


def ask(
    rows: Versions, at: int, function: Function, span: Span = LAST_10, *, key: int = 0, k: int = 0
) -> float:
    column = -1 if function in (Function.COUNT, Function.SINCE) else 0
    wanted = [Aggregate(function, span, column, k=k)]
    return float(aggregate(rows, Questions(ints(key), ints(at)), wanted)[0][0])


CLEAN = versions(*((0, t, t, FOREVER, t, float(t)) for t in (1, 2, 3, 5, 8)))


@pytest.mark.parametrize(
    ("function", "k", "expected"),
    [
        (Function.COUNT, 0, 4),
        (Function.SUM, 0, 11),
        (Function.MEAN, 0, 2.75),
        (Function.MIN, 0, 1),
        (Function.MAX, 0, 5),
        (Function.STD, 0, math.sqrt(8.75 / 3)),
        (Function.FIRST, 0, 1),
        (Function.LAST, 0, 5),
        (Function.DISTINCT, 0, 4),
        (Function.SINCE, 0, 3),
        (Function.LAST_MEAN, 2, 4),
        (Function.LAST_MEAN, 9, 2.75),
        (Function.LAST_CHANGE, 3, 4),
        (Function.LAST_CHANGE, 4, NAN),
    ],
)
def test_each_function_over_1_2_3_5_asked_at_8(function: Function, k: int, expected: float) -> None:
    assert ask(CLEAN, 8, function, k=k) == pytest.approx(expected, rel=1e-15, nan_ok=True)


@pytest.mark.parametrize("key", [-1, 7])
@pytest.mark.parametrize("function", list(Function))
def test_an_entity_never_seen_has_no_rows(function: Function, key: int) -> None:
    zero = function in (Function.COUNT, Function.SUM, Function.DISTINCT)
    answer = ask(CLEAN, 8, function, key=key, k=1)
    assert answer == 0.0 if zero else math.isnan(answer)


@pytest.mark.parametrize(("at", "expected"), [(5, 0), (6, 1), (15, 1), (16, 0)])
def test_last_is_open_at_the_question_and_closed_at_its_far_end(at: int, expected: int) -> None:
    assert ask(versions((0, 5, 0, FOREVER, 0, 1.0)), at, Function.COUNT) == expected


@pytest.mark.parametrize(("at", "expected"), [(-5, 0), (-4, 1), (5, 1), (6, 0)])
def test_next_is_closed_at_the_question_and_open_at_its_far_end(at: int, expected: int) -> None:
    assert ask(versions((0, 5, -99, FOREVER, 0, 1.0)), at, Function.COUNT, NEXT_10) == expected


def test_a_plan_counts_from_its_announcement() -> None:
    rows = versions((0, 5, 2, FOREVER, 0, 1.0))
    assert [ask(rows, at, Function.COUNT, NEXT_10) for at in (1, 2, 5, 6)] == [0, 1, 1, 0]


def test_a_late_row_counts_once_it_is_available() -> None:
    rows = versions((0, 5, 9, FOREVER, 0, 1.0), (0, 4, 4, FOREVER, 0, 2.0))
    assert [ask(rows, at, Function.SUM) for at in (8, 9, 14, 15, 16)] == [2.0, 3.0, 3.0, 1.0, 0.0]


def test_a_correction_replaces_and_a_deletion_ends() -> None:
    rows = versions((0, 1, 1, 4, 0, 10.0), (0, 1, 4, 7, 0, 30.0))
    assert [ask(rows, at, Function.SUM) for at in (2, 3, 4, 6, 7, 8)] == [10, 10, 30, 30, 0, 0]


def test_a_version_replaced_on_the_last_moment_of_the_window_is_gone_then() -> None:
    rows = versions((0, 1, 1, 11, 0, 10.0))
    assert [ask(rows, at, Function.SUM) for at in (10, 11)] == [10, 0]


def test_ties_of_time_go_by_the_order_of_events() -> None:
    rows = versions((0, 5, 5, FOREVER, 2, 20.0), (0, 5, 5, FOREVER, 1, 10.0), (0, 5, 6, FOREVER, 3, 30.0))
    assert ask(rows, 6, Function.FIRST) == 10.0
    assert ask(rows, 6, Function.LAST) == 30.0
    assert ask(rows, 6, Function.LAST_CHANGE, k=1) == 10.0


def test_nulls_are_skipped_but_their_rows_count() -> None:
    rows = versions((0, 1, 1, FOREVER, 0, 4.0), (0, 2, 2, FOREVER, 1, NAN))
    assert ask(rows, 3, Function.COUNT) == 2
    assert ask(rows, 3, Function.LAST) == 4.0
    assert ask(rows, 3, Function.MEAN) == 4.0
    assert ask(rows, 3, Function.SINCE) == 1


def test_a_filter_keeps_the_rows_that_hold_one() -> None:
    flags = np.array([1.0, 0.0, NAN, 1.0, 1.0])
    rows = Versions(CLEAN.key, CLEAN.time, CLEAN.start, CLEAN.end, CLEAN.order, (*CLEAN.columns, flags))
    wanted = [Aggregate(Function.COUNT, LAST_10, where=1), Aggregate(Function.SUM, LAST_10, 0, where=1)]
    assert [answer.tolist() for answer in aggregate(rows, Questions(ints(0), ints(8)), wanted)] == [
        [2.0],
        [6.0],
    ]


def test_zero_and_minus_zero_are_one_value() -> None:
    rows = versions((0, 1, 1, FOREVER, 0, 0.0), (0, 2, 2, FOREVER, 1, -0.0))
    assert ask(rows, 3, Function.DISTINCT) == 1


def test_a_deviation_survives_a_large_mean() -> None:
    rows = versions(*((0, t, t, FOREVER, t, 1e9 + t % 2) for t in range(8)))
    assert ask(rows, 8, Function.STD) == pytest.approx(math.sqrt(2 / 7), rel=1e-9)


@pytest.mark.parametrize("function", [Function.SUM, Function.MEAN, Function.STD, Function.LAST_MEAN])
def test_what_is_beyond_float64_is_null_without_a_warning(function: Function) -> None:
    rows = versions(*((0, t, t, FOREVER, t, 1e308) for t in range(4)))
    assert math.isnan(ask(rows, 4, function, k=2))


@pytest.mark.parametrize("function", list(Function))
def test_nothing_asked_and_nothing_known(function: Function) -> None:
    wanted = [Aggregate(function, LAST_10, 0, k=1)]
    nothing = versions()
    assert aggregate(CLEAN, Questions(ints(), ints()), wanted)[0].shape == (0,)
    assert aggregate(nothing, Questions(ints(), ints()), wanted)[0].shape == (0,)
    assert aggregate(nothing, Questions(ints(0, -1), ints(1, 2)), wanted)[0].shape == (2,)
    assert aggregate(CLEAN, Questions(ints(0), ints(8)), []) == []
