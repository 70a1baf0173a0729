"""How well candidates would have done: fitted on what was known, tested on what came next, over and over."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from icekeel.core.errors import Fault, TrainingError
from icekeel.core.frames import Floats, Ints

from .problem import Problem, TrainingSet
from .rungs import Fitted, Rung

Stopwatch = Callable[[], float]
"""Seconds from an arbitrary moment; `time.process_time` counts this process's CPU."""


@dataclass(frozen=True, slots=True)
class Fold:
    """One cut in time: rows known before `start` train, rows asked in `[start, end)` test."""

    start: int
    end: int
    train_rows: int
    test_rows: int


@dataclass(frozen=True, slots=True)
class Backtest:
    """Predictions of every rung for the same rows, none of which it had seen.

    Attributes:
        folds: In order of time.
        rows: The tested rows, all folds together.
        predictions: Rung -> its predictions for `rows`.
        fitted: Rung -> its fit of the last fold.
        fit_seconds: Rung -> CPU seconds of that fit.
    """

    problem: Problem
    folds: tuple[Fold, ...]
    rows: TrainingSet
    predictions: dict[str, Floats]
    fitted: dict[str, Fitted]
    fit_seconds: dict[str, float]

    def last_fold(self) -> Ints:
        """Positions in `rows` of the last fold: the most recent rows."""
        return np.arange(len(self.rows) - self.folds[-1].test_rows, len(self.rows))

    def predicted(self, rung: str, n_rows: int) -> Floats:
        """What a rung said to each of the `n_rows` rows of which these are the latest; NaN to those not tested."""
        return np.concatenate([np.full(n_rows - len(self.rows), np.nan), self.predictions[rung]])

    def error(self, rung: str) -> float:
        """The error of a rung over all tested rows."""
        return self.problem.error_of(self.rows.target, self.predictions[rung])


def backtest(
    problem: Problem,
    data: TrainingSet,
    rungs: Sequence[Rung],
    *,
    folds: int = 3,
    tested: float = 0.5,
    stopwatch: Stopwatch = time.process_time,
) -> Backtest:
    """Every rung on expanding, time-ordered folds.

    The latest `tested` share of the rows is tested, in `folds` parts of about equally many rows (rows asked at
    the same time stay together). A row trains a fold only if its outcome was known before the fold's first question:
    that is the gap that late outcomes make.

    Raises:
        TrainingError: too few rows, or too few whose outcome was known in time.
    """
    problem.check(data)
    predictions: dict[str, list[Floats]] = {rung.name: [] for rung in rungs}
    fitted: dict[str, Fitted] = {}
    seconds: dict[str, float] = {}
    cuts: list[Fold] = []
    for start, end in cuts_of(data.asked_at, folds, tested):
        train = data.take(data.known_before(start))
        test = data.take((data.asked_at >= start) & (data.asked_at < end))
        cuts.append(Fold(start, end, len(train), len(test)))
        for rung in rungs:
            began = stopwatch()
            fitted[rung.name] = rung.fit(problem, train)
            seconds[rung.name] = stopwatch() - began
            predictions[rung.name].append(fitted[rung.name].engine.predict_many(test.frame))
    together = {name: np.concatenate(parts) for name, parts in predictions.items()}
    return Backtest(
        problem, tuple(cuts), data.take(data.asked_at >= cuts[0].start), together, fitted, seconds
    )


def cuts_of(asked_at: Ints, folds: int, tested: float) -> list[tuple[int, int]]:
    """Start (closed) and end (open) of each fold."""
    places = np.linspace(len(asked_at) * (1 - tested), len(asked_at) - 1, folds + 1).astype(int)[:-1]
    starts = [int(moment) for moment in asked_at[places]]
    if folds < 1 or len(set(starts)) < folds:
        raise TrainingError(Fault("few_times", "too few distinct times for the folds", "folds", str(folds)))
    return list(zip(starts, [*starts[1:], int(asked_at[-1]) + 1], strict=True))
