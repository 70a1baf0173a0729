"""Laws of similar cases: the search is exact, and what they answer lies between what came of them."""

from __future__ import annotations

from functools import cache
from typing import Any
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from icekeel.core.frames import Frame, Kind
from icekeel.engines import rows_of
from icekeel.engines.similar import SIMILAR_FILE, Boxes, SimilarCases, typical
from icekeel.training import Problem, TrainingSet
from icekeel.training import similar as training
from icekeel.training.similar import Past, boxed, similar_cases

from ..unit.training.cases import DELAY, LATE, LEVEL, PRICE, training_set


@cache
def made(problem: Problem) -> tuple[TrainingSet, SimilarCases, Any]:
    rows = training_set(problem, 1_200)
    fields = [column for column in rows.columns if column.kind in (Kind.CAT, Kind.NUM)]
    past = Past(rows.frame, fields, [f"case-{at}" for at in range(len(rows))])
    guesses = np.where(np.arange(1_200) < 900, np.nan, float(rows.target.mean()))
    data, found = similar_cases(problem, rows, past, predictions=guesses)
    again, _ = similar_cases(problem, rows, past, predictions=guesses)
    assert data == again  # the same rows give the same bytes
    return rows, SimilarCases.load({SIMILAR_FILE: data}), found


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 10_000),
    n=st.integers(1, 3_000),
    width=st.integers(1, 6),
    k=st.integers(1, 60),
    levels=st.sampled_from([2, 5, 1_000]),
)
def test_the_nearest_are_those_of_a_search_through_all(
    seed: int, n: int, width: int, k: int, levels: int
) -> None:
    rng = np.random.default_rng(seed)
    points = (rng.integers(0, levels, (n, width)) / 8).astype(np.float32)
    asked_at = rng.integers(0, 50, n)
    with mock.patch.object(training, "BOX", 8):  # many boxes, most of which must stay closed
        order, ends = boxed(points)
    assert sorted(order.tolist()) == list(range(n)) and ends[-1] == n
    point = (rng.integers(0, levels, width) / 8).astype(np.float32)
    at, distances = Boxes(points[order], ends, asked_at[order]).nearest(point, min(k, n))
    away = np.square(points - point).sum(axis=1)
    expected = np.lexsort((-asked_at, away))[:k]
    np.testing.assert_array_equal(distances, away[expected])
    np.testing.assert_array_equal(asked_at[order][at], asked_at[expected])


@pytest.mark.parametrize("problem", [LATE, PRICE, DELAY, LEVEL], ids=lambda problem: problem.error)
@settings(max_examples=40, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10_000), k=st.integers(2, 40))
def test_an_answer_lies_between_what_came_of_the_cases(problem: Problem, seed: int, k: int) -> None:
    rows, cases, _ = made(problem)
    rng = np.random.default_rng(seed)
    mixed = Frame({name: rng.permutation(rows.frame[name])[:1] for name in rows.frame})
    values = rows_of(rows.columns, mixed)[0]
    found, nearest = cases.typical(values, k), cases.nearest(values, k)
    assert [case.distance for case in nearest] == sorted(case.distance for case in nearest)
    if found is None:
        assert cases.far(nearest)
        return
    outcomes = [case.outcome for case in nearest]
    if problem is LATE:
        assert 0 < found.value < 1
        return
    assert min(outcomes) <= found.low <= found.value <= found.high <= max(outcomes)
    if len({*outcomes}) == k:  # what one other customer paid is told to nobody
        assert min(outcomes) < found.low
        assert found.high < max(outcomes)


@pytest.mark.parametrize("problem", [LATE, PRICE, DELAY, LEVEL], ids=lambda problem: problem.error)
def test_a_past_request_is_its_own_nearest_case_and_company_helps(problem: Problem) -> None:
    rows, cases, found = made(problem)
    for place in range(0, len(rows), 97):
        frame = rows.frame.take(np.array([place]))
        nearest = cases.nearest(rows_of(rows.columns, frame)[0], 10)
        assert nearest[0].distance == 0
        own = [
            case for case in cases.nearest(rows_of(rows.columns, frame)[0], 60) if case.id == f"case-{place}"
        ]
        for case in own:
            assert (case.outcome, case.asked_at) == (rows.target[place], rows.asked_at[place])
            assert case.request["route"] == rows.frame["route"][place]
    assert len(cases) == found.cases == len(rows)
    assert found.error < 0.9 * found.model_error  # which is that of one guess for all


def test_cases_alike_are_no_certainty() -> None:
    ten = np.ones(10)
    assert 0.9 < typical(ten, "log_loss", 0.3) < 1
    assert typical(np.array([1.0, 2.0, 9.0]), "mape", 0.0) == 2
    assert typical(np.array([1.0, 2.0, 9.0]), "rmse", 0.0) == 4


def test_a_request_without_company_gets_no_answer() -> None:
    _, cases, _ = made(PRICE)
    assert cases.typical([2.0, 0.0, 1.0, "c", "x"], len(cases) + 1) is None
    beyond: list[float | str | None] = [9.0, 0.0, 1.0, "c", "x"]
    assert (cases.typical(beyond, 10) is None) is cases.far(cases.nearest(beyond, 10))
