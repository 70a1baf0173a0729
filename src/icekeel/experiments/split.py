"""Two arms compared where each unit sees one of them: sums that merge, by phase and by segment.

A tally holds sums only, so that parts counted apart add up to the whole. Every field of a tally may be an array instead
of a number, one element for each of many simulated tests: the same arithmetic serves both.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import astuple, dataclass, field
from typing import Any

import numpy as np

from icekeel.core.errors import Fault, IcekeelError
from icekeel.core.frames import Bools, Floats

from .evidence import TUNED_UNITS, Claim, Evidence, bounded, discoveries, reaches
from .metrics import Metric, Units
from .sequential import log_bets, log_e_values

MOST_SKEW = 0.2
"""Skewness of the statistic up to which its normal bounds are believed: that of 25 expected conversions in a small arm.

Beyond it a rare event or heavy-tailed revenue on a small canary raises more false alarms than stated. In an even
split the arms' skewnesses cancel, so nothing waits there.
"""
EXACT = 0.2
"""Weight of the exact test in the mean of e-values, for outcomes 0 and 1."""


@dataclass(frozen=True, slots=True)
class Moments:
    """Sums over one arm's units of value `y`, weight `d`, covariate `x` and their products.

    An observation is one unit of randomisation: a user with ten answers is one, with their sum. A ratio has the sum
    over its unit as `y` and the number of answers as `d`; otherwise `d` is 1.
    """

    n: float = 0
    y: float = 0.0
    yy: float = 0.0
    yyy: float = 0.0
    d: float = 0.0
    dd: float = 0.0
    ddd: float = 0.0
    yd: float = 0.0
    yyd: float = 0.0
    ydd: float = 0.0
    x: float = 0.0
    xx: float = 0.0
    xy: float = 0.0
    xd: float = 0.0

    @classmethod
    def of(cls, value: Floats, weight: Floats | None = None, covariate: Floats | None = None) -> Moments:
        """Those of units, each array of shape `(n,)`; or of many tests at once, `(..., n)`.

        Args:
            weight: What the ratio divides by, above 0 in sum; None: 1.
            covariate: Known before the unit's exposure; None or NaN: 0, "nothing known".
        """
        y, d = value, np.ones(value.shape) if weight is None else weight
        x = np.zeros(value.shape) if covariate is None else np.nan_to_num(covariate, nan=0.0)
        for given in (y, d, x):
            refuse_not_finite(given)
        one = np.ones(value.shape)
        products = (one, y, y * y, y**3, d, d * d, d**3, y * d, y * y * d, y * d * d, x, x * x, x * y, x * d)
        return cls(*(product.sum(axis=-1) for product in products))

    @classmethod
    def counts(cls, n: Any, hits: Any) -> Moments:
        """Those of `n` units of which `hits` have the value 1 and the others 0; numbers or arrays."""
        return cls(n, hits, hits, hits, n, n, n, hits, hits, hits)

    def __add__(self, other: Moments) -> Moments:
        return Moments(*(mine + yours for mine, yours in zip(astuple(self), astuple(other), strict=True)))


@dataclass(frozen=True, slots=True)
class TwoSample:
    """Both arms during one phase, in which their shares stood still.

    Attributes:
        share: Declared share of the challenger, of those exposed; None where it is not known, and then the exact
            test says nothing.
    """

    a: Moments = Moments()
    b: Moments = Moments()
    share: float | None = None

    def __add__(self, other: TwoSample) -> TwoSample:
        if self.share != other.share and self.a.n + self.b.n and other.a.n + other.b.n:
            what = "a phase has one share of the challenger: another share is another phase"
            raise IcekeelError(Fault("bad_phase", what, got=f"{self.share} and {other.share}"))
        share = self.share if self.share is not None else other.share
        return TwoSample(self.a + other.a, self.b + other.b, share)

    @property
    def weight(self) -> Any:
        """Information on the difference, `n_a n_b / (n_a + n_b)`: known before any outcome is."""
        return over(self.a.n * self.b.n, self.a.n + self.b.n)

    @property
    def variance(self) -> Any:
        """Variance of a unit about the mean of both arms together, for a covariate that explains nothing.

        This is the score variance, taken under the null hypothesis; for outcomes 0 and 1 it is the pooled
        `p (1 - p)`. A small arm's own variance would raise false alarms tenfold on a 10 % canary. For a ratio it is
        that of `(y - R d) / mean(d)`, with the ratio R of both arms (delta method: Deng, Knoblich and Lu 2018, KDD).
        """
        both, ratio = self._both()
        squares = both.yy - 2 * ratio * both.yd + ratio**2 * both.dd
        return over(np.maximum(0.0, squares) * both.n, both.d**2)

    def third(self) -> Any:
        """Third central moment of a unit, the same way."""
        both, ratio = self._both()
        cubes = both.yyy - 3 * ratio * both.yyd + 3 * ratio**2 * both.ydd - ratio**3 * both.ddd
        return over(cubes * both.n**2, both.d**3)

    def explained(self) -> tuple[Any, Any]:
        """Sums of squares of the covariate, and of it with the residual, each about its arm's mean."""
        ratio, squares, products = self._both()[1], 0.0, 0.0
        for arm in (self.a, self.b):
            squares = squares + arm.xx - over(arm.x**2, arm.n)
            products = products + arm.xy - ratio * arm.xd - over(arm.x * (arm.y - ratio * arm.d), arm.n)
        return squares, products

    def adjusted(self, theta: Any) -> tuple[Any, Any]:
        """Change of the mean and its unit variance, with `theta` times the covariate taken off."""
        both, ratio = self._both()
        shift = theta * (over(self.b.x, self.b.n) - over(self.a.x, self.a.n))
        saved = 2 * theta * (both.xy - ratio * both.xd) - theta**2 * (both.xx - over(both.x**2, both.n))
        change = over(self.b.y, self.b.d) - over(self.a.y, self.a.d) - over(shift * both.n, both.d)
        return change, np.maximum(0.0, self.variance - over(saved * both.n, both.d**2))

    def _both(self) -> tuple[Moments, Any]:
        both = self.a + self.b
        return both, over(both.y, both.d)


