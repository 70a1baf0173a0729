"""The functions of experiments held to published figures, to independent libraries and to numerical integration.

A published figure is known to its last digit only: what lies within one unit of that is no difference. The second bound
of O'Brien and Fleming needs it: the program that everybody quotes says 3.3569, integration says 3.357012.
"""

from __future__ import annotations

import json
import math
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from scipy.integrate import quad
from scipy.optimize import brentq
from scipy.stats import dirichlet_multinomial, multinomial, norm

from bench.children import CACHE
from bench.peers import HERE, python_of
from bench.report import Result
from icekeel.core.frames import Floats
from icekeel.experiments import (
    Claim,
    Moments,
    Split,
    TwoSample,
    critical_z,
    log_bets,
    log_e_value,
    log_mismatch,
    rho_squared,
)

Check = tuple[str, float, float]
"""What, ours, theirs."""
ALPHA = 0.05


def oracles() -> Result:
    """Number of figures compared, and the largest relative difference."""
    checks = [*_confseq(), *_integrals(), *_group_sequential(), *_gbstats(), *_tea_tasting()]
    differences = {what: _difference(ours, theirs) for what, ours, theirs in checks}
    return {
        "worst": max(differences.values()),
        "count": len(differences),
        "five_looks_exact_error": _five_looks(lambda t: critical_z(ALPHA, rho_squared(ALPHA, 0.5) * t)),
        "differences": differences,
    }


def _difference(ours: float, theirs: float) -> float:
    text = repr(theirs).rstrip("0")
    digits = len(text.partition(".")[2]) if "e" not in text else 17
    known = 10.0**-digits if digits < 9 else 0.0
    return max(0.0, abs(ours - theirs) - known) / abs(theirs)


def _confseq() -> Iterator[Check]:
    """Figures of confseq 0.0.11, whose mixtures have a precision `rho` where ours have `r = v / rho`."""
    two, one = 100 / rho_squared(0.025, 1), 100 / rho_squared(0.05, 1)
    yield "two-sided best rho", two, 12.60056
    yield "two-sided log mixture", _two_sided(1.0, 100 / two), -0.6510052
    yield "one-sided log mixture", log_e_value(1.0, 100 / one), -0.06502391
    yield "two-sided bound", 10 * _two_sided_z(1 / 20, 100 / two), 30.35209
    yield "one-sided bound", 10 * critical_z(1 / 20, 100 / one), 27.66071


def _two_sided(z: float, r: float) -> float:
    """Log of the mean of both one-sided e-values."""
    return float(np.logaddexp(log_e_value(z, r), log_e_value(-z, r)) - math.log(2))


def _two_sided_z(alpha: float, r: float) -> float:
    return float(brentq(lambda z: _two_sided(z, r) + math.log(alpha), 0, 100, xtol=1e-13))


def _integrals() -> Iterator[Check]:
    """Closed forms held to numerical integration and to scipy's distributions."""
    for z, r in ((1.7, 3.0), (-2.0, 0.4), (4.0, 50.0)):
        mixed = partial(_mixed, z=z, r=r)
        yield f"one-sided e-value at {z}, {r}", log_e_value(z, r), math.log(quad(mixed, 0, 60, limit=500)[0])
    for n, k, share in ((100_000, 10_400, 0.1), (5_000, 2_600, 0.5)):
        counts, shares = [n - k, k], [1 - share, share]
        ours = log_mismatch(counts, shares)
        theirs = dirichlet_multinomial.logpmf(counts, [1.0, 1.0], n) - multinomial.logpmf(counts, n, shares)
        yield f"mismatch of {k} in {n}", ours, float(theirs)
    rng = np.random.default_rng(40)
    in_b, event = rng.random(5_000) < 0.1, rng.random(5_000) < 0.04
    gain = [np.where(in_b, -1 / 0.1, 0.95 / 0.9) * event * 0.1 * f for f in np.arange(1, 11) / 20]
    counts = [(event & ~in_b).sum(), (event & in_b).sum()]
    theirs = math.log(float(np.mean([np.prod(1 + one) for one in gain])))
    yield "bets, unit by unit", float(log_bets([(counts[0], counts[1], 0.1)], 0.95, more=False)), theirs


def _mixed(size: float, z: float, r: float) -> float:
    return float(2 * norm.pdf(size, scale=math.sqrt(r)) * math.exp(size * z - size * size / 2))


OBRIEN_FLEMING = (4.8769, 3.3569, 2.6803, 2.2898, 2.0310)
"""Bounds of five looks, one-sided .025 (Lan and DeMets 1983; O'Brien and Fleming 1979)."""


def _group_sequential() -> Iterator[Check]:
    """The recursion over looks that `_five_looks` uses, held to published bounds."""
    spent = [2 - 2 * norm.cdf(norm.ppf(1 - 0.0125) / math.sqrt(t)) for t in np.arange(1, 6) / 5]
    bounds: list[float] = []
    for look, total in enumerate(spent, 1):
        times = np.arange(1, look + 1) / 5
        bounds.append(float(brentq(lambda z: _crossing(times, [*bounds, z]) - total, 1.5, 6, xtol=1e-9)))  # noqa: B023
        yield f"O'Brien-Fleming, look {look}", bounds[-1], OBRIEN_FLEMING[look - 1]


def _five_looks(bound: Callable[[float], float]) -> float:
    """Chance, by integration, that a standard process crosses `bound` at any of five even looks."""
    times = np.arange(1, 6) / 5
    return _crossing(times, [bound(t) for t in times])


