"""What the rungs would say together: a challenger to tell what complexity could gain, never a champion."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from icekeel.core.frames import Floats
from icekeel.engines.links import Link, from_link_many, to_link

from .backtest import Backtest
from .ladder import Difference, difference
from .problem import Problem

PARTS = 10
"""Weights are tenths."""
MOST_ROWS = 20_000
"""Rows on which weights are chosen, evenly spread."""


@dataclass(frozen=True, slots=True)
class Stack:
    """A mean of what rungs say, on the scale they add on (log-odds, logarithm or the target itself).

    Attributes:
        weights: Rung -> its weight; those for the last fold.
        error: On all folds but the first, the weights of each chosen on the folds before it.
        over_winner: Its gain over the winner on the same rows.
        fit_seconds, predict_us: Of all rungs that have a weight together.
    """

    weights: dict[str, float]
    error: float
    over_winner: Difference
    fit_seconds: float
    predict_us: float
    told: str = ""


def stacked(
    trial: Backtest, winner: str, cost: dict[str, tuple[float, float]], *, rng: np.random.Generator
) -> Stack | None:
    """The stack of the rungs that ran all folds; None where there are not two of them, or too few folds.

    Args:
        cost: Rung -> seconds of its fit, microseconds of a prediction.
    """
    names = [name for name in trial.predictions if name not in trial.stopped]
    if len(names) < 2 or len(trial.folds) < 3:
        return None
    problem = trial.problem
    link = problem.link
    scores = np.array([[to_link(link, one) for one in trial.predictions[name].tolist()] for name in names])
    ends = np.cumsum([fold.test_rows for fold in trial.folds])
    said, weights = [], np.zeros(len(names))
    for start, end in pairwise(ends.tolist()):
        weights = _weights(problem, link, scores[:, :start], trial.rows.target[:start])
        said.append(from_link_many(link, weights @ scores[:, start:end]))
    later = slice(int(ends[0]), None)
    errors = problem.row_errors(trial.rows.target[later], np.concatenate(said))
    gap = difference(problem, trial.row_errors(winner)[later], errors, trial.rows.asked_at[later], rng=rng)
    held = [name for name, weight in zip(names, weights, strict=True) if weight > 0]
    fit_seconds, predict_us = (sum(cost[name][at] for name in held) for at in (0, 1))
    shares = {name: float(weight) for name, weight in zip(names, weights, strict=True) if weight > 0}
    return Stack(shares, float(problem.overall(np.asarray(errors.mean()))), gap, fit_seconds, predict_us)


def _weights(problem: Problem, link: Link, scores: Floats, target: Floats) -> Floats:
    """The best of all weights in tenths that sum to 1, shape `(n_rungs,)`."""
    some = slice(None, None, 1 + (len(target) - 1) // MOST_ROWS)

    def error(parts: Sequence[int]) -> float:
        mixed = np.array(parts) / PARTS @ scores[:, some]
        return problem.error_of(target[some], from_link_many(link, mixed))

    return np.array(min(_shares(len(scores), PARTS), key=error)) / PARTS


def _shares(many: int, parts: int) -> Iterator[tuple[int, ...]]:
    """Every way to deal so many equal parts to so many."""
    if many == 1:
        yield (parts,)
        return
    for first in range(parts + 1):
        yield from ((first, *rest) for rest in _shares(many - 1, parts - first))
