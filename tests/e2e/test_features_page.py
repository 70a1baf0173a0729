"""The page about features: its Python blocks are run, its tables are what they compute."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "features.md"
TEXT = PAGE.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def names() -> dict[str, Any]:
    """What the page's blocks define, run one after the other as one module."""
    found: dict[str, Any] = {"__name__": "features_page"}
    for block in re.findall(r"^```python\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL):
        exec(compile(block, str(PAGE), "exec", dont_inherit=True), found)
    return found


def test_the_tests_of_the_page_pass(names: dict[str, Any]) -> None:
    tests = [value for name, value in names.items() if name.startswith("test_")]
    assert len(tests) == 1
    for test in tests:
        test()


def test_the_definitions_of_the_page_hold(names: dict[str, Any]) -> None:
    owners = [names[name] for name in ("Ask", "Filings", "Loans", "Companies", "Features")]
    assert [fault for owner in owners for fault in owner.icekeel_faults] == []


def _tables() -> list[list[list[str]]]:
    found = re.findall(r"(?:^\|.*\|\n)+", TEXT, re.MULTILINE)
    return [
        [[cell.strip() for cell in line.strip("|\n").split("|")] for line in one.splitlines()]
        for one in found
    ]


def _shown(value: object) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "-"
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)


def test_the_tables_are_what_the_blocks_compute(names: dict[str, Any]) -> None:
    tables = _tables()
    assert len(tables) == 2
    for head, _, *rows in tables:
        columns = [[_shown(value) for value in names["df"][name].tolist()] for name in head]
        assert rows == [list(row) for row in zip(*columns, strict=True)]