@dataclass(frozen=True, slots=True)
class Score:
    """All phases together; numbers or arrays.

    Attributes:
        control: Mean of the champion.
        change: Mean of the challenger minus that of the champion.
        error: Standard error of `change` where there is none.
        units: Of an even split with the same information.
        skew: Skewness of `change / error`.
    """

    control: Any
    change: Any
    error: Any
    units: Any
    skew: Any


@dataclass(frozen=True, slots=True)
class Split:
    """A test in which each unit sees one arm. Phases with different shares are kept apart.

    Pooled over phases, a base rate that moves while the shares change looks like an effect. Here the
    difference is taken within each phase and the phases are averaged with weights `n_a n_b / (n_a + n_b)`
    (Mantel and Haenszel 1959; Cochran 1954), so that nothing compares one phase with another.
    """

    phases: Mapping[str, TwoSample] = field(default_factory=dict)

    @classmethod
    def of(cls, phase: str, a: Floats, b: Floats, share: float | None = None) -> Split:
        """Values of the champion's units and of the challenger's, in one phase."""
        return cls({phase: TwoSample(Moments.of(a), Moments.of(b), share)})

    def __add__(self, other: Split) -> Split:
        names = {**self.phases, **other.phases}
        empty = TwoSample()
        return Split({name: self.phases.get(name, empty) + other.phases.get(name, empty) for name in names})

    def score(self) -> Score:
        """Effect, error and skewness; phases with an empty arm say nothing.

        The covariate's coefficient is one for all phases (CUPED: Deng, Xu, Kohavi and Walker 2013, WSDM).
        """
        phases = list(self.phases.values())
        squares, products = (sum(column) for column in zip(*(p.explained() for p in phases), strict=True))
        theta = over(products, squares)
        weights = [phase.weight for phase in phases]
        information = sum(weights)
        adjusted = [phase.adjusted(theta) for phase in phases]
        mean = [over(phase.a.y, phase.a.d) for phase in phases]
        power = sum(w * variance for w, (_, variance) in zip(weights, adjusted, strict=True))
        plain = sum(w * phase.variance for w, phase in zip(weights, phases, strict=True))
        thirds = [
            w**3 * (over(1.0, p.b.n**2) - over(1.0, p.a.n**2)) for w, p in zip(weights, phases, strict=True)
        ]
        skew = sum(third * phase.third() for third, phase in zip(thirds, phases, strict=True))
        return Score(
            over(sum(w * m for w, m in zip(weights, mean, strict=True)), information),
            over(sum(w * change for w, (change, _) in zip(weights, adjusted, strict=True)), information),
            over(np.sqrt(power), information),
            4 * information,
            over(skew, plain**1.5),
        )

    def log_e(self, claim: Claim, score: Score) -> tuple[Any, Any]:
        """Logs of the e-values of "better" and of "worse".

        Where outcomes are 0 or 1 each is the mean, weighted by `EXACT`, of an exact and an asymptotic e-value, which is
        an e-value again. The asymptotic one is 1 while the statistic is skewed.
        """
        sign = -1.0 if claim.lower_is_better else 1.0
        error = score.error * max(1.0, claim.kept)  # at the margin, a cost's spread is that much larger
        z = over(sign * score.change + claim.margin * np.abs(score.control), error)
        believed = (np.abs(score.skew) <= MOST_SKEW) & (score.error > 0)
        r = claim.information(score.units, TUNED_UNITS)
        better, worse = (
            np.where(believed, log_e_values(one, of), 0.0) for one, of in ((z, r[0]), (-z, r[1]))
        )
        if not self._exact(claim):
            return better, worse
        more, fewer = self._bets(claim, more=True), self._bets(claim, more=False)
        exact = (fewer, more) if claim.lower_is_better else (more, fewer)
        shares = math.log(1 - EXACT), math.log(EXACT)
        return (
            np.logaddexp(better + shares[0], exact[0] + shares[1]),
            np.logaddexp(worse + shares[0], exact[1] + shares[1]),
        )

    def evidence(self, claim: Claim) -> Evidence:
        """What the units say about `claim`."""
        n_a = int(sum(phase.a.n for phase in self.phases.values()))
        n_b = int(sum(phase.b.n for phase in self.phases.values()))
        if not any(phase.weight > 0 for phase in self.phases.values()):
            return Evidence(n_a=n_a, n_b=n_b)
        score = self.score()
        sign = -1.0 if claim.lower_is_better else 1.0
        found = Evidence(
            sign * float(score.change), n_a=n_a, n_b=n_b, control=float(score.control), skew=float(score.skew)
        )
        log_better, log_worse = self.log_e(claim, score)
        r = claim.information(float(score.units), TUNED_UNITS)
        reach = math.inf, math.inf
        if score.error > 0 and abs(found.skew) <= MOST_SKEW:
            reach = reaches(claim, r, 1 - EXACT if self._exact(claim) else 1.0)
        return bounded(found, float(score.error) or 1.0, reach, (float(log_better), float(log_worse)))

    def _exact(self, claim: Claim) -> bool:
        shares = [phase.share for phase in self.phases.values()]
        return claim.binary and all(share is not None and 0 < share < 1 for share in shares)

    def _bets(self, claim: Claim, *, more: bool) -> Any:
        """Log e-value of the challenger having more, or fewer, outcomes 1 than the margin allows."""
        cells = [(phase.a.y, phase.b.y, float(phase.share or 0)) for phase in self.phases.values()]
        return log_bets(cells, claim.kept, more=more)


