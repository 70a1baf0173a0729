"""How good answers are before their outcomes arrive."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from icekeel.core.frames import Floats
from icekeel.core.statistics import SMALLEST_PROBABILITY

ASSUMED = (
    "estimated from the probabilities alone: true only while the model is calibrated on what is asked now, "
    "and while the same requests come to the same outcomes as before; a changed truth it cannot see"
)
"""What an estimate of the error without outcomes rests on."""


class Costs(Protocol):
    """What the two mistakes of an action cost."""

    @property
    def missed(self) -> float: ...  # noqa: D102
    @property
    def false(self) -> float: ...  # noqa: D102
    @property
    def threshold(self) -> float: ...  # noqa: D102


def expected_error(probability: Floats, action: Costs | None) -> Floats:
    """The error that each calibrated probability expects of itself, shape `(n,)`.

    Confidence-based performance estimation (Bialek et al. 2024, "Estimating model performance under covariate shift
    without labels", arXiv 2401.08348): the mean over both outcomes, weighed by their probability. Log loss in nats, or
    the cost of the action that the probability leads to.
    """
    if action is not None:
        acted = probability > action.threshold
        return np.asarray(np.where(acted, (1 - probability) * action.false, probability * action.missed))
    p = np.clip(probability, SMALLEST_PROBABILITY, 1 - SMALLEST_PROBABILITY)
    return np.asarray(-(p * np.log(p) + (1 - p) * np.log1p(-p)), dtype=np.float64)
