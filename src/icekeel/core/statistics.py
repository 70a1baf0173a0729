"""Small statistics on arrays that several rooms need: losses, rank measures, quantiles."""

from __future__ import annotations

import numpy as np

from .frames import Floats

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
