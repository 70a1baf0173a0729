from __future__ import annotations

from collections import Counter

import pytest
from scipy.special import chdtrc  # type: ignore[import-untyped]

from icekeel.core.errors import ProjectError
from icekeel.experiments import Arm, Arms

HALVES = (Arm("late-1", 0.5), Arm("late-2", 0.5))
UNITS = [str(number) for number in range(20_000)]


def test_growing_coverage_moves_nobody() -> None:
    before = None
    for coverage in (0.01, 0.1, 0.5, 1.0):
        arms = Arms("test", HALVES, coverage)
        inside = {unit: found.arm for unit in UNITS if (found := arms.assign(unit)).exposed}
        assert abs(len(inside) / len(UNITS) - coverage) < 0.02
        if before is not None:
            assert {unit: inside[unit] for unit in before} == before
        before = inside


def test_shares_hold_and_exposure_and_arm_are_independent() -> None:
    arms = Arms("test", (Arm("a", 0.2), Arm("b", 0.3), Arm("c", 0.5)), 0.6)
    found = [arms.assign(unit) for unit in UNITS]
    counts = Counter(one.arm for one in found if one.exposed)
    total = sum(counts.values())
    chi2 = sum((counts[arm.name] - total * arm.share) ** 2 / (total * arm.share) for arm in arms.arms)
    assert chdtrc(2, chi2) > 1e-3
    assert {one.arm: one.probability for one in found if one.exposed} == {"a": 0.2, "b": 0.3, "c": 0.5}
    assert {(one.arm, one.probability) for one in found if not one.exposed} == {("a", 1.0)}


def test_another_salt_draws_anew() -> None:
    first, second = Arms("one", HALVES), Arms("two", HALVES)
    same = sum(first.assign(unit).arm == second.assign(unit).arm for unit in UNITS)
    assert abs(same / len(UNITS) - 0.5) < 0.02


def test_an_arm_without_a_share_answers_nobody() -> None:
    arms = Arms("test", (Arm("a", 1.0), Arm("b", 0.0)))
    assert {arms.assign(unit).arm for unit in UNITS[:1000]} == {"a"}


def test_thirds_leave_no_gap() -> None:
    arms = Arms("test", tuple(Arm(name, 1 / 3) for name in "abc"))
    assert arms.assign("anybody").arm in "abc"
    assert Counter(arms.assign(unit).arm for unit in UNITS)["c"] > 6_000


def test_every_fault_is_named_at_once() -> None:
    with pytest.raises(ProjectError) as caught:
        Arms("test", (Arm("a", 0.5), Arm("a", 0.6)), 1.5)
    assert [fault.code for fault in caught.value.faults] == ["bad_arms", "bad_shares", "bad_coverage"]


def test_a_ramp_adds_units_and_moves_nobody() -> None:
    steps = [Arms.ramp("price-2/1", ("a", "b"), share) for share in (0.01, 0.1, 0.5)]
    units = [f"u{number}" for number in range(20_000)]
    for share, before, after in zip((0.01, 0.1), steps, steps[1:], strict=False):
        inside = [unit for unit in units if before.assign(unit).exposed]
        assert abs(len(inside) / len(units) - 2 * share) < 0.01
        assert all(before.assign(unit) == after.assign(unit) for unit in inside)
    single = Arms.ramp("price-2/1", ("a", "b"), 0.2, even=False)
    assert {single.assign(unit).probability for unit in units} == {0.2, 0.8}


def test_experiments_of_one_layer_have_no_unit_in_common_and_layers_are_independent() -> None:
    units = [f"u{number}" for number in range(20_000)]
    one = Arms.ramp("price-2/1", ("a", "b"), 0.5, "shop", (0.0, 0.5))
    other = Arms.ramp("fee-2/1", ("a", "b"), 0.5, "shop", (0.5, 1.0))
    elsewhere = Arms.ramp("text-2/1", ("a", "b"), 0.5, "texts", (0.0, 0.5))
    seen = [{unit for unit in units if arms.assign(unit).exposed} for arms in (one, other, elsewhere)]
    assert seen[0] | seen[1] == set(units)
    assert not seen[0] & seen[1]
    assert abs(len(seen[0] & seen[2]) / len(units) - 0.25) < 0.015


def test_a_part_of_a_layer_that_is_none_is_refused() -> None:
    with pytest.raises(ProjectError) as error:
        Arms.ramp("x", ("a", "b"), 0.5, "shop", (0.5, 0.5))
    assert [fault.code for fault in error.value.faults] == ["bad_part"]
