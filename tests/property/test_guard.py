"""Laws of the guard on any data."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from icekeel.core.errors import BundleError
from icekeel.core.frames import Column, Frame, Kind
from icekeel.guard import Guard
from icekeel.training.guarding import compile_guard

NAMES = ("a", "b", "c")
COLUMNS = (*(Column(name, Kind.CAT) for name in NAMES), Column("x", Kind.NUM))
Row = tuple[str | None, str | None, str | None, float]
values = st.sampled_from(["p", "q", "r", None])
rows = st.lists(st.tuples(values, values, values, st.floats(-100, 100)), min_size=3, max_size=40)
many = settings(max_examples=40, deadline=None, derandomize=True)


def frame_of(data: list[Row]) -> Frame:
    columns = list(zip(*data, strict=True))
    frame = {name: np.array(columns[at], dtype=object) for at, name in enumerate(NAMES)}
    return Frame({**frame, "x": np.array(columns[3], dtype=np.float64)})


def compiled(data: list[Row], later: list[Row], budget: float) -> tuple[bytes, float]:
    target = np.arange(len(data) + len(later), dtype=np.float64) + 1
    table, report = compile_guard(
        frame_of(data), COLUMNS, target, scale="log", later=frame_of(later), budget=budget
    )
    return table, report.flag_rate


@many
@given(rows, rows)
def test_verdicts_on_values_and_pairs_equal_a_naive_search(data: list[Row], asked: list[Row]) -> None:
    guard = Guard.load(compiled(data, data, 0.5)[0])
    for request in asked:
        found = {v.columns for v in guard.check(request) if v.kind in ("unseen_value", "unseen_pair")}
        strange = [at for at in range(3) if request[at] not in {row[at] for row in data}]
        expected: set[tuple[str, ...]] = {(NAMES[at],) for at in strange}
        for i, j in combinations([at for at in range(3) if at not in strange], 2):
            if (request[i], request[j]) not in {(row[i], row[j]) for row in data}:
                expected.add((NAMES[i], NAMES[j]))
        assert found == expected


@many
@given(rows, rows, st.sampled_from([0.01, 0.2, 0.6]))
def test_rows_that_were_learnt_from_are_not_flagged_and_the_rate_keeps_the_budget(
    data: list[Row], later: list[Row], budget: float
) -> None:
    table, rate = compiled(data, later, budget)
    guard = Guard.load(table)
    assert not any(guard.check(row) for row in data + later)
    assert rate <= budget


@many
@given(rows, rows, rows, st.sampled_from([0.01, 0.2, 0.6]))
def test_rows_together_have_the_verdicts_that_each_has_alone(
    data: list[Row], later: list[Row], asked: list[Row], budget: float
) -> None:
    said = np.array([row[3] for row in data + later])
    target = np.where(said > 0, 1.0, 0.0)
    table, _ = compile_guard(
        frame_of(data), COLUMNS, target, scale="logit", later=frame_of(later), budget=budget, predictions=said
    )
    guard = Guard.load(table)
    asked = [*asked, ("p", "s", None, float("nan"))]
    predictions = [3 * row[3] for row in asked]
    alone = {at: guard.check(row, predictions[at]) for at, row in enumerate(asked)}
    columns = [list(column) for column in zip(*asked, strict=True)]
    assert guard.check_many(columns, predictions) == {at: found for at, found in alone.items() if found}


@many
@given(rows, rows)
def test_a_larger_budget_never_flags_less(data: list[Row], later: list[Row]) -> None:
    rates = [compiled(data, later, budget)[1] for budget in (0.05, 0.2, 0.5, 0.9)]
    assert rates == sorted(rates)


@many
@given(rows, st.data())
def test_any_damage_is_noticed(data: list[Row], draw: st.DataObject) -> None:
    table = bytearray(compiled(data, data, 0.1)[0])
    position = draw.draw(st.integers(0, len(table) - 1))
    table[position] ^= draw.draw(st.integers(1, 255))
    with pytest.raises(BundleError):
        Guard.load(bytes(table))
