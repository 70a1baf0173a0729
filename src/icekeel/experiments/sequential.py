"""Evidence that may be looked at after every observation: e-values, their bounds, mismatch of counts.

An e-value has expectation at most 1 while the null hypothesis is true, at any stopping time; so it ever
reaches `1 / alpha` with probability at most `alpha` (Ville 1939). With `k` questions the bar is `k / alpha`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from icekeel.core.frames import Array, Bools, Floats

MISMATCH = math.log(1000.0)
"""Log Bayes factor from which shares are taken not to be what was declared."""

_FRACTIONS = np.arange(1, 11) * 0.05
_LARGEST_EXPONENT = 690.0


def rho_squared(alpha: float, tuned_for: float) -> float:
    """The mixture's precision that makes the one-sided bound tightest at `tuned_for` observations.

    `(-2 ln a + ln(1 - 2 ln a)) / N*` with `a = 2 alpha`: Howard, Ramdas, McAuliffe and Sekhon (2021),
    Annals of Statistics 49(2), section 3.5; Waudby-Smith et al. (2024), arXiv 2103.06476, appendix.
    `alpha` is one-sided and below 0.5.
    """
    log_a = math.log(2 * alpha)
    return (-2 * log_a + math.log(1 - 2 * log_a)) / tuned_for


def log_e_value(z: float, r: float) -> float:
    """Log of the one-sided asymptotic mixture e-value of a z statistic.

    `E = 2 Phi(z sqrt(r / (1 + r))) exp(z^2 r / (2 (1 + r))) / sqrt(1 + r)`, with `r = n rho^2` the
    information in units of the mixture (Waudby-Smith et al., arXiv 2103.06476, one-sided bound; Robbins
    1970). `z` is large where the null hypothesis "not above" is doubtful. Without information it is 0.
    """
    if r <= 0 or math.isnan(z):
        return 0.0
    kept = r / (1 + r)
    return math.log(2) + _log_phi(z * math.sqrt(kept)) + z * z * kept / 2 - math.log1p(r) / 2


def critical_z(alpha: float, r: float) -> float:
    """The z at which `log_e_value` reaches `ln(1 / alpha)`: half-width of the one-sided sequence.

    By bisection; infinite without information.
    """
    if r <= 0:
        return math.inf
    goal = -math.log(alpha)
    low, high = 0.0, math.sqrt(2 * (1 + r) / r * (goal + math.log1p(r) / 2))
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if log_e_value(middle, r) >= goal else (middle, high)
    return high


def bounded_exp(log_value: float) -> float:
    """`exp` that stays a finite float, for e-values that are shown and stored."""
    return math.exp(min(log_value, _LARGEST_EXPONENT))


def _log_phi(x: float) -> float:
    """Log of the standard normal distribution function; below -30 by Mills' ratio, to 1e-3."""
    if x < -30:
        return -x * x / 2 - math.log(-x * math.sqrt(2 * math.pi))
    return math.log(math.erfc(-x / math.sqrt(2)) / 2)


@dataclass(frozen=True, slots=True)
class Betting:
    """Exact evidence that a rate in arm B lies below `(1 - margin)` times that in arm A.

    The mean over f in 0.05, 0.10 .. 0.50 of `prod(1 + f pi_t X_t)` with
    `X_t = (1 - margin) 1{A} Y / (1 - pi_t) - 1{B} Y / pi_t` (Waudby-Smith and Ramdas 2024, JRSS-B 86(1),
    with inverse propensities). No approximation: it holds from the first outcome, for any `pi_t` known
    before it. To ask whether B lies above, swap the arms and pass `1 - pi`.

    Attributes:
        margin: Relative loss that is tolerated.
        log_wealth: Log product for each f; products of separate outcomes multiply, so parts merge.
    """

    margin: float = 0.0
    log_wealth: tuple[float, ...] = (0.0,) * len(_FRACTIONS)

    def add(self, outcome: Array, in_b: Bools, probability_b: Floats) -> Betting:
        """With more outcomes; `outcome` in [0, 1] and `probability_b` in (0, 1), all shape `(n,)`."""
        y = np.asarray(outcome, dtype=np.float64)
        stake_a = (1 - self.margin) * y * probability_b / (1 - probability_b)
        stake = np.where(in_b, -y, stake_a)
        gains = np.log1p(_FRACTIONS[:, None] * stake).sum(axis=1)
        return Betting(self.margin, tuple((np.array(self.log_wealth) + gains).tolist()))

    def __add__(self, other: Betting) -> Betting:
        wealth = (a + b for a, b in zip(self.log_wealth, other.log_wealth, strict=True))
        return Betting(self.margin, tuple(wealth))

    @property
    def log_e(self) -> float:
        """Log of the e-value."""
        return float(np.logaddexp.reduce(self.log_wealth) - math.log(len(_FRACTIONS)))


def log_mismatch(counts: Sequence[int], shares: Sequence[float]) -> float:
    """Log Bayes factor against units having fallen into the arms by `shares`; see `MISMATCH`.

    Multinomial with the declared shares against a uniform Dirichlet prior over all shares, valid under
    continuous looking (Lindon and Malek 2022, "Anytime-valid inference for multinomial count data", eq. 8).
    For several phases add their logs. A unit in an arm whose share is 0 makes it infinite.
    """
    if any(n and not share for n, share in zip(counts, shares, strict=True)):
        return math.inf
    arms, total = len(counts), sum(counts)
    log_any = math.lgamma(arms) - math.lgamma(arms + total) + sum(math.lgamma(n + 1) for n in counts)
    return log_any - sum(n * math.log(share) for n, share in zip(counts, shares, strict=True) if n)
