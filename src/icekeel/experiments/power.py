"""How large a test must be, before it starts.

The chance to cross a sequential bound has no closed form: it is simulated once, from a fixed seed, as a Brownian motion
with drift, which is what the tests' statistics tend to. Same question, same answer.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from icekeel.core.errors import Fault, IcekeelError
from icekeel.core.frames import Floats

from .evidence import TUNED_UNITS, Claim, refuse
from .paired import MINIMUM_DAYS, PairedDays, paired_log_e, paired_score
from .sequential import critical_z, rho_squared
from .split import EXACT

_PATHS, _LOOKS = 4_000, 250
_MOST_UNITS = 1e13
MOST_DAYS = 1_000


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of a test.

    Attributes:
        mean, sd: Of one unit's value, from past data. A rate has the sd `sqrt(p (1 - p))`.
        share: Of the challenger.
        margin: Loss tolerated, as a share of the mean: an effect of 0 is then found as "no worse than the margin".
        alpha: Error rate over all looks; for roll-back by one of k metrics divided by k.
        power: Chance of finding the effect.
        tuned_for: As of the plan.
        binary: Values 0 and 1.
    """

    mean: float
    sd: float
    share: float = 0.5
    margin: float = 0.0
    alpha: float = 0.05
    power: float = 0.8
    tuned_for: float | None = None
    binary: bool = False

    def __post_init__(self) -> None:
        refuse(
            "power",
            (
                ("mean", self.mean != 0 and math.isfinite(self.mean), self.mean, "a number other than 0"),
                ("sd", 0 < self.sd < math.inf, self.sd, "above 0"),
                ("share", 0 < self.share < 1, self.share, "above 0, below 1"),
                ("margin", 0 <= self.margin < 1, self.margin, "0 or more, below 1"),
                ("alpha", 0 < self.alpha < 0.5, self.alpha, "above 0, below 0.5"),
                ("power", 0 < self.power < 1, self.power, "above 0, below 1"),
                ("tuned_for", self.tuned_for is None or self.tuned_for > 0, self.tuned_for, "above 0"),
            ),
        )

    @classmethod
    def of_rate(cls, rate: float, share: float = 0.5) -> Question:
        """Of a conversion."""
        return cls(rate, math.sqrt(max(0.0, rate * (1 - rate))), share, binary=True)

    def units(self, effect: float) -> int:
        """Units of both arms by which an effect is found with the wanted power.

        Args:
            effect: Improvement as a share of the mean, below 0 for harm.

        Raises:
            IcekeelError: the effect lies at the margin, where nothing tells it from there.
        """
        gap = abs(effect + self.margin) * abs(self.mean)
        drift = gap / (2 * self.sd)
        if drift * math.sqrt(_MOST_UNITS) < 1:
            what = "no test tells an effect from the margin where it lies on it"
            raise IcekeelError(Fault("bad_effect", what, "power.effect", repr(effect)))
        alpha = self.alpha * (1 - EXACT) if self.binary else self.alpha
        even = _crossed(drift, alpha, rho_squared(self.alpha, self.tuned_for or TUNED_UNITS), self.power)
        return math.ceil(even / (4 * self.share * (1 - self.share)))

    def tuned(self, effect: float) -> Question:
        """The same, tuned for the size at which such an effect is found: what to state as the plan's `tuned_for`."""
        found = self
        for _ in range(3):
            found = replace(found, tuned_for=found.units(effect) * 4 * self.share * (1 - self.share) / 2)
        return found

    def detectable(self, units: float) -> float:
        """The smallest improvement, as a share of the mean, that so many units find with the wanted power."""
        return _least(lambda gap: self.units(gap - self.margin) <= units) - self.margin

    def sentence(self, effect: float, per_day: float, unit: str = "users") -> str:
        """The answer for business."""
        units = self.units(effect)
        return f"To find {effect:+.1%} you need {_round(units):,} {unit}; at {per_day:,.0f} a day {lasting(units / per_day)}."