@dataclass(frozen=True, slots=True)
class Tally:
    """One metric of a split test, by segment and phase.

    Attributes:
        parts: Segment -> its split; every unit is in one segment, `""` where none was named.
    """

    parts: Mapping[str, Split] = field(default_factory=dict)

    @classmethod
    def of(cls, metric: Metric, units: Units, shares: Mapping[str, float]) -> Tally:
        """That of some units.

        Args:
            shares: Phase -> declared share of the challenger, of the units exposed.

        Raises:
            IcekeelError: a unit of a phase that has no share, a value that is no finite number.
        """
        missing = sorted(set(units.phase) - set(shares))
        if missing:
            what = "every phase needs the share that the challenger had"
            raise IcekeelError(Fault("bad_phase", what, got=", ".join(missing), allowed=", ".join(shares)))
        parts: dict[str, dict[str, TwoSample]] = {}
        pairs = list(zip(units.segment.tolist(), units.phase.tolist(), strict=True))
        order = {pair: place for place, pair in enumerate(sorted(set(pairs)))}
        codes = np.array([order[pair] for pair in pairs], dtype=np.int64)
        for (segment, phase), place in order.items():
            a, b = (_moments(metric, units, (codes == place) & (units.in_b == arm)) for arm in (False, True))
            parts.setdefault(segment, {})[phase] = TwoSample(a, b, shares[phase])
        return cls({segment: Split(phases) for segment, phases in parts.items()})

    @property
    def whole(self) -> Split:
        """All segments together."""
        return sum(self.parts.values(), Split())

    def evidence(self, claim: Claim) -> Evidence:
        """What all units say."""
        return self.whole.evidence(claim)

    def by_segment(self, claim: Claim) -> dict[str, tuple[Evidence, bool]]:
        """Segment -> its evidence, and whether it counts although so many were looked at (`discoveries`)."""
        found = {name: part.evidence(claim) for name, part in sorted(self.parts.items())}
        named = discoveries(found, claim.alpha)
        return {name: (evidence, named[name]) for name, evidence in found.items()}


def _moments(metric: Metric, units: Units, mine: Bools) -> Moments:
    covariate = None if units.covariate is None else units.covariate[mine]
    return Moments.of(units.value[mine], units.answers[mine] if metric.by_answers else None, covariate)


def over(part: Any, whole: Any) -> Any:
    """`part / whole`, and 0 where `whole` is 0; numbers or arrays."""
    top, bottom = np.broadcast_arrays(np.asarray(part, dtype=np.float64), np.asarray(whole, dtype=np.float64))
    return np.divide(top, bottom, out=np.zeros(top.shape), where=bottom != 0)[()]


def refuse_not_finite(values: Floats) -> None:
    """Raises an error of code `not_finite` where a value is no finite number."""
    wrong = int(np.count_nonzero(~np.isfinite(values)))
    if wrong:
        what = "expected finite numbers: an outcome that is not known yet may not be counted"
        raise IcekeelError(Fault("not_finite", what, got=f"{wrong} of {values.size} values"))
