from __future__ import annotations

import math

import numpy as np
import pytest

from icekeel.experiments import critical_z, log_bets, log_e_value, log_mismatch, rho_squared
from icekeel.experiments.sequential import MISMATCH


def test_the_normal_mixture_of_confseq() -> None:
    # confseq 0.0.11: best_rho(v=100, alpha=.05), normal_log_mixture(s=10, v=100), one-sided and two-sided.
    assert 100 / rho_squared(0.025, 1) == pytest.approx(12.60056, rel=1e-6)
    rho = 100 / rho_squared(0.05, 1)
    assert log_e_value(1.0, 100 / rho) == pytest.approx(-0.06502391, rel=1e-6)


def test_the_bound_of_confseq() -> None:
    # One-sided normal mixture bound at v = 100 for a mixture of 20: 27.66071.
    r = rho_squared(0.05, 100) * 100
    assert 10 * critical_z(1 / 20, r) == pytest.approx(27.66071, rel=1e-6)


def test_the_one_sided_value_is_the_half_normal_mixture() -> None:
    """Closed form against numerical integration of exp(l s - l^2 v / 2) over a half-normal l."""
    z, r = 1.7, 3.0
    step = 1e-4
    size = np.arange(step / 2, 12, step)
    prior = 2 * np.exp(-(size**2) / (2 * r)) / math.sqrt(2 * math.pi * r)
    mixture = float((prior * np.exp(size * z - size**2 / 2)).sum() * step)
    assert log_e_value(z, r) == pytest.approx(math.log(mixture), abs=1e-8)


def test_bounds_invert_the_e_value() -> None:
    for r in (1e-4, 0.1, 1.0, 50.0):
        assert log_e_value(critical_z(0.02, r), r) == pytest.approx(math.log(50), abs=1e-9)


def test_extremes_neither_overflow_nor_divide_by_zero() -> None:
    assert log_e_value(1e4, 10.0) > 1e6
    assert log_e_value(-1e4, 10.0) < -10
    assert log_e_value(-40.0, 1e9) == pytest.approx(log_e_value(-39.999, 1e9), abs=1e-2)
    assert log_e_value(math.nan, 1.0) == log_e_value(3.0, 0.0) == 0.0
    assert critical_z(0.05, 0.0) == math.inf


def test_betting_is_the_product_it_is_defined_as() -> None:
    """B has one of two events, A one at a share of 0.5 and one at 0.2: `X = 0.9 1{A} / (1 - pi) - 1{B} / pi`."""
    fractions = [0.05 * step for step in range(1, 11)]
    cells = [(0, 1, 0.5), (1, 0, 0.2)]
    by_hand = sum((1 - f) * (1 + f * 0.9 * 0.25) for f in fractions) / 10
    assert log_bets(cells, 0.9, more=False) == pytest.approx(math.log(by_hand))
    by_hand = sum((1 + f / 0.9) * (1 - f) for f in fractions) / 10
    assert log_bets(cells, 0.9, more=True) == pytest.approx(math.log(by_hand))


@pytest.mark.parametrize(("share", "kept", "more"), [(0.5, 1.0, True), (0.1, 0.9, False), (0.01, 2.0, True)])
def test_a_bet_wins_nothing_on_average(share: float, kept: float, more: bool) -> None:
    """Closed form: of one event, at rates in proportion `kept`, the expected e-value is 1."""
    in_b = kept * share / (kept * share + 1 - share)
    won, lost = (math.exp(log_bets([(1 - b, b, share)], kept, more=more)) for b in (1, 0))
    assert in_b * won + (1 - in_b) * lost == pytest.approx(1.0)


def test_betting_keeps_its_error_rate_on_a_canary_and_finds_harm() -> None:
    rng = np.random.default_rng(3)

    def alarms(rate_b: float, streams: int) -> float:
        in_b = rng.binomial(500, 0.1, (streams, 40))
        a = rng.binomial(500 - in_b, 0.05).cumsum(axis=1)
        b = rng.binomial(in_b, rate_b).cumsum(axis=1)
        return float((log_bets([(a, b, 0.1)], 1.0, more=False) >= math.log(20)).any(axis=1).mean())

    assert alarms(0.05, 2_000) <= 0.05
    assert alarms(0.01, 200) >= 0.9


def test_mismatch_is_the_ratio_of_sequence_probabilities() -> None:
    # Uniform prior, one unit in each of two arms: 1 / 6 against 1 / 4.
    assert log_mismatch([1, 1], [0.5, 0.5]) == pytest.approx(math.log(4 / 6))
    assert log_mismatch([0, 0], [0.5, 0.5]) == pytest.approx(0.0)
    assert log_mismatch([5, 1], [1.0, 0.0]) == math.inf
    assert log_mismatch([50_000, 52_500], [0.5, 0.5]) > MISMATCH > log_mismatch([50_000, 50_300], [0.5, 0.5])


def test_mismatch_rarely_cries_wolf() -> None:
    rng = np.random.default_rng(4)
    alarms = 0
    for _ in range(300):
        b = rng.binomial(200, 0.1, size=100).cumsum()
        totals = 200 * np.arange(1, 101)
        alarms += any(
            log_mismatch([int(n - k), int(k)], [0.9, 0.1]) >= math.log(20)
            for n, k in zip(totals, b, strict=True)
        )
    assert alarms <= 25
