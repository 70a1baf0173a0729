"""How well candidates would have done: fitted on what was known, tested on what came next, over and over."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
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
        rows: The tested rows, all folds together.
        predictions: Rung -> its predictions for `rows`; NaN for folds it was stopped before.
        fitted: Rung -> its fit of the last fold that it ran.
        fit_seconds: Rung -> CPU seconds of that fit.
        stopped: Rung -> why it did not run all folds.
    """

    problem: Problem
    folds: tuple[Fold, ...]
    rows: TrainingSet
    predictions: dict[str, Floats]
    fitted: dict[str, Fitted]
    fit_seconds: dict[str, float]
    stopped: dict[str, str]

    def last_fold(self) -> Ints:
        """Positions in `rows` of the last fold: the most recent rows."""
        return np.arange(len(self.rows) - self.folds[-1].test_rows, len(self.rows))

    def by_fold(self, values: Floats) -> list[Floats]:
        """Values of `rows`, one part for each fold."""
        return np.split(values, np.cumsum([fold.test_rows for fold in self.folds])[:-1])

    def predicted(self, rung: str, n_rows: int) -> Floats:
        """What a rung said to each of the `n_rows` rows of which these are the latest; NaN to those not tested."""
        return np.concatenate([np.full(n_rows - len(self.rows), np.nan), self.predictions[rung]])

    def row_errors(self, rung: str) -> Floats:
        """The error of each row, shape `(n_rows,)`, or as many of the first as the rung was tested on."""
        folds = self.folds[:FIRST_FOLDS] if rung in self.stopped else self.folds
        tested = sum(fold.test_rows for fold in folds)
        return self.problem.row_errors(self.rows.target[:tested], self.predictions[rung][:tested])

    def error(self, rung: str) -> float:
        """The error of a rung over all rows that it was tested on."""
        return float(self.problem.overall(np.asarray(self.row_errors(rung).mean())))


Stop = Callable[[Backtest], Mapping[str, str]]
"""Says which rungs need not run on, and why, given the first folds."""
FIRST_FOLDS = 2
"""After which rungs may be stopped."""


def backtest(
    problem: Problem,
    data: TrainingSet,
    rungs: Sequence[Rung],
    *,
    folds: int = 3,
    tested: float = 0.5,
    workers: int = 1,
    stop: Stop | None = None,
) -> Backtest:
    """Every rung on expanding, time-ordered folds.

    The latest `tested` share of the rows is tested, in `folds` parts of about equally many rows (rows asked at
    the same time stay together). A row trains a fold only if its outcome was known before the fold's first question:
    that is the gap that late outcomes make.

    Args:
        workers: Fits at a time, in threads: the libraries let go of the interpreter's lock.
        stop: Asked after `FIRST_FOLDS` where there are more.

    Raises:
        TrainingError: too few rows, or too few whose outcome was known in time.
    """
    problem.check(data)
    cuts = cuts_of(data.asked_at, folds, tested)
    early = FIRST_FOLDS if stop is not None and folds > FIRST_FOLDS else folds
    found = _run(problem, data, rungs, cuts[:early], workers)
    if stop is None or early == folds:
        return found
    stopped = dict(stop(found))
    rest = _run(problem, data, [rung for rung in rungs if rung.name not in stopped], cuts[early:], workers)
    missing = np.full(len(rest.rows), np.nan)
    return Backtest(
        problem,
        found.folds + rest.folds,
        data.take(data.asked_at >= cuts[0][0]),
        {
            name: np.append(said, rest.predictions.get(name, missing))
            for name, said in found.predictions.items()
        },
        found.fitted | rest.fitted,
        found.fit_seconds | rest.fit_seconds,
        stopped,
    )


def _run(
    problem: Problem, data: TrainingSet, rungs: Sequence[Rung], cuts: Sequence[tuple[int, int]], workers: int
) -> Backtest:
    # A fit on one of several threads is alone on it.
    stopwatch = time.process_time if workers == 1 else time.thread_time
    masks = [
        (data.known_before(start), (data.asked_at >= start) & (data.asked_at < end)) for start, end in cuts
    ]

    def run(job: tuple[Rung, int]) -> tuple[Fitted, float, Floats]:
        rung, place = job
        known, tested = masks[place]
        train = data.take(known)
        began = stopwatch()
        fitted = rung.fit(problem, train)
        return fitted, stopwatch() - began, fitted.engine.predict_many(data.frame.take(tested))

    # The longest first, so that no thread is left alone with it at the end.
    jobs = [(rung, place) for place in reversed(range(len(cuts))) for rung in reversed(rungs)]
    with ThreadPoolExecutor(workers) as pool:
        done = dict(zip(((rung.name, place) for rung, place in jobs), pool.map(run, jobs), strict=True))
    last = len(cuts) - 1
    return Backtest(
        problem,
        tuple(
            Fold(*cut, int(known.sum()), int(tested.sum()))
            for cut, (known, tested) in zip(cuts, masks, strict=True)
        ),
        data.take((data.asked_at >= cuts[0][0]) & (data.asked_at < cuts[-1][1])),
        {
            rung.name: np.concatenate([done[rung.name, place][2] for place in range(len(cuts))])
            for rung in rungs
        },
        {rung.name: done[rung.name, last][0] for rung in rungs},
        {rung.name: done[rung.name, last][1] for rung in rungs},
        {},
    )


def cuts_of(asked_at: Ints, folds: int, tested: float) -> list[tuple[int, int]]:
    """Start (closed) and end (open) of each fold."""
    places = np.linspace(len(asked_at) * (1 - tested), len(asked_at) - 1, folds + 1).astype(int)[:-1]
    starts = [int(moment) for moment in asked_at[places]]
    if folds < 1 or len(set(starts)) < folds:
        raise TrainingError(Fault("few_times", "too few distinct times for the folds", "folds", str(folds)))
    return list(zip(starts, [*starts[1:], int(asked_at[-1]) + 1], strict=True))
