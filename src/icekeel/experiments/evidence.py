"""What is asked of a tally, and what it says: an estimate, bounds that hold at every look, and e-values.

"Improvement" is the champion's mean minus the challenger's where lower is better, the other way round where higher is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from icekeel.core.errors import Fault, ProjectError

from .sequential import bounded_exp, critical_z, rho_squared

Check = tuple[str, bool, object, str]
"""What is checked, whether it holds, what was got, what is allowed."""
TUNED_UNITS, TUNED_DAYS = 10_000.0, 30.0


@dataclass(frozen=True, slots=True)
class Claim:
    """What is asked of a tally.

    Attributes:
        lower_is_better: Costs and errors; otherwise conversion and revenue.
        margin: Loss that is tolerated, as a share of the champion's mean: 0 asks for "better".
        alpha: Error rate, over all looks, of the lower bound and so of calling it better.
        alpha_harm: The same of the upper bound and so of calling it worse.
        tuned_for: Where the bounds are tightest: units of an even split (10,000 unless said), or days when
            paired (30 unless said).
        binary: Every unit's value is 0 or 1, so that an exact test joins the asymptotic one.
    """

    lower_is_better: bool = True
    margin: float = 0.0
    alpha: float = 0.05
    alpha_harm: float = 0.05
    tuned_for: float | None = None
    binary: bool = False

    @property
    def kept(self) -> float:
        """The challenger's mean, as a share of the champion's, at which exactly the tolerated is lost."""
        return 1 + self.margin if self.lower_is_better else 1 - self.margin

    def information(self, units: float, tuned_for: float) -> tuple[float, float]:
        """Information `r` in `units` for "better" and for "worse"; numbers or arrays."""
        at = self.tuned_for or tuned_for
        return units * rho_squared(self.alpha, at), units * rho_squared(self.alpha_harm, at)


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a tally says about a claim.

    Attributes:
        estimate: Improvement per unit, in the metric's own unit; NaN without data.
        low: Lower bound of the improvement, valid at every look with error `alpha`.
        high: Upper bound, with error `alpha_harm`.
        e_better: E-value against "worse by the margin or more": large means no worse than the margin.
        e_worse: E-value against "no worse than the margin": large means harm.
        n_a: Units of the champion.
        n_b: Units of the challenger.
        control: Mean of the champion.
        skew: Skewness of the statistic; beyond `split.MOST_SKEW` no normal bound is believed.
    """

    estimate: float = math.nan
    low: float = -math.inf
    high: float = math.inf
    e_better: float = 1.0
    e_worse: float = 1.0
    n_a: int = 0
    n_b: int = 0
    control: float = math.nan
    skew: float = 0.0


def bounded(
    known: Evidence,
    error: float,
    reach: tuple[float, float],
    log_e: tuple[float, float],
) -> Evidence:
    """With bounds `reach` standard errors below and above the estimate, and the two e-values."""
    return replace(
        known,
        low=known.estimate - reach[0] * error,
        high=known.estimate + reach[1] * error,
        e_better=bounded_exp(log_e[0]),
        e_worse=bounded_exp(log_e[1]),
    )


def reaches(claim: Claim, r: tuple[float, float], weight: float = 1.0) -> tuple[float, float]:
    """Standard errors to the lower and to the upper bound, where the test has `weight` in a mean of e-values."""
    return critical_z(claim.alpha * weight, r[0]), critical_z(claim.alpha_harm * weight, r[1])


def discoveries(evidence: Mapping[str, Evidence], alpha: float) -> dict[str, bool]:
    """Which of several segments differ, of all named ones at most a share `alpha` wrongly.

    e-BH (Wang and Ramdas 2022, JRSS-B 84(3)): the k largest of K e-values count where the k-th is at least
    `K / (alpha k)`. It holds however the segments depend on each other, and at every look. A segment's e-value is
    the mean of both directions.
    """
    values = {name: (found.e_better + found.e_worse) / 2 for name, found in evidence.items()}
    ordered = sorted(values, key=lambda name: -values[name])
    held = [rank for rank, name in enumerate(ordered, 1) if values[name] * rank * alpha >= len(values)]
    named = set(ordered[: max(held, default=0)])
    return {name: name in named for name in evidence}


def refuse(where: str, checks: Sequence[Check]) -> None:
    """Raises `ProjectError` with a fault for each check that does not hold."""
    faults = [
        Fault(
            f"bad_{name}",
            f"expected {name.replace('_', ' ')} in range",
            f"{where}.{name}",
            repr(got),
            allowed,
        )
        for name, holds, got, allowed in checks
        if not holds
    ]
    if faults:
        raise ProjectError(*faults)
