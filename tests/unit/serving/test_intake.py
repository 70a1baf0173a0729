"""Pushed rows: what is good is journaled as it is stored, what is not is set aside with every fault; nothing is lost."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import icekeel as ik
from icekeel.core.errors import RequestError
from icekeel.core.time import DAY, HOUR, LAST_TIME, MINUTE, parse_time
from icekeel.data import AVAILABLE, DELETED
from icekeel.data.contracts import CLOCK_SKEW
from icekeel.journal import Pushed, Quarantined, Writer, scan
from icekeel.serving import Intake

NOW = parse_time("2025-03-01")
INF = float("inf")


class Orders(ik.Events, time="ordered_at", available="booked_at", id="order_id", deleted="void"):
    order_id: ik.Id
    customer: ik.Id = ik.optional()
    net: ik.Num
    void: ik.Flag = ik.optional()


class Landings(ik.Events, time="landed_at", id="flight_id"):
    flight_id: ik.Id


class Shifts(ik.Events, time="begins_at", available="planned_at", id="shift_id"):
    shift_id: ik.Id


TABLES = {events.icekeel_table.name: events.icekeel_table for events in (Orders, Landings, Shifts)}
ORDER = {"order_id": "o", "customer": "a", "net": 5, "ordered_at": NOW - HOUR}
STORED = {
    "order_id": "o",
    "customer": "a",
    "net": 5.0,
    "void": None,
    "ordered_at": NOW - HOUR,
    "booked_at": NOW,
}
GONE = dict.fromkeys(STORED) | {"order_id": "o", "booked_at": NOW, DELETED: 1.0}


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Writer]:
    with Writer(tmp_path, "serve", clock=lambda: NOW) as writer:
        yield writer


@pytest.fixture
def intake(journal: Writer) -> Intake:
    return Intake(TABLES, journal, lambda: NOW, ahead={"Shifts"})


def pushed(folder: Path) -> list[Any]:
    return [row for record in scan(folder, kinds=Pushed) for row in record.rows]


def aside(folder: Path) -> list[tuple[Any, int]]:
    return [
        (kept.row, len(kept.faults)) for record in scan(folder, kinds=Quarantined) for kept in record.rows
    ]


def test_rows_corrections_and_deletions_are_versions_in_the_order_sent(
    intake: Intake, tmp_path: Path
) -> None:
    accepted = intake.push("Orders", [ORDER, {**ORDER, "net": 6}], ["o", "never seen"])
    assert (accepted.kept, accepted.deleted, accepted.faults, accepted.wrong_ids) == (2, 2, {}, {})
    assert pushed(tmp_path) == [STORED, {**STORED, "net": 6.0}, GONE, {**GONE, "order_id": "never seen"}]


def test_a_row_with_its_flag_set_deletes_and_needs_no_more_than_its_id(
    intake: Intake, tmp_path: Path
) -> None:
    rows = [{"order_id": "o", "void": True}, {**ORDER, "net": "?", "void": True}, {**ORDER, "void": False}]
    assert intake.push("Orders", rows).kept == 3
    gone = {**GONE, "void": 1.0}
    assert pushed(tmp_path) == [gone, gone, {**STORED, "void": 0.0}]


def test_a_table_of_one_time_is_known_from_when_it_was_pushed(intake: Intake, tmp_path: Path) -> None:
    intake.push("Landings", [{"flight_id": "f", "landed_at": NOW - DAY}], ["f"])
    assert pushed(tmp_path) == [
        {"flight_id": "f", "landed_at": NOW - DAY},
        {"flight_id": "f", "landed_at": None, DELETED: 1.0},
    ]
    (record,) = scan(tmp_path, kinds=Pushed)
    assert record.at == NOW


TIMES: dict[str, list[Any]] = {
    "in_the_future": [NOW + CLOCK_SKEW + 1, NOW + DAY, "2025-03-02", LAST_TIME],
    "bad_time": [2**62, -(2**62), "2025-02-30", "12025-01-01", "soon", ""],
    "wrong_type": [1.5, True, [], {"at": 1}],
    "missing_field": [None],
}


@pytest.mark.parametrize(
    ("code", "time"), [(code, time) for code, times in TIMES.items() for time in times], ids=repr
)
@pytest.mark.parametrize("table", ["Orders", "Landings"])
def test_an_event_time_that_cannot_be_is_named(
    intake: Intake, tmp_path: Path, table: str, code: str, time: object
) -> None:
    row = {**ORDER, "ordered_at": time} if table == "Orders" else {"flight_id": "f", "landed_at": time}
    (fault,) = intake.push(table, [row]).faults[0]
    assert (fault.code, fault.where) == (code, f"rows[0].{TABLES[table].time}")
    assert code == "missing_field" or (fault.got and fault.allowed)
    assert pushed(tmp_path) == []
    assert aside(tmp_path) == [(row, 1)]


@pytest.mark.parametrize("time", [NOW + CLOCK_SKEW, NOW - 10_000 * DAY, -60 * DAY, "2025-03-01T01:00+01:00"])
def test_late_events_and_clocks_a_little_ahead_are_taken_in_any_order(
    intake: Intake, tmp_path: Path, time: object
) -> None:
    assert intake.push("Landings", [{"flight_id": "a", "landed_at": NOW}]).kept == 1
    assert intake.push("Landings", [{"flight_id": "b", "landed_at": time}]).kept == 1
    assert aside(tmp_path) == []


def test_a_table_that_a_window_looks_ahead_in_holds_plans(intake: Intake) -> None:
    assert intake.push("Shifts", [{"shift_id": "s", "begins_at": NOW + 300 * DAY}]).kept == 1


def test_in_a_rehearsal_a_row_is_judged_by_its_own_time(journal: Writer, tmp_path: Path) -> None:
    intake = Intake(TABLES, journal, lambda: NOW, rehearsal=True)
    row: dict[str, Any] = {**ORDER, "ordered_at": 5 * DAY, "booked_at": 5 * DAY - CLOCK_SKEW}
    early = {**row, "booked_at": row["booked_at"] - 1}
    gone = {"order_id": "o", "void": True, "booked_at": 6 * DAY}
    accepted = intake.push("Orders", [row, early, gone, {"order_id": "o", "void": True}])
    assert accepted.kept == 2
    assert [[fault.code for fault in found] for found in accepted.faults.values()] == [
        ["in_the_future"],
        ["missing_field"],
    ]
    assert [row[AVAILABLE] for row in pushed(tmp_path)] == [5 * DAY - CLOCK_SKEW, 6 * DAY]
    with pytest.raises(RequestError) as caught:
        intake.push("Orders", [], ["o"])
    assert caught.value.code == "no_time"


def test_every_fault_of_a_row_is_named_and_the_row_is_kept_as_it_came(intake: Intake, tmp_path: Path) -> None:
    rows = [{"order": "o", "net": INF, "ordered_at": NOW}, "text", {**ORDER, "booked_at": NOW}]
    found = intake.push("Orders", [*rows, ORDER]).faults
    assert {place: [fault.code for fault in faults] for place, faults in found.items()} == {
        0: ["missing_field", "wrong_type", "unknown_field"],
        1: ["not_an_object"],
        2: ["unknown_field"],
    }
    assert aside(tmp_path) == [(rows[0], 3), ({"value": "text"}, 1), (rows[2], 1)]
    assert pushed(tmp_path) == [STORED]


@pytest.mark.parametrize("wrong", [None, 5, True, ["o"], "x" * 10_001])
def test_what_is_no_id_cannot_be_deleted(intake: Intake, tmp_path: Path, wrong: object) -> None:
    accepted = intake.push("Orders", [], ["o", wrong])
    ((place, (fault,)),) = accepted.wrong_ids.items()
    assert (place, fault.where, accepted.deleted) == (1, "delete[1].order_id", 1)
    assert aside(tmp_path) == [({"delete": wrong}, 1)]


@pytest.mark.parametrize(
    ("rows", "delete", "code"),
    [
        ((), (), "no_rows"),
        ([], [], "no_rows"),
        ("rows", (), "no_rows"),
        ({}, ["o"], "no_rows"),
        ([], "o", "no_rows"),
        ([ORDER] * 6_000, ["o"] * 4_001, "too_many_rows"),
    ],
)
def test_what_is_no_list_of_either_is_refused_and_nothing_kept(
    intake: Intake, tmp_path: Path, rows: Any, delete: Any, code: str
) -> None:
    with pytest.raises(RequestError) as caught:
        intake.push("Orders", rows, delete)
    assert caught.value.code == code
    assert pushed(tmp_path) == aside(tmp_path) == []


def test_an_unknown_table_names_the_nearest(intake: Intake) -> None:
    with pytest.raises(RequestError) as caught:
        intake.push("Order", [ORDER])
    assert (caught.value.code, caught.value.faults[0].hint) == ("unknown_table", 'did you mean "Orders"?')
    assert MINUTE < CLOCK_SKEW < HOUR


class Prices(ik.Events, time="priced_at", id="price_id"):
    price_id: ik.Id
    net: ik.Num = ik.at_least(0, breach="warn")
    code: ik.Text = ik.length(2, 3, breach="block")


def test_a_row_that_only_warns_is_kept_and_counted_and_one_that_blocks_refuses_the_push(
    tmp_path: Path,
) -> None:
    row = {"price_id": "p", "net": -1, "code": "ab", "priced_at": NOW - HOUR}
    with Writer(tmp_path, "test", clock=lambda: NOW) as journal:
        intake = Intake({"Prices": Prices.icekeel_table}, journal, lambda: NOW)
        taken = intake.push("Prices", [row, {**row, "net": 1}, {**row, "net": None}])
        assert (taken.kept, taken.warned, list(taken.faults)) == (2, {"net: out of range": 1}, [2])
        with pytest.raises(RequestError) as caught:
            intake.push("Prices", [{**row, "price_id": "q"}, {**row, "code": "long"}])
    assert [(fault.code, fault.where, fault.policy) for fault in caught.value.faults] == [
        ("wrong_length", "rows[1].code", "block")
    ]
    (pushed,) = scan(tmp_path, kinds=Pushed)
    assert [(one["price_id"], one["net"]) for one in pushed.rows] == [("p", -1.0), ("p", 1.0)]
