from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import pytest
from msgspec.structs import replace

from icekeel.core.frames import Floats
from icekeel.core.time import DAY, HOUR, MINUTE
from icekeel.monitoring import Bank, Seen, Series, State, log_bar
from icekeel.monitoring.detectors import LEARN_ROWS, Kind, bets, log_moments

START = 19_000 * DAY


def series(kind: Kind = "mean", *, expected: float = 0.5, tolerance: float = 0.0) -> Series:
    """A mean is of scores that are uniform in [0, 1]."""
    spread = {
        "mean": math.sqrt(1 / 12),
        "share": math.sqrt(abs(expected * (1 - expected))),
        "rate": math.sqrt(expected),
    }[kind]
    scores = (np.arange(1000) + 0.5) / 1000
    logs = tuple(log_moments(scores, np.ones(1000, np.int64), spread).tolist()) if kind == "mean" else ()
    return Series("feature", "x", "level", kind, expected, spread, tolerance, logs=logs)


def first_alarms(
    one: Series, sums: Floats, rows: float, bar: float, *, minutes: int = 1
) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Look of the first alarm of each stream, 0 for none; `sums` of shape `(looks, streams)`."""
    streams = sums.shape[1]
    bank = Bank([one] * streams, bar)
    seen, first = Seen.start(bank.series, learnt=True), np.zeros(streams, dtype=np.int64)
    for look, total in enumerate(sums):
        seen = bank.look(seen, START + look % 1000 * minutes * MINUTE, np.full(streams, rows), total)
        first[bank.alarms(seen) & (first == 0)] = look + 1
    return first


def test_a_step_of_each_kind_by_hand() -> None:
    share = series("share", expected=0.2, tolerance=0.05)
    bank = Bank([share], 10)
    seen = bank.look(Seen.start([share], learnt=True), START, np.array([10.0]), np.array([4.0]))
    odds = math.exp(bets("share", 0.4)[1])
    assert seen.log_m[0, 1] == pytest.approx(4 * math.log(odds) - 10 * math.log(1 + 0.25 * (odds - 1)))
    assert seen.log_m[0, 6] == pytest.approx(-4 * math.log(odds) - 10 * math.log(1 + 0.15 * (1 / odds - 1)))
    rate = series("rate", expected=3.0, tolerance=0.1)
    bank = Bank([rate], 10)
    seen = bank.look(Seen.start([rate], learnt=True), START, np.array([2.0]), np.array([9.0]))
    factor = math.exp(bets("rate", 1)[2])
    assert seen.log_m[0, 2] == pytest.approx(9 * math.log(factor) - 2 * 3.3 * (factor - 1))


def test_an_e_value_is_one_on_average_whatever_the_rows() -> None:
    """Closed form for scores in four cells, a skewed shape: the mean of each bet's factor over the cells is 1."""
    scores, counts = np.array([0.1, 0.2, 0.6, 1.0]), np.array([70, 20, 9, 1])
    mean = float(scores @ counts / 100)
    spread = math.sqrt(float(np.square(scores) @ counts / 100) - mean**2)
    one = Series(
        "field",
        "x",
        "level",
        "mean",
        mean,
        spread,
        0.0,
        logs=tuple(log_moments(scores, counts, spread).tolist()),
    )
    bank = Bank([one] * 4, 10)
    seen = bank.look(Seen.start(bank.series, learnt=True), START, np.ones(4), scores)
    assert np.exp(seen.log_m).T @ counts / 100 == pytest.approx(np.ones(10))


@pytest.mark.parametrize("kind", ["mean", "share", "rate"])
def test_mean_time_to_a_false_alarm_is_at_least_the_threshold(kind: Kind) -> None:
    rng, threshold = np.random.default_rng(1), 300.0
    draws: dict[str, Floats] = {
        "mean": rng.uniform(size=(1500, 200)),
        "share": np.asarray(rng.uniform(size=(1500, 200)) < 0.02, dtype=np.float64),
        "rate": np.asarray(rng.poisson(0.7, size=(1500, 200)), dtype=np.float64),
    }
    expected = {"mean": 0.5, "share": 0.02, "rate": 0.7}[kind]
    first = first_alarms(series(kind, expected=expected), draws[kind], 1.0, math.log(threshold))
    assert np.where(first == 0, 1500, first).mean() > threshold


def test_a_fleet_is_quiet_for_a_day_and_finds_changes_in_minutes() -> None:
    """A hundred series share two false alarms a year; normal values by rank, 20 a minute."""
    rng, bar = np.random.default_rng(2), log_bar(100, 2)
    one = series(tolerance=0.05 * math.sqrt(1 / 12))
    grid = np.linspace(-6, 6, 4001)
    table = np.array([NormalDist().cdf(float(x)) for x in grid])

    def sums(looks: int, streams: int, shift: float) -> Floats:
        values = rng.normal(size=(looks, streams, 20)) + shift
        return np.asarray(np.interp(values, grid, table).sum(axis=2))

    assert (first_alarms(one, sums(1440, 50, 0.0), 20, bar) == 0).all()
    for shift, sooner in ((0.25, 70), (0.5, 13), (-0.5, 13)):
        found = first_alarms(one, sums(200, 50, shift), 20, bar)
        assert (found > 0).all()
        assert np.median(found) <= sooner


