from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, QuantileRegressor, Ridge  # type: ignore[import-untyped]

from icekeel.core.frames import Column, Floats, Frame, Kind
from icekeel.training import Linear, Problem, TrainingSet
from icekeel.training.linear import _Design, design_of

from .cases import DELAY, LATE, LEVEL, PRICE, PROBLEMS, training_set


def dense(design: _Design) -> Floats:
    """The design without its intercept."""
    matrix = np.zeros((len(design.places), design.width))
    np.put_along_axis(matrix, design.places.astype(np.int64), design.sizes, axis=1)
    return matrix[:, 1:]


def test_probabilities_are_those_of_scikit_learn() -> None:
    data = training_set(LATE)
    rung = Linear(penalty=4.0)
    matrix = dense(design_of(rung.bases(data), data.frame))
    other = LogisticRegression(C=1 / 4.0, tol=1e-8, max_iter=500).fit(matrix, data.target)
    got = rung.fit(LATE, data).engine.predict_many(data.frame)
    np.testing.assert_allclose(got, other.predict_proba(matrix)[:, 1], atol=1e-4)


def test_means_are_those_of_scikit_learn() -> None:
    data = training_set(LEVEL)
    rung = Linear(penalty=4.0)
    matrix = dense(design_of(rung.bases(data), data.frame))
    got = rung.fit(LEVEL, data).engine.predict_many(data.frame)
    np.testing.assert_allclose(got, Ridge(4.0).fit(matrix, data.target).predict(matrix), atol=1e-6)


def test_medians_come_close_to_the_exact_ones() -> None:
    data = training_set(DELAY, 500)
    skewed = replace(data, target=data.target + np.random.default_rng(2).exponential(3.0, 500) ** 2)
    rung = Linear(penalty=1e-3)
    matrix = dense(design_of(rung.bases(skewed), skewed.frame))
    exact = QuantileRegressor(alpha=0.0).fit(matrix, skewed.target).predict(matrix)
    got = rung.fit(DELAY, skewed).engine.predict_many(skewed.frame)
    assert DELAY.error_of(skewed.target, got) <= DELAY.error_of(skewed.target, exact) * 1.005


def test_many_rows_start_from_some_and_end_at_the_same_optimum() -> None:
    data = training_set(LATE, 10_000)
    rung = Linear(penalty=4.0)
    matrix = dense(design_of(rung.bases(data), data.frame))
    other = LogisticRegression(C=1 / 4.0, tol=1e-8, max_iter=500).fit(matrix, data.target)
    got = rung.fit(LATE, data).engine.predict_many(data.frame)
    np.testing.assert_allclose(got, other.predict_proba(matrix)[:, 1], atol=1e-3)


def test_a_log_target_comes_back_in_its_own_unit() -> None:
    data = training_set(PRICE)
    engine = Linear().fit(PRICE, data).engine
    assert PRICE.error_of(data.target, engine.predict_many(data.frame)) < 0.12


def test_what_no_row_had_adds_what_the_column_adds_on_average() -> None:
    times = np.arange(100)
    x = np.linspace(0.0, 10.0, 100)
    frame = Frame({"x": x, "c": np.array(["a", "b", "b", "b"] * 25, dtype=object)})
    columns = (Column("x", Kind.NUM), Column("c", Kind.CAT))
    data = TrainingSet(columns, frame, 3 * x + (frame["c"] == "b") * 8.0, times, times)
    engine = Linear(penalty=1e-6).fit(LEVEL, data).engine
    assert engine.predict_one([5.0, "a"]) == pytest.approx(15.0, abs=0.1)
    assert engine.predict_one([None, "b"]) == pytest.approx(23.0, abs=0.1)
    assert engine.predict_one([5.0, "never seen"]) == pytest.approx(21.0, abs=0.1)


def test_columns_without_values_or_with_one_do_no_harm() -> None:
    data = training_set(LATE, 300)
    empty = data.frame.with_columns(
        {"size": np.full(300, np.nan), "load": np.ones(300), "carrier": np.full(300, None, dtype=object)}
    )
    got = Linear().fit(LATE, replace(data, frame=empty)).engine.predict_many(empty)
    assert np.isfinite(got).all()


@pytest.mark.parametrize("problem", PROBLEMS, ids=lambda problem: problem.error)
def test_the_same_rows_give_the_same_bytes(problem: Problem) -> None:
    first, second = (Linear().fit(problem, training_set(problem)).files for _ in range(2))
    assert first == second
