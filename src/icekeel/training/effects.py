"""By how much each value of a category moves the target, all else held."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from icekeel.core.frames import Floats, Ints

RIDGE = 3.0
"""Rows without effect by which each value's effect is shrunk."""
SWEEPS = 60
"""Most rounds over the columns; the fit is nearly always settled after ten."""


@dataclass(frozen=True, slots=True)
class Additive:
    """An additive model of the outcome: a constant, and an effect of each value of each column.

    Attributes:
        constant: The mean outcome, on the log-odds for a logistic one.
        effects: For each column the effects by code, centred on their mean over the rows.
        errors: Their standard errors.
    """

    constant: float
    effects: list[Floats]
    errors: list[Floats]

    @classmethod
    def fit(cls, columns: Sequence[Ints], outcome: Floats, *, logistic: bool) -> Additive:
        """The model of these rows; `columns` holds codes from 0 on.

        Additive ridge (logistic: on the log-odds) on one-hot values, by block coordinate descent with one Newton step
        per column and sweep (Hastie, Tibshirani and Friedman 2009, sections 3.4 and 9.1). Memory is linear in the
        number of values.
        """
        mean = float(outcome.mean())
        mean = min(max(mean, 1e-6), 1 - 1e-6) if logistic else mean
        fit = np.full(len(outcome), math.log(mean / (1 - mean)) if logistic else mean)
        ridge = RIDGE * (mean * (1 - mean) if logistic else 1.0)
        effects = [np.zeros(int(column.max()) + 1) for column in columns]
        weights: list[Floats] = [np.ones(1)] * len(columns)
        for _ in range(SWEEPS):
            largest = 0.0
            for at, column in enumerate(columns):
                predicted = 1 / (1 + np.exp(-fit)) if logistic else fit
                weight = np.bincount(column, predicted * (1 - predicted) if logistic else None)
                weights[at] = weight.astype(np.float64) + ridge
                step = (np.bincount(column, outcome - predicted) - ridge * effects[at]) / weights[at]
                step = np.clip(step, -2, 2) if logistic else step
                effects[at] += step
                fit += step[column]
                largest = max(largest, float(np.abs(step).max()))
            if largest < 1e-3 * float(np.std(outcome)):
                break
        noise = 1.0 if logistic else float(np.std(outcome - fit))
        centred = [effect - effect[column].mean() for effect, column in zip(effects, columns, strict=True)]
        return cls(float(fit.mean()), centred, [noise / np.sqrt(weight) for weight in weights])

    def sure(self, at: int) -> Floats:
        """By how much each value of a column surely moves the outcome: absolute effect less two standard errors."""
        return np.maximum(np.abs(self.effects[at]) - 2 * self.errors[at], 0)


def tenths(values: Floats) -> Ints:
    """The tenth of the rows that each number falls in, 10 for null."""
    known = values[~np.isnan(values)]
    edges = np.quantile(known, np.linspace(0.1, 0.9, 9)) if len(known) else np.zeros(0)
    return np.where(np.isnan(values), 10, np.searchsorted(edges, values)).astype(np.int64)
