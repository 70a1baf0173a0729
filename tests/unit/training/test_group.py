from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from icekeel.core.frames import Frame
from icekeel.training import GroupTable, Problem

from .cases import COLUMNS, DELAY, LATE, PROBLEMS, training_set


def test_the_category_that_matters_is_chosen() -> None:
    data = training_set(LATE)
    engine = GroupTable().fit(LATE, data).engine
    assert "route" in [column.name for column in engine.columns]
    assert LATE.error_of(data.target, engine.predict_many(data.frame)) < 0.65


def test_a_group_is_its_rate_or_median_drawn_towards_all() -> None:
    frame = Frame({"route": np.array(["a"] * 30 + ["b"] * 10 + ["c"], dtype=object)})
    target = np.array([1.0] * 30 + [0.0] * 9 + [1.0, 1.0])
    times = np.arange(41)
    data = replace(
        training_set(LATE), columns=COLUMNS[3:4], frame=frame, target=target, asked_at=times, known_at=times
    )
    engine = GroupTable()._table(LATE, data, data.columns).engine({})
    overall = 32 / 41
    assert engine.predict_one(["a"]) == pytest.approx((30 + 10 * overall) / 40)
    assert engine.predict_one(["b"]) == pytest.approx((1 + 10 * overall) / 20)
    assert engine.predict_one(["c"]) == overall  # a single row is no group
    median = GroupTable(prior_rows=0)._table(DELAY, data, data.columns).engine({})
    assert [median.predict_one([route]) for route in "abz"] == [1.0, 0.0, 1.0]
    halves = replace(data, target=np.where(times < 35, 1.0, 0.0))  # 5 of the 10 rows of b
    assert GroupTable(prior_rows=0)._table(DELAY, halves, data.columns).engine({}).predict_one(["b"]) == 0.5


def test_without_categories_there_is_one_group() -> None:
    data = replace(training_set(DELAY), columns=COLUMNS[:2])
    engine = GroupTable().fit(DELAY, data).engine
    assert engine.columns == ()
    assert engine.predict_one([]) == np.median(data.target)


@pytest.mark.parametrize("problem", PROBLEMS, ids=lambda problem: problem.error)
def test_the_same_rows_give_the_same_bytes(problem: Problem) -> None:
    first, second = (GroupTable().fit(problem, training_set(problem)).files for _ in range(2))
    assert first == second
