from __future__ import annotations

import math
from dataclasses import astuple

import numpy as np
import pytest

from icekeel.core.errors import IcekeelError
from icekeel.experiments import Claim, Metric, Moments, PairedDays, Split, TwoSample, critical_z, rho_squared

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


STREAMS = 1_000


def crossings(split: Split, claim: Claim) -> list[float]:
    """Share of streams, rows of a tally of arrays, that are ever called better, and worse."""
    return [float((log_e >= math.log(20)).any(axis=1).mean()) for log_e in split.log_e(claim, split.score())]


@pytest.mark.parametrize(
    ("shares", "rate"), [((0.5,), (0.03, 0.03)), ((0.1,), (0.03, 0.03)), ((0.05, 0.2, 0.5), (0.05, 0.02))]
)
@pytest.mark.parametrize("binary", [True, False])
def test_looking_often_does_not_raise_false_alarms(
    shares: tuple[float, ...], rate: tuple[float, float], binary: bool
) -> None:
    rng, looks, phases = np.random.default_rng(11), 30, {}
    p = np.linspace(*rate, looks)
    for place, share in enumerate(shares):
        now = np.arange(looks) * len(shares) // looks == place
        n_b = rng.binomial(1000, share, (STREAMS, looks)) * now
        n_a = 1000 * now - n_b
        arms = [(n.cumsum(axis=1), rng.binomial(n, p).cumsum(axis=1)) for n in (n_a, n_b)]
        phases[str(place)] = TwoSample(Moments.counts(*arms[0]), Moments.counts(*arms[1]), share)
    found = crossings(Split(phases), Claim(lower_is_better=False, binary=binary))
    assert max(found) <= 0.05
    assert min(found) > 0  # the simulation reaches the bounds at all


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


def test_days_that_resemble_their_neighbours_count_for_less() -> None:
    rng = np.random.default_rng(15)
    weeks = np.repeat(rng.normal(-0.02, 0.02, 8), 7)
    days = {day: (100, 100 * float(change), 40.0) for day, change in enumerate(weeks)}
    mixed = dict(zip(rng.permutation(56).tolist(), days.values(), strict=True))
    regular, shuffled = PairedDays(days).evidence(Claim()), PairedDays(mixed).evidence(Claim())
    assert regular.estimate == pytest.approx(shuffled.estimate)
    assert regular.high - regular.low > 1.5 * (shuffled.high - shuffled.low)
    assert PairedDays(dict(reversed(days.items()))).evidence(Claim()) == regular  # by date, not as they came


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


def rows(n: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Arm, covariate, number of answers and sum of units."""
    rng = np.random.default_rng(seed)
    arm, x, d = rng.random(n) < 0.4, rng.normal(5, 2, n), rng.integers(1, 8, n).astype(np.float64)
    return arm, x, d, 3 * d + 0.8 * x + rng.normal(0, 1, n) + 0.3 * arm


def two(arm: np.ndarray, y: np.ndarray, d: np.ndarray | None = None, x: np.ndarray | None = None) -> Split:
    a, b = (
        Moments.of(y[mine], None if d is None else d[mine], None if x is None else x[mine])
        for mine in (~arm, arm)
    )
    return Split({"": TwoSample(a, b, 0.4)})


def test_cuped_is_the_regression_on_arm_and_covariate() -> None:
    arm, x, _, y = rows(4_000, 21)
    score = two(arm, y, x=x).score()
    design = np.column_stack([np.ones(len(y)), arm, x])
    assert score.change == pytest.approx(np.linalg.lstsq(design, y, rcond=None)[0][1])
    plain = two(arm, y).score()
    kept = 1 - np.corrcoef(x, y)[0, 1] ** 2
    assert (score.error / plain.error) ** 2 == pytest.approx(kept, rel=1e-3)


def test_an_unknown_covariate_is_no_reason_to_drop_a_unit() -> None:
    arm, x, _, y = rows(500, 22)
    x[:100] = math.nan
    assert two(arm, y, x=x).evidence(MORE_IS_BETTER).n_a == int((~arm).sum())
    nothing = two(arm, y, x=np.full(500, math.nan)).score()
    assert nothing.error == pytest.approx(two(arm, y).score().error)


def test_a_ratio_counts_units_and_not_answers() -> None:
    """Delta method against resampling of units: answers of one unit move together."""
    arm, _, d, y = rows(3_000, 23)
    score = two(arm, y, d).score()
    assert score.change == pytest.approx(y[arm].sum() / d[arm].sum() - y[~arm].sum() / d[~arm].sum())
    rng = np.random.default_rng(24)
    again = []
    for _ in range(400):
        take = rng.integers(0, len(y), len(y))
        one, two_, three = arm[take], y[take], d[take]
        again.append(two_[one].sum() / three[one].sum() - two_[~one].sum() / three[~one].sum())
    assert score.error == pytest.approx(np.std(again), rel=0.12)


def test_skewness_of_the_statistic_is_that_of_its_sum() -> None:
    """Closed form: of n Bernoulli outcomes in a small arm, about `1 / sqrt(n p)`."""
    split = Split({"": counts(1_000_000, 1_000, 1_000, 1)})
    assert split.score().skew == pytest.approx(1.0, rel=0.01)
    assert Split({"": counts(5_000, 7, 5_000, 3)}).score().skew == 0.0


def test_a_rare_event_on_a_canary_raises_no_alarm_by_the_normal_bound() -> None:
    few = Split({"": counts(19_000, 19, 1_000, 4)})
    assert few.evidence(Claim()).e_worse == 1.0
    even = Split({"": counts(10_000, 0, 10_000, 30)})
    assert even.evidence(Claim()).e_worse > 20


def test_an_exact_test_joins_where_outcomes_are_0_or_1() -> None:
    both = Moments.counts(900, 90), Moments.counts(100, 30)
    claim = Claim(binary=True)
    plain = Split({"": TwoSample(*both)}).evidence(claim).e_worse
    joined = Split({"": TwoSample(*both, 0.1)}).evidence(claim)
    bets = sum((1 - f / 20) ** 90 * (1 + 9 * f / 20) ** 30 for f in range(1, 11)) / 10
    assert joined.e_worse == pytest.approx(0.8 * plain + 0.2 * bets)


def running(value: np.ndarray, weight: np.ndarray | None, covariate: np.ndarray | None) -> Moments:
    """Sums over the units of `(streams, looks, units)` up to each look."""
    return Moments(*(part.cumsum(axis=1) for part in astuple(Moments.of(value, weight, covariate))))


@pytest.mark.parametrize("kind", ["ratio", "capped", "cuped", "quantile"])
def test_every_kind_of_metric_keeps_its_error_rate(kind: str) -> None:
    """A/A on a canary of 20 %; the answers of a unit depend on each other and are skewed."""
    rng, arms = np.random.default_rng(25), []
    for units in (160, 40):
        shape = (STREAMS, 15, units)
        level, d = rng.normal(0, 1, shape), rng.integers(1, 6, shape).astype(np.float64)
        y = d * np.exp(level / 2) + rng.exponential(1, shape)
        if kind == "quantile":
            y = np.floor(d * rng.random(shape) * (level > 1))
        if kind == "capped":
            y = Metric("usd", "capped", cap=8.0).of_units(y)
        arms.append(
            running(y, d if kind in ("ratio", "quantile") else None, level if kind == "cuped" else None)
        )
    found = crossings(Split({"": TwoSample(arms[0], arms[1])}), Claim())
    assert max(found) <= 0.05
    assert max(found) > 0
