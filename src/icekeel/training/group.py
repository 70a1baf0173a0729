"""The lowest rung: the rate, mean or median of the requests that share one or two categories."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import msgspec
import numpy as np

from icekeel.core.frames import Array, Column, Ints, Kind
from icekeel.engines.group import Group, GroupSpec
from icekeel.engines.loading import ENGINE_FILE, load_engine

from .problem import Problem, TrainingSet
from .rungs import Fitted


@dataclass(frozen=True, slots=True)
class GroupTable:
    """A rate for probabilities, a mean for `rmse`, a median for the other errors, by the best categories.

    The one or two category columns are those with the least error on the latest quarter of the rows. A
    group's value is drawn towards that of all rows: `(n * group + m * all) / (n + m)`, m = `prior_rows`
    (for rates this is the posterior mean under a beta prior worth m rows). Groups of fewer than `fewest_rows`
    are not kept: their rows get the value of all rows.
    """

    prior_rows: float = 10.0
    fewest_rows: int = 5
    most_candidates: int = 6
    name: str = "group"

    def fit(self, problem: Problem, data: TrainingSet) -> Fitted:
        """The table by the best columns, over all rows."""
        problem.check(data)
        spec = self._table(problem, data, self._choose(problem, data))
        files = {ENGINE_FILE: msgspec.json.encode(spec)}
        engine = load_engine(files)
        return Fitted(files, engine, spec.engine({}).predict_many)

    def _choose(self, problem: Problem, data: TrainingSet) -> tuple[Column, ...]:
        earlier, later = data.split(0.25)
        if not len(earlier):
            return ()

        def error(columns: tuple[Column, ...]) -> float:
            engine = self._table(problem, earlier, columns).engine({})
            return problem.error_of(later.target, engine.predict_many(later.frame))

        singles = [(column,) for column in data.columns if column.kind is Kind.CAT]
        best = sorted(singles, key=error)[: self.most_candidates]
        pairs = [first + second for first, second in combinations(best, 2)]
        return min([(), *best, *pairs], key=error)

    def _table(self, problem: Problem, data: TrainingSet, columns: tuple[Column, ...]) -> GroupSpec:
        is_mean = problem.error in ("log_loss", "rmse")
        overall = float(np.mean(data.target) if is_mean else np.median(data.target))
        if not columns:
            return GroupSpec((), (), overall)
        keys, codes = _keys([data.frame[column.name] for column in columns])
        ordered = data.target[np.lexsort((data.target, codes))]
        rows = np.bincount(codes)
        starts = np.cumsum(rows) - rows
        middle = (ordered[starts + (rows - 1) // 2] + ordered[starts + rows // 2]) / 2
        values = np.add.reduceat(ordered, starts) / rows if is_mean else middle
        drawn = (rows * values + self.prior_rows * overall) / (rows + self.prior_rows)
        kept = [Group(keys[i], float(drawn[i])) for i in np.flatnonzero(rows >= self.fewest_rows)]
        kept.sort(key=lambda group: [(value is not None, value or "") for value in group.key])
        return GroupSpec(columns, tuple(kept), overall)


def _keys(columns: list[Array]) -> tuple[list[tuple[str | None, ...]], Ints]:
    """The distinct keys in order of appearance, and each row's position among them."""
    seen: dict[tuple[str | None, ...], int] = {}
    codes = [seen.setdefault(key, len(seen)) for key in zip(*columns, strict=True)]
    return list(seen), np.array(codes, dtype=np.int64)
