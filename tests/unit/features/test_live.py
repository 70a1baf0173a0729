"""Keys of outcomes: no two that differ meet, equal ones do however JSON spelled them, and null meets nothing."""

from __future__ import annotations

import pytest

from icekeel.features.live import outcome_key


def test_a_single_text_is_its_own_key() -> None:
    assert outcome_key(["Q000123"]) == "Q000123"
    assert outcome_key(["None"]) == "None"


def test_parts_do_not_run_together() -> None:
    pairs = [("a\x1fb", "c"), ("a", "b\x1fc"), ("1:a", ""), ("", "1:a"), ("a", "b"), ("ab", "")]
    assert len({outcome_key(pair) for pair in pairs}) == len(pairs)


def test_a_number_is_the_same_whole_or_not() -> None:
    assert outcome_key([3, "a"]) == outcome_key([3.0, "a"]) != outcome_key([3.5, "a"])


@pytest.mark.parametrize("parts", [[None], [None, "a"], ["a", None]])
def test_null_meets_nothing(parts: list[str | None]) -> None:
    assert outcome_key(parts) == ""
