"""A contract means the same for rows that are pushed, one by one, and for rows of a file, all at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import duckdb
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import icekeel as ik
from icekeel.core.time import FIRST_TIME, LAST_TIME, parse_time
from icekeel.data import EventContract
from icekeel.data.batches import all_checks, checked
from icekeel.data.checks import time_checks
from icekeel.data.contracts import CLOCK_SKEW
from icekeel.define import EventTable
from icekeel.define.fields import BLOCK, QUARANTINE, WARN

NOW = parse_time("2025-06-01")
COLUMNS = {
    "order_id": "VARCHAR", "shop": "VARCHAR", "note": "VARCHAR", "net": "DOUBLE", "gross": "DOUBLE",
    "weight": "DOUBLE", "paid": "BOOLEAN", "ordered_at": "BIGINT", "booked_at": "BIGINT",
}  # fmt: skip


def table(breach: str, own: str) -> EventTable:
    class Orders(
        ik.Events,
        time="ordered_at",
        available="booked_at",
        id="order_id",
        contract=ik.Contract(breach=breach),
    ):
        order_id: ik.Id = ik.matches(r"[A-Z]{1,2}\d+|é+")
        shop: ik.Cat = ik.one_of("north", "south", optional=True, breach="warn")
        note: ik.Text = ik.matches(r"[^!]*", breach="quarantine") & ik.length(2, 5, optional=True)
        net: ik.Num = ik.at_least(0)
        gross: ik.Num = ik.between(-1, 100, optional=True)
        weight: ik.Num = ik.at_most(10, breach=own) & ik.optional()
        paid: ik.Flag = ik.optional()

        @ik.rule("gross is at least net", breach=own)
        def sane(row: Any) -> Any:
            return row.gross >= row.net

        @ik.rule("what is paid has a weight")
        def weighed(row: Any) -> Any:
            return ~row.paid | row.weight.known()

    assert not Orders.icekeel_faults
    return Orders.icekeel_table


TABLES = {
    (breach, weight): table(breach, weight)
    for breach in (QUARANTINE, WARN, BLOCK)
    for weight in (WARN, BLOCK)
}
CONNECTION = duckdb.connect()
GOOD: Mapping[str, Any] = {
    "order_id": "A1", "shop": "north", "note": "abc", "net": 1.0, "gross": 2.0, "weight": 3.0, "paid": True,
    "ordered_at": NOW, "booked_at": NOW,
}  # fmt: skip
NUMBERS = st.one_of(st.none(), st.floats(), st.sampled_from([0.0, -0.0, 1.0, 10.0, 10.5, 100.0, 101.0, -1.5]))
TEXTS = st.one_of(
    st.none(),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=7),
    st.sampled_from(
        ["A1", "AB12", "ABC1", "é", "éé", "north", "nоrth", "", "a\nb", "ab!", "A1\n", "\0", "x" * 257]
    ),
    st.sampled_from(["é" * 128, "é" * 129, "n" * 10_000, "n" * 10_001, "A" + "1" * 255, "A" + "1" * 256]),
)
TIMES = st.one_of(
    st.none(),
    st.sampled_from(
        [NOW, NOW + CLOCK_SKEW, NOW + CLOCK_SKEW + 1, FIRST_TIME, FIRST_TIME - 1, LAST_TIME, LAST_TIME + 1]
    ),
    st.integers(-(2**63), 2**63 - 1),
)
VALUES = {
    "VARCHAR": TEXTS,
    "DOUBLE": NUMBERS,
    "BOOLEAN": st.one_of(st.none(), st.booleans()),
    "BIGINT": TIMES,
}
CHANGES = st.fixed_dictionaries({}, optional={name: VALUES[kind] for name, kind in COLUMNS.items()})
Found = tuple[str, set[tuple[str, str]]]


def as_pushed(one: EventTable, row: Mapping[str, Any]) -> Found:
    _, faults = EventContract(one, stamped=False).parse(dict(row), "", NOW)
    found = {(fault.where or fault.what.removeprefix("breaks the rule: "), fault.code) for fault in faults}
    policies = {fault.policy or QUARANTINE for fault in faults}
    return next((policy for policy in (BLOCK, QUARANTINE, WARN) if policy in policies), "pass"), found


def as_file(one: EventTable, row: Mapping[str, Any]) -> Found:
    shown = ", ".join(f"?::{kind} AS {name}" for name, kind in COLUMNS.items())
    CONNECTION.execute(
        f"CREATE OR REPLACE TEMP TABLE given AS SELECT {shown}", [row[name] for name in COLUMNS]
    )
    statement = checked(CONNECTION, one, "given", 0, time_checks(one, NOW, ahead=False))
    faults, warned = CONNECTION.execute(f"SELECT _faults, _warned FROM ({statement})").fetchall()[0]
    checks = {check.text: check for check in all_checks(one)}
    broken = [checks[text] for text in (*faults, *warned)]
    policies = {check.breach for check in broken}
    assert bool(faults) is bool(policies - {WARN})
    found = {(check.field or check.demand, check.code) for check in broken}
    return next((policy for policy in (BLOCK, QUARANTINE, WARN) if policy in policies), "pass"), found


@settings(max_examples=150, deadline=None, derandomize=True)
@given(policies=st.sampled_from(sorted(TABLES)), changed=CHANGES)
@example(policies=(QUARANTINE, WARN), changed={})
@example(policies=(WARN, BLOCK), changed={"net": 3.0, "gross": 101.0})
@example(policies=(QUARANTINE, BLOCK), changed={"net": float("nan"), "weight": 11.0})
@example(policies=(BLOCK, WARN), changed={"order_id": "A1\n"})
def test_pushed_rows_and_files_get_one_verdict(policies: tuple[str, str], changed: dict[str, Any]) -> None:
    row = {**GOOD, **changed}
    pushed, file = as_pushed(TABLES[policies], row), as_file(TABLES[policies], row)
    assert pushed[0] == file[0], (pushed, file)
    unread = {"wrong_type", "bad_time", "missing_field"} & {code for _, code in file[1]}
    # What cannot be read has one fault when it is pushed; in SQL its other limits are looked at as well.
    assert pushed[1] == file[1] or unread, (pushed, file)


@pytest.mark.parametrize("policies", sorted(TABLES))
def test_a_good_row_passes(policies: tuple[str, str]) -> None:
    assert as_pushed(TABLES[policies], GOOD) == as_file(TABLES[policies], GOOD) == ("pass", set())
