"""From the simplest model to the most complex: how far up it pays to climb."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from icekeel.core.errors import Fault, TrainingError
from icekeel.core.frames import Floats, Frame, Ints
from icekeel.engines import Engine, rows_of

from .backtest import Backtest, Fold, Stopwatch, backtest
from .days import day_codes
from .problem import Problem, TrainingSet
from .rungs import Rung

FEWEST_DAYS = 8
"""Days that must be tested before a rung is stopped: with fewer, bounds over days mean little."""


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
        error: Over all folds, in the error's unit; of a rung that was stopped the winner's, and what it did worse on the
            folds that both ran.
        error_by_fold: In order of time.
        over_simpler: Gain over the next simpler rung; none for the simplest.
        fit_seconds: CPU seconds of the last fold's fit.
        stopped: Why it was not fitted for the later folds, since it could not win; empty where it was.
    """

    rung: str
    error: float
    error_by_fold: tuple[float, ...]
    over_simpler: Difference | None
    fit_seconds: float
    bundle_bytes: int
    predict_us: float
    stopped: str = ""


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
    workers: int = 1,
) -> tuple[Ladder, Backtest]:
    """The ladder and the backtest behind it; the winner is the simplest rung within `tolerance` of the best.

    Args:
        rungs: From simple to complex, names differing.
        tolerance: Error that simplicity is worth, in the error's unit (a share for `mape`).
        rng: Draws the bootstrap's days.
        folds, tested, workers: See `backtest`.

    Raises:
        TrainingError: no rungs, two of one name, or data that they cannot be fitted to.
    """
    names = [rung.name for rung in rungs]
    if not names or len(set(names)) < len(names):
        raise TrainingError(Fault("bad_rungs", "rungs need names that differ", "rungs", str(names)))
    trial = backtest(
        problem,
        data,
        rungs,
        folds=folds,
        tested=tested,
        workers=workers,
        stop=lambda found: hopeless(found, tolerance, np.random.default_rng(problem.seed)),
    )
    gaps = [None, *(paired(trial, *pair, rng=rng) for pair in pairwise(names))]
    steps = tuple(_step(trial, name, gap) for name, gap in zip(names, gaps, strict=True))
    able = [step for step in steps if not step.stopped]
    least = min(step.error for step in able)
    winner = next(step for step in able if step.error <= least + tolerance)
    steps = tuple(
        replace(step, error=winner.error - paired(trial, winner.rung, step.rung, rng=rng).gain)
        if step.stopped
        else step
        for step in steps
    )
    best = min(steps, key=lambda step: step.error)
    ladder = Ladder(
        problem.error, steps, trial.folds, tolerance, best.rung, winner.rung, _reason(winner, best, tolerance)
    )
    return ladder, trial


def hopeless(trial: Backtest, tolerance: float, rng: np.random.Generator) -> dict[str, str]:
    """Rungs, simplest first in the backtest, that will not be the winner whatever the other folds bring, and why.

    By bounds of 99.5 % on each side, over days drawn as for `difference`: a rung that some other surely beats by more
    than the tolerance; one that a simpler one surely beats; and all the others, once the simplest of them is surely
    within the tolerance of each. The simplest of all runs on: it costs little, and gates hold the winner against it.
    """
    names = list(trial.predictions)
    if len(names) < 3 or day_codes(trial.rows.asked_at)[0] < FEWEST_DAYS:
        return {}
    errors = np.stack([trial.row_errors(name) for name in names])
    drawn = trial.problem.overall(day_block_means(errors, trial.rows.asked_at, rng=rng, draws=2_000))

    def bounds(rung: int, other: int) -> tuple[float, float]:
        low, high = np.quantile(drawn[rung] - drawn[other], (0.005, 0.995))
        return float(low), float(high)

    places = range(len(names))
    found: dict[str, str] = {}
    for one in places[1:]:
        for other in places:
            simpler = other < one
            if other != one and bounds(one, other)[0] > (0.0 if simpler else tolerance):
                found[names[one]] = (
                    f"surely no better than {names[other]}, which is simpler"
                    if simpler
                    else f"surely worse than {names[other]} by more than {tolerance:.4g}"
                )
                break
    left = [one for one in places if names[one] not in found]
    first, *others = [one for one in left if all(bounds(one, other)[0] <= tolerance for other in left)]
    if all(bounds(first, other)[1] < tolerance for other in left if other != first):
        found |= {names[one]: f"{names[first]} is surely within {tolerance:.4g} of it" for one in others}
    return found


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


def _step(trial: Backtest, name: str, gap: Difference | None) -> Step:
    fitted = trial.fitted[name]
    return Step(
        rung=name,
        error=trial.error(name),
        error_by_fold=tuple(
            float(trial.problem.overall(np.asarray(part.mean())))
            for part in trial.by_fold(trial.row_errors(name))
            if len(part)
        ),
        over_simpler=gap,
        fit_seconds=trial.fit_seconds[name],
        bundle_bytes=fitted.size_bytes,
        predict_us=predict_us(fitted.engine, trial.rows.frame),
        stopped=trial.stopped.get(name, ""),
    )


def paired(trial: Backtest, without: str, having: str, *, rng: np.random.Generator) -> Difference:
    """How much lower the error of one rung is than of another, on the rows that both were tested on."""
    errors = [trial.row_errors(name) for name in (without, having)]
    both = min(map(len, errors))
    return difference(trial.problem, errors[0][:both], errors[1][:both], trial.rows.asked_at[:both], rng=rng)


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
    _, day = day_codes(asked_at)
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