def test_evidence_is_bounded_after_a_change_and_goes_down_when_it_ends() -> None:
    one = series(tolerance=0.01)
    bank = Bank([one], 10)
    seen = Seen.start([one], learnt=True)
    for look in range(3000):
        seen = bank.look(seen, START + look * MINUTE, np.array([20.0]), np.array([18.0]))
    assert 10 < bank.evidence(seen)[0] < 17
    assert bank.since(seen, 0) == (START + MINUTE, True)
    looks = 0
    while bank.alarms(seen)[0]:
        seen = bank.look(seen, START + (3000 + looks) * MINUTE, np.array([20.0]), np.array([10.0]))
        looks += 1
    assert 1 < looks < 400


def test_a_window_without_a_row_changes_nothing() -> None:
    one = series()
    bank = Bank([one], 10)
    seen = bank.look(Seen.start([one], learnt=True), START, np.array([5.0]), np.array([3.0]))
    after = bank.look(seen, START + MINUTE, np.array([0.0]), np.array([0.0]))
    assert (after.log_m == seen.log_m).all()


def test_the_level_follows_slow_seasons_and_does_not_follow_an_alarm() -> None:
    one = series(tolerance=0.02)
    bank = Bank([one], log_bar(100, 2))
    seen = Seen.start([one], learnt=True)
    for hour in range(24 * 200):  # by 0.2 in 200 days
        at = START + hour * HOUR
        seen = bank.look(seen, at, np.array([50.0]), np.array([50 * (0.5 + 0.001 * hour / 24)]))
        assert not bank.alarms(seen)[0]
    assert seen.level[0] == pytest.approx(0.2, abs=0.02)
    level = float(seen.level[0])
    for hour in range(24 * 200, 24 * 205):
        seen = bank.look(seen, START + hour * HOUR, np.array([50.0]), np.array([50 * 0.95]))
    assert bank.alarms(seen)[0]
    assert seen.level[0] == pytest.approx(level, abs=0.005)


def test_a_rate_is_learnt_before_it_is_watched() -> None:
    """A history may be a sample: 20 a minute where it had 0.5 is no alarm, 40 a minute is one then."""
    one = series("rate", expected=0.5, tolerance=0.1)
    bank = Bank([one], 15)
    seen = Seen.start([one], learnt=False)
    for look in range(300):
        seen = bank.look(seen, START + look * MINUTE, np.array([1.0]), np.array([20.0]))
        assert not bank.alarms(seen)[0]
    assert seen.level[0] == pytest.approx(40)
    assert look * 20 > LEARN_ROWS
    for look in range(300, 304):
        seen = bank.look(seen, START + look * MINUTE, np.array([1.0]), np.array([40.0]))
    assert bank.alarms(seen)[0]


def test_hours_of_the_week_are_expected() -> None:
    hours = tuple(0.3 if hour % 24 == 12 else 0.0 for hour in range(168))
    one = series(tolerance=0.02)
    bank = Bank(
        [Series(**{name: getattr(one, name) for name in one.__struct_fields__} | {"hours": hours})], 12
    )
    seen = Seen.start(bank.series, learnt=True)
    for hour in range(24 * 14):
        score = 0.8 if hour % 24 == 12 else 0.5
        seen = bank.look(seen, START + hour * HOUR, np.array([50.0]), np.array([50 * score]))
        assert not bank.alarms(seen)[0]


def test_what_cannot_fall_any_further_gathers_no_evidence() -> None:
    one = series("share", expected=0.001, tolerance=0.002)
    bank = Bank([one], 10)
    seen = Seen.start([one], learnt=True)
    for look in range(5000):
        seen = bank.look(seen, START + look * MINUTE, np.array([20.0]), np.array([0.0]))
    assert bank.evidence(seen)[0] < 3


def test_what_was_seen_survives_as_bytes() -> None:
    one = series("rate", expected=2.0)
    bank = Bank([one, series()], 10)
    seen = bank.look(Seen.start(bank.series, learnt=False), START, np.array([1.0, 5.0]), np.array([3.0, 4.0]))
    state: State = seen.state()
    again = Seen.of(state)
    for name in ("log_m", "since", "level", "rows", "sums", "looks"):
        assert np.array_equal(getattr(again, name), getattr(seen, name), equal_nan=True)
    assert again.day == seen.day


def test_less_of_a_fault_is_no_news() -> None:
    both = Series("source", "T.repeated", "level", "share", 0.1, 0.3, 0.01)
    up = replace(both, only_up=True)
    bank = Bank([both, up], log_bar(2, 1.0))
    seen = Seen.start(bank.series, learnt=True)
    for minute in range(2_000):  # none, where a tenth is usual
        seen = bank.look(seen, START + minute * MINUTE, np.full(2, 20.0), np.zeros(2))
    assert bank.alarms(seen).tolist() == [True, False]
