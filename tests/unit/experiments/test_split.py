from __future__ import annotations

import json
import math

import numpy as np
import pytest

from icekeel.core.errors import IcekeelError
from icekeel.experiments import Claim, Moments, PairedDays, Split, TwoSample, critical_z, rho_squared

MORE_IS_BETTER = Claim(lower_is_better=False)


def counts(n_a: int, hits_a: int, n_b: int, hits_b: int) -> TwoSample:
    return TwoSample(Moments.counts(n_a, hits_a), Moments.counts(n_b, hits_b))


def test_binary_outcomes_have_the_pooled_variance() -> None:
    assert counts(100, 10, 300, 50).variance == pytest.approx(0.15 * 0.85)


def test_closed_form_of_an_even_split() -> None:
    found = Split({"": counts(1000, 100, 1000, 130)}).evidence(MORE_IS_BETTER)
    error = math.sqrt(0.115 * 0.885 * 2 / 1000)
    reach = critical_z(0.05, 2000 * rho_squared(0.05, 10_000)) * error
    assert [found.estimate, found.control] == pytest.approx([0.03, 0.1])
    assert [found.low, found.high] == pytest.approx([0.03 - reach, 0.03 + reach])
    assert (found.n_a, found.n_b) == (1000, 1000)


def test_e_values_cross_their_bar_where_the_bounds_cross_the_margin() -> None:
    for extra in range(0, 200, 5):
        split = Split({"": counts(2000, 400, 2000, 400 + extra)})
        for margin in (0.0, 0.1):
            found = split.evidence(Claim(lower_is_better=False, margin=margin))
            assert (found.e_better >= 20) == (found.low >= -margin * found.control)
            turned = split.evidence(Claim(lower_is_better=True, margin=margin))
            below = turned.high <= -margin * turned.control
            # A cost that is larger by the margin spreads more: its test asks for a little more than the bound.
            assert (turned.e_worse >= 20) == below if not margin else turned.e_worse < 20 or below


def test_the_fixed_horizon_limit_is_the_score_test() -> None:
    """One look, all of the mixture's weight known: z equals that of the textbook pooled test."""
    found = Split({"": counts(3000, 1396, 3461, 2422)}).evidence(MORE_IS_BETTER)
    p = (1396 + 2422) / 6461
    error = math.sqrt(p * (1 - p) * (1 / 3000 + 1 / 3461))
    assert (found.estimate - found.low) / error == pytest.approx(
        critical_z(0.05, 4 * 3000 * 3461 / 6461 * rho_squared(0.05, 10_000))
    )


def test_a_moving_base_rate_is_no_effect_when_phases_are_kept_apart() -> None:
    """5 % challenger at a base rate of 5 %, then 50 % at 2 %: pooled, the challenger looks far worse."""
    phases = {"1": counts(95_000, 4750, 5_000, 250), "2": counts(50_000, 1000, 50_000, 1000)}
    assert Split(phases).evidence(MORE_IS_BETTER).estimate == pytest.approx(0.0, abs=1e-15)
    pooled = Split({"": phases["1"] + phases["2"]}).evidence(MORE_IS_BETTER)
    assert pooled.e_worse > 1e6


def test_without_data_or_spread_nothing_is_claimed() -> None:
    empty = Split.of("1", np.ones(5), np.array([]))
    for split in (
        Split(),
        empty,
        Split.of("1", np.ones(5), np.ones(5)),
        Split.of("1", np.ones(1), np.ones(1)),
    ):
        found = split.evidence(MORE_IS_BETTER)
        assert (found.e_better, found.e_worse, found.low) == (1.0, 1.0, -math.inf)


def test_an_outcome_that_is_not_known_may_not_be_counted() -> None:
    with pytest.raises(IcekeelError) as caught:
        Moments.of(np.array([1.0, math.nan]))
    assert caught.value.code == "not_finite"
    with pytest.raises(IcekeelError):
        PairedDays.of(np.array([1]), np.array([1.0]), np.array([math.inf]))


def test_tallies_survive_json() -> None:
    split = Split.of("1", np.array([0.1, 0.7]), np.array([0.3]))
    assert Split.from_dict(json.loads(json.dumps(split.to_dict()))) == split
    paired = PairedDays.of(np.array([3, 3, 4]), np.array([0.1, 0.2, 0.3]), np.array([0.0, 0.2, 0.5]))
    assert PairedDays.from_dict(json.loads(json.dumps(paired.to_dict()))) == paired


@pytest.mark.parametrize(
    ("share", "rate"), [((0.5,), (0.03, 0.03)), ((0.1,), (0.03, 0.03)), ((0.05, 0.2, 0.5), (0.05, 0.02))]
)
def test_looking_often_does_not_raise_false_alarms(
    share: tuple[float, ...], rate: tuple[float, float]
) -> None:
    rng = np.random.default_rng(11)
    streams, looks = 100, 30
    alarms = np.zeros(2)
    for _ in range(streams):
        split, seen = Split(), np.zeros(2, dtype=bool)
        for look in range(looks):
            phase = look * len(share) // looks
            p = rate[0] + (rate[1] - rate[0]) * look / looks
            n_b = int(rng.binomial(1000, share[phase]))
            new = counts(1000 - n_b, int(rng.binomial(1000 - n_b, p)), n_b, int(rng.binomial(n_b, p)))
            split += Split({str(phase): new})
            found = split.evidence(MORE_IS_BETTER)
            seen |= np.array([found.e_better, found.e_worse]) >= 20
        alarms += seen
    assert (alarms <= 0.05 * streams + 2 * math.sqrt(0.05 * 0.95 * streams)).all()


def paired_days(rng: np.random.Generator, days: int, effect: float) -> list[tuple[int, float, float]]:
    """Days whose common shock is many times the noise of their rows."""
    rows = []
    for _ in range(days):
        n = int(rng.integers(200, 600))
        rows.append((n, n * (effect + rng.normal(0, 0.02)) + rng.normal(0, 0.3 * math.sqrt(n)), 0.4 * n))
    return rows


def test_paired_days_keep_their_error_rate_though_rows_of_a_day_move_together() -> None:
    rng = np.random.default_rng(12)
    claim = Claim()
    alarms = np.zeros(2)
    for _ in range(60):
        rows, seen = paired_days(rng, 40, 0.0), np.zeros(2, dtype=bool)
        for day in range(10, 41):
            found = PairedDays(dict(enumerate(rows[:day]))).evidence(claim)
            seen |= np.array([found.e_better, found.e_worse]) >= 20
        alarms += seen
    assert (alarms <= 7).all()


def test_paired_days_find_an_improvement() -> None:
    rng = np.random.default_rng(13)
    claim = Claim()
    for _ in range(10):
        found = PairedDays(dict(enumerate(paired_days(rng, 40, -0.025)))).evidence(claim)
        assert found.e_better >= 20
        assert 0 < found.low < found.estimate < found.high


def test_paired_days_wait_until_the_spread_between_days_is_known() -> None:
    rows = dict(enumerate(paired_days(np.random.default_rng(14), 9, -0.5)))
    found = PairedDays(rows).evidence(Claim())
    assert found.estimate > 0.4
    assert (found.e_better, found.low) == (1.0, -math.inf)


def test_paired_bounds_invert_the_self_normalised_statistic() -> None:
    days = PairedDays({day: (100, -2.0 + 3 * math.sin(day), 50.0) for day in range(30)})
    claim = Claim()
    found = days.evidence(claim)
    at_bound = days.evidence(Claim(margin=-found.low / found.control))
    assert at_bound.e_better == pytest.approx(20.0, rel=1e-6)
