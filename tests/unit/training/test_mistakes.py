from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from icekeel.define.policies import Act
from icekeel.training.mistakes import Amounts, Choices, mistakes


def model(task: str, action: Act | None = None) -> Any:
    return SimpleNamespace(task=task, action=action)


def test_amounts_tell_how_far_answers_are_off() -> None:
    truth = np.array([100.0, 100.0, 100.0, 200.0])
    said = np.array([104.0, 92.0, 100.0, 260.0])
    found = mistakes(model("number"), truth, said)
    assert isinstance(found, Amounts)
    assert (found.rows, found.half, found.mean, found.typical) == (4, 6.0, 18.0, 100.0)
    assert (found.bias, found.total, found.total_off) == (14.0, 500.0, 56.0)
    assert found.within == {"0.05": 0.5, "0.1": 0.75, "0.25": 0.75}
    assert found.half < found.nine_in_ten < found.ninety_nine < 60


def test_relative_distance_means_nothing_where_a_truth_is_not_above_0() -> None:
    found = mistakes(model("number"), np.array([0.0, 1.0]), np.array([1.0, 1.0]))
    assert isinstance(found, Amounts)
    assert found.within == {}


def test_choices_tell_what_acting_comes_to() -> None:
    truth = np.array([1.0, 1.0, 0.0, 0.0, 0.0])
    said = np.array([0.9, 0.1, 0.5, 0.1, 0.1])
    found = mistakes(model("probability", Act("warn", missed=4, false=1)), truth, said)
    assert isinstance(found, Choices)
    assert found.threshold == 0.2
    assert (found.rate, found.acted, found.right, found.caught) == (0.4, 0.4, 0.5, 0.5)
    # One missed for 4 and one false for 1, of five; never acting misses two, always acting is false three times.
    assert (found.cost, found.never, found.always) == pytest.approx((1000, 1600, 600))


def test_without_an_action_both_mistakes_count_one() -> None:
    found = mistakes(model("probability"), np.array([1.0, 0.0]), np.array([0.4, 0.4]))
    assert isinstance(found, Choices)
    assert (found.threshold, found.acted, found.right, found.cost) == (0.5, 0.0, 0.0, 500.0)
