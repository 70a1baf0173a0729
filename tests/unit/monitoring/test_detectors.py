from __future__ import annotations

import json
import math

import numpy as np
import pytest

from icekeel.core.frames import Array, Floats
from icekeel.core.time import DAY, HOUR, MINUTE, WEEK
from icekeel.monitoring import Detector, Standardiser, log_threshold
from icekeel.monitoring.detectors import advance, log_evidence, start


def first_alarms(streams: int, looks: int, *, shift: float, tolerance: float, bar: float, seed: int) -> Array:
    """Look of the first alarm of each stream, 0 for none."""
    rng = np.random.default_rng(seed)
    state, first = np.tile(start(), (streams, 1)), np.zeros(streams, dtype=np.int64)
    for look in range(1, looks + 1):
        state = advance(state, rng.normal(size=streams) + shift, tolerance)
        first[(log_evidence(state) >= bar) & (first == 0)] = look
    return first


def test_one_step_by_hand() -> None:
    log_m = advance(advance(start(), np.array(1.2), 0.2), np.array(0.7), 0.2)
    size = 0.5
    once = math.exp(size * 1.0 - size**2 / 2)
    assert math.exp(log_m[2]) == pytest.approx((once + 1) * math.exp(size * 0.5 - size**2 / 2))


def test_mean_time_to_a_false_alarm_is_at_least_the_threshold() -> None:
    threshold = 300.0
    first = first_alarms(200, 1500, shift=0.0, tolerance=0.0, bar=math.log(threshold), seed=1)
    assert np.where(first == 0, 1500, first).mean() > threshold


def test_a_fleet_is_quiet_for_a_day_and_finds_changes_in_minutes() -> None:
    """Of a thousand detectors, one look a minute, one false alarm a day in all: EVIDENCE's 62 and 9 minutes."""
    bar, tolerance, unit = log_threshold(365 * 1440, 1000, 365), 0.1 * math.sqrt(20), math.sqrt(20)
    quiet = first_alarms(400, 1440, shift=0.0, tolerance=tolerance, bar=bar, seed=2)
    assert (quiet == 0).all()
    for shift, sooner in ((0.25, 70), (0.5, 12), (-0.5, 12)):
        found = first_alarms(100, 200, shift=shift * unit, tolerance=tolerance, bar=bar, seed=3)
        assert (found > 0).all()
        assert np.median(found) <= sooner


def test_nothing_overflows_long_after_a_change() -> None:
    state = start()
    for _ in range(5000):
        state = advance(state, np.array(8.0), 0.1)
    assert 5000 < log_evidence(state) < math.inf


def test_a_missing_window_changes_nothing() -> None:
    state = advance(start(), np.array(1.0), 0.1)
    assert (advance(state, np.array(math.nan), 0.1) == state).all()


def weekly(at: Array) -> Floats:
    return np.asarray(10 + 3 * np.sin(2 * np.pi * at / DAY) + 2 * np.sin(2 * np.pi * at / WEEK))


def test_the_weekly_pattern_is_no_deviation() -> None:
    at = np.arange(0, 8 * WEEK, HOUR)
    value = weekly(at) + np.random.default_rng(4).normal(0, 0.5, len(at))
    standardiser = Standardiser.fit(at, value)
    later = np.arange(8 * WEEK, 12 * WEEK, HOUR)
    z = standardiser.standardise(later, weekly(later))
    assert np.abs(z).max() < 1.5
    assert 0.5 <= standardiser.scale < 0.75


def test_days_that_differ_as_a_whole_widen_the_scale() -> None:
    """Windows of one day share a shock of a fifth of their spread: long-run spread sqrt(1 + 1440 / 25)."""
    rng = np.random.default_rng(5)
    at = np.arange(0, 60 * DAY, MINUTE)
    value = rng.normal(size=len(at)) + np.repeat(rng.normal(0, 0.2, 60), 1440)
    assert Standardiser.fit(at, value).scale == pytest.approx(math.sqrt(1 + 1440 / 25), rel=0.25)


def test_a_past_that_never_varied_or_never_was() -> None:
    constant = Standardiser.fit(np.arange(0, WEEK, HOUR), np.full(168, 3.0))
    assert constant.standardise(np.array([0, HOUR, 0]), np.array([3.0, 3.1, 2.9])).tolist() == [
        0.0,
        8.0,
        -8.0,
    ]
    assert math.isnan(constant.standardise(np.array([0]), np.array([math.nan]))[0])
    assert Standardiser.fit(np.array([0]), np.array([math.nan])).scale == 0.0


def test_a_detector_alarms_says_which_way_and_starts_afresh() -> None:
    standardiser = Standardiser.fit(np.arange(0, 4 * WEEK, HOUR), np.random.default_rng(6).normal(size=672))
    fresh = detector = Detector(standardiser, bar=log_threshold(8760, 10, 4))
    for step in range(100):
        detector, look = detector.look(4 * WEEK + step * HOUR, -4.0)
        if look.alarm:
            break
    assert look.alarm
    assert look.direction == "below"
    assert 1 <= step <= 10
    assert detector == fresh


def test_a_detector_survives_json_in_the_middle() -> None:
    detector = Detector(Standardiser.fit(np.arange(0, WEEK, HOUR), np.arange(168.0)), bar=5.0)
    assert Detector.from_dict(json.loads(json.dumps(detector.to_dict()))) == detector
    detector, _ = detector.look(WEEK, 90.0)
    assert Detector.from_dict(json.loads(json.dumps(detector.to_dict()))) == detector
