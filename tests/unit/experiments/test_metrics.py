from __future__ import annotations

import math

import numpy as np
import pytest

from icekeel.core.errors import IcekeelError, ProjectError
from icekeel.experiments import Answers, Metric, Split, Tally, Units, gather

MEAN = Metric("minutes")


def answers(rows: list[tuple[str, bool, int, float]]) -> Answers:
    unit, in_b, at, value = zip(*rows, strict=True)
    return Answers(np.array(unit, dtype=object), np.array(in_b), np.array(at), np.array(value))


def test_a_unit_is_one_observation_in_the_phase_of_its_first_answer() -> None:
    rows = answers([("u", True, 5, 2.0), ("v", False, 1, 1.0), ("u", True, 3, 4.0)])
    rows = Answers(rows.unit, rows.in_b, rows.asked_at, rows.value, np.array(["2", "1", "1"], dtype=object))
    units = gather(Metric("r", "ratio"), rows)
    assert [units.value.tolist(), units.answers.tolist()] == [[6.0, 1.0], [2.0, 1.0]]
    assert units.phase.tolist() == ["1", "1"]
    assert units.in_b.tolist() == [True, False]


def test_what_cannot_be_vouched_for_is_left_out_and_counted() -> None:
    rows = answers(
        [
            *[
                ("both", True, 1, 9.0),
                ("both", False, 2, 9.0),
                ("a", False, 3, 1.0),
                ("b", True, 4, math.nan),
            ],
            *[("c", True, 5, 7.0), ("c", True, 6, 2.0)],
        ]
    )
    at = np.array([2, 3, 4, 5, 4, 7])  # the first answer of c came after its outcome
    units = gather(MEAN, Answers(rows.unit, rows.in_b, rows.asked_at, rows.value, outcome_at=at))
    assert (units.crossed, units.unknown, units.early) == (1, 1, 1)
    assert units.value.tolist() == [1.0, 2.0]
    assert units.in_b.tolist() == [False, True]


def test_what_a_unit_counts_as() -> None:
    assert Metric("won", "conversion").of_units(np.array([0.0, 3.0])).tolist() == [0.0, 1.0]
    assert Metric("usd", "capped", cap=5.0).of_units(np.array([-9.0, 2.0, 7.0])).tolist() == [-5.0, 2.0, 5.0]
    both = np.array([False, True])
    p95 = Metric("p95 ms", "quantile", level=100.0, margin=0.1)
    assert p95.of_answers(np.array([105.0, 105.0]), both).tolist() == [1.0, 0.0]
    low = Metric("p10 usd", "quantile", lower_is_better=False, level=100.0, margin=0.1)
    assert low.of_answers(np.array([95.0, 95.0]), both).tolist() == [1.0, 0.0]
    assert low.claim().lower_is_better
    assert (p95.claim().margin, Metric("m", margin=0.1).claim().margin) == (0.0, 0.1)


def test_every_fault_of_a_metric_is_named_at_once() -> None:
    with pytest.raises(ProjectError) as caught:
        Metric("m", "median", margin=1.0, cap=3.0, level=1.0)  # type: ignore[arg-type]
    assert [fault.code for fault in caught.value.faults] == ["bad_kind", "bad_margin", "bad_cap", "bad_level"]
    with pytest.raises(ProjectError):
        Metric("usd", "capped")
    with pytest.raises(ProjectError):
        Metric("ms", "quantile", level=math.nan)


def test_columns_of_different_lengths_are_refused() -> None:
    rows = answers([("u", True, 5, 2.0)])
    with pytest.raises(ProjectError) as caught:
        gather(MEAN, Answers(rows.unit, rows.in_b, rows.asked_at, np.array([1.0, 2.0])))
    assert caught.value.faults[0].code == "bad_rows"


def sample(n: int, seed: int) -> Answers:
    rng = np.random.default_rng(seed)
    unit = np.array([f"u{number}" for number in range(n)], dtype=object)
    in_b = rng.random(n) < 0.5
    segment = np.array(["x", "y", "z"], dtype=object)[rng.integers(0, 3, n)]
    value = rng.normal(10, 1, n) + np.where((segment == "y") & in_b, 2.0, 0.0)
    return Answers(unit, in_b, np.arange(n), value, segment=segment, covariate=rng.normal(0, 1, n))


def test_tallies_merge() -> None:
    units = gather(MEAN, sample(60, 1))
    whole = Tally.of(MEAN, units, {"": 0.5})
    parts = Split()
    for start in (0, 20, 40):
        part = slice(start, start + 20)
        in_b, value, count, phase, segment, x, *_ = (
            getattr(units, name) for name in Units.__dataclass_fields__
        )
        mine = Units(in_b[part], value[part], count[part], phase[part], segment[part], x[part])
        parts += Tally.of(MEAN, mine, {"": 0.5}).whole
    one, two = whole.evidence(MEAN.claim()), parts.evidence(MEAN.claim())
    assert [one.estimate, one.low, one.e_worse] == pytest.approx([two.estimate, two.low, two.e_worse])


def test_the_segment_that_differs_is_named_and_no_other() -> None:
    found = Tally.of(MEAN, gather(MEAN, sample(3_000, 2)), {"": 0.5}).by_segment(MEAN.claim())
    assert {name: named for name, (_, named) in found.items()} == {"x": False, "y": True, "z": False}
    assert found["y"][0].estimate == pytest.approx(-2.0, abs=0.2)


def test_a_segment_of_three_rows_says_nothing() -> None:
    rows = sample(3, 3)
    for evidence, named in Tally.of(MEAN, gather(MEAN, rows), {"": 0.5}).by_segment(MEAN.claim()).values():
        assert not named
        assert evidence.e_worse < 2


def test_a_phase_needs_its_share_and_keeps_it() -> None:
    units = gather(MEAN, sample(20, 4))
    with pytest.raises(IcekeelError) as caught:
        Tally.of(MEAN, units, {"other": 0.5})
    assert caught.value.code == "bad_phase"
    with pytest.raises(IcekeelError):
        Tally.of(MEAN, units, {"": 0.5}).whole + Tally.of(MEAN, units, {"": 0.1}).whole
