"""The window kernel equals the naive oracle, whatever the versions, questions and spans."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from icekeel.core.time import DAY, FIRST_TIME, FOREVER, HOUR, LAST_TIME
from icekeel.features.aggregates import Aggregate, Function, Span
from icekeel.features.windows import Questions, Versions, aggregate
from icekeel.testing.oracle import Row, naive

NAN = float("nan")
RELATIVE = (Function.SHARE_OF, Function.RANK_OF)
READS = [one for one in Function if one not in (Function.COUNT, Function.SINCE)]
SUMS = {Function.SUM, Function.MEAN, Function.STD, Function.LAST_MEAN}


def every_aggregate(spans: Sequence[Span], k: int = 2) -> list[Aggregate]:
    """All functions over column 0, with and without the filter in column 1, about the latest and the parameter."""
    plain = [Function.COUNT, Function.SINCE]
    return [
        Aggregate(function, span, column=-1 if function in plain else 0, where=where, k=k, of=of)
        for span in spans
        for where in (-1, 1)
        for function in (*plain, *READS)
        for of in ((-1, 0) if function in RELATIVE else (-1,))
    ]


def params_of(key: int, at: int) -> float:
    """A parameter that often equals a value, is often between two, and sometimes null."""
    return (NAN, 0.0, 1.0, -2.5, 7.3, 1e9)[(key + at) % 6]


def kernel(rows: Sequence[Row], asked: Sequence[tuple[int, int]], wanted: list[Aggregate]) -> np.ndarray:
    """Answers of shape (n_questions, n_aggregates)."""
    params = np.array([params_of(*one) for one in asked], dtype=np.float64)
    whole = np.array([(r.key, r.time, r.start, r.end, r.order) for r in rows], dtype=np.int64).reshape(-1, 5)
    key, time, start, end, order = whole.T
    columns = tuple(np.array([r.values[i] for r in rows], dtype=np.float64) for i in range(2))
    questions = np.array(asked, dtype=np.int64).reshape(-1, 2)
    answers = aggregate(
        Versions(key, time, start, end, order, columns), Questions(*questions.T, (params,)), wanted
    )
    return np.array(answers).T.reshape(len(asked), len(wanted))


def tolerance(rows: Sequence[Row], key: int, at: int, one: Aggregate) -> float:
    """How far a sum, mean or deviation may be off."""
    if one.function not in SUMS:
        return 0.0
    sizes = [
        abs(row.values[0])
        for row in rows
        if row.key == key and one.span.low <= at - row.time <= one.span.high and row.values[0] is not None
    ]
    sizes = [size for size in sizes if not math.isnan(size)]
    return 1e-12 * (math.fsum(sizes) if one.function is Function.SUM else max(sizes, default=0.0))


def check(rows: Sequence[Row], asked: Sequence[tuple[int, int]], wanted: list[Aggregate]) -> None:
    answers = kernel(rows, asked, wanted)
    for (key, at), line in zip(asked, answers, strict=True):
        for one, got in zip(wanted, line, strict=True):
            expected = naive(rows, key, at, one, (params_of(key, at),))
            if expected is None:
                assert math.isnan(got), (one, key, at, got)
            else:
                assert abs(got - expected) <= tolerance(rows, key, at, one), (one, key, at, got, expected)


moments = st.integers(-12, 12)
numbers = st.one_of(
    st.sampled_from([NAN, 0.0, -0.0, 1.0, 1.0, -2.5]),
    st.floats(-1e150, 1e150, allow_nan=False),
    st.floats(1e9, 1e9 + 1e-3),
)
flags = st.sampled_from([0.0, 1.0, 1.0, NAN])
spans = st.builds(lambda low, width: Span(low, low + width), moments, st.integers(0, 15))
questions = st.lists(st.tuples(st.integers(-1, 3), st.integers(-20, 20)), max_size=12)


@st.composite
def histories(draw: st.DrawFn) -> list[Row]:
    """Events with one to three versions each: on time, announced, late, corrected, moved, deleted."""
    rows: list[Row] = []
    for order in range(draw(st.integers(0, 12))):
        start = draw(moments)
        for _ in range(draw(st.integers(1, 3))):
            end = draw(st.sampled_from([FOREVER, start + 1, start + 4]))
            values = (draw(numbers), draw(flags))
            rows.append(Row(draw(st.integers(0, 2)), draw(moments), start, end, order, values))
            if end == FOREVER:
                break
            start = end
    return draw(st.permutations(rows))


@settings(max_examples=150, deadline=None, derandomize=True)
@given(histories(), questions, st.lists(spans, min_size=1, max_size=2), st.integers(1, 3))
def test_equals_the_oracle(
    rows: list[Row], asked: list[tuple[int, int]], windows: list[Span], k: int
) -> None:
    check(rows, asked, every_aggregate(windows, k))


def world(
    rng: np.random.Generator, n: int, *, keys: int, late: float, hot: float, replaced: float
) -> list[Row]:
    """`n` events over 30 days by the minute; some late, some replaced by a corrected version."""
    rows = []
    for order, time in enumerate(np.sort(rng.integers(0, 30 * DAY // 60_000_000, n) * 60_000_000).tolist()):
        key = 0 if rng.random() < hot else int(rng.integers(0, keys))
        start = time + (int(rng.exponential(2 * DAY)) if rng.random() < late else -int(rng.integers(0, DAY)))
        end = start + int(rng.exponential(DAY)) if rng.random() < replaced else FOREVER
        value = NAN if rng.random() < 0.1 else float(np.round(rng.normal(0, 100), 1))
        rows.append(Row(key, time, start, end, order, (value, float(rng.integers(0, 2)))))
        if end < FOREVER:
            rows.append(Row(key, time, end, FOREVER, order, (value + 1, 1.0)))
    return rows


@pytest.mark.parametrize(
    ("late", "hot", "replaced"),
    [(0.0, 0.0, 0.0), (0.0, 0.5, 0.0), (0.05, 0.5, 0.0), (0.3, 0.0, 0.3), (1.0, 0.9, 0.5)],
)
def test_equals_the_oracle_on_longer_histories(late: float, hot: float, replaced: float) -> None:
    rng = np.random.default_rng(20250301)
    rows = world(rng, 600, keys=5, late=late, hot=hot, replaced=replaced)
    asked = [(int(rng.integers(-1, 6)), int(rng.integers(-DAY, 33 * DAY))) for _ in range(12)]
    asked += [(0, row.time) for row in rows[:8]]
    windows = [Span(1, HOUR), Span(1, 7 * DAY), Span(1, 400 * DAY), Span(1 - 3 * DAY, 0), Span(-DAY, DAY)]
    check(rows, asked, every_aggregate(windows, k=3))


def test_rows_and_questions_may_come_in_any_order() -> None:
    rng = np.random.default_rng(7)
    rows = world(rng, 300, keys=3, late=0.2, hot=0.2, replaced=0.2)
    asked = [(int(rng.integers(0, 3)), int(rng.integers(0, 33 * DAY))) for _ in range(40)]
    wanted = every_aggregate([Span(1, 5 * DAY)])
    shuffled, turned = rng.permutation(len(rows)), rng.permutation(len(asked))
    answers = kernel([rows[i] for i in shuffled], [asked[i] for i in turned], wanted)
    np.testing.assert_array_equal(answers, kernel(rows, asked, wanted)[turned])


def test_an_answer_follows_from_its_keys_own_past_alone() -> None:
    """To the last bit: so what is computed window by window, month by month, is what is computed at once."""
    rng = np.random.default_rng(11)
    rows = world(rng, 900, keys=4, late=0.2, hot=0.3, replaced=0.3)
    until = 20 * DAY
    known = [row for row in rows if row.start <= until]
    known = [replace(row, end=row.end if row.end <= until else FOREVER) for row in known]
    corrected = [replace(row, start=until + HOUR, end=FOREVER) for row in known[::2] if row.end == FOREVER]
    rows = [replace(row, end=until + HOUR) if row in known[::2] and row.end > until else row for row in rows]
    rows += corrected
    asked = [(1, int(rng.integers(0, until))) for _ in range(50)]
    wanted = every_aggregate([Span(1, HOUR), Span(1, 9 * DAY), Span(1 - DAY, 0)], k=3)
    answers = kernel(rows, asked, wanted)
    others = [(int(rng.integers(2, 5)), int(rng.integers(0, 33 * DAY))) for _ in range(70)]
    np.testing.assert_array_equal(kernel(rows, [*others, *asked], wanted)[70:], answers)
    np.testing.assert_array_equal(kernel([row for row in known if row.key == 1], asked, wanted), answers)
    alone = [kernel(rows, asked, [one])[:, 0] for one in wanted]
    np.testing.assert_array_equal(np.array(alone).T, answers)
    assert corrected and np.isfinite(answers).mean() > 0.4


def test_wide_keys_and_times_that_do_not_fit_one_integer_together() -> None:
    rng = np.random.default_rng(3)
    keys = [0, 2**20, 2**40, 2**61]
    times = [*rng.integers(FIRST_TIME, LAST_TIME, 40).tolist(), *range(200)]
    rows = [
        Row(keys[rng.integers(0, 4)], t, t + int(rng.integers(-2, 3)), FOREVER, i, (float(t % 7), 1.0))
        for i, t in enumerate(sorted(times))
    ]
    asked = [(keys[rng.integers(0, 4)], int(rng.integers(-5, 210))) for _ in range(30)]
    asked += [(2**62, 5), (-1, 5), (1, 5), (2**40, LAST_TIME), (2**40, FIRST_TIME)]
    check(rows, asked, every_aggregate([Span(1, 20), Span(1 - 20, 0), Span(1, LAST_TIME)]))


@pytest.mark.parametrize("lateness", [0, 5])
def test_a_sum_of_many_equal_values_does_not_drift(lateness: int) -> None:
    time = np.arange(200_000)
    zeros = np.zeros_like(time)
    start = time + np.where(time % 2, lateness, 0)
    versions = Versions(zeros, time, start, zeros + FOREVER, time, (np.full(len(time), 0.1),))
    wanted = [Aggregate(function, Span(1, 150_000), 0) for function in (Function.SUM, Function.STD)]
    total, std = aggregate(versions, Questions(np.zeros(1, np.int64), np.array([200_006])), wanted)
    count = 150_000 - 6
    assert abs(total[0] - math.fsum([0.1] * count)) <= 1e-14 * total[0]
    assert std[0] <= 1e-14
