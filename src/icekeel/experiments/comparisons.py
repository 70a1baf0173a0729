"""Two arms compared on one metric, from sums that merge: split by unit, or paired on the same requests.

A tally holds sums only, so that parts counted apart add up to the whole. `evidence` turns it into an
estimate with bounds that hold at every look, and e-values for "better" and "worse". "Improvement" is the
champion's mean minus the challenger's where lower is better, the other way round where higher is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from icekeel.core.errors import Fault, IcekeelError
from icekeel.core.frames import Floats, Ints

from .sequential import bounded_exp, critical_z, log_e_value, rho_squared

MINIMUM_DAYS = 10
"""Days below which the spread between days is not known well enough to say anything."""
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
    """

    lower_is_better: bool = True
    margin: float = 0.0
    alpha: float = 0.05
    alpha_harm: float = 0.05
    tuned_for: float | None = None


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
    """

    estimate: float = math.nan
    low: float = -math.inf
    high: float = math.inf
    e_better: float = 1.0
    e_worse: float = 1.0
    n_a: int = 0
    n_b: int = 0
    control: float = math.nan


@dataclass(frozen=True, slots=True)
class Moments:
    """Count, sum and sum of squares of one arm's units.

    An observation is one unit of randomisation: a user with ten answers is one, with their sum or mean.
    """

    n: int = 0
    total: float = 0.0
    squares: float = 0.0

    @classmethod
    def of(cls, values: Floats) -> Moments:
        """Those of `values`, shape `(n,)`."""
        _refuse_not_finite(values)
        return cls(len(values), float(values.sum()), float(np.square(values).sum()))

    def __add__(self, other: Moments) -> Moments:
        return Moments(self.n + other.n, self.total + other.total, self.squares + other.squares)


@dataclass(frozen=True, slots=True)
class TwoSample:
    """Both arms during one phase, in which their shares stood still."""

    a: Moments = Moments()
    b: Moments = Moments()

    def __add__(self, other: TwoSample) -> TwoSample:
        return TwoSample(self.a + other.a, self.b + other.b)

    @property
    def weight(self) -> float:
        """Information on the difference, `n_a n_b / (n_a + n_b)`: known before any outcome is."""
        n = self.a.n + self.b.n
        return self.a.n * self.b.n / n if n else 0.0

    @property
    def variance(self) -> float:
        """Variance of a unit about the mean of both arms together.

        This is the score variance, taken under the null hypothesis; for outcomes 0 and 1 it is the pooled
        `p (1 - p)`. A small arm's own variance would raise false alarms tenfold on a 10 % canary.
        """
        both = self.a + self.b
        return max(0.0, both.squares / both.n - (both.total / both.n) ** 2)


@dataclass(frozen=True, slots=True)
class Split:
    """A test in which each unit sees one arm. Phases with different shares are kept apart.

    Pooled over phases, a base rate that moves while the shares change looks like an effect. Here the
    difference is taken within each phase and the phases are averaged with weights `n_a n_b / (n_a + n_b)`
    (Mantel and Haenszel 1959; Cochran 1954), so that nothing compares one phase with another.
    """

    phases: Mapping[str, TwoSample] = field(default_factory=dict)

    @classmethod
    def of(cls, phase: str, a: Floats, b: Floats) -> Split:
        """Values of the champion's units and of the challenger's, in one phase."""
        return cls({phase: TwoSample(Moments.of(a), Moments.of(b))})

    def __add__(self, other: Split) -> Split:
        names = {**self.phases, **other.phases}
        empty = TwoSample()
        return Split({name: self.phases.get(name, empty) + other.phases.get(name, empty) for name in names})

    def evidence(self, claim: Claim) -> Evidence:
        """What the units say about `claim`. Phases with an empty arm say nothing."""
        used = [phase for phase in self.phases.values() if phase.weight > 0]
        n_a = sum(phase.a.n for phase in self.phases.values())
        n_b = sum(phase.b.n for phase in self.phases.values())
        information = sum(phase.weight for phase in used)
        if not information:
            return Evidence(n_a=n_a, n_b=n_b)
        control = sum(phase.weight * phase.a.total / phase.a.n for phase in used) / information
        challenger = sum(phase.weight * phase.b.total / phase.b.n for phase in used) / information
        error = math.sqrt(sum(phase.weight * phase.variance for phase in used)) / information
        units = 4 * information  # of an even split with the same information
        return _evidence(claim, control, challenger - control, error, units, (n_a, n_b))

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            name: [p.a.n, p.a.total, p.a.squares, p.b.n, p.b.total, p.b.squares]
            for name, p in self.phases.items()
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Split:
        """The tally that `to_dict` wrote."""
        return cls({name: TwoSample(Moments(*p[:3]), Moments(*p[3:])) for name, p in data.items()})


@dataclass(frozen=True, slots=True)
class PairedDays:
    """A shadow test: both arms answered the same requests, and the answer changes no outcome.

    Rows of one day share weather, backlog and news, so the day is the observation: its sum of differences.

    Attributes:
        days: Day -> (pairs, sum of challenger minus champion, sum of champion).
    """

    days: Mapping[int, tuple[int, float, float]] = field(default_factory=dict)

    @classmethod
    def of(cls, day: Ints, a: Floats, b: Floats) -> PairedDays:
        """Metric of the champion `a` and of the challenger `b` on the same requests, shape `(n,)`."""
        _refuse_not_finite(a)
        _refuse_not_finite(b)
        names, place = np.unique(day, return_inverse=True)
        pairs = np.bincount(place, minlength=len(names))
        change = np.bincount(place, b - a, minlength=len(names))
        control = np.bincount(place, a, minlength=len(names))
        rows = zip(pairs.tolist(), change.tolist(), control.tolist(), strict=True)
        return cls(dict(zip(names.tolist(), rows, strict=True)))

    def __add__(self, other: PairedDays) -> PairedDays:
        merged = dict(self.days)
        for day, (pairs, change, control) in other.days.items():
            before = merged.get(day, (0, 0.0, 0.0))
            merged[day] = (before[0] + pairs, before[1] + change, before[2] + control)
        return PairedDays(merged)

    def evidence(self, claim: Claim) -> Evidence:
        """What the days say about `claim`; nothing before `MINIMUM_DAYS`.

        The spread is that of the days' sums about their share of the total (ratio estimator, Cochran 1977,
        section 6.3). The statistic is the self-normalised sum `t sqrt(T / (T - 1 + t^2))` over T days (Efron
        1969), which a few wild days cannot inflate.
        """
        if not self.days:
            return Evidence()
        pairs, change, control = np.array(list(self.days.values()), dtype=np.float64).T
        n, days = float(pairs.sum()), len(pairs)
        estimate, base = float(change.sum()) / n, float(control.sum()) / n
        units = (int(n), int(n))
        if days < MINIMUM_DAYS:
            return Evidence(estimate=_improvement(claim, estimate), n_a=units[0], n_b=units[1], control=base)
        spread = float(np.square(change - estimate * pairs).sum()) * days / (days - 1)
        return _evidence(claim, base, estimate, math.sqrt(spread) / n, days, units, days=days)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON, whose keys are text."""
        return {str(day): list(row) for day, row in self.days.items()}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> PairedDays:
        """The tally that `to_dict` wrote."""
        return cls({int(day): (int(row[0]), float(row[1]), float(row[2])) for day, row in data.items()})


