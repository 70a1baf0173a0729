"""A test as it went: what each look showed, and what looking without statistics would have done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .evidence import Claim, Evidence
from .paired import PairedDays
from .split import Score, Split, Tally, over

BELOW = 0.95
"""The naive rule: stop when the challenger has less than this share of the champion's (or costs as much more)."""
PEEKED_Z = 1.959964


@dataclass(frozen=True, slots=True)
class Look:
    """One look.

    Attributes:
        at: Microseconds.
        below: Whether "below 0.95 x control" would have stopped it.
        significant: Whether a z-test at 5 % that does not know of the other looks would have called it decided.
    """

    at: int
    evidence: Evidence
    below: bool
    significant: bool


def course(looks: Sequence[tuple[int, Split | Tally | PairedDays]], claim: Claim) -> list[Look]:
    """What each look showed: the confidence sequence over time beside the naive rules.

    Args:
        looks: Time of each look and the tally of all that had been seen by then.
    """
    rows = []
    for at, tally in looks:
        split = tally.whole if isinstance(tally, Tally) else tally
        found = split.evidence(claim)
        below, significant = naive(split.score(), claim) if found.n_a and found.n_b else (False, False)
        rows.append(Look(at, found, bool(below), bool(significant)))
    return rows


def naive(score: Score, claim: Claim) -> tuple[Any, Any]:
    """Whether "below 0.95 x control" and the peeked z-test alarm; numbers or arrays."""
    worse = score.change if claim.lower_is_better else -score.change
    below = worse > (1 - BELOW) * np.abs(score.control)
    return below, np.abs(over(score.change, score.error)) > PEEKED_Z


def naive_sentence(looks: Sequence[Look]) -> str:
    """What the naive rules would have done on the same data, for the report."""
    days = [next((look for look in looks if getattr(look, rule)), None) for rule in ("below", "significant")]
    said = [
        f"the rule `below {BELOW:g} x control` would {_when(days[0], looks, 'have stopped it')}",
        f"a z-test looked at as often would {_when(days[1], looks, 'have called it decided')}",
    ]
    return f"On the same data, {' and '.join(said)}."


def _when(first: Look | None, looks: Sequence[Look], words: str) -> str:
    if first is None:
        return f"never {words}"
    day = (first.at - looks[0].at) / 86_400_000_000
    return f"{words} after {day:.1f} days, at {first.evidence.n_a + first.evidence.n_b:,} units"
