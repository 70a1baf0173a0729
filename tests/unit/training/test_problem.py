from __future__ import annotations

import numpy as np
import pytest

from icekeel.core.errors import TrainingError
from icekeel.core.frames import Column, Frame, Kind
from icekeel.training import Problem, TrainingSet
from icekeel.training.problem import vocabulary

from .cases import DELAY, LATE, LEVEL, PRICE, training_set

TRUTH, PREDICTION = np.array([1.0, 2.0, 4.0]), np.array([1.5, 2.0, 2.0])


def test_errors_by_hand() -> None:
    assert PRICE.error_of(TRUTH, PREDICTION) == pytest.approx((0.5 + 0 + 0.5) / 3)
    assert DELAY.error_of(TRUTH, PREDICTION) == pytest.approx(2.5 / 3)
    assert LEVEL.error_of(TRUTH, PREDICTION) == pytest.approx(np.sqrt(4.25 / 3))
    assert LATE.error_of(np.array([1.0, 0.0]), np.array([0.5, 0.25])) == pytest.approx(
        -np.log([0.5, 0.75]).mean()
    )
    assert [problem.log_target for problem in (PRICE, DELAY, LEVEL, LATE)] == [True, False, False, False]


def test_an_error_that_does_not_fit_the_task_is_refused() -> None:
    with pytest.raises(TrainingError, match="not an error of a probability"):
        Problem("probability", "mae")
    with pytest.raises(TrainingError, match="not an error of a number"):
        Problem("number", "log_loss")


def test_all_that_is_wrong_with_the_rows_is_told_at_once() -> None:
    times = np.array([2, 1])
    columns = (Column("gone", Kind.NUM), Column("id", Kind.ID))
    with pytest.raises(TrainingError) as raised:
        TrainingSet(
            columns, Frame({"id": np.array(["a"], dtype=object)}), np.array([1.0, np.nan]), times, times
        )
    assert [fault.code for fault in raised.value.faults] == [
        "missing_column",
        "bad_column",
        "bad_rows",
        "bad_rows",
        "bad_target",
    ]


def test_targets_must_suit_the_problem() -> None:
    data = training_set(LEVEL)  # numbers, some below 0
    for problem in (PRICE, LATE):
        with pytest.raises(TrainingError) as raised:
            problem.check(data)
        assert raised.value.code == "bad_target"
    with pytest.raises(TrainingError) as few:
        LEVEL.check(data.take(np.arange(19)))
    assert few.value.code == "few_rows"
    LEVEL.check(data)


def test_a_split_keeps_back_what_was_not_yet_known() -> None:
    data = training_set(LATE)
    earlier, later = data.split(0.25)
    moment = later.asked_at[0]
    assert len(later) == pytest.approx(375, abs=2)
    assert earlier.known_at.max() < moment
    pending = (data.asked_at < moment) & (data.known_at >= moment)
    assert pending.any()
    assert len(earlier) + len(later) + pending.sum() == len(data)


def test_rows_asked_together_stay_together() -> None:
    times = np.repeat([0, 100], [30, 70])
    data = TrainingSet((), Frame({}), np.zeros(100), times, times)
    assert [len(part) for part in data.split(0.5)] == [30, 70]
    assert [len(part) for part in data.split(0.8)] == [0, 100]


def test_a_vocabulary_holds_the_commonest_values() -> None:
    values = np.array(["b", "a", "c", "b", "a", None, None, "d"], dtype=object)
    assert vocabulary(values, most=9, fewest_rows=1) == ("a", "b", "c", "d")
    assert vocabulary(values, most=1, fewest_rows=1) == ("a",)
    assert vocabulary(values, most=9, fewest_rows=2) == ("a", "b")
