"""The interval around a predicted number."""

from __future__ import annotations

import math

import msgspec


class Interval(msgspec.Struct, frozen=True):
    """A width found once, that holds the stated share of ordinary outcomes around every prediction.

    Attributes:
        half_width: In units of the target; of its natural logarithm where `relative`.
        relative: Whether the interval multiplies the prediction instead of adding to it.
        coverage: Share of ordinary outcomes inside, such as 0.9.
    """

    half_width: float
    relative: bool
    coverage: float

    def around(self, prediction: float) -> tuple[float, float]:
        """Lower and upper end, both closed."""
        if self.relative:
            factor = math.exp(self.half_width)
            return prediction / factor, prediction * factor
        return prediction - self.half_width, prediction + self.half_width
