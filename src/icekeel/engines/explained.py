"""Why an engine predicts what it predicts: what each column adds to an average row."""

from __future__ import annotations

import math
from typing import NamedTuple

from .links import Link, from_link


class Explained(NamedTuple):
    """A prediction taken apart: `from_link(scale, base + sum of what is added)`.

    Attributes:
        scale: Where things add up: the target itself, its log-odds or its logarithm.
        base: The score of an average row.
        added: For each column, or for columns that act together, their names and what they add.
    """

    scale: Link
    base: float
    added: tuple[tuple[tuple[str, ...], float], ...]

    def ending_at(self, score: float) -> Explained:
        """The same for an engine whose score is another: the base takes the difference."""
        return self._replace(base=score - sum(amount for _, amount in self.added))

    def effects(self) -> list[tuple[tuple[str, ...], float]]:
        """What each adds in the target's own terms, the largest first.

        On a log scale the factor less 1 (0.38 is 38 % more); for probabilities how far this one would fall without
        it; otherwise the amount.
        """
        score = self.base + sum(amount for _, amount in self.added)

        def effect(amount: float) -> float:
            if self.scale == "exp":
                return math.expm1(min(amount, 700.0))
            if self.scale == "logit":
                return from_link("logit", score) - from_link("logit", score - amount)
            return amount

        ordered = sorted(self.added, key=lambda one: -abs(one[1]))
        return [(names, effect(amount)) for names, amount in ordered if amount]
