"""A modest search for better settings of trees, on rows earlier than any that the backtest tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from icekeel.core.frames import Floats

from .catalog import with_settings
from .ladder import Difference, difference
from .problem import Problem, TrainingSet
from .rungs import Rung

KNOBS: Sequence[tuple[str, tuple[float, ...]]] = (
    ("leaves", (15, 63)),
    ("fewest_rows", (200, 20)),
    ("penalty", (10.0,)),
    ("learning_rate", (0.03,)),
)
"""Setting and what is tried of it, one after the other, each beside the best of the settings before."""
WORK_PER_S = 100e6
"""Rows times columns times trees that one core fits in a second."""
LATER = 0.25


@dataclass(frozen=True, slots=True)
class Tuned:
    """What the search found.

    Attributes:
        settings: Those that differ from the rung's own; none where nothing was surely better.
        over_default: Gain of the best on the rows it was chosen on: more than it will gain on others.
        seconds: Of one core, by the work that was done.
    """

    settings: Mapping[str, Any]
    over_default: Difference | None
    tried: int
    seconds: float


def tune(
    problem: Problem, data: TrainingSet, rung: Rung, *, budget_s: float, rng: np.random.Generator
) -> Tuned:
    """Settings that do better on the latest quarter of these rows; the search ends once the budget is spent.

    What is spent is told by the work of each fit and not by a clock: the same rows give the same settings.
    """
    earlier, later = data.split(LATER)
    spent, tried = 0.0, 0

    def errors(settings: Mapping[str, Any]) -> Floats:
        nonlocal spent, tried
        fitted = with_settings(rung, settings).fit(problem, earlier)
        trees = getattr(fitted.again, "trees", 0)
        spent += 2 * len(earlier) * len(earlier.columns) * trees / WORK_PER_S
        tried += 1
        return problem.row_errors(later.target, fitted.engine.predict_many(later.frame))

    default = best = errors({})
    chosen: dict[str, Any] = {}
    for name, values in KNOBS:
        for value in values:
            if spent >= budget_s:
                break
            settings = {**chosen, name: value}
            found = errors(settings)
            if found.mean() < best.mean():
                best, chosen = found, settings
    if not chosen:
        return Tuned({}, None, tried, spent)
    gap = difference(problem, default, best, later.asked_at, rng=rng)
    return Tuned(chosen if gap.low > 0 else {}, gap, tried, spent)
