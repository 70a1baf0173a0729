from __future__ import annotations

import numpy as np
import pytest

from icekeel.core.time import DAY
from icekeel.training import (
    Gate,
    GroupTable,
    Linear,
    better_than_simplest,
    build_golden,
    calibration,
    climb,
    latency,
    no_worse_than,
    parity,
    size,
)
from icekeel.training.gates import groups_no_worse, guard_budget, requirement

from .cases import DELAY, LATE, training_set

DATA = training_set(LATE)


def test_better_than_the_simplest_rung() -> None:
    ladder, _ = climb(LATE, DATA, [GroupTable(), Linear()], tolerance=0, rng=np.random.default_rng(0))
    gate = better_than_simplest(ladder, "linear")
    assert gate.passed
    assert (gate.measured, gate.required) == (ladder.step("linear").error, ladder.step("group").error)
    assert better_than_simplest(ladder, "group").passed
    upside_down, _ = climb(LATE, DATA, [Linear(), GroupTable()], tolerance=0, rng=np.random.default_rng(0))
    failed = better_than_simplest(upside_down, "group")
    assert not failed.passed
    assert "of group against" in failed.why


def test_no_worse_than_the_champion_on_the_same_rows() -> None:
    truth = np.zeros(10)
    for error, passed in ((1.0, True), (1.2, True), (1.3, False)):
        gate = no_worse_than(DELAY, truth, truth + error, truth + 1.0, margin=0.25)
        assert gate.passed is passed
        assert gate.required == 1.25
    assert gate.why == "mae 1.3 against the champion's 1 on the same 10 rows, margin 0.25"


def test_parity_holds_the_engine_against_the_training_library() -> None:
    fitted = Linear().fit(LATE, DATA)
    other = Linear(penalty=50.0).fit(LATE, DATA)
    golden = build_golden(fitted, DATA.frame)
    assert parity(fitted.engine, golden).passed
    failed = parity(other.engine, golden)
    assert not failed.passed
    assert failed.measured == 5
    assert "prediction differs" in failed.why


def test_latency_and_size_are_measured_against_their_limits() -> None:
    fitted = GroupTable().fit(LATE, DATA)
    ticks = iter(range(10_000))
    gate = latency(fitted.engine, DATA.frame, limit_us=2e5 - 1, stopwatch=lambda: float(next(ticks)))
    assert not gate.passed
    assert gate.measured == pytest.approx(2e5)
    assert size(fitted.files, limit_bytes=fitted.size_bytes).passed
    assert not size(fitted.files, limit_bytes=fitted.size_bytes - 1).passed


def test_calibration_finds_bias_and_overconfidence() -> None:
    rng = np.random.default_rng(6)
    p = rng.uniform(0.05, 0.95, 20_000)
    truth = (rng.random(20_000) < p).astype(float)
    honest = calibration(truth, p, limit=0.02)
    assert honest.passed
    biased = calibration(truth, p * 0.8, limit=0.02)
    assert not biased.passed
    assert biased.measured == pytest.approx(0.1, abs=0.01)
    overconfident = np.where(p > 0.5, 0.9, 0.1)
    assert not calibration(truth, overconfident, limit=0.02).passed


def test_a_requirement_holds_whatever_is_simplest() -> None:
    truth = np.zeros(10)
    assert requirement(DELAY, truth, truth + 1.0, at_most=1.0).passed
    failed = requirement(DELAY, truth, truth + 1.1, at_most=1.0)
    assert (failed.passed, failed.required) == (False, 1.0)
    assert failed.measured == pytest.approx(1.1)


def test_the_guard_keeps_its_budget() -> None:
    assert guard_budget(0.01, 0.01, 500).passed
    assert not guard_budget(0.011, 0.01, 500).passed


def groups(worse: float, seed: int = 0) -> Gate:
    """Of four groups on twenty days, the last one's errors are higher than the champion's by a share."""
    rng = np.random.default_rng(seed)
    route = rng.choice(np.array(["a", "b", "c", "d", None], dtype=object), 8_000)
    asked_at = np.sort(rng.integers(0, 20 * DAY, 8_000))
    champion = np.abs(rng.normal(size=8_000))
    candidate = champion * (1 + worse * (route == "d")) * (1 + 0.1 * rng.uniform(-1, 1, 8_000))
    return groups_no_worse(DELAY, candidate, champion, asked_at, {"route": route}, margin=0.1)


def test_few_days_are_little_evidence_against_a_group() -> None:
    rng, blocked = np.random.default_rng(3), 0
    day = np.repeat(np.arange(5), 60)
    for _ in range(300):
        champion = np.ones(300)
        candidate = 1.1 + 0.2 * rng.normal(size=5)[day]  # worse by just the margin, each day another way
        gate = groups_no_worse(
            DELAY, candidate, champion, day * DAY, {"x": np.array(["a"] * 300)}, margin=0.1
        )
        blocked += not gate.passed
    assert blocked <= 27  # 15 expected; twice as many by a normal bound


def test_no_group_may_come_off_much_worse_than_with_the_champion() -> None:
    bad = groups(0.3)
    assert not bad.passed
    assert 0.2 < bad.measured < 0.3 and "route=d comes off worst" in bad.why
    assert groups(0.0).passed
    surely = [groups(0.1, seed).passed for seed in range(40)]  # worse by just the margin
    assert sum(surely) >= 38
    few, errors = np.arange(10), np.arange(10.0)
    nobody = groups_no_worse(DELAY, errors + 1, errors, few * DAY, {"x": np.array(["a"] * 10)}, margin=0.1)
    assert nobody.passed and nobody.why == "no group is large enough to tell"
