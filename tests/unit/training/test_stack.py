from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from icekeel.training import GroupTable, Linear, Problem, Rung, backtest
from icekeel.training.stack import stacked

from .cases import LEVEL, PROBLEMS, training_set

COST = {"group": (1.0, 2.0), "linear": (3.0, 4.0)}


@pytest.mark.parametrize("problem", PROBLEMS, ids=lambda problem: problem.error)
def test_a_stack_leans_on_the_rung_that_is_right(problem: Problem) -> None:
    trial = backtest(problem, training_set(problem, 2_000), [GroupTable(), Linear()], folds=4)
    made = stacked(trial, "group", COST, rng=np.random.default_rng(0))
    assert made is not None
    assert sum(made.weights.values()) == pytest.approx(1)
    assert made.weights["linear"] >= 0.7
    assert made.over_winner.low > 0
    if "group" not in made.weights:
        assert (made.fit_seconds, made.predict_us) == COST["linear"]


def test_errors_that_cancel_are_halved() -> None:
    trial = backtest(LEVEL, training_set(LEVEL, 2_000), [GroupTable(), Linear()], folds=4)
    noise = np.random.default_rng(1).normal(size=len(trial.rows))
    said = {"group": trial.rows.target + noise, "linear": trial.rows.target - noise}
    made = stacked(replace(trial, predictions=said), "linear", COST, rng=np.random.default_rng(0))
    assert made is not None
    assert made.weights == {"group": 0.5, "linear": 0.5}
    assert made.error == pytest.approx(0, abs=1e-9)
    assert (made.fit_seconds, made.predict_us) == (4.0, 6.0)


def test_there_is_none_of_one_rung_or_few_folds() -> None:
    data = training_set(LEVEL)
    alone: list[Rung] = [Linear()]
    for rungs, folds in ((alone, 4), ([GroupTable(), *alone], 2)):
        trial = backtest(LEVEL, data, rungs, folds=folds)
        assert stacked(trial, "linear", COST, rng=np.random.default_rng(0)) is None
