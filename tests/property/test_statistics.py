"""Laws of the tallies, profiles and assignments: parts add up to the whole, growth moves nobody."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from icekeel.core.binning import distance
from icekeel.core.frames import Column, Frame, Kind
from icekeel.experiments import Arm, Arms, Claim, PairedDays, Split, critical_z, log_e_value
from icekeel.monitoring import Profiler

law = settings(max_examples=40, deadline=None, derandomize=True)
values = st.lists(st.floats(-100, 100).map(lambda x: round(x, 3)), min_size=2, max_size=40)


@law
@given(values, values, st.integers(0, 40), st.sampled_from(["1", "2"]))
def test_split_parts_merge_to_the_whole(a: list[float], b: list[float], cut: int, phase: str) -> None:
    x, y = np.array(a), np.array(b)
    parts = Split.of(phase, x[:cut], y[:cut]) + Split.of(phase, x[cut:], y[cut:])
    whole = Split.of(phase, x, y)
    assert parts.phases[phase].a.n == whole.phases[phase].a.n
    assert parts.phases[phase].b.yy == pytest.approx(whole.phases[phase].b.yy)
    found, expected = parts.evidence(Claim()), whole.evidence(Claim())
    assert found.estimate == pytest.approx(expected.estimate, abs=1e-9)


@law
@given(values, st.integers(0, 40), st.randoms(use_true_random=False))
def test_paired_parts_merge_to_the_whole_in_any_order(a: list[float], cut: int, random: object) -> None:
    x = np.array(a)
    day = np.arange(len(x)) % 7
    parts = PairedDays.of(day[cut:], x[cut:], -x[cut:]) + PairedDays.of(day[:cut], x[:cut], -x[:cut])
    whole = PairedDays.of(day, x, -x)
    assert set(parts.days) == set(whole.days)
    for name, row in whole.days.items():
        assert parts.days[name] == pytest.approx(row)


nullable = st.lists(st.one_of(st.none(), st.integers(-5, 5)), min_size=1, max_size=60)


@law
@given(nullable, st.integers(0, 60))
def test_profiles_of_parts_add_up(rows: list[int | None], cut: int) -> None:
    frame = Frame(
        {
            "n": np.array([math.nan if row is None else float(row) for row in rows]),
            "c": np.array([None if row is None else str(row) for row in rows], dtype=object),
        }
    )
    profiler = Profiler.fit([Column("n", Kind.NUM), Column("c", Kind.CAT)], frame)
    places = np.arange(len(rows))
    first, second = frame.take(places[:cut]), frame.take(places[cut:])
    whole = profiler.profile(frame)
    assert (profiler.profile(first) + profiler.profile(second)).to_dict() == whole.to_dict()
    assert whole.rows == len(rows)
    for name, binning in profiler.binnings.items():
        assert 0 <= distance(binning, whole.counts[name], profiler.profile(first).counts[name]) <= 1


@law
@given(st.text(max_size=20), st.floats(0, 1), st.floats(0, 1), st.floats(0.01, 0.99))
def test_growing_coverage_keeps_everybody_in_place(unit: str, one: float, two: float, share: float) -> None:
    arms = (Arm("a", 1 - share), Arm("b", share))
    small = Arms("salt", arms, min(one, two)).assign(unit)
    large = Arms("salt", arms, max(one, two)).assign(unit)
    assert large.exposed >= small.exposed
    if small.exposed:
        assert large == small


@law
@given(st.floats(-50, 50), st.floats(0.001, 50), st.floats(1e-6, 1e6))
def test_more_evidence_never_lowers_the_e_value(z: float, step: float, r: float) -> None:
    assert log_e_value(z + step, r) >= log_e_value(z, r)


@law
@given(st.floats(0.001, 0.4), st.floats(1e-3, 1e4))
def test_a_smaller_error_rate_needs_a_larger_z(alpha: float, r: float) -> None:
    assert critical_z(alpha / 2, r) > critical_z(alpha, r) > 0
