"""Intervals from the errors on rows the model had not seen."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np

from icekeel.core.errors import Fault, TrainingError
from icekeel.core.frames import Floats
from icekeel.engines import Interval

from .backtest import Backtest
from .problem import Problem


def conformal_interval(
    problem: Problem, truth: Floats, prediction: Floats, *, coverage: float = 0.9
) -> Interval:
    """The narrowest constant-width interval that holds `coverage` of exchangeable new outcomes.

    Split conformal prediction (Vovk et al. 2005; Lei et al. 2018): the `ceil((n + 1) * coverage)`-th smallest
    absolute error, of the logarithm where the target is learnt as one. `truth` and `prediction` are of later
    rows that the model was not fitted on, such as the last fold of a backtest.

    Raises:
        TrainingError: a probability has no interval, or there are too few rows for this coverage.
    """
    rank = math.ceil((len(truth) + 1) * coverage)
    if problem.task != "number":
        what = "only a number has an interval"
        raise TrainingError(Fault("no_interval", what, "task", problem.task, "number"))
    if not 0 < coverage < 1 or rank > len(truth):
        what = f"too few rows for a coverage of {coverage}"
        raise TrainingError(Fault("few_rows", what, "", str(len(truth))))
    gaps = np.log(truth) - np.log(prediction) if problem.log_target else truth - prediction
    width = float(np.partition(np.abs(gaps), rank - 1)[rank - 1])
    return Interval(width, problem.log_target, coverage)


def later_coverage(trial: Backtest, rung: str, *, coverage: float = 0.9) -> list[float]:
    """Share of outcomes inside the interval of the fold before, for each fold but the first.

    Rows a month apart are not exchangeable: this is what an interval holds of what it promises. One fold alone is
    halved.
    """
    pairs = list(zip(trial.by_fold(trial.rows.target), trial.by_fold(trial.predictions[rung]), strict=True))
    if len(pairs) == 1:
        halves = (np.array_split(part, 2) for part in pairs[0])
        pairs = list(zip(*halves, strict=True))
    found = []
    for (truth, said), (later_truth, later_said) in pairwise(pairs):
        interval = conformal_interval(trial.problem, truth, said, coverage=coverage)
        ends = np.array([interval.around(one) for one in later_said.tolist()])
        found.append(float(((ends[:, 0] <= later_truth) & (later_truth <= ends[:, 1])).mean()))
    return found