def _crossing(times: Floats, bounds: list[float]) -> float:
    """Chance that a Brownian motion at `times` ever reaches `bounds` in z (Armitage, McPherson and Rowe 1969)."""
    nodes, weights = np.polynomial.legendre.leggauss(400)
    crossed, density, at, before = 0.0, None, np.zeros(1), 0.0
    for time, bound in zip(times, bounds, strict=True):
        step, top = math.sqrt(time - before), bound * math.sqrt(time)
        if density is None:
            crossed += float(norm.sf(top / step))
        else:
            crossed += float((density * norm.sf((top - at) / step)).sum())
        low = -8 * math.sqrt(time)
        points = (top - low) / 2 * nodes + (top + low) / 2
        scale = (top - low) / 2 * weights
        if density is None:
            density = norm.pdf(points / step) / step * scale
        else:
            density = (
                (density[None, :] * norm.pdf((points[:, None] - at[None, :]) / step)).sum(axis=1)
                / step
                * scale
            )
        at, before = points, float(time)
    return crossed


RATES = ((3000, 1396), (3461, 2422))


def _gbstats() -> Iterator[Check]:
    """Two-sided sequential intervals of GrowthBook, whose bound is that of both one-sided e-values' mean."""
    said = _peer("gbstats", "gbstats_interval.py")
    n = sum(units for units, _ in RATES)
    reach = _two_sided_z(ALPHA, n * rho_squared(ALPHA / 2, 5000))
    (p_a, v_a), (p_b, v_b) = ((k / n, k / n * (1 - k / n) / n) for n, k in RATES)
    lift, error = p_b / p_a - 1, math.sqrt(v_b / p_a**2 + v_a * p_b**2 / p_a**4)
    ours = {"absolute": (p_b - p_a, math.sqrt(v_a + v_b)), "relative": (lift, error)}
    for kind, (middle, spread) in ours.items():
        for end, sign in enumerate((-1, 1)):
            yield (
                f"GrowthBook, {kind} {('low', 'high')[end]}",
                middle + sign * reach * spread,
                said[kind][end],
            )
    for end, published in enumerate((0.40098, 0.60675)):
        yield f"published relative {end}", lift + (-1, 1)[end] * reach * error, published


def _tea_tasting() -> Iterator[Check]:
    """Effects and errors of both libraries.

    They take an arm's own variance where we take that about the mean of both. The second arm of `y` is a copy of the
    first, half higher, so that the two differ by a known sum of squares; `other` is a sample of its own, of which only
    the effects can agree.
    """
    rng, n = np.random.default_rng(41), 4_000
    x, d = rng.normal(10, 3, n), rng.integers(1, 6, n).astype(np.float64)
    y = 2 + 0.7 * x + d + rng.normal(0, 2, n)
    other = np.concatenate([y, 1.05 * rng.permutation(y) + rng.normal(0, 1, n)])
    variant = np.repeat([0, 1], n)
    rows = {
        "variant": variant,
        "y": np.tile(y, 2) + 0.5 * variant,
        "x": np.tile(x, 2),
        "d": np.tile(d, 2),
        "other": other,
    }
    said = _peer("teatasting", "teatasting_figures.py", rows)
    twin = {**rows, "y": np.tile(y, 2)}
    plain, cuped = _score(rows), _score(rows, covariate=True)
    for name, score in (("mean", plain), ("cuped", cuped)):
        within = (
            2 * n * score.error**2 / (4 / (2 * n)) - n / 2 * 0.5**2
        )  # sum of squares about each arm's own mean
        yield f"{name}, effect", float(score.change), said[name]["effect"]
        yield f"{name}, error", math.sqrt(within / (2 * n - 2) * 2 / n), said[name]["error"]
    yield "ratio, effect", float(_score(rows, ratio=True).change), said["ratio"]["effect"]
    yield "other mean, effect", float(_score({**rows, "y": other}).change), said["other_mean"]["effect"]
    ratio = _score({**rows, "y": other}, ratio=True)
    yield "other ratio, effect", float(ratio.change), said["other_ratio"]["effect"]
    said = _peer("teatasting", "teatasting_figures.py", twin)
    error = float(_score(twin, ratio=True).error) * math.sqrt(n / (n - 1))
    yield "ratio of equal arms, error", error, said["ratio"]["error"]
    a, b = (Moments.counts(*rate) for rate in RATES)
    rates = Split({"": TwoSample(a, b)}).score()
    yield "score test of two proportions", float(rates.change / rates.error), said["z"]
    found = Split({"": TwoSample(a, b)}).evidence(Claim(lower_is_better=False))
    z = said["z"]  # the whole way: their z, our bound
    units = 4 * RATES[0][0] * RATES[1][0] / (RATES[0][0] + RATES[1][0])
    reach = critical_z(ALPHA, units * rho_squared(ALPHA, 10_000))
    yield "lower bound", found.low, float(rates.change) * (1 - reach / z)


def _score(rows: dict[str, Any], *, ratio: bool = False, covariate: bool = False) -> Any:
    first, second = (
        Moments.of(
            rows["y"][mine], rows["d"][mine] if ratio else None, rows["x"][mine] if covariate else None
        )
        for mine in (rows["variant"] == 0, rows["variant"] == 1)
    )
    return Split({"": TwoSample(first, second)}).score()


def _peer(name: str, program: str, rows: dict[str, Any] | None = None) -> Any:
    """What a program says in a peer's environment, given rows."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE) as folder:
        path = Path(folder, "rows.npz")
        np.savez(path, **(rows or {}))
        command = [str(python_of(name)), str(HERE / program), str(path)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])
