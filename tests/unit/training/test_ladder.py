from __future__ import annotations

from dataclasses import asdict, dataclass, replace

import msgspec
import numpy as np
import pytest

from icekeel.core.errors import TrainingError
from icekeel.core.frames import Column, Floats, Frame
from icekeel.core.time import DAY
from icekeel.engines import Explained
from icekeel.training import (
    Backtest,
    Fitted,
    GroupTable,
    Ladder,
    LightGBM,
    Linear,
    Problem,
    Rung,
    TrainingSet,
    backtest,
    climb,
)
from icekeel.training.ladder import day_block_means, paired, predict_us

from .cases import LATE, LEVEL, training_set

RUNGS: list[Rung] = [GroupTable(), Linear(), LightGBM(most_trees=60)]


def climbed(tolerance: float) -> tuple[Ladder, Backtest]:
    return climb(LATE, training_set(LATE), RUNGS, tolerance=tolerance, rng=np.random.default_rng(3))


def test_the_winner_is_the_simplest_within_the_tolerance_of_the_best() -> None:
    ladder, trial = climbed(0.0)
    errors = {name: trial.error(name) for name in ("group", "linear")}
    assert {step.rung: step.error for step in ladder.steps if not step.stopped} == errors
    assert ladder.winner == ladder.best == min(errors, key=lambda name: errors[name])
    assert ladder.step("linear").error < ladder.step("group").error
    generous, _ = climbed(10.0)
    assert (generous.winner, generous.best) == ("group", ladder.best)
    assert "group is the simplest within 10 of the best" in generous.reason
    assert "nothing simpler is within 0 of it" in ladder.reason


def test_a_rung_that_cannot_win_is_stopped_and_says_why() -> None:
    ladder, trial = climbed(0.0)
    stopped = ladder.step("lightgbm")
    assert stopped.stopped == trial.stopped["lightgbm"] == "surely no better than linear, which is simpler"
    assert len(stopped.error_by_fold) == 2
    assert len(trial.row_errors("lightgbm")) == sum(fold.test_rows for fold in trial.folds[:2])
    assert np.isnan(trial.predictions["lightgbm"][trial.last_fold()]).all()
    worse = ladder.step("linear").error - stopped.error  # on the folds that both ran
    assert worse == pytest.approx(paired(trial, "linear", "lightgbm", rng=np.random.default_rng(0)).gain)
    generous, _ = climbed(10.0)
    assert [step.stopped for step in generous.steps] == [
        "",
        "group is surely within 10 of it",
        stopped.stopped,
    ]


@dataclass(frozen=True)
class Blurred:
    """The truth and so much noise: a rung whose error is known."""

    noise: float
    name: str

    def fit(self, problem: Problem, data: TrainingSet) -> Fitted:
        fitted = GroupTable().fit(problem, data)
        return replace(fitted, engine=_Blurred(fitted.engine.columns, self.noise))


@dataclass
class _Blurred:
    columns: tuple[Column, ...]
    noise: float

    def predict_one(self, values: object) -> float:
        return 0.0

    def predict_many(self, frame: Frame) -> Floats:
        draws = np.random.default_rng(len(frame)).normal(size=len(frame))
        return np.asarray(frame["truth"] + self.noise * draws)

    def explain(self, values: object) -> Explained:
        return Explained("identity", 0.0, ())


@pytest.mark.parametrize("tolerance", [0.0, 0.05, 0.15, 0.35, 2.0])
def test_who_wins_does_not_depend_on_who_was_stopped(tolerance: float) -> None:
    data = training_set(LEVEL, 4_000)
    data = replace(data, frame=data.frame.with_columns({"truth": data.target}))
    rungs = [Blurred(noise, f"r{place}") for place, noise in enumerate((1.0, 0.7, 0.72, 0.4, 0.3))]
    ladder, trial = climb(
        LEVEL, data, rungs, tolerance=tolerance, rng=np.random.default_rng(0), folds=5, workers=2
    )
    full = backtest(LEVEL, data, rungs, folds=5)
    errors = [full.error(rung.name) for rung in rungs]
    expected = next(place for place, error in enumerate(errors) if error <= min(errors) + tolerance)
    assert ladder.winner == f"r{expected}"
    assert trial.stopped and ladder.winner not in trial.stopped and "r0" not in trial.stopped
    assert ladder.best == "r4"


def test_few_days_stop_nobody() -> None:
    data = training_set(LATE)
    soon = replace(data, asked_at=data.asked_at // 8, known_at=data.known_at // 8)
    ladder, trial = climb(LATE, soon, RUNGS, tolerance=10.0, rng=np.random.default_rng(3))
    assert (trial.stopped, ladder.winner) == ({}, "group")


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
