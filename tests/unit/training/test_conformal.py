from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from icekeel.core.errors import TrainingError
from icekeel.training import GroupTable, backtest, conformal_interval
from icekeel.training.conformal import later_coverage

from .cases import DELAY, LATE, LEVEL, PRICE, training_set


def test_the_width_is_the_rank_that_the_theorem_names() -> None:
    truth = np.arange(1.0, 20.0)  # 19 errors of 1 to 19: ceil(20 * 0.9) = 18
    interval = conformal_interval(DELAY, truth, np.zeros(19), coverage=0.9)
    assert (interval.half_width, interval.relative) == (18.0, False)


def test_new_outcomes_are_held_as_often_as_stated() -> None:
    rng = np.random.default_rng(7)
    held = []
    for _ in range(300):
        factor = np.exp(rng.normal(0, 0.3, 200))
        interval = conformal_interval(PRICE, 100 * factor[:100], np.full(100, 100.0), coverage=0.8)
        low, high = interval.around(100.0)
        held.append(((100 * factor[100:] >= low) & (100 * factor[100:] <= high)).mean())
    assert np.mean(held) == pytest.approx(0.8, abs=0.015)


def test_what_has_no_interval_is_refused() -> None:
    with pytest.raises(TrainingError) as raised:
        conformal_interval(LATE, np.ones(100), np.ones(100))
    assert raised.value.code == "no_interval"
    with pytest.raises(TrainingError) as few:
        conformal_interval(DELAY, np.ones(8), np.ones(8), coverage=0.9)
    assert few.value.code == "few_rows"


def test_what_an_interval_promised_is_held_against_the_next_fold() -> None:
    trial = backtest(LEVEL, training_set(LEVEL, 3_000), [GroupTable()], folds=4)
    held = later_coverage(trial, "group")
    assert held == pytest.approx([0.9] * 3, abs=0.05)
    last = trial.last_fold()
    moved = trial.rows.target.copy()
    moved[last] += 100
    drifted = replace(trial, rows=replace(trial.rows, target=moved))
    assert later_coverage(drifted, "group") == [*held[:2], 0.0]
    assert len(later_coverage(backtest(LEVEL, training_set(LEVEL), [GroupTable()], folds=1), "group")) == 1
