"""Intervals from the errors on rows the model had not seen."""

from __future__ import annotations

import math

import numpy as np

from icekeel.core.errors import Fault, TrainingError
from icekeel.core.frames import Floats
from icekeel.engines import Interval

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
        raise TrainingError(
            Fault("no_interval", "only a number has an interval", "task", problem.task, "number")
        )
    if not 0 < coverage < 1 or rank > len(truth):
        raise TrainingError(
            Fault("few_rows", f"too few rows for a coverage of {coverage}", "", str(len(truth)))
        )
    gaps = np.log(truth) - np.log(prediction) if problem.log_target else truth - prediction
    width = float(np.partition(np.abs(gaps), rank - 1)[rank - 1])
    return Interval(width, problem.log_target, coverage)
