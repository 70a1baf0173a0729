"""Counting combinations: the expected rows, and what is done when there are too many cells."""

from __future__ import annotations

import numpy as np
import pytest

from icekeel.core.frames import Kind
from icekeel.guard import Category, Evidence, evidence


def category(name: str, codes: list[int]) -> Category:
    counts = np.bincount(codes, minlength=3)
    return Category(name, Kind.CAT, 0, ("x", "y"), (1, 2), tuple(counts.tolist()), (0.0, 0.5, 0.7), True)


def counted(*columns: list[int]) -> Evidence:
    categories = [category(name, column) for name, column in zip("abcd", columns, strict=False)]
    return Evidence.count(categories, [np.array(column) for column in columns], len(columns[0]))


def test_unseen_pairs_carry_the_smaller_effect_and_the_rows_of_independence() -> None:
    found = counted([1, 1, 2, 2], [1, 1, 1, 2])
    ((members, effect, expected),) = found.unseen()
    assert members == (0, 1)
    assert effect[1, 2] == 0.5
    assert expected[1, 2] == 2 * 1 / 4
    assert effect[1, 1] == expected[1, 1] == 0  # seen
    assert not expected[0].any()  # no code for values never seen


def test_expected_rows_of_a_triple_follow_from_its_pairs() -> None:
    rng = np.random.default_rng(0)
    drawn = rng.integers(1, 3, (3, 8_000))
    kept = ~(drawn == 2).all(axis=0)
    found = counted(*(column.tolist() for column in drawn[:, kept]))
    expected = {members: rows for members, _, rows in found.unseen()}[0, 1, 2]
    # 1,000 were left out; of each pair (2, 2) a thousand of 3,000 rows with a 2 remain.
    assert expected[2, 2, 2] == pytest.approx(1_000 / 3, rel=0.1)


def test_expected_rows_of_a_triple_are_the_smallest_of_three_estimates() -> None:
    smallest = set()
    for seed in range(30):
        rows = np.random.default_rng(seed).choice([1, 2], (10, 3), p=[0.6, 0.4])
        found = {members: table for members, _, table in counted(*rows.T.tolist()).unseen()}[0, 1, 2]
        for cell in np.ndindex(2, 2, 2):
            hit = rows == np.array(cell) + 1
            ij, ik, jk = ((hit[:, a] & hit[:, b]).sum() for a, b in ((0, 1), (0, 2), (1, 2)))
            estimates = np.array([ij * ik, ij * jk, ik * jk]) / np.maximum(hit.sum(axis=0), 1)
            smallest.add(int(estimates.argmin()))
            expected = 0 if hit.all(axis=1).any() else estimates.min()
            assert found[cell[0] + 1, cell[1] + 1, cell[2] + 1] == pytest.approx(expected)
    assert smallest == {0, 1, 2}


def test_tables_that_are_too_large_are_skipped_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evidence, "MAX_CELLS", 40)
    found = counted([1, 2], [1, 2], [1, 2])
    assert found.cells.members == ((0, 1), (0, 2), (1, 2))
    assert found.skipped == [("a", "b", "c")]
    monkeypatch.setattr(evidence, "MAX_CELLS", 20)
    assert counted([1, 2], [1, 2], [1, 2]).skipped == [("b", "c"), ("a", "b", "c")]
