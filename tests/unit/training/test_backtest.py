from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest

from icekeel.core.errors import TrainingError
from icekeel.core.time import DAY
from icekeel.training import Fitted, GroupTable, Problem, TrainingSet, backtest

from .cases import LATE, LEVEL, training_set


@dataclass
class Recorder:
    """A rung that remembers what it was given."""

    name: str = "recorder"
    given: list[TrainingSet] = field(default_factory=list)

    def fit(self, problem: Problem, data: TrainingSet) -> Fitted:
        self.given.append(data)
        return GroupTable().fit(problem, data)


@pytest.mark.parametrize("folds", [1, 3, 5])
def test_a_fold_learns_only_from_what_was_known_before_its_first_question(folds: int) -> None:
    data, rung = training_set(LATE), Recorder()
    late = np.arange(len(data)) % 7 == 0
    data = TrainingSet(data.columns, data.frame, data.target, data.asked_at, data.known_at + late * 5 * DAY)
    trial = backtest(LATE, data, [rung], folds=folds)
    assert len(trial.folds) == folds
    for fold, given in zip(trial.folds, sorted(rung.given, key=len), strict=True):
        assert given.known_at.max() < fold.start
        assert len(given) == fold.train_rows == (data.known_at < fold.start).sum()
        assert len(given) < (data.asked_at < fold.start).sum()  # late outcomes leave a gap


def test_folds_test_the_later_half_once_in_order() -> None:
    data = training_set(LATE)
    trial = backtest(LATE, data, [GroupTable()])
    assert trial.rows.asked_at.tolist() == data.asked_at[-len(trial.rows) :].tolist()
    assert len(trial.rows) == pytest.approx(len(data) / 2, abs=2)
    assert sum(fold.test_rows for fold in trial.folds) == len(trial.rows) == len(trial.predictions["group"])
    assert [fold.end for fold in trial.folds[:-1]] == [fold.start for fold in trial.folds[1:]]
    last = trial.rows.take(trial.last_fold())
    assert last.asked_at[0] == trial.folds[-1].start
    expected = trial.fitted["group"].engine.predict_many(last.frame)
    assert trial.predictions["group"][trial.last_fold()].tolist() == expected.tolist()
    assert trial.error("group") == LATE.error_of(trial.rows.target, trial.predictions["group"])


def test_times_that_cannot_be_cut_are_refused() -> None:
    data = training_set(LEVEL, 100)
    same = np.zeros(100, dtype=np.int64)
    with pytest.raises(TrainingError) as raised:
        backtest(LEVEL, TrainingSet(data.columns, data.frame, data.target, same, same), [GroupTable()])
    assert raised.value.code == "few_times"
    with pytest.raises(TrainingError) as unknown:
        backtest(
            LEVEL,
            TrainingSet(data.columns, data.frame, data.target, data.asked_at, data.known_at + 99 * DAY),
            [GroupTable()],
        )
    assert unknown.value.code == "few_rows"
