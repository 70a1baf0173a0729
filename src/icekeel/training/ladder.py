"""From the simplest model to the most complex: how far up it pays to climb."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from icekeel.core.errors import Fault, TrainingError
from icekeel.core.frames import Floats, Frame, Ints
from icekeel.core.time import DAY
from icekeel.engines import Engine, rows_of

from .backtest import Backtest, Fold, Stopwatch, backtest
from .problem import Problem, TrainingSet
from .rungs import Rung


@dataclass(frozen=True, slots=True)
class Difference:
    """How much lower an error is than another, with a 95 % interval; below 0 it is higher."""

    gain: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Step:
    """One rung as the backtest found it.

    Attributes:
        error: Over all folds, in the error's unit.
        error_by_fold: In order of time.
        over_simpler: Gain over the next simpler rung; none for the simplest.
        fit_seconds: CPU seconds of the last fold's fit.
        bundle_bytes: Size of its files.
        predict_us: Median CPU microseconds for one row.
    """

    rung: str
    error: float
    error_by_fold: tuple[float, ...]
    over_simpler: Difference | None
    fit_seconds: float
    bundle_bytes: int
    predict_us: float


@dataclass(frozen=True, slots=True)
class Ladder:
    """All rungs, simplest first, and the simplest that is good enough."""

    error: str
    steps: tuple[Step, ...]
    folds: tuple[Fold, ...]
    tolerance: float
    best: str
    winner: str
    reason: str

    def step(self, rung: str) -> Step:
        """What was found of a rung."""
        return next(step for step in self.steps if step.rung == rung)


def climb(
    problem: Problem,
    data: TrainingSet,
    rungs: Sequence[Rung],
    *,
    tolerance: float,
    rng: np.random.Generator,
    folds: int = 3,
    tested: float = 0.5,
    stopwatch: Stopwatch = time.process_time,
) -> tuple[Ladder, Backtest]:
    """The ladder and the backtest behind it; the winner is the simplest rung within `tolerance` of the best.

    Args:
        rungs: From simple to complex, names differing.
        tolerance: Error that simplicity is worth, in the error's unit (a share for `mape`).
        rng: Draws the bootstrap's days.
        folds, tested: See `backtest`.

    Raises:
        TrainingError: no rungs, two of one name, or data that they cannot be fitted to.
    """
    names = [rung.name for rung in rungs]
    if not names or len(set(names)) < len(names):
        raise TrainingError(Fault("bad_rungs", "rungs need names that differ", "rungs", str(names)))
    trial = backtest(problem, data, rungs, folds=folds, tested=tested, stopwatch=stopwatch)
    gaps = _differences(trial, names, rng)
    steps = tuple(_step(trial, name, gap, stopwatch) for name, gap in zip(names, gaps, strict=True))
    best = min(steps, key=lambda step: step.error)
    winner = next(step for step in steps if step.error <= best.error + tolerance)
    ladder = Ladder(
        problem.error, steps, trial.folds, tolerance, best.rung, winner.rung, _reason(winner, best, tolerance)
    )
    return ladder, trial


def predict_us(
    engine: Engine, frame: Frame, *, calls: int = 200, stopwatch: Stopwatch = time.process_time
) -> float:
    """Median CPU microseconds of `predict_one` over rows of the frame, each timed over five calls."""
    rows = rows_of(engine.columns, frame.take(np.arange(min(calls, len(frame)))))
    taken = []
    for row in rows:
        began = stopwatch()
        for _ in range(5):
            engine.predict_one(row)
        taken.append((stopwatch() - began) / 5)
    return float(np.median(taken)) * 1e6


def _step(trial: Backtest, name: str, gap: Difference | None, stopwatch: Stopwatch) -> Step:
    fitted, truth = trial.fitted[name], trial.rows.target
    ends = np.cumsum([fold.test_rows for fold in trial.folds])[:-1]
    by_fold = zip(np.split(truth, ends), np.split(trial.predictions[name], ends), strict=True)
    return Step(
        rung=name,
        error=trial.error(name),
        error_by_fold=tuple(trial.problem.error_of(*part) for part in by_fold),
        over_simpler=gap,
        fit_seconds=trial.fit_seconds[name],
        bundle_bytes=fitted.size_bytes,
        predict_us=predict_us(fitted.engine, trial.rows.frame, stopwatch=stopwatch),
    )


def _differences(trial: Backtest, names: Sequence[str], rng: np.random.Generator) -> list[Difference | None]:
    """Each rung against the one before it."""
    rows, problem = trial.rows, trial.problem
    errors = [problem.row_errors(rows.target, trial.predictions[name]) for name in names]
    return [None, *(difference(problem, *pair, rows.asked_at, rng=rng) for pair in pairwise(errors))]


def difference(
    problem: Problem,
    without: Floats,
    having: Floats,
    asked_at: Ints,
    *,
    rng: np.random.Generator,
    chance: tuple[float, int] = (0.0, 1),
) -> Difference:
    """How much lower the error is of the second row errors than of the first, for the same rows.

    Args:
        without, having: Errors of each row, shape `(n_rows,)`.
        asked_at: When each row was asked; days are what is drawn.
        chance: Standard deviation of the gain from draws inside the fits, and the degrees of freedom it is known
            with; the interval then covers Student's t of it too.
    """
    first, second = problem.overall(day_block_means(np.stack([without, having]), asked_at, rng=rng))
    deviation, freedom = chance
    drawn = first - second + deviation * rng.standard_t(freedom, len(first))
    low, high = np.quantile(drawn, (0.025, 0.975))
    gain = problem.overall(np.asarray(without.mean())) - problem.overall(np.asarray(having.mean()))
    return Difference(float(gain), float(low), float(high))


def day_block_means(errors: Floats, asked_at: Ints, *, rng: np.random.Generator, draws: int = 500) -> Floats:
    """Means of row errors over days drawn with replacement, shape `(n_series, draws)`.

    The paired block bootstrap (Kuensch 1989) with UTC days as blocks, since the rows of a day go well or badly
    together. `errors` has shape `(n_series, n_rows)`; every series sees the same days in a draw.
    """
    _, day = np.unique(asked_at // DAY, return_inverse=True)
    sizes = np.bincount(day)
    sums = np.stack([np.bincount(day, series) for series in errors])
    times = rng.multinomial(len(sizes), np.full(len(sizes), 1 / len(sizes)), size=draws)
    return np.asarray((sums @ times.T) / (times @ sizes), dtype=np.float64)


def _reason(winner: Step, best: Step, tolerance: float) -> str:
    if winner is best:
        return (
            f"{winner.rung} has the lowest error, {winner.error:.4g}, "
            f"and nothing simpler is within {tolerance:.4g} of it"
        )
    return (
        f"{winner.rung} is the simplest within {tolerance:.4g} of the best: "
        f"{winner.error:.4g} against {best.error:.4g} of {best.rung}"
    )
