"""Evidence that may be looked at after every observation: e-values, their bounds, mismatch of counts.

An e-value has expectation at most 1 while the null hypothesis is true, at any stopping time; so it ever
reaches `1 / alpha` with probability at most `alpha` (Ville 1939). With `k` questions the bar is `k / alpha`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from icekeel.core.frames import Floats

MISMATCH = math.log(1000.0)
"""Log Bayes factor from which shares are taken not to be what was declared."""

FRACTIONS: Floats = np.linspace(0.05, 0.5, 10)
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


def log_e_values(z: Any, r: Any) -> Floats:
    """`log_e_value` of each element."""
    return np.asarray(_each(z, r), dtype=np.float64)


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


def log_bets(
    cells: Sequence[tuple[Any, Any, float]], kept: float, *, more: bool, fractions: Floats = FRACTIONS
) -> Any:
    """Log of exact evidence that arm B has more (or fewer) events than `kept` times as many as arm A, per unit.

    The mean over f of `prod(1 + f c X_t)`, with `X_t = kept 1{A} Y / (1 - pi) - 1{B} Y / pi`; for fewer `c = pi`, for
    more `c = -(1 - pi) / kept` (Waudby-Smith and Ramdas 2024, JRSS-B 86(1), with inverse propensities). A unit without
    the event multiplies by 1, so the counts of units with it are all that is needed. No approximation: it holds from
    the first event on.

    Args:
        cells: For each phase the number of units with the event in A and in B, and the share `pi` of B, in (0, 1).
        kept: 1 asks whether the rates differ.
        fractions: The stakes f, in (0, 1).
    """
    wealth: Any = 0.0
    for a, b, pi in cells:
        odds = kept * pi / (1 - pi)
        stake_a, stake_b = (-fractions, fractions / odds) if more else (fractions * odds, -fractions)
        wealth = wealth + np.multiply.outer(np.log1p(stake_a), a) + np.multiply.outer(np.log1p(stake_b), b)
    return np.logaddexp.reduce(wealth, axis=0) - math.log(len(fractions))


_each = np.frompyfunc(log_e_value, 2, 1)


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
