"""Stored tables and the numbering of their cells."""

from __future__ import annotations

import hashlib
import zlib

import numpy as np
import pytest

from icekeel.core.errors import BundleError
from icekeel.guard import Combinations, Guard, Tables
from icekeel.guard.tables import MAGIC

EMPTY = Tables(1, "price", "log", (), (), (), b"", b"")


def test_tables_come_back_as_they_were() -> None:
    assert Tables.decode(EMPTY.encode()) == EMPTY
    assert Guard.load(EMPTY.encode()).check([]) == []


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "guard_format"),
        (b"something else entirely, long enough to be one", "guard_format"),
        (EMPTY.encode()[:-1], "guard_damaged"),
        (MAGIC + hashlib.sha256(b"no zlib").digest() + b"no zlib", "guard_damaged"),
    ],
)
def test_damaged_tables_are_refused(data: bytes, code: str) -> None:
    with pytest.raises(BundleError) as error:
        Guard.load(data)
    assert error.value.code == code


def test_other_content_under_a_right_digest_is_refused() -> None:
    body = zlib.compress(b"\x93\x01\x02\x03")
    with pytest.raises(BundleError):
        Tables.decode(MAGIC + hashlib.sha256(body).digest() + body)


def test_cells_of_combinations_fill_the_table_without_overlap() -> None:
    sizes = (3, 2, 4)
    cells = Combinations.of([(0, 1), (1, 2), (0, 1, 2)], sizes)
    assert cells.starts == (0, 6, 14, 38)
    found: list[set[int]] = [set(), set(), set()]
    for codes in np.ndindex(*sizes):
        for at, cell in enumerate(cells.weights @ np.array([*codes, 1.0])):
            found[at].add(int(cell))
    assert found == [set(range(6)), set(range(6, 14)), set(range(14, 38))]


def test_split_views_agree_with_the_weights() -> None:
    cells = Combinations.of([(0, 2), (0, 1, 2)], (3, 2, 4))
    table = np.arange(cells.starts[-1])
    views = cells.split(table)
    assert views[0, 2][1, 3] == (cells.weights @ np.array([1.0, 0, 3, 1]))[0]
    assert views[0, 1, 2][2, 1, 3] == (cells.weights @ np.array([2.0, 1, 3, 1]))[1]
    assert list(cells.split(table[:12])) == [(0, 2)]