def _improvement(claim: Claim, change: float) -> float:
    return -change if claim.lower_is_better else change


def _evidence(
    claim: Claim,
    control: float,
    change: float,
    error: float,
    units: float,
    counts: tuple[int, int],
    *,
    days: int = 0,
) -> Evidence:
    """Bounds and e-values of a difference with its standard error; `days` asks for self-normalised z."""
    estimate = _improvement(claim, change)
    known = Evidence(estimate=estimate, n_a=counts[0], n_b=counts[1], control=control)
    if error <= 0:
        return known
    z = (estimate + claim.margin * abs(control)) / error
    if days:
        z *= math.sqrt(days / (days - 1 + z * z))
    tuned_for = claim.tuned_for or (TUNED_DAYS if days else TUNED_UNITS)
    r_better = units * rho_squared(claim.alpha, tuned_for)
    r_worse = units * rho_squared(claim.alpha_harm, tuned_for)
    return replace(
        known,
        low=estimate - _reach(claim.alpha, r_better, days) * error,
        high=estimate + _reach(claim.alpha_harm, r_worse, days) * error,
        e_better=bounded_exp(log_e_value(z, r_better)),
        e_worse=bounded_exp(log_e_value(-z, r_worse)),
    )


def _reach(alpha: float, r: float, days: int) -> float:
    """Standard errors from the estimate to its bound."""
    z = critical_z(alpha, r)
    if not days:
        return z
    return z * math.sqrt((days - 1) / (days - z * z)) if z * z < days else math.inf


def _refuse_not_finite(values: Floats) -> None:
    wrong = int(np.count_nonzero(~np.isfinite(values)))
    if wrong:
        what = "expected finite numbers: an outcome that is not known yet may not be counted"
        raise IcekeelError(Fault("not_finite", what, got=f"{wrong} of {len(values)} values"))
