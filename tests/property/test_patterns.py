"""Patterns mean what Python's `re` says for ASCII, in the automaton and in DuckDB; what the two do not share is refused."""

from __future__ import annotations

import random
import re
import sys
import time
from importlib import import_module

import duckdb
import pytest

from icekeel.core.patterns import LARGEST, read_pattern

ATOMS = ("a", "b", r"\d", r"\w", r"\s", ".", "[ab]", "[^a]", r"\S", r"[^\W\d]", "é", r"\n", r"\-", "[a-z1]")
LETTERS = "ab1 \n\t\v_é-\0Ω"


def drawn(rng: random.Random, depth: int) -> str:
    kind = rng.randrange(4) if depth else 0
    if kind == 0:
        return rng.choice(ATOMS)
    if kind == 1:
        return drawn(rng, depth - 1) + drawn(rng, depth - 1)
    if kind == 2:
        return f"(?:{drawn(rng, depth - 1)}|{drawn(rng, depth - 1)})"
    return f"({drawn(rng, depth - 1)}){rng.choice(['*', '+', '?', '{2}', '{1,3}', '{,2}', '{2,}'])}"


def test_python_the_automaton_and_duckdb_agree() -> None:
    rng = random.Random(5)
    with duckdb.connect() as connection:
        for _ in range(400):
            pattern = drawn(rng, 4)
            texts = ["".join(rng.choices(LETTERS, k=rng.randrange(6))) for _ in range(12)]
            ours = read_pattern(pattern)
            found = connection.execute(
                "SELECT list_transform(?, lambda one: regexp_full_match(one, ?))", [texts, ours.re2]
            ).fetchone()
            wanted = [re.fullmatch(pattern, text, re.ASCII) is not None for text in texts]
            assert [ours.matches(text) for text in texts] == wanted == list((found or [()])[0]), pattern


def test_no_text_takes_for_ever() -> None:
    begin = time.process_time()
    assert not read_pattern(r"(a+)+b").matches("a" * 10_000)
    assert not read_pattern(r"(a|b)*a(a|b){20}").matches("ab" * 5_000 + "!")
    assert time.process_time() - begin < 5  # backtracking would take longer than the universe has been there


@pytest.mark.parametrize(
    ("pattern", "text", "holds"),
    [
        ("^ab$", "ab", True),
        ("ab", "abc", False),
        ("", "", True),
        (r"\$\.", "$.", True),
        ("a.c", "a\nc", False),
    ],
)
def test_all_of_the_text_must_match(pattern: str, text: str, holds: bool) -> None:
    assert read_pattern(pattern).matches(text) is holds


@pytest.mark.parametrize(
    "pattern",
    [
        *(
            "(?i)a",
            "(?i:a)",
            "a(?=b)",
            r"a\b",
            r"(a)\1",
            "a++",
            "a*?",
            "[[a]",
            r"[^\d\D]",
            "(?:){9}",
            "(",
            "^a|b$",
        ),
        *("a{1001}", "(a{40}){40}", "(" * 5_000),
    ],
)
def test_what_the_dialects_do_not_share_is_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        read_pattern(pattern)


def test_the_largest_pattern_is_one_that_duckdb_takes() -> None:
    widest = read_pattern(rf"\W{{{LARGEST - 1}}}")
    with duckdb.connect() as connection:
        found = connection.execute("SELECT regexp_full_match(?, ?)", ["é" * (LARGEST - 1), widest.re2])
        assert found.fetchone() == (True,)
    assert widest.matches("é" * (LARGEST - 1))


def test_this_python_reads_patterns_as_those_do_that_were_looked_at() -> None:
    """The parser is not public and nothing public gives its tree: of a new Python, look at the tree first."""
    assert sys.version_info[:2] in ((3, 11), (3, 12), (3, 13), (3, 14))
    parser = import_module("re._parser")
    tree = parser.parse(r"^(ab|[^b-d\d]){2,5}x*.$", re.ASCII)
    assert str(list(tree)) == (
        "[(AT, AT_BEGINNING), (MAX_REPEAT, (2, 5, [(SUBPATTERN, (1, 0, 0, [(BRANCH, (None, [[(LITERAL, 97), "
        "(LITERAL, 98)], [(IN, [(NEGATE, None), (RANGE, (98, 100)), (CATEGORY, CATEGORY_DIGIT)])]]))]))])), "
        "(MAX_REPEAT, (0, MAXREPEAT, [(LITERAL, 120)])), (ANY, None), (AT, AT_END)]"
    )
