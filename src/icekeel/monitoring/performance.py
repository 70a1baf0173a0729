"""How good the answers were, by day, from answers whose outcome is settled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from icekeel.core.frames import Floats, Ints
from icekeel.core.time import DAY


@dataclass(frozen=True, slots=True)
class DayPerformance:
    """Sums of one day's settled answers; days and parts of days add up.

    Attributes:
        day: Days since 1970 UTC, of the question.
        n: Answers.
        loss: Sum of the losses.
        predicted: Sum of the predictions.
        observed: Sum of the outcomes.
    """

    day: int
    n: int
    loss: float
    predicted: float
    observed: float

    def __add__(self, other: DayPerformance) -> DayPerformance:
        if self.day != other.day:
            raise ValueError(f"days differ: {self.day} and {other.day}")
        return DayPerformance(
            self.day,
            self.n + other.n,
            self.loss + other.loss,
            self.predicted + other.predicted,
            self.observed + other.observed,
        )

    @property
    def mean_loss(self) -> float:
        """Loss of an answer."""
        return self.loss / self.n

    @property
    def gap(self) -> float:
        """Calibration in the large: mean outcome minus mean prediction; 0 when calibrated."""
        return (self.observed - self.predicted) / self.n


def summarise(asked_at: Ints, loss: Floats, predicted: Floats, observed: Floats) -> list[DayPerformance]:
    """One summary for each day with settled answers, in order; all arrays of shape `(n,)`.

    Only settled answers belong in: a pending outcome is no outcome.
    """
    days, place = np.unique(asked_at // DAY, return_inverse=True)
    sums = [np.bincount(place, values, minlength=len(days)) for values in (loss, predicted, observed)]
    n = np.bincount(place, minlength=len(days))
    rows = zip(days.tolist(), n.tolist(), *(values.tolist() for values in sums), strict=True)
    return [DayPerformance(*row) for row in rows]


def loss_series(days: Sequence[DayPerformance]) -> tuple[Ints, Floats]:
    """Starts of the days (microseconds UTC) and mean losses, for `Standardiser.fit` and `Detector.look`.

    Fitted on past days, the standardiser's scale is the spread *between* days: that of single answers
    would be several times too small.
    """
    return _starts(days), np.array([day.mean_loss for day in days], dtype=np.float64)


def gap_series(days: Sequence[DayPerformance]) -> tuple[Ints, Floats]:
    """The same for the calibration gap."""
    return _starts(days), np.array([day.gap for day in days], dtype=np.float64)


def _starts(days: Sequence[DayPerformance]) -> Ints:
    return np.array([day.day * DAY for day in days], dtype=np.int64)
