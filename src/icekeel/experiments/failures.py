"""Hard failures of a challenger: few events, so exact, and looked at every minute."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from icekeel.core.frames import Floats

from .sequential import log_bets

ALPHA = 0.001
"""Chance that a challenger which fails no more often than is tolerated is ever stopped for it, over all kinds."""
FEWEST = 3
"""Units of the challenger that must have been struck: one odd caller stops nothing."""
_STAKES: Floats = np.linspace(0.05, 0.95, 19)


@dataclass(frozen=True, slots=True)
class Failures:
    """How many units each arm failed, each unit once: errors, NaN, answers out of time, guard flags.

    The champion is counted over the same stretch, so that a broken feed or a full disk, which strikes both, is not laid
    at the challenger's door.

    Attributes:
        phases: (units struck in the champion's arm, in the challenger's, share of the challenger) while the shares
            stood still.
        tolerated: Times the champion's rate that may be.
    """

    phases: tuple[tuple[int, int, float], ...] = ()
    tolerated: float = 2.0

    @property
    def struck(self) -> tuple[int, int]:
        """Units of the champion and of the challenger."""
        return sum(a for a, *_ in self.phases), sum(b for _, b, _ in self.phases)

    @property
    def log_e(self) -> float:
        """Log of the e-value against "no more than tolerated"."""
        cells = [phase for phase in self.phases if 0 < phase[2] < 1]
        return float(log_bets(cells, self.tolerated, more=True, fractions=_STAKES)) if cells else 0.0


def failing(kinds: Mapping[str, Failures]) -> str:
    """What the challenger fails by, in words; empty if by nothing. Valid at every look."""
    bar = math.log(max(1, len(kinds)) / ALPHA)
    return "; ".join(
        f"{kind} struck {found.struck[1]:,} of its units and {found.struck[0]:,} of the champion's"
        for kind, found in kinds.items()
        if found.struck[1] >= FEWEST and found.log_e >= bar
    )
