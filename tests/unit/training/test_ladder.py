from __future__ import annotations

from dataclasses import asdict

import msgspec
import numpy as np
import pytest

from icekeel.core.errors import TrainingError
from icekeel.core.time import DAY
from icekeel.training import Backtest, GroupTable, Ladder, LightGBM, Linear, Rung, climb
from icekeel.training.ladder import day_block_means, predict_us

from .cases import LATE, LEVEL, training_set

RUNGS: list[Rung] = [GroupTable(), Linear(), LightGBM(most_trees=60)]


def climbed(tolerance: float) -> tuple[Ladder, Backtest]:
    return climb(LATE, training_set(LATE), RUNGS, tolerance=tolerance, rng=np.random.default_rng(3))


def test_the_winner_is_the_simplest_within_the_tolerance_of_the_best() -> None:
    ladder, trial = climbed(0.0)
    errors = {name: trial.error(name) for name in ("group", "linear", "lightgbm")}
    assert {step.rung: step.error for step in ladder.steps} == errors
    assert ladder.winner == ladder.best == min(errors, key=lambda name: errors[name])
    assert ladder.step("linear").error < ladder.step("group").error
    generous, _ = climbed(10.0)
    assert (generous.winner, generous.best) == ("group", ladder.best)
    assert "group is the simplest within 10 of the best" in generous.reason
    assert "nothing simpler is within 0 of it" in ladder.reason


def test_a_step_says_what_it_gains_and_costs() -> None:
    ladder, trial = climbed(0.0)
    first, second, _ = ladder.steps
    assert first.over_simpler is None
    gap = second.over_simpler
    assert gap is not None
    assert gap.gain == pytest.approx(first.error - second.error)
    assert 0 < gap.low < gap.gain < gap.high
    assert second.bundle_bytes == trial.fitted["linear"].size_bytes
    assert second.predict_us > 0
    assert len(second.error_by_fold) == 3
    assert msgspec.json.decode(msgspec.json.encode(asdict(ladder)))["winner"] == ladder.winner


def test_the_interval_of_paired_days_holds_the_truth_as_often_as_it_says() -> None:
    rng, days, hits = np.random.default_rng(4), 60, 0
    asked_at = np.repeat(np.arange(days) * DAY, 20)
    for _ in range(200):
        day_effect = np.repeat(rng.normal(0, 1, days), 20)
        errors = np.stack([day_effect + rng.normal(0, 1, days * 20), np.zeros(days * 20)])
        first, second = day_block_means(errors, asked_at, rng=rng, draws=200)
        low, high = np.quantile(first - second, (0.025, 0.975))
        hits += bool(low <= 0 <= high)
    assert 0.89 <= hits / 200 <= 0.985  # row-wise draws would hold it in under half


def test_the_same_generator_gives_the_same_interval() -> None:
    one, two = (
        climb(LEVEL, training_set(LEVEL), RUNGS[:2], tolerance=0, rng=np.random.default_rng(5))[0]
        for _ in "12"
    )
    assert one.steps[1].over_simpler == two.steps[1].over_simpler


def test_time_is_read_from_the_stopwatch() -> None:
    data = training_set(LATE, 100)
    ticks = iter(range(10_000))
    engine = GroupTable().fit(LATE, data).engine
    assert predict_us(engine, data.frame, stopwatch=lambda: float(next(ticks))) == pytest.approx(1e6 / 5)


@pytest.mark.parametrize("rungs", [[], [Linear(), Linear(knots=3)]])
def test_rungs_must_be_told_apart(rungs: list[Linear]) -> None:
    with pytest.raises(TrainingError, match="names that differ"):
        climb(LATE, training_set(LATE), rungs, tolerance=0, rng=np.random.default_rng(0))
