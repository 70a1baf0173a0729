"""Small statistics on arrays that several rooms need: losses, rank measures, quantiles."""

from __future__ import annotations

import numpy as np

from .frames import Bools, Floats

SMALLEST_PROBABILITY = 1e-12


def log_loss(truth: Floats, probability: Floats) -> Floats:
    """Negative log-likelihood of each row in nats; `truth` is 0 or 1. Shape `(n_rows,)`."""
    p = np.clip(probability, SMALLEST_PROBABILITY, 1 - SMALLEST_PROBABILITY)
    return np.asarray(-(truth * np.log(p) + (1 - truth) * np.log1p(-p)), dtype=np.float64)


def auc(truth: Floats, score: Floats) -> float:
    """Area under the ROC curve: the chance that a positive outranks a negative, ties counted half.

    NaN where one of the classes is missing. Mann-Whitney's U over mid-ranks (Hanley and McNeil 1982).
    """
    positives = truth > 0.5
    n_pos, n_neg = int(positives.sum()), int((~positives).sum())
    if not n_pos or not n_neg:
        return float("nan")
    _, inverse, counts = np.unique(score, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    ranks = (ends - (counts - 1) / 2.0)[inverse]
    return float((ranks[positives].sum() - n_pos * (n_pos + 1) / 2) / (n_pos * n_neg))


def absolute_percentage_error(truth: Floats, prediction: Floats) -> Floats:
    """`|prediction - truth| / |truth|` of each row, as a share (not times 100)."""
    return np.asarray(np.abs(prediction - truth) / np.abs(truth), dtype=np.float64)


def benjamini_hochberg(p_values: Floats, rate: float) -> Bools:
    """Which hypotheses are rejected, with false discovery rate `rate` (Benjamini and Hochberg 1995)."""
    n = len(p_values)
    order = np.argsort(p_values)
    below = np.flatnonzero(p_values[order] <= rate * np.arange(1, n + 1) / n)
    rejected = np.zeros(n, dtype=np.bool_)
    if len(below):
        rejected[order[: below[-1] + 1]] = True
    return rejected


def wilson(successes: Floats | float, rows: Floats | float, z: float = 1.96) -> tuple[Floats, Floats]:
    """Bounds of rates of independent rows, 95 % by default (Wilson 1927); 0 to 1 where there are no rows."""
    n = np.maximum(rows, 1.0)
    rate = np.where(rows > 0, successes / n, 0.5)
    spread = z * np.sqrt(rate * (1 - rate) / n + z * z / (4 * n * n))
    middle, scale = rate + z * z / (2 * n), 1 + z * z / n
    low, high = (middle - spread) / scale, (middle + spread) / scale
    return np.where(rows > 0, np.maximum(low, 0.0), 0.0), np.where(rows > 0, np.minimum(high, 1.0), 1.0)
