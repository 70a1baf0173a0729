"""Has a number moved, asked every minute? Detectors whose false alarms fit a yearly budget.

A statistic of each window (a mean, a rate, a count) is freed of its hour-of-week pattern, divided by the
spread that quiet days really have, and fed to an e-detector: a Shiryaev-Roberts sum of e-values (Shin,
Ramdas and Rinaldo 2024, "E-detectors", arXiv 2203.03532). Its mean time to a false alarm is at least its
threshold, whatever the number of looks.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from icekeel.core.frames import Floats, Ints
from icekeel.core.time import DAY, HOUR

HOURS_OF_WEEK = 168
LARGEST = 8.0
"""Standardised values are cut here: one absurd window may not raise an alarm of its own for ever."""
_SIZES = np.array([0.125, 0.25, 0.5, 1.0, 2.0])
_BETS = np.concatenate([_SIZES, -_SIZES])


@dataclass(frozen=True, slots=True)
class Standardiser:
    """What a window's statistic is expected to be, and how much quiet windows vary.

    Attributes:
        expected: Mean by hour of the week in UTC, 168 values; hours never seen hold the overall mean.
        scale: Standard deviation per window that also explains how whole days differ.
    """

    expected: tuple[float, ...]
    scale: float

    @classmethod
    def fit(cls, at: Ints, value: Floats) -> Standardiser:
        """Learnt from quiet past windows: start (microseconds UTC) and statistic, shape `(n,)`; NaN skipped.

        The scale is the larger of the spread of windows and of the spread of day means times the square
        root of windows per day (batch means, Law and Kelton 2000, section 9.5.3): where days differ by more
        than their windows would, the windows are not independent. Deviations are taken from the *other*
        weeks' mean, so that a short past does not look calmer than it is.
        """
        known = ~np.isnan(value)
        at, value = at[known], value[known]
        if not len(value):
            return cls((0.0,) * HOURS_OF_WEEK, 0.0)
        hour = _hour_of_week(at)
        weeks = np.bincount(hour, minlength=HOURS_OF_WEEK)
        sums = np.bincount(hour, value, minlength=HOURS_OF_WEEK)
        overall = float(value.mean())
        expected = np.where(weeks > 0, sums / np.maximum(weeks, 1), overall)
        others = (sums[hour] - value) / np.maximum(weeks[hour] - 1, 1)
        residual = value - np.where(weeks[hour] > 1, others, overall)
        _, place = np.unique(at // DAY, return_inverse=True)
        per_day = np.bincount(place)
        day_sums = np.bincount(place, residual)
        variance = max(float(np.square(residual).mean()), float((day_sums**2 / per_day).mean()))
        return cls(tuple(expected.tolist()), math.sqrt(variance))

    def standardise(self, at: Ints, value: Floats) -> Floats:
        """Deviations from the expected in units of the scale, cut at 8; NaN stays NaN.

        Where the past never varied, any deviation is as large as can be.
        """
        deviation = value - np.array(self.expected)[_hour_of_week(at)]
        scaled = deviation / self.scale if self.scale > 0 else np.sign(deviation) * LARGEST
        return np.asarray(np.clip(scaled, -LARGEST, LARGEST), dtype=np.float64)


def _hour_of_week(at: Ints) -> Ints:
    return np.asarray((at // HOUR) % HOURS_OF_WEEK, dtype=np.int64)


def log_threshold(looks_per_year: float, detectors: int, false_alarms_per_year: float) -> float:
    """Log of the threshold at which all detectors together keep to the yearly budget.

    An e-detector's mean time to a false alarm is at least its threshold (Shin et al. 2024, theorem 2.4), so
    the threshold is the number of looks all detectors take for each false alarm that is allowed.
    """
    return math.log(looks_per_year * detectors / false_alarms_per_year)


def start() -> Floats:
    """Log state of a detector that has seen nothing, shape `(10,)`: five sizes of change, both signs."""
    return np.full(len(_BETS), -np.inf)


def advance(log_m: Floats, x: Floats, tolerance: float) -> Floats:
    """State after one more standardised value `x` of shape `(...)`; state of shape `(..., 10)`.

    `M = (M + 1) exp(l (|x| - tolerance) - l^2 / 2)` for each size `l` and sign (e-SR, Shin et al. 2024,
    eq. 8, sub-Gaussian increments), in log space because `M` overflows soon after a change. Changes up to
    `tolerance` are harmless by definition. A NaN leaves the state as it was.
    """
    push = np.asarray(x, dtype=np.float64)[..., None] * np.sign(_BETS) - tolerance
    sizes = np.abs(_BETS)
    moved = np.logaddexp(log_m, 0.0) + sizes * push - sizes**2 / 2
    return np.where(np.isnan(push), log_m, moved)


def log_evidence(log_m: Floats) -> Floats:
    """Log of the mean over sizes and signs, itself an e-detector; shape `(...)`."""
    return np.asarray(np.logaddexp.reduce(log_m, axis=-1) - math.log(len(_BETS)))


@dataclass(frozen=True, slots=True)
class Look:
    """What one look found: the standardised value, the log evidence against its bar, which way."""

    z: float
    log_evidence: float
    alarm: bool
    direction: str


@dataclass(frozen=True, slots=True)
class Detector:
    """One statistic that is watched: how it is standardised, its bar, and what was seen so far.

    Attributes:
        standardiser: Learnt from quiet past windows.
        bar: Log threshold; see `log_threshold`.
        tolerance: Standardised change that is harmless.
        log_m: State of the e-detector.
    """

    standardiser: Standardiser
    bar: float
    tolerance: float = 0.25
    log_m: tuple[float, ...] = (-math.inf,) * len(_BETS)

    def look(self, at: int, value: float) -> tuple[Detector, Look]:
        """The detector after one more window, and what it shows. After an alarm it starts afresh."""
        z = float(self.standardiser.standardise(np.array([at]), np.array([value]))[0])
        state = advance(np.array(self.log_m), np.array(z), self.tolerance)
        evidence = float(log_evidence(state))
        alarm = evidence >= self.bar
        direction = "above" if int(np.argmax(state)) < len(_SIZES) else "below"
        kept = start() if alarm else state
        return replace(self, log_m=tuple(kept.tolist())), Look(z, evidence, alarm, direction)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON; a state of minus infinity is null."""
        return {
            "expected": list(self.standardiser.expected),
            "scale": self.standardiser.scale,
            "bar": self.bar,
            "tolerance": self.tolerance,
            "log_m": [None if math.isinf(m) else m for m in self.log_m],
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Detector:
        """The detector that `to_dict` wrote."""
        standardiser = Standardiser(tuple(data["expected"]), data["scale"])
        log_m = tuple(-math.inf if m is None else m for m in data["log_m"])
        return cls(standardiser, data["bar"], data["tolerance"], log_m)