def _crossed(drift: float, alpha: float, rho: float, power: float) -> float:
    """Units of an even split by which a share `power` of paths with that drift has crossed the upper bound."""
    end = 4 * (2.0 / drift) ** 2
    while True:
        at = end * np.geomspace(1e-4, 1, _LOOKS)
        bars = np.array([critical_z(alpha, rho * one) for one in at])
        z = _paths() + drift * np.sqrt(at)
        crossed = np.maximum.accumulate(z >= bars, axis=1).mean(axis=0)
        if crossed[-1] >= power:
            return float(np.interp(power, crossed, at))
        end *= 2


@cache
def _paths() -> Floats:
    """Standardised Brownian motion at times that grow by a constant factor."""
    at = np.geomspace(1e-4, 1, _LOOKS)
    steps = np.random.default_rng(20_26).normal(size=(_PATHS, _LOOKS)) * np.sqrt(np.diff(at, prepend=0.0))
    return steps.cumsum(axis=1) / np.sqrt(at)


def paired_days_needed(
    past: PairedDays, effect: float, claim: Claim, power: float = 0.8, most: int = MOST_DAYS
) -> int | None:
    """Days of a shadow test by which an effect is found; None: not within `most`.

    Args:
        past: Differences by day of two versions of the past, whose spread from day to day is taken for the new one's.
        effect: Improvement as a share of the champion's mean, below 0 for harm.

    Raises:
        IcekeelError: fewer than `MINIMUM_DAYS` days, or differences that are all equal.
    """
    rows = np.array([past.days[day] for day in sorted(past.days)], dtype=np.float64).reshape(-1, 3).T
    if rows.shape[1] < MINIMUM_DAYS:
        what = f"expected at least {MINIMUM_DAYS} past days with both versions' answers"
        raise IcekeelError(Fault("too_few_days", what, "power.past", str(rows.shape[1])))
    score = paired_score(*rows)
    spread, control = float(score.error) * math.sqrt(rows.shape[1]), float(score.control)
    if not spread > 0:
        raise IcekeelError(Fault("no_spread", "the past differences are all equal", "power.past"))
    change = (-1.0 if claim.lower_is_better else 1.0) * effect * abs(control)
    days, better = change + spread * _days(), effect + claim.margin >= 0
    bar, place = -math.log(claim.alpha if better else claim.alpha_harm), 0 if better else 1
    left, at = np.arange(days.shape[1]), MINIMUM_DAYS
    while at <= most:
        ones = np.ones((at, len(left)))
        left = left[paired_log_e(claim, paired_score(ones, days[:at, left], control * ones), at)[place] < bar]
        if len(left) <= (1 - power) * days.shape[1]:
            return at
        at = max(at + 1, at * 26 // 25)
    return None


@cache
def _days() -> Floats:
    return np.random.default_rng(20_26).normal(size=(MOST_DAYS, 500))


def paired_detectable(past: PairedDays, days: int, claim: Claim, power: float = 0.8) -> float:
    """The smallest improvement, as a share of the champion's mean, that so many days in shadow find."""
    return (
        _least(lambda gap: paired_days_needed(past, gap - claim.margin, claim, power, days) is not None)
        - claim.margin
    )


def _least(found: Callable[[float], bool]) -> float:
    """The smallest gap that is found, between 0.01 % and ten times, to a thousandth of it."""
    low, high = 1e-4, 10.0
    while high > 1.001 * low:
        middle = math.sqrt(low * high)
        low, high = (low, middle) if found(middle) else (middle, high)
    return high


def lasting(days: float) -> str:
    """A duration in words: days, weeks, months or years."""
    for unit, size, least in (("years", 365.25, 730), ("months", 30.44, 75), ("weeks", 7, 21)):
        if days >= least:
            return f"{days / size:.0f} {unit}"
    return f"{max(1, math.ceil(days))} days" if days > 1 else "1 day"


def _round(units: int) -> int:
    """Two digits, up: more would be made up."""
    step: int = 10 ** max(0, len(str(units)) - 2)
    return -(-units // step) * step
