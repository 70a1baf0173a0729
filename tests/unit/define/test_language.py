"""The language stays light, and its expressions say early what they cannot mean."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

import icekeel as ik
from icekeel.core.errors import ProjectError
from icekeel.define.nodes import Invalid


class _Ask(ik.Request):
    a: ik.Num
    f: ik.Flag
    c: ik.Cat
    t: ik.Time


Ask: Any = _Ask  # what follows is wrong on purpose


def test_importing_the_language_imports_nothing_heavy() -> None:
    code = (
        "import sys, icekeel; heavy = {'numpy', 'duckdb', 'lmdb', 'scipy', 'sklearn', 'lightgbm', 'sqlalchemy', "
        "'pandas', 'pyarrow'}; sys.exit(', '.join(sorted(heavy & sys.modules.keys())) or 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr


def test_testing_features_needs_no_server_library() -> None:
    code = "import sys, icekeel; icekeel.given; sys.exit('lmdb' in sys.modules or 'duckdb' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr


def test_every_name_of_the_language_exists() -> None:
    assert [name for name in ik.__all__ if not hasattr(ik, name)] == []
    with pytest.raises(AttributeError, match="no attribute 'gven'"):
        _ = ik.gven


def test_an_expression_has_no_truth_value() -> None:
    with pytest.raises(ProjectError, match="use &"):
        _ = Ask.f and Ask.a


@pytest.mark.parametrize(
    "wrong",
    [
        Ask.a + Ask.c,
        Ask.f & Ask.a,
        Ask.c == 5,
        Ask.t == Ask.t,
        Ask.a == None,  # noqa: E711
        Ask.c.fill(3),
        Ask.a.fill("none"),
        ik.cross(Ask.a, Ask.c),
        ik.when(Ask.a, 1, 2),
        ik.when(Ask.f, 1, "two"),
        ik.table(Ask.c, {"a": float("inf")}, default=0),
        ik.hours_between(Ask.a, Ask.t),
        ik.ln(Ask.t),
        Ask.missing,
        Ask.a % Ask.c,
        Ask.c.sign(),
        Ask.a.length(),
        Ask.c.contains(5),
        Ask.c.starts_with(Ask.a),
        Ask.c.contains("\ud800"),
        Ask.c.piece("", 0),
        Ask.c.piece("-", "0"),
        Ask.c.piece("-", True),
        Ask.c.piece("\udfff", 0),
        Ask.c.one_of(),
        Ask.c.one_of(5),
        Ask.a.one_of("a"),
        Ask.a.one_of(1, Ask.a),
        Ask.t.one_of(1),
        ~Ask.a,
        Ask.a | Ask.f,
        Ask.c & "x",
        ik.least(Ask.a),
        ik.greatest(),
        ik.case(otherwise=1),
        ik.case(Ask.f, otherwise=1),
        ik.case((Ask.f, 1), (Ask.a, 2), otherwise=1),
        ik.case((Ask.f, 1), (Ask.f, "x"), otherwise=1),
        ik.cyclic(Ask.t, "year", tz="UTC")[0],
        ik.part(Ask.t, "second", tz="UTC"),
        ik.part(Ask.t, "Hour", tz="Mars/Base"),
    ],
    ids=str,
)
def test_what_cannot_be_meant_is_marked(wrong: ik.define.expressions.Expression) -> None:
    assert isinstance(wrong.node, Invalid)
    assert wrong.node.faults
