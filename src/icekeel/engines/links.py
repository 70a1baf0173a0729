"""From the scale that a model adds on to the scale of the target."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np

from icekeel.core.frames import Floats

Link = Literal["identity", "logit", "exp"]

FURTHEST = 700.0
"""`exp` of more overflows a float64."""


def from_link(link: Link, score: float) -> float:
    """One score on the target's scale: itself, a probability, or `exp` of it."""
    if link == "identity":
        return score
    bounded = min(max(score, -FURTHEST), FURTHEST)
    return math.exp(bounded) if link == "exp" else 1.0 / (1.0 + math.exp(-bounded))


def from_link_many(link: Link, scores: Floats) -> Floats:
    """The same for an array of scores, shape `(n_rows,)`, bit for bit: NumPy's `exp` may differ in the last."""
    if link == "identity":
        return scores
    return np.array([from_link(link, score) for score in scores.tolist()])


def to_link(link: Link, value: float) -> float:
    """The score that `from_link` turns to this value; probabilities and amounts at their edges are moved inside."""
    if link == "identity":
        return value
    if link == "exp":
        return math.log(max(value, math.exp(-FURTHEST)))
    inside = min(max(value, 1e-15), 1 - 1e-15)
    return math.log(inside / (1 - inside))
