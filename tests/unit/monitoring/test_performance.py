from __future__ import annotations

import numpy as np
import pytest

from icekeel.core.time import DAY, HOUR
from icekeel.monitoring import Detector, Standardiser, gap_series, log_threshold, loss_series, summarise


def test_one_summary_for_each_day() -> None:
    at = np.array([DAY - 1, DAY, DAY + HOUR, 5 * DAY])
    found = summarise(at, np.array([1.0, 2.0, 4.0, 8.0]), np.full(4, 0.25), np.array([0.0, 1.0, 0.0, 1.0]))
    assert [(day.day, day.n, day.mean_loss, day.gap) for day in found] == [
        (0, 1, 1.0, -0.25),
        (1, 2, 3.0, 0.25),
        (5, 1, 8.0, 0.75),
    ]
    starts, losses = loss_series(found)
    assert starts.tolist() == [0, DAY, 5 * DAY]
    assert losses.tolist() == [1.0, 3.0, 8.0]
    assert gap_series(found)[1].tolist() == [-0.25, 0.25, 0.75]
    assert summarise(np.array([], dtype=np.int64), *[np.array([])] * 3) == []


def test_days_add_up_and_different_days_do_not() -> None:
    first, second = summarise(np.array([0, DAY]), np.ones(2), np.ones(2), np.ones(2))
    assert (first + first).n == 2
    with pytest.raises(ValueError, match="days differ"):
        first + second


def test_ordinary_days_pass_and_a_changed_truth_is_found_within_two_weeks() -> None:
    """Days differ far more than their rows would: 0.03 between days, 0.003 within."""
    rng = np.random.default_rng(1)

    def losses(first: int, days: int, change: float) -> list[tuple[int, float]]:
        level = np.repeat(0.4 + change + rng.normal(0, 0.03, days), 500)
        at = np.repeat((first + np.arange(days)) * DAY, 500)
        summaries = summarise(at, rng.normal(level, 0.07), level, level)
        starts, values = loss_series(summaries)
        return list(zip(starts.tolist(), values.tolist(), strict=True))

    past = losses(0, 84, 0.0)
    standardiser = Standardiser.fit(np.array([at for at, _ in past]), np.array([loss for _, loss in past]))
    detector = Detector(standardiser, bar=log_threshold(365, 5, 4))
    for at, loss in losses(84, 90, 0.0):
        detector, look = detector.look(at, loss)
        assert not look.alarm
    alarms = []
    for at, loss in losses(174, 14, 0.08):
        detector, look = detector.look(at, loss)
        alarms.append(look.alarm)
    assert any(alarms)
