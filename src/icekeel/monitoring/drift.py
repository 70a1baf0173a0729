"""Has the shape of a column changed? One look a day over many columns.

A column is flagged when two things hold. Its change is *certain*: its p-value survives Benjamini-Hochberg
over all columns of the day. And it *matters*: the distance is at least 0.03 above what the past's own days
differ from each other, as far as counting noise does not explain that, and above what a quiet day of its size shows. Rows of one day are never independent, so the
p-value alone would flag nearly every day of a large service.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from icekeel.core.binning import Binning, chi2_p_value, distance
from icekeel.core.frames import Ints
from icekeel.core.statistics import benjamini_hochberg

from .profiles import Profile, Profiler

EFFECT = 0.03
SMALLEST_DISTANCE = 1e-6
FALSE_DAYS = 0.05
"""Chance of a day with any false flag, unless a budget says otherwise."""
MINIMUM_ROWS = 50
"""Rows below which a day has no shape: the chi-squared approximation is void."""
_KOLMOGOROV = (0.8687, 0.2603)
"""Mean and standard deviation of Kolmogorov's limit distribution."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One column on one day.

    Attributes:
        column: Its name.
        distance: Distance from the reference; see `profiles.distance`.
        usual: Distance that the past's own days reach.
        p_value: Of the chi-squared test, before correction.
        flagged: Whether it is both certain and large.
        sentence: What changed, in figures.
        larger: Whether it is a number, and most of the rows that moved did so to larger values.
    """

    column: str
    distance: float
    usual: float
    p_value: float
    flagged: bool
    sentence: str
    larger: bool = False


@dataclass(frozen=True, slots=True)
class Reference:
    """What is normal: all reference days together, and how far single days lie from the others.

    Attributes:
        profiler: How columns are counted.
        total: Sum of the reference days.
        usual: Column -> distance of a day from all others that a quiet day passes with probability
            `rate / columns`. Distances are taken for log-normal, since they are positive and skewed, and
            forty days hold no such quantile of their own.
        excess: Column -> `usual` times the share of its square that counting noise does not explain.
    """

    profiler: Profiler
    total: Profile
    usual: Mapping[str, float]
    excess: Mapping[str, float]
    rate: float = FALSE_DAYS

    @classmethod
    def of(cls, profiler: Profiler, days: Sequence[Profile], *, rate: float = FALSE_DAYS) -> Reference:
        """The reference made of `days`, at least one; with a single day nothing is known of the usual.

        Args:
            rate: Chance of a quiet day on which any column is flagged: false alarms a year over 365.
        """
        spreads = NormalDist().inv_cdf(1 - rate / max(1, len(profiler.binnings)))
        total, usual, excess = {}, {}, {}
        for name, binning in profiler.binnings.items():
            counts = np.array([day.counts[name] for day in days])
            total[name] = counts.sum(axis=0)
            distances = [distance(binning, day, total[name] - day) for day in counts]
            logs = np.log(np.maximum(distances, SMALLEST_DISTANCE))
            usual[name] = float(np.exp(np.mean(logs) + spreads * np.std(logs)))
            noise = _noise(binning, total[name], float(np.median(counts.sum(axis=1))), spreads)
            # Few days tell a far quantile badly: only what lies two standard errors above counting noise is excess.
            error = float(np.std(logs)) * math.sqrt((1 + spreads**2 / 2) / len(logs))
            sure = usual[name] * math.exp(-2 * error) > noise
            excess[name] = usual[name] - noise**2 / usual[name] if sure else 0.0
        return cls(profiler, Profile(total), usual, excess, rate)


def examine(reference: Reference, today: Profile) -> list[Finding]:
    """A finding for each watched column, flagged or not, in the profiler's order."""
    names = list(reference.profiler.binnings)
    p_values = np.array([chi2_p_value(reference.total.counts[name], today.counts[name]) for name in names])
    certain = benjamini_hochberg(p_values, reference.rate)
    enough = today.rows >= MINIMUM_ROWS
    return [
        _finding(reference, name, today.counts[name], float(p), enough and bool(sure))
        for name, p, sure in zip(names, p_values, certain, strict=True)
    ]


def _noise(binning: Binning, counts: Ints, rows: float, spreads: float) -> float:
    """What `usual` would be if the `rows` of a day were independent.

    Numbers: Kolmogorov's limit over sqrt(n). Categories: total variation has mean
    `sum(sqrt(2 p (1 - p) / (pi n))) / 2` and a standard deviation of at most `1 / (2 sqrt(n))`, since one row
    moves it by at most 1 / n (Efron and Stein 1981).
    """
    if not rows:
        return 0.0
    if binning.categories is None:
        mean, deviation = (moment / math.sqrt(rows) for moment in _KOLMOGOROV)
    else:
        p = counts / max(1, counts.sum())
        mean = float(np.sqrt(2 * p * (1 - p) / (math.pi * rows)).sum()) / 2
        deviation = 1 / (2 * math.sqrt(rows))
    if not mean:
        return 0.0
    # The log-normal distribution with these two moments.
    variance = math.log1p((deviation / mean) ** 2)
    return mean * math.exp(spreads * math.sqrt(variance) - variance / 2)


def _finding(reference: Reference, name: str, counts: Ints, p_value: float, certain: bool) -> Finding:
    binning, before = reference.profiler.binnings[name], reference.total.counts[name]
    moved, excess = distance(binning, before, counts), reference.excess[name]
    # Days of other sizes than the reference's have other counting noise; the rest of the usual stays.
    spreads = NormalDist().inv_cdf(1 - reference.rate / max(1, len(reference.profiler.binnings)))
    usual = excess + _noise(binning, before, float(counts.sum()), spreads) if reference.usual[name] else 0.0
    now, then = counts / max(1, counts.sum()), before / max(1, before.sum())
    cell = int(np.argmax(np.abs(now - then)))
    sentence = (
        f"{name}: {moved:.1%} of the rows moved (usual days: up to {usual:.1%}); "
        f"most of all {binning.label(cell)}: {now[cell]:.1%}, was {then[cell]:.1%}"
    )
    flagged = certain and moved >= max(EFFECT + excess, usual)
    below = np.cumsum(now - then)
    larger = binning.categories is None and bool(-below.min() > below.max())
    return Finding(name, moved, usual, p_value, flagged, sentence, larger)
