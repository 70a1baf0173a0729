"""Statistics of rows that come in days: the rows of a day go well or badly together and are no independent evidence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from icekeel.core.binning import Binning, chi2_p_value, distance
from icekeel.core.frames import Array, Floats, Ints
from icekeel.core.statistics import auc
from icekeel.core.time import DAY


def special() -> Any:
    """`scipy.special`, untyped: loaded where an audit is made, since a server makes none and starts without it."""
    from scipy import special as found  # type: ignore[import-untyped]

    return found


def day_codes(asked_at: Ints) -> tuple[int, Ints]:
    """How many UTC days there are, and the day of each row from 0 on."""
    days, codes = np.unique(asked_at // DAY, return_inverse=True)
    return len(days), codes.astype(np.int64)


@dataclass(frozen=True, slots=True)
class Shape:
    """Counts of a column by day, shape `(n_days, cells)`."""

    binning: Binning
    counts: Ints

    @classmethod
    def of(cls, binning: Binning, values: Array, days: int, day: Ints) -> Shape:
        """The counts of some rows."""
        cells = binning.cells
        counts = np.bincount(day * cells + binning.codes(values), minlength=days * cells)
        return cls(binning, counts.reshape(days, cells))

    def inflation(self) -> float:
        """How many times the variance of a share is that of independent rows, at least 1.

        The design effect (Kish 1965) of days as clusters, of all cells together (Rao and Scott 1981, first order); of
        numbers that of the cumulative shares, by which their distance is measured.
        """
        rows = self.counts.sum(axis=1, keepdims=True)
        total, days = int(rows.sum()), int((rows > 0).sum())
        if total < 2 or days < 2:
            return 1.0
        counts = self.counts if self.binning.categories is not None else np.cumsum(self.counts, axis=1)
        share = counts.sum(axis=0) / total
        spread = np.square(counts - rows * share).sum(axis=0) * days / (days - 1)
        expected = (total * share * (1 - share)).sum()
        return max(1.0, float(spread.sum() / expected)) if expected > 0 else 1.0


def moved(before: Shape, now: Shape) -> tuple[float, float, float]:
    """How far two stretches of days lie apart, what earlier stretches as long did, and the p-value of the first.

    Numbers by the Kolmogorov-Smirnov test on cells, categories by Pearson's chi-squared over total variation; rows are
    counted as so many independent ones as days leave of them.
    """
    a, b = before.counts.sum(axis=0), now.counts.sum(axis=0)
    gap = distance(before.binning, a, b)
    inflation = max(before.inflation(), now.inflation())
    a, b = a / inflation, b / inflation
    n, m = a.sum(), b.sum()
    if not n or not m:
        return gap, 0.0, 1.0
    if before.binning.categories is None:
        p_value = float(special().kolmogorov(np.sqrt(n * m / (n + m)) * gap))
    else:
        p_value = chi2_p_value(a, b)
    return gap, _usual(before, len(now.counts)), p_value


def _usual(shape: Shape, length: int) -> float:
    """The largest distance of a stretch of `length` days from all others; 0 where there are fewer than three."""
    starts = range(len(shape.counts) % length, len(shape.counts) - length + 1, length)
    if len(starts) < 3:
        return 0.0
    total = shape.counts.sum(axis=0)
    parts = [shape.counts[start : start + length].sum(axis=0) for start in starts]
    return max(distance(shape.binning, part, total - part) for part in parts)


def p_above(mean: Floats | float, deviation: Floats | float, days: Ints | int) -> Floats:
    """P-values that the true means are not above 0, by Student's t with a degree of freedom less than days."""
    freedom = np.maximum(1, np.asarray(days) - 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.where(np.asarray(deviation) > 0, np.divide(mean, deviation), 0.0)
    return np.asarray(special().stdtr(freedom, -t), dtype=np.float64)


def holm(p_values: Sequence[float], tests: int) -> list[float]:
    """P-values corrected for `tests` of which these are the smallest (Holm 1979), in the order given."""
    found, step = [1.0] * len(p_values), 0.0
    for place, rank in enumerate(np.argsort(p_values, kind="stable").tolist()):
        step = max(step, min(1.0, p_values[rank] * (tests - place)))
        found[rank] = step
    return found


def auc_interval(
    truth: Floats, score: Floats, asked_at: Ints, rng: np.random.Generator, draws: int = 100
) -> tuple[float, float, float]:
    """The area under the ROC curve and its 95 % interval by the bootstrap of days; see `day_block_means`."""
    days, day = day_codes(asked_at)
    order = np.argsort(score, kind="stable")
    positive, day = truth[order] > 0.5, day[order]
    found = []
    for _ in range(draws):
        weight = np.bincount(rng.integers(days, size=days), minlength=days)[day].astype(np.float64)
        below = np.cumsum(np.where(positive, 0.0, weight))
        won = float((np.where(positive, weight, 0.0) * below).sum())
        pairs = float(weight[positive].sum()) * float(below[-1])
        found.append(won / pairs if pairs else 0.5)
    low, high = np.quantile(found, (0.025, 0.975))
    return auc(truth, score), float(low), float(high)
