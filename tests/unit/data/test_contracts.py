"""Every wrong value is named with its place, what was allowed and the nearest match; none gets through."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

import icekeel as ik
from icekeel.core.errors import shorten
from icekeel.core.kinds import Kind
from icekeel.data import EventContract, RecordParser
from icekeel.define import Field

INF = float("inf")
HUGE = 10**5000


class Quote(ik.Request):
    quote_id: ik.Id
    substrate: ik.Cat = ik.one_of("vinyl", "metal")
    colors: ik.Num = ik.between(1, 12)
    rush: ik.Flag = ik.optional()
    due: ik.Time = ik.optional()
    note: ik.Text = ik.optional()


class Orders(ik.Events, time="ordered_at", available="booked_at", id="order_id"):
    order_id: ik.Id
    net: ik.Num
    gross: ik.Num = ik.optional()

    @ik.rule("gross is at least net")
    def sane(row: Any) -> Any:
        return row.gross >= row.net


GOOD = {"quote_id": "q", "substrate": "vinyl", "colors": 3}
parser = RecordParser(tuple(Quote.icekeel_fields.values()))


def test_a_good_record_is_read() -> None:
    record = {**GOOD, "rush": True, "due": "2025-03-01T12:00:00+02:00", "note": "é\U0001f642"}
    values, faults = parser.parse(record)
    assert not faults
    assert values == ["q", "vinyl", 3.0, 1.0, 1_740_823_200_000_000, "é\U0001f642"]
    assert [type(value) for value in values] == [str, str, float, float, int, str]
    assert parser.parse({**GOOD, "rush": None}) == (["q", "vinyl", 3.0, None, None, None], [])


WRONG: dict[tuple[str, str], tuple[object, ...]] = {
    ("colors", "wrong_type"): ("3", True, [3], {}, INF, -INF, INF - INF, HUGE, -HUGE),
    ("colors", "out_of_range"): (0, 12.001, 10**30, -1e308),
    ("rush", "wrong_type"): (1, 0.0, "true", []),
    ("quote_id", "wrong_type"): (5, 1.5, False, ["q"], "", "x" * 10_001, "\ud800"),
    ("substrate", "not_allowed"): ("", "Vinyl", "vinil"),
    ("due", "wrong_type"): (1.5, True, [], {}),
    ("due", "bad_time"): ("", "soon", "2025-13-01", "12025-01-01", HUGE, 2**62),
    ("quote_id", "missing_field"): (None,),
    ("colors", "missing_field"): (None,),
}


@pytest.mark.parametrize(
    ("field", "value", "code"),
    [(field, value, code) for (field, code), values in WRONG.items() for value in values],
    ids=shorten,
)
def test_a_wrong_value_is_named(field: str, value: object, code: str) -> None:
    faults = parser.parse({**GOOD, field: value}, "rows[3]")[1]
    assert [(fault.code, fault.where) for fault in faults] == [(code, f"rows[3].{field}")]
    assert faults[0].allowed or code == "missing_field"
    assert len(str(faults[0])) < 300


def test_all_faults_are_given_at_once_with_hints() -> None:
    faults = parser.parse({"quoteid": "q", "substrate": "vinil", "colors": 13, "x" * 500: 1})[1]
    assert [(fault.code, fault.hint) for fault in faults] == [
        ("missing_field", 'did you mean "quoteid"?'),
        ("not_allowed", 'did you mean "vinyl"?'),
        ("out_of_range", ""),
        ("unknown_field", 'did you mean "quote_id"?'),
        ("unknown_field", ""),
    ]
    assert faults[2].allowed == "1 to 12"
    assert len(str(faults[4])) < 300


def cpu_seconds(work: Callable[[], object]) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started


def test_many_unknown_names_are_counted_at_a_cost_that_does_not_grow_with_their_square() -> None:
    few = {f"name {n}": 1 for n in range(1_000)}
    many = {f"name {n}": 1 for n in range(80_000)}
    faults = parser.parse(many)[1]
    assert [fault.code for fault in faults] == ["missing_field"] * 3 + ["unknown_field"] * 20 + [
        "more_faults"
    ]
    assert faults[-1].what == "and 79,980 more"
    assert [bool(fault.allowed) for fault in faults[3:]] == [True] + [False] * 20
    small = cpu_seconds(lambda: parser.parse(few))
    assert cpu_seconds(lambda: parser.parse(many)) < 100 * small + 0.1


@pytest.mark.parametrize("record", [None, 5, "text", [GOOD], True])
def test_what_is_no_object_is_refused(record: object) -> None:
    assert [fault.code for fault in parser.parse(record)[1]] == ["not_an_object"]


def test_rules_hold_or_are_named_and_null_passes() -> None:
    contract = EventContract(Orders.icekeel_table, stamped=False)
    row = {"order_id": "o", "net": 5, "gross": 6, "ordered_at": 0, "booked_at": 1}
    assert contract.parse(row) == (["o", 5.0, 6.0, 0, 1], [])
    assert contract.parse({**row, "gross": None})[1] == []
    faults = contract.parse({**row, "gross": 4.9}, "rows[0]")[1]
    assert [(fault.code, fault.what, fault.where) for fault in faults] == [
        ("breaks_rule", "breaks the rule: gross is at least net", "rows[0]")
    ]


def test_a_pushed_row_may_not_say_when_it_became_available() -> None:
    contract = EventContract(Orders.icekeel_table, stamped=True)
    row = {"order_id": "o", "net": 5, "ordered_at": 0}
    assert contract.parse(row) == (["o", 5.0, None, 0, None], [])
    assert [fault.code for fault in contract.parse({**row, "booked_at": 0})[1]] == ["unknown_field"]


@pytest.mark.parametrize(
    ("identifier", "holds"), [("x" * 256, True), ("x" * 257, False), ("é" * 129, False), ("a\0b", False)]
)
def test_an_identifier_is_short_and_free_of_nul(identifier: str, holds: bool) -> None:
    values, faults = RecordParser([Field("id", Kind.ID)]).parse({"id": identifier})
    assert (values == [identifier], [fault.code for fault in faults]) == (
        holds,
        [] if holds else ["wrong_type"],
    )
