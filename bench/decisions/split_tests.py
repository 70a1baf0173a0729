"""Error rates and speed of split tests, by simulation of the functions with which a rollout is decided.

Many tests at once: a tally's sums are arrays of shape `(tests, looks)`, cumulative over looks.
"""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Sequence

import numpy as np
from scipy.stats import beta

from bench.report import Result
from icekeel.core.frames import Array, Bools, Floats, Ints
from icekeel.experiments import Metric, Moments, RolloutPlan, Split, TwoSample, naive

RATE, EVERY, USERS, TESTS = 0.03, 100, 50_000, 4_000
CONVERSION = Metric("conversion", "conversion", lower_is_better=False)
Phases = Sequence[tuple[float, int]]
"""Share of the challenger, and looks while it stands."""


def false_rollbacks() -> Result:
    """A/A tests that are rolled back: evenly split, on a canary, on a ramp under a falling base rate, guardrails."""
    looks = USERS // EVERY
    ramp = ((0.05, looks // 3), (0.2, looks // 3), (0.5, looks - 2 * (looks // 3)))
    falling = np.linspace(0.05, 0.02, looks)
    rails = RolloutPlan(CONVERSION, tuple(Metric(f"rail {n}", "conversion") for n in range(10)))
    plan = RolloutPlan(CONVERSION)
    found: Result = {"tests": TESTS}
    found |= rate_of("fifty", _stopped(plan, ((0.5, looks),), RATE, RATE, seed=1))
    found |= rate_of("canary", _stopped(plan, ((0.1, looks),), RATE, RATE, seed=2))
    found |= rate_of("ramp", _stopped(plan, ramp, falling, falling, seed=3))
    found |= rate_of("guardrails", _stopped(rails, ((0.5, looks),), RATE, RATE, seed=4, tests=2_000))
    rare = RolloutPlan(
        Metric("errors", "conversion")
    )  # 50 expected errors in all: where a normal bound is wrong
    found |= rate_of("rare_errors_canary5", _stopped(rare, ((0.05, looks),), 0.001, 0.001, seed=5))
    return found


def false_promotions() -> Result:
    """Challengers worse by exactly what is tolerated, and equal ones of which more is asked, that are promoted."""
    looks = ((0.5, USERS // EVERY),)
    cases = {
        "conversion": (Metric("conversion", "conversion", lower_is_better=False, margin=0.05), RATE * 0.95),
        "errors": (Metric("errors", "conversion", margin=0.1), RATE * 1.1),
        "equal": (CONVERSION, RATE),
    }
    found: Result = {"tests": TESTS}
    for seed, (name, (metric, rate)) in enumerate(cases.items(), 10):
        plan = RolloutPlan(metric)
        chance = _crossed(plan, metric, looks, RATE, rate, seed=seed)[0] >= math.log(1 / plan.alpha)
        found |= rate_of(name, chance)
    return found | {"share": max(found[name] for name in cases)}


def stops() -> Result:
    """How soon harm stops a challenger, and an improvement is found, in users of both arms."""
    plan = RolloutPlan(CONVERSION)
    found: Result = {"tests": TESTS}
    for name, rate, users in (("minus50", 0.5 * RATE, 50_000), ("minus20", 0.8 * RATE, 150_000)):
        hit = _stopped(plan, ((0.5, users // EVERY),), RATE, rate, seed=20, tests=2_000)
        at = np.where(hit.any(axis=1), hit.argmax(axis=1) + 1, hit.shape[1]) * EVERY
        found |= {
            name: float(at.mean()),
            f"{name}_p90": float(np.quantile(at, 0.9)),
            f"{name}_found": _mean(hit),
        }
    hit = _stopped(plan, ((0.1, 500),), RATE, 0.5 * RATE, seed=21, tests=2_000)
    found["minus50_canary10"] = float((np.where(hit.any(axis=1), hit.argmax(axis=1) + 1, 500) * EVERY).mean())
    better = _crossed(plan, CONVERSION, ((0.5, 500),), RATE, 1.1 * RATE, seed=22, every=500, tests=2_000)[0]
    return found | rate_of("plus10", better >= math.log(1 / plan.alpha))


def naive_rules() -> Result:
    """What is done without statistics, on the A/A data of `false_rollbacks`, and without a salted hash."""
    hits = []
    for chunk in range(TESTS // 500):  # the tests of `false_rollbacks`, evenly split
        ((share, a, b),) = _counts(
            ((0.5, USERS // EVERY),), RATE, RATE, seed=1000 + chunk, every=EVERY, tests=500
        )
        hits.append(naive(Split({"": TwoSample(a, b, share)}).score(), CONVERSION.claim()))
    below, significant = (np.concatenate(rule) for rule in zip(*hits, strict=True))
    found: Result = {"tests": TESTS} | rate_of("false_alarms", below) | rate_of("peeked_z", significant)
    program = "print(''.join('01'[hash('user%d' % n) % 100 < 10] for n in range(100_000)))"
    arms = [
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": str(seed)},
            stdout=subprocess.PIPE,
            check=True,
        ).stdout
        for seed in (1, 2)
    ]
    moved = sum(one != two for one, two in zip(*arms, strict=True)) / 100_000
    return found | {"moved_at_restart": moved}


def revenue() -> Result:
    """A/A tests of lognormal revenue, sigma 2, rolled back: capped at the past's 99 % quantile, and not."""
    rng = np.random.default_rng(30)
    cap = float(np.quantile(rng.lognormal(0, 2, 100_000), 0.99))
    capped = Metric("revenue", "capped", lower_is_better=False, cap=cap)
    plain = Metric("revenue", lower_is_better=False)
    found: Result = {"tests": 2_000, "cap": cap}
    found |= rate_of("false_rollbacks", _revenue(capped, 0.1, 1.0, seed=31))
    found |= rate_of("fifty", _revenue(capped, 0.5, 1.0, seed=32))
    found |= rate_of("uncapped_canary", _revenue(plain, 0.1, 1.0, seed=33))
    found |= rate_of("uncapped_fifty", _revenue(plain, 0.5, 1.0, seed=34))
    return found | rate_of("minus30_found_canary", _revenue(capped, 0.1, 0.7, seed=35, tests=500))


def _revenue(metric: Metric, share: float, factor: float, *, seed: int, tests: int = 2_000) -> Bools:
    """Looks at which a challenger is stopped whose revenue is `factor` times the champion's."""
    rng, plan, looks = np.random.default_rng(seed), RolloutPlan(metric), USERS // EVERY
    hits = []
    for _ in range(tests // 100):
        in_b = rng.random((100, looks, EVERY)) < share
        value = metric.of_units(rng.lognormal(0, 2, in_b.shape) * np.where(in_b, factor, 1.0))
        sums = [
            [np.where(in_b == arm, value**k, 0.0).sum(axis=2).cumsum(axis=1) for k in range(4)]
            for arm in (0, 1)
        ]
        arms = [Moments(n, y, yy, yyy, n, n, n, y, yy, y) for n, y, yy, yyy in sums]
        split = Split({"": TwoSample(arms[0], arms[1], share)})
        hits.append(split.log_e(plan.claim(metric), split.score())[1] >= math.log(plan.harm_bar))
    return np.concatenate(hits)


def _stopped(
    plan: RolloutPlan,
    phases: Phases,
    rate_a: float | Floats,
    rate_b: float | Floats,
    *,
    seed: int,
    tests: int = TESTS,
) -> Bools:
    """Looks `(tests, looks)` at which any of the plan's metrics stops the challenger."""
    hits = [
        _crossed(
            plan, metric, phases, rate_a, rate_b, seed=seed * 100 + place if place else seed, tests=tests
        )[1]
        >= math.log(plan.harm_bar)
        for place, metric in enumerate(plan.metrics)
    ]
    return np.asarray(np.any(hits, axis=0))


def _crossed(
    plan: RolloutPlan,
    metric: Metric,
    phases: Phases,
    rate_a: float | Floats,
    rate_b: float | Floats,
    *,
    seed: int,
    every: int = EVERY,
    tests: int = TESTS,
) -> tuple[Floats, Floats]:
    """Logs of the e-values of "better" and of "worse" at each look, `(tests, looks)`."""
    parts = []
    for chunk in range(tests // 500):
        counts = _counts(phases, rate_a, rate_b, seed=seed * 1000 + chunk, every=every, tests=500)
        split = Split({str(place): TwoSample(a, b, share) for place, (share, a, b) in enumerate(counts)})
        parts.append(split.log_e(plan.claim(metric), split.score()))
    better, worse = zip(*parts, strict=True)
    return np.concatenate(better), np.concatenate(worse)


def _counts(
    phases: Phases, rate_a: float | Floats, rate_b: float | Floats, *, seed: int, every: int, tests: int
) -> list[tuple[float, Moments, Moments]]:
    """Share and both arms' sums of each phase, as known at each look."""
    rng, looks = np.random.default_rng(seed), sum(count for _, count in phases)
    shares = np.repeat([share for share, _ in phases], [count for _, count in phases])
    n_b = rng.binomial(every, shares, (tests, looks))
    n_a = every - n_b
    y_a, y_b = rng.binomial(n_a, rate_a), rng.binomial(n_b, rate_b)
    found, start = [], 0
    for share, count in phases:
        now = np.zeros(looks)
        now[start : start + count] = 1.0
        a, b = ([_sums(column, now) for column in arm] for arm in ((n_a, y_a), (n_b, y_b)))
        found.append((share, Moments.counts(*a), Moments.counts(*b)))
        start += count
    return found


def _sums(column: Ints, now: Floats) -> Floats:
    return (column * now).cumsum(axis=1)


def rate_of(name: str, hit: Array) -> Result:
    """Share of tests that were hit at any look, with its exact 95 % interval (Clopper and Pearson 1934)."""
    tests, hits = len(hit), int(hit.any(axis=1).sum())
    low = float(beta.ppf(0.025, hits, tests - hits + 1)) if hits else 0.0
    high = float(beta.ppf(0.975, hits + 1, tests - hits)) if hits < tests else 1.0
    return {name: hits / tests, f"{name}_interval": [low, high]}


def _mean(hit: Array) -> float:
    return float(hit.any(axis=1).mean())
