"""What each feature is worth on rows later than those learnt from: by shuffling it, and by leaving it out.

Shuffling says how much this model leans on a feature, leaving it out how much a model needs it: of two features
that say the same, each carries half and either can go. So what to delete is judged together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from icekeel.core.errors import Fault, TrainingError
from icekeel.core.frames import Floats
from icekeel.engines import Engine

from .backtest import cuts_of
from .days import day_codes
from .group import GroupTable
from .ladder import Difference, difference
from .problem import Problem, TrainingSet
from .rungs import Rung

Shares = list[tuple[str, float]]
"""Feature and its share of the whole, largest first; shares sum to 1 unless all are 0."""
MOST_EARLIER, MOST_LATER = 100_000, 50_000
"""Rows at most that are learnt from and judged on, evenly spread: every fit of many has to be quick."""
FEWEST_DAYS = 5
"""Days that must be judged on: with fewer, an interval over days means nothing."""


def shuffled_errors(
    problem: Problem, engine: Engine, later: TrainingSet, *, rng: np.random.Generator
) -> dict[str, Floats]:
    """Errors of the later rows when the values of one feature at a time are shuffled, each shape `(n_rows,)`.

    Breiman 2001, section 10.
    """
    found = {}
    for column in later.columns:
        shuffled = later.frame.with_columns({column.name: rng.permutation(later.frame[column.name])})
        found[column.name] = problem.row_errors(later.target, engine.predict_many(shuffled))
    return found


def permutation_importance(
    problem: Problem, engine: Engine, later: TrainingSet, *, rng: np.random.Generator
) -> Shares:
    """What each feature saves: how much the error on later rows rises when its values are shuffled.

    A feature whose shuffling does not hurt has 0; correlated features share.
    """
    plain = problem.error_of(later.target, engine.predict_many(later.frame))
    errors = shuffled_errors(problem, engine, later, rng=rng)
    return shares({name: float(problem.overall(rows.mean())) - plain for name, rows in errors.items()})


def shares(amounts: dict[str, float]) -> Shares:
    """Amounts as parts of their sum, those below 0 as 0."""
    kept = {name: max(0.0, amount) for name, amount in amounts.items()}
    whole = sum(kept.values()) or 1.0
    return sorted(
        ((name, amount / whole) for name, amount in kept.items()), key=lambda item: (-item[1], item[0])
    )


class Bench:
    """One rung, learnt from earlier rows and judged on later ones, with all features and without some.

    What a first fit finds out (the number of trees) is held fixed in all others. A rung that draws lots is
    fitted with several seeds: two fits on the same features then differ by chance, and every interval covers
    that chance beside the one of the days.

    Args:
        rng: Draws days and shuffles.
        folds, tested: See `backtest`.
        seeds: Fits with all features.

    Attributes:
        later: The rows judged on, fold by fold.
        error: Over them, with all features, mean of the seeds.

    Raises:
        TrainingError: too few rows, days or classes for a fit.
    """

    def __init__(
        self,
        problem: Problem,
        rung: Rung,
        data: TrainingSet,
        *,
        rng: np.random.Generator,
        folds: int = 1,
        tested: float = 0.25,
        seeds: int = 5,
    ) -> None:
        problem.check(data)
        cuts = cuts_of(data.asked_at, folds, tested)
        self.earlier = [_thin(data.take(data.known_before(start)), MOST_EARLIER) for start, _ in cuts]
        self.later = [
            _thin(data.take((data.asked_at >= start) & (data.asked_at < end)), MOST_LATER)
            for start, end in cuts
        ]
        self._problem, self._rng = problem, rng
        self._names = tuple(column.name for column in data.columns)
        self._asked_at = np.concatenate([part.asked_at for part in self.later])
        if (days := day_codes(self._asked_at)[0]) < FEWEST_DAYS:
            what = "too few days with known outcomes after those learnt from"
            raise TrainingError(Fault("few_days", what, "", str(days), f">= {FEWEST_DAYS}"))
        self._rung = rung.fit(problem, self.earlier[0]).again or rung
        self._engines, self._all = self._fit(self._names, seeds)

    @property
    def error(self) -> float:
        """The error with all features, in its own units."""
        return float(self._problem.overall(self._all.mean()))

    def without(self, names: Sequence[str], *, seeds: int = 1) -> tuple[Difference, list[float]]:
        """What some features gain together, the error without them minus the error with all; and in each fold."""
        _, errors = self._fit([name for name in self._names if name not in names], seeds)
        ends = np.cumsum([len(part) for part in self.later])[:-1]
        parts = zip(np.split(errors.mean(axis=0), ends), np.split(self._all.mean(axis=0), ends), strict=True)
        overall = self._problem.overall
        return self._gap(errors), [float(overall(a.mean()) - overall(b.mean())) for a, b in parts]

    def shuffled(self) -> dict[str, Difference]:
        """What each feature saves: the error when it is shuffled minus the error when it is not."""
        folds = [
            shuffled_errors(self._problem, engine, later, rng=self._rng)
            for engine, later in zip(self._engines, self.later, strict=True)
        ]
        return {
            name: difference(
                self._problem,
                np.concatenate([fold[name] for fold in folds]),
                self._all[0],
                self._asked_at,
                rng=self._rng,
            )
            for name in self._names
        }

    def deletable(
        self, alone: dict[str, Difference], tolerance: float
    ) -> tuple[list[str], Difference | None]:
        """The most features that can go together, and what they gain all in all; none where each is needed.

        Candidates are those that show no gain of their own. Together too they must show none, and surely less
        than `tolerance`. How many can go is found by bisection, those that are surest to be idle first.
        """
        idle = sorted((name for name in alone if alone[name].low <= 0), key=lambda name: alone[name].high)
        kept, best = 0, None
        beyond = min(len(idle), len(self._names) - 1) + 1
        size = beyond - 1
        while kept < size < beyond:
            together, _ = self.without(idle[:size])
            if together.low <= 0 and together.high <= tolerance:
                kept, best = size, together
            else:
                beyond = size
            size = (kept + beyond) // 2
        return idle[:kept], best

    def _fit(self, names: Sequence[str], seeds: int) -> tuple[list[Engine], Floats]:
        """The engine of each fold by the first seed, and row errors by all seeds, shape `(n_seeds, n_rows)`."""
        rung = self._rung if names else GroupTable()
        engines: list[Engine] = []
        errors: list[Floats] = []
        for seed in range(seeds):
            problem = replace(self._problem, seed=self._problem.seed + seed)
            parts = []
            for earlier, later in zip(self.earlier, self.later, strict=True):
                columns = tuple(column for column in earlier.columns if column.name in names)
                engine = rung.fit(problem, replace(earlier, columns=columns)).engine
                parts.append(problem.row_errors(later.target, engine.predict_many(later.frame)))
                engines.append(engine)
            errors.append(np.concatenate(parts))
            if seed and np.array_equal(errors[0], errors[1]):  # it draws no lots
                del errors[1:]
                break
        return engines[: len(self.later)], np.stack(errors)

    def _gap(self, without: Floats) -> Difference:
        sets = [self._all, without]
        freedom = sum(len(one) - 1 for one in sets)
        overall = [self._problem.overall(one.mean(axis=1)) for one in sets]
        squares = sum(float(np.square(one - one.mean()).sum()) for one in overall)
        variance = squares / max(1, freedom) * sum(1 / len(one) for one in sets)
        return difference(
            self._problem,
            without.mean(axis=0),
            self._all.mean(axis=0),
            self._asked_at,
            rng=self._rng,
            chance=(float(np.sqrt(variance)), max(1, freedom)),
        )


def _thin(data: TrainingSet, most: int) -> TrainingSet:
    return data.take(np.arange(0, len(data), 1 + (len(data) - 1) // most))
