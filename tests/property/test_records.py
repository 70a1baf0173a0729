"""The quick reader of records gives what the careful one gives, or leaves the record to it."""

from __future__ import annotations

from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from icekeel.core.kinds import Kind
from icekeel.data import RecordParser
from icekeel.define.fields import Field, Limits

FIELDS = (
    Field("id", Kind.ID),
    Field("size", Kind.NUM, Limits(low=-1, high=1e6)),
    Field("weight", Kind.NUM, Limits(optional=True)),
    Field("rush", Kind.FLAG),
    Field("ready", Kind.TIME, Limits(optional=True)),
    Field("ink", Kind.CAT, Limits(allowed=("blue", "red"))),
    Field("note", Kind.TEXT, Limits(optional=True)),
)
PARSER = RecordParser(FIELDS)
GOOD = {
    "id": "a-1",
    "size": 3,
    "weight": -0.0,
    "rush": True,
    "ready": "2026-01-02T03:04:05Z",
    "ink": "red",
    "note": "ordinary",
}
ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**400), 10**400),
    st.integers(-3, 3),
    st.integers(2**53 - 2, 2**53 + 2),
    st.floats(),
    st.text(max_size=4),
    st.sampled_from(
        ["red", "blue", "a\0", "x" * 256, "x" * 257, "n" * 10_000, "n" * 10_001, "é" * 129, "\ud800"]
    ),
    st.sampled_from(["2026-01-02", "2026-13-02", 0, 1_767_323_045_000_000]),
    st.just([]),
)


@settings(max_examples=400, deadline=None, derandomize=True)
@given(
    changed=st.dictionaries(st.sampled_from([*GOOD, "other", "siz"]), ODD, max_size=3),
    without=st.sets(st.sampled_from([*GOOD]), max_size=2),
)
@example(changed={}, without=set())
@example(changed={"other": 1}, without={"note"})
def test_the_quick_reader_agrees_with_the_careful_one(changed: dict[str, Any], without: set[str]) -> None:
    record = {name: value for name, value in {**GOOD, **changed}.items() if name not in without}
    values, faults = PARSER._look_closely(record, "")
    quick = PARSER._quick(record)
    assert quick is None or (repr(quick), faults) == (repr(values), [])
    assert repr(PARSER.parse(record)) == repr((values, faults))


def test_an_ordinary_record_is_read_quickly() -> None:
    for left_out in ((), ("weight",), ("ready", "note")):
        record = {name: value for name, value in GOOD.items() if name not in left_out}
        assert PARSER._quick(record) is not None
