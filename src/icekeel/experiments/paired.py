"""A shadow test: both arms answered the same requests, so that each day is compared with itself."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from icekeel.core.frames import Floats, Ints

from .evidence import TUNED_DAYS, Claim, Evidence, bounded, reaches
from .sequential import log_e_values
from .split import Score, over, refuse_not_finite

MINIMUM_DAYS = 10
"""Days below which the spread between days is not known well enough to say anything."""


@dataclass(frozen=True, slots=True)
class PairedDays:
    """A shadow test: both arms answered the same requests, and the answer changes no outcome.

    Rows of one day share weather, backlog and news, so the day is the observation: its sum of differences.

    Attributes:
        days: Day -> (pairs, sum of challenger minus champion, sum of champion).
    """

    days: Mapping[int, tuple[int, float, float]] = field(default_factory=dict)

    @classmethod
    def of(cls, day: Ints, a: Floats, b: Floats) -> PairedDays:
        """Metric of the champion `a` and of the challenger `b` on the same requests, shape `(n,)`."""
        refuse_not_finite(a)
        refuse_not_finite(b)
        names, place = np.unique(day, return_inverse=True)
        pairs = np.bincount(place, minlength=len(names))
        change = np.bincount(place, b - a, minlength=len(names))
        control = np.bincount(place, a, minlength=len(names))
        rows = zip(pairs.tolist(), change.tolist(), control.tolist(), strict=True)
        return cls(dict(zip(names.tolist(), rows, strict=True)))

    def __add__(self, other: PairedDays) -> PairedDays:
        merged = dict(self.days)
        for day, (pairs, change, control) in other.days.items():
            before = merged.get(day, (0, 0.0, 0.0))
            merged[day] = (before[0] + pairs, before[1] + change, before[2] + control)
        return PairedDays(merged)

    def evidence(self, claim: Claim) -> Evidence:
        """What the days say about `claim`; nothing before `MINIMUM_DAYS`.

        The spread is that of the days' sums about their share of the total (ratio estimator, Cochran 1977,
        section 6.3), larger where days in a row resemble each other (`_dependence`). The statistic is the
        self-normalised sum `t sqrt(T / (T - 1 + t^2))` over T days (Efron 1969), which a few wild days cannot inflate.
        """
        if not self.days:
            return Evidence()
        score = self.score()
        sign = -1.0 if claim.lower_is_better else 1.0
        n, days = sum(row[0] for row in self.days.values()), len(self.days)
        found = Evidence(sign * float(score.change), n_a=n, n_b=n, control=float(score.control))
        if days < MINIMUM_DAYS or not score.error > 0:
            return found
        log_e = paired_log_e(claim, score, days)
        r = claim.information(days, TUNED_DAYS)
        reach = [_self_normal(z, days) for z in reaches(claim, r)]
        return bounded(found, float(score.error), (reach[0], reach[1]), (float(log_e[0]), float(log_e[1])))

    def score(self) -> Score:
        """Effect and error, of at least one day."""
        return paired_score(*np.array([self.days[day] for day in sorted(self.days)], dtype=np.float64).T)


def paired_score(pairs: Floats, change: Floats, control: Floats) -> Score:
    """Effect and error of days in their order, each array of shape `(days,)` or, for many tests, `(days, tests)`."""
    n, days = pairs.sum(axis=0), len(pairs)
    estimate = over(change.sum(axis=0), n)
    rest = change - estimate * pairs
    spread = np.square(rest).sum(axis=0) * _dependence(rest) * days / max(1, days - 1)
    return Score(over(control.sum(axis=0), n), estimate, over(np.sqrt(spread), n), float(days), 0.0)


def _dependence(rest: Floats) -> Any:
    """How much more a sum of days varies than if no day were like the one before, at least 1.

    Autocovariances up to a lag of `sqrt(days)` with falling weights (Newey and West 1987): a week of storms is not seven
    independent days.
    """
    factor, spread, lags = 1.0, np.square(rest).sum(axis=0), math.isqrt(len(rest))
    for lag in range(1, lags + 1):
        weight = 2 * (1 - lag / (lags + 1))
        factor = factor + weight * over((rest[lag:] * rest[:-lag]).sum(axis=0), spread)
    return np.maximum(1.0, factor)


def paired_log_e(claim: Claim, score: Score, days: int) -> tuple[Floats, Floats]:
    """Logs of the e-values of "better" and of "worse"; numbers or arrays."""
    sign = -1.0 if claim.lower_is_better else 1.0
    z = over(sign * score.change + claim.margin * np.abs(score.control), score.error)
    z = z * np.sqrt(days / (days - 1 + z * z))
    r = claim.information(days, TUNED_DAYS)
    return log_e_values(z, r[0]), log_e_values(-z, r[1])


def _self_normal(z: float, days: int) -> float:
    """Standard errors from the estimate to the bound whose self-normalised statistic is `z`."""
    return z * math.sqrt((days - 1) / (days - z * z)) if z * z < days else math.inf
