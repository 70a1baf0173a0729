"""How much comes and how long nothing may: full hours, clocks that change, and what is missing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from icekeel.core.frames import Ints
from icekeel.core.time import DAY, HOUR, MINUTE
from icekeel.monitoring import Bank, Seen, Series, learn_heartbeat, learn_rate, log_bar

START = 19_005 * DAY  # a Thursday
BAR = log_bar(50, 2)


def found_after(one: Series, at: Ints, start: int, minutes: int) -> int | None:
    """Minutes until a series alarms on what comes from a time on; None for never."""
    bank, seen = Bank([one], BAR), Seen.start([one], learnt=True)
    came = np.bincount((at - start) // MINUTE, minlength=minutes)
    for minute in range(minutes):
        seen = bank.look(
            seen, start + minute * MINUTE, np.ones(1), came[minute : minute + 1].astype(np.float64)
        )
        if bank.alarms(seen)[0]:
            return minute + 1
    return None


def on_full_hours(rng: np.random.Generator, start: int, days: int, shift: int = 0) -> Ints:
    """What comes in the first minute of each hour from 9 to 23 UTC, or so many hours later."""
    hours = start // HOUR + np.arange(days * 24)
    open_hours = hours[((hours - shift) % 24 >= 9)]
    at = np.repeat(open_hours * HOUR, rng.poisson(30, len(open_hours)))
    return np.sort(at + rng.integers(0, MINUTE, len(at)))


def test_arrivals_and_silence() -> None:
    rng = np.random.default_rng(5)
    busy = START + np.sort(rng.integers(0, 60 * DAY, 20_000))
    busy = busy[(busy // HOUR) % 24 >= 8]
    rate, beat = learn_rate("source", "T", busy, BAR), learn_heartbeat(busy, 0.1)
    assert rate.hours[0] == pytest.approx(-rate.expected)
    assert rate.tolerance < 0.35
    assert not rate.minutes
    assert beat.owed(START + 400 * DAY, START + 400 * DAY + 8 * HOUR) == pytest.approx(0)
    assert 8 < beat.limit < 16
    punctual = learn_heartbeat(START + np.arange(500) * HOUR, 0.1)
    assert punctual.limit == pytest.approx(
        np.log(365 * 24 / 0.1), rel=0.01
    )  # its longest pause says it sooner
    assert HOUR < punctual.longest <= 65 * MINUTE
    assert learn_heartbeat(START + np.arange(20) * HOUR, 0.1).blind
    assert learn_rate("source", "T", busy[:0], BAR).blind


@pytest.mark.parametrize("shift", [0, 1, -1])
def test_full_hours_and_clocks_that_change_are_quiet(shift: int) -> None:
    rng = np.random.default_rng(6)
    past = on_full_hours(rng, START, 70)
    one, beat = learn_rate("traffic", "m", past, BAR), learn_heartbeat(past, 0.1)
    assert one.minutes[0] > 50
    now = START + 70 * DAY
    live = on_full_hours(rng, now, 14, shift)
    assert found_after(one, live, now, 14 * 1440) is None
    pauses = zip(live[:-1].tolist(), live[1:].tolist(), strict=True)
    assert max(beat.missed(before, after) for before, after in pauses) < beat.limit


def test_of_full_hours_what_is_missing_or_too_much_is_found() -> None:
    rng = np.random.default_rng(7)
    one = learn_rate("traffic", "m", on_full_hours(rng, START, 70), BAR)
    now = START + 70 * DAY + 12 * HOUR
    assert found_after(one, np.zeros(0, np.int64), now, 12 * 60) in (1, 61)
    live = on_full_hours(rng, now, 1)
    half = found_after(one, live[::2], now, 11 * 60)
    assert half is not None and half <= 11 * 60
    assert found_after(one, np.repeat(live, 3), now, 11 * 60) == 1


def test_less_than_three_weeks_know_the_hours_of_the_day() -> None:
    rng = np.random.default_rng(8)
    at = START + np.arange(0, 8 * DAY, MINUTE)
    wave = 20 * (1 + 0.6 * np.sin(2 * np.pi * at / DAY))
    past = np.repeat(at, rng.poisson(wave))
    one = learn_rate("source", "T", past, BAR)
    assert np.ptp(one.hours) > 20
    assert found_after(one, past[past < START + 3 * DAY], START, 3 * 1440) is None


def test_growth_of_the_past_is_followed() -> None:
    rng = np.random.default_rng(9)
    at = START + np.arange(0, 300 * DAY, HOUR)
    past = np.repeat(at, rng.poisson(60 * np.exp((at - START) / (400 * DAY))))
    one = learn_rate("source", "T", past, BAR)
    assert not one.blind
    assert one.tolerance < 0.4


def storm(at: Ints, day: int, hours: int) -> Ints:
    """What comes without the first hours of a day."""
    return at[(at < START + day * DAY) | (at >= START + day * DAY + hours * HOUR)]


def test_a_storm_in_the_past_does_not_make_silence_ordinary() -> None:
    rng = np.random.default_rng(8)
    at = START + np.sort(rng.integers(0, 120 * DAY, 120 * 24 * 35))
    plain, bar = learn_rate("source", "T", at, BAR), learn_heartbeat(at, 0.1).limit
    stormy = storm(at, 40, 16)
    assert learn_heartbeat(stormy, 0.1).limit == pytest.approx(bar, rel=0.05)
    assert learn_rate("source", "T", stormy, BAR).tolerance == pytest.approx(plain.tolerance, rel=0.2)
    # A past that stops every third week is like that, and so is one too short to tell.
    often = storm(storm(storm(stormy, 20, 16), 60, 16), 80, 16)
    assert learn_heartbeat(often, 0.1).limit > 12 * 35
    assert learn_heartbeat(stormy[stormy < START + 50 * DAY], 0.1).limit > 12 * 35


@pytest.mark.parametrize("days", [(0,), (0, 3), (0, 2, 4)])
def test_a_source_that_rests_on_most_days_of_the_week_is_watched(days: Sequence[int]) -> None:
    rng = np.random.default_rng(9)
    opens = [START + day * DAY + 8 * HOUR for day in range(70) if day % 7 in days]
    at = np.sort(np.concatenate([one + rng.integers(0, 10 * HOUR, 400) for one in opens]))
    assert not learn_rate("source", "T", at, BAR).blind


def test_a_timetable_that_once_skipped_a_delivery_is_one() -> None:
    hourly = START + np.arange(150 * 24) * HOUR
    once = learn_heartbeat(np.delete(hourly, 1_000), 0.1)
    assert 4 * HOUR < once.longest < 5 * HOUR
    assert not learn_heartbeat(np.delete(hourly, [1_000, 1_001]), 0.1).longest
