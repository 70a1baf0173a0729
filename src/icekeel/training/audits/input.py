"""What every audit is given, and what an audit is."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from icekeel.core.errors import TrainingError
from icekeel.core.frames import Bools, Floats, Frame, Ints
from icekeel.core.kinds import Column, Kind
from icekeel.core.time import parse_duration
from icekeel.define import Model
from icekeel.features.events import EventStore
from icekeel.features.plan import Plan

from ..dataset import Learnable
from ..problem import Problem, TrainingSet
from ..rungs import Rung
from .findings import Finding

FEWEST_RECENT = 0.2
"""Share of all questions that count as recent at the most."""
TESTED = 0.25
MOST_LEARNT = 40_000
"""Share of the rows, the latest, that an audit on request has predicted, and rows that it learns from at the most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditInput:
    """A training set and all that is known around it.

    Attributes:
        model: The definition; `model.audits` is the policy.
        asked: Every past question, in order of time, whatever is known of its outcome.
        known: Places in `asked` of the questions whose outcome is known.
        rows: Those questions as they are learnt from, in the same order.
        predictions: What a model that had not seen a row said to it, shape `(n_rows,)`; NaN where none was asked.
        open_store: Opens the events as they were known at `now`, each row available so many microseconds later than it
            was; the caller closes the store.
        now: Time up to which anything is known, microseconds UTC.
        rng: Of whatever is drawn; each audit has its own.
    """

    model: Model
    problem: Problem
    plan: Plan
    asked: Learnable
    known: Ints
    rows: TrainingSet
    predictions: Floats
    open_store: Callable[[int], EventStore]
    now: int
    rng: np.random.Generator
    threads: int = 1

    @property
    def requests(self) -> Frame:
        """The request's fields of `rows`."""
        return self.asked.requests.take(self.known)

    @property
    def tested(self) -> Ints:
        """Places in `rows` of those that have a prediction."""
        return np.flatnonzero(np.isfinite(self.predictions))

    @property
    def recent_from(self) -> int:
        """When recent production begins: `recent=` before the last question, or later where that is most of all."""
        asked_at = self.asked.asked_at
        latest = int(asked_at[-1]) - parse_duration(self.model.audits.recent)
        return max(latest, int(asked_at[int((len(asked_at) - 1) * (1 - FEWEST_RECENT))]))

    @property
    def recent(self) -> Bools:
        """Which of `asked` are recent production."""
        return np.asarray(self.asked.asked_at >= self.recent_from, dtype=np.bool_)

    @property
    def columns(self) -> tuple[Column, ...]:
        """The features learnt from, but for texts, which no cell and no tree holds."""
        return tuple(column for column in self.rows.columns if column.kind is not Kind.TEXT)

    def errors(self, places: Ints) -> Floats:
        """Row errors of the predictions of some rows, shape of `places`."""
        return self.problem.row_errors(self.rows.target[places], self.predictions[places])

    def usd_a_year(self, error: float) -> float:
        """What an error higher by so much costs a year, by the model's own tolerance."""
        return error / 0.01 * self.model.choose.within.error_point


def out_of_time(problem: Problem, rows: TrainingSet, rung: Rung) -> Floats:
    """Predictions of the latest rows by a fit on what was known before them; NaN for all others.

    All are NaN where there are too few rows for that, or the earlier ones are of one class.
    """
    said = np.full(len(rows), np.nan)
    earlier, later = rows.split(TESTED)
    with suppress(TrainingError):
        fitted = rung.fit(problem, earlier.thinned(MOST_LEARNT))
        said[-len(later) :] = fitted.engine.predict_many(later.frame)
    return said


Audit: TypeAlias = Callable[[AuditInput], Finding]
"""Looks at a training set and says one finding; raises nothing that is the data's fault."""
