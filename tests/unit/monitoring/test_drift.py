from __future__ import annotations

import numpy as np
import pytest

from icekeel.core.frames import Column, Floats, Frame, Kind
from icekeel.core.statistics import benjamini_hochberg
from icekeel.monitoring import Profile, Profiler, Reference, examine

COLUMNS = [Column(f"c{number}", Kind.NUM) for number in range(10)]


def frame(rng: np.random.Generator, rows: int, shift: float = 0.0) -> Frame:
    return Frame({column.name: rng.normal(size=rows) + shift for column in COLUMNS})


@pytest.fixture(scope="module")
def profiler() -> Profiler:
    return Profiler.fit(COLUMNS, frame(np.random.default_rng(0), 50_000))


def flagged(reference: Reference, profiler: Profiler, day: Frame) -> int:
    return sum(finding.flagged for finding in examine(reference, profiler.profile(day)))


def test_shifts_that_matter_are_found_and_others_are_not(profiler: Profiler) -> None:
    rng = np.random.default_rng(1)
    reference = Reference.of(profiler, [profiler.profile(frame(rng, 10_000)) for _ in range(20)])
    assert sum(flagged(reference, profiler, frame(rng, 10_000)) for _ in range(20)) == 0
    assert sum(flagged(reference, profiler, frame(rng, 10_000, 0.1)) for _ in range(10)) >= 94
    assert flagged(reference, profiler, frame(rng, 100_000, 0.02)) == 0


def test_small_quiet_days_are_flagged_no_more_often_than_the_rate_allows(profiler: Profiler) -> None:
    rng = np.random.default_rng(2)
    reference = Reference.of(profiler, [profiler.profile(frame(rng, 50_000))])
    wrong = sum(flagged(reference, profiler, frame(rng, 500)) > 0 for _ in range(100))
    assert wrong <= 11  # 5 % and three standard deviations
    assert flagged(reference, profiler, frame(rng, 49, 3.0)) == 0


def test_days_that_always_differ_are_no_news(profiler: Profiler) -> None:
    """Each quiet day has its own level: row-wise tests would flag all of them."""
    rng = np.random.default_rng(3)
    days = [profiler.profile(frame(rng, 1000, rng.normal(0, 0.2))) for _ in range(40)]
    reference = Reference.of(profiler, days)
    fresh = [profiler.profile(frame(rng, 1000, rng.normal(0, 0.2))) for _ in range(40)]
    findings = [finding for day in fresh for finding in examine(reference, day)]
    assert sum(finding.p_value < 0.01 for finding in findings) > 150
    assert sum(finding.flagged for finding in findings) <= 8
    assert flagged(reference, profiler, frame(rng, 1000, 1.5)) == len(COLUMNS)


def test_the_sentence_says_what_changed() -> None:
    column = [Column("load", Kind.NUM)]
    before = Frame({"load": np.arange(1000.0) % 10})
    profiler = Profiler.fit(column, before)
    reference = Reference.of(profiler, [profiler.profile(before)] * 5)
    values: Floats = before["load"].copy()
    values[:200] = np.nan
    found = examine(reference, profiler.profile(Frame({"load": values})))[0]
    assert found.flagged
    assert found.sentence == (
        "load: 20.0% of the rows moved (usual days: up to 4.3%); most of all nulls: 20.0%, was 0.0%"
    )


def test_it_is_known_whether_values_became_larger(profiler: Profiler) -> None:
    rng = np.random.default_rng(5)
    reference = Reference.of(profiler, [profiler.profile(frame(rng, 10_000)) for _ in range(5)])
    for shift in (0.5, -0.5):
        found = examine(reference, profiler.profile(frame(rng, 10_000, shift)))
        assert {one.larger for one in found} == {shift > 0}


def test_an_empty_day_is_no_finding(profiler: Profiler) -> None:
    reference = Reference.of(profiler, [profiler.profile(frame(np.random.default_rng(4), 100))])
    empty = Profile({column.name: np.zeros_like(reference.total.counts[column.name]) for column in COLUMNS})
    assert not any(finding.flagged for finding in examine(reference, empty))


def test_benjamini_hochberg_steps_up() -> None:
    # 0.04 passes its own step (4/5 of .05) and carries the smaller ones that miss theirs.
    p_values = np.array([0.039, 0.9, 0.038, 0.04, 0.001])
    assert benjamini_hochberg(p_values, 0.05).tolist() == [True, False, True, True, True]
    assert not benjamini_hochberg(np.array([0.03, 0.9]), 0.05).any()
    assert benjamini_hochberg(np.array([]), 0.05).tolist() == []
