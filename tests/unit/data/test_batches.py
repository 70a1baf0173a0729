"""Rows of a file against others, batches against those before them, and what each policy does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb
import pytest

import icekeel as ik
from icekeel.core.errors import ContractError
from icekeel.core.time import parse_time
from icekeel.data import History, Ingested, Taking, Vault, ingest
from icekeel.data.batches import Known, checked, count
from icekeel.data.trial import try_source

NOW = parse_time("2026-01-01")


class Customers(ik.Events, time="since", id="customer"):
    customer: ik.Id
    email: ik.Text = ik.unique(optional=True)


class Orders(ik.Events, time="moment", id="order_id", contract=ik.Contract(unique=("shop", "receipt"))):
    order_id: ik.Id
    customer: ik.Id = ik.references(Customers.customer) & ik.optional()
    shop: ik.Cat = ik.one_of("n", "s", breach="warn")
    receipt: ik.Id = ik.optional()


def write(folder: Path, rows: list[str], columns: str, name: str = "one.parquet") -> Path:
    values = ", ".join(f"({row})" for row in rows)
    with duckdb.connect() as connection:
        connection.execute(f"COPY (SELECT * FROM (VALUES {values}) t({columns})) TO '{folder / name}'")
    return folder / name


def take(folder: Path, table: Any, rows: list[str], columns: str, name: str = "one.parquet") -> Ingested:
    source = write(folder, rows, columns, name)
    return ingest(History(folder / "history"), table.icekeel_table, [source], Taking(now=NOW))[0]


def customers(folder: Path, *rows: str, name: str = "customers.parquet") -> Ingested:
    return take(folder, Customers, list(rows), "customer, since, email", name)


def orders(folder: Path, *rows: str, name: str = "orders.parquet") -> Ingested:
    return take(folder, Orders, list(rows), "order_id, customer, shop, receipt, moment", name)


def day(number: int) -> str:
    return f"TIMESTAMP '2025-03-{number:02}'"


def test_a_reference_must_be_known_by_the_time_of_the_row(tmp_path: Path) -> None:
    assert orders(tmp_path, f"'o', 'a', 'n', '1', {day(5)}").reasons == {
        "customer: not known in Customers.customer": 1
    }
    customers(tmp_path, f"'a', {day(5)}, NULL")
    found = orders(
        tmp_path,
        f"'p', 'a', 'n', '2', {day(4)}",
        f"'q', 'a', 'n', '3', {day(5)}",
        f"'r', 'b', 'n', '4', {day(6)}",
        f"'s', NULL, 'n', '5', {day(6)}",
        name="later.parquet",
    )
    assert (found.kept, found.reasons) == (2, {"customer: not known in Customers.customer": 2})


def test_a_unique_value_is_its_first_events(tmp_path: Path) -> None:
    first = customers(
        tmp_path, f"'a', {day(1)}, 'x'", f"'b', {day(1)}, 'x'", f"'a', {day(2)}, 'x'", f"'c', {day(2)}, NULL"
    )
    assert (first.kept, first.reasons) == (3, {"email: another event has it": 1})
    second = customers(
        tmp_path, f"'d', {day(3)}, 'x'", f"'a', {day(3)}, 'x'", f"'e', {day(3)}, 'y'", name="2.parquet"
    )
    assert (second.kept, second.reasons) == (2, {"email: another event has it": 1})


def test_a_bad_row_takes_no_value_from_a_good_one(tmp_path: Path) -> None:
    found = customers(tmp_path, f"'', {day(1)}, 'x'", f"'b', {day(1)}, 'x'")
    assert (found.kept, found.reasons) == (1, {"customer: empty": 1})


def test_columns_may_be_unique_together_and_a_warning_keeps_the_row(tmp_path: Path) -> None:
    found = orders(
        tmp_path,
        f"'o', NULL, 'n', '1', {day(1)}",
        f"'p', NULL, 's', '1', {day(1)}",
        f"'q', NULL, 'n', '1', {day(1)}",
        f"'r', NULL, 'x', NULL, {day(1)}",
        f"'s', NULL, 'x', NULL, {day(1)}",
    )
    assert (found.kept, found.reasons) == (4, {"shop + receipt: another event has it": 1})
    assert found.warned == {"shop: not an allowed value": 2}


class Sales(
    ik.Events, time="moment", id="sale", contract=ik.Contract(rows=(2, 6), change=(0.5, 2.0), types="block")
):
    sale: ik.Id
    net: ik.Num = ik.between(0, 10, breach="block")
    gross: ik.Num = ik.optional(most=0.5)
    note: ik.Text = ik.optional()


COLUMNS = "sale, net, gross, note, moment"


def sales(folder: Path, count: int, number: int, change: tuple[str, str] = ("", "")) -> Ingested:
    rows = [
        f"'s{number}-{at}', 1.0::DOUBLE, 1.0::DOUBLE, 'x', {day(1)}".replace(*change) for at in range(count)
    ]
    return take(folder, Sales, rows, COLUMNS, f"sales{number}.parquet")


@pytest.mark.parametrize(
    ("count", "change", "what"),
    [
        (1, ("", ""), "1 rows, not 2 to 6"),
        (7, ("", ""), "7 rows, not 2 to 6"),
        (6, ("", ""), "6 rows, not 0.5 to 2.0 times the usual 2"),
        (2, ("1.0::DOUBLE, 1", "11.0::DOUBLE, 1"), "net: not 0 to 10"),
        (2, ("1.0::DOUBLE, 'x'", "NULL::DOUBLE, 'x'"), "gross: null in 100.00% of the rows, over 50.00%"),
        (2, ("1.0::DOUBLE, 'x'", "1::INTEGER, 'x'"), "gross: INTEGER, was DOUBLE"),
        (2, ("1.0::DOUBLE, 'x'", "1::FLOAT, 'x'"), "gross: FLOAT, was DOUBLE"),
    ],
)
def test_what_blocks_refuses_the_whole_batch(
    tmp_path: Path, count: int, change: tuple[str, str], what: str
) -> None:
    for number in range(3):
        assert sales(tmp_path, 2, number).kept == 2
    before = (tmp_path / "history" / "manifest.json").read_bytes()
    with pytest.raises(ContractError) as caught:
        sales(tmp_path, count, 9, change)
    first = caught.value.faults[0]
    assert (first.code, first.what, first.policy) == ("blocked", what, "block")
    assert (tmp_path / "history" / "manifest.json").read_bytes() == before
    assert sales(tmp_path, 2, 10).kept == 2


@pytest.mark.parametrize(
    ("change", "note"),
    [
        (("5::BIGINT", "'5'"), "key: VARCHAR, was BIGINT"),
        (("TIMESTAMP '", "TIMESTAMPTZ '"), "moment: TIMESTAMP WITH TIME ZONE, was TIMESTAMP"),
        (("true", "NULL"), ""),
    ],
)
def test_a_column_that_changes_its_type_is_noticed(
    tmp_path: Path, change: tuple[str, str], note: str
) -> None:
    class Keys(ik.Events, time="moment", id="key"):
        key: ik.Id
        paid: ik.Flag = ik.optional()

    row = f"5::BIGINT, true, {day(1)}"
    assert take(tmp_path, Keys, [row], "key, paid, moment", "1.parquet").notes == []
    again = take(tmp_path, Keys, [row.replace(*change)], "key, paid, moment", "2.parquet")
    assert (again.kept + again.skipped, again.notes) == (1, [note] if note else [])
    gone = take(
        tmp_path,
        Keys,
        [row.replace(*change).replace("true, ", "").replace("NULL, ", "")],
        "key, moment",
        "3.parquet",
    )
    assert gone.notes == ["paid: no such column, was BOOLEAN"]


def test_numbers_in_a_text_have_no_exact_type(tmp_path: Path) -> None:
    class Sums(ik.Events, time="moment", id="key"):
        key: ik.Id
        net: ik.Num

    for number, value in enumerate(("1", "1.5")):
        found = take(tmp_path, Sums, [f"'k', {value}, {day(1)}"], "key, net, moment", f"{number}.csv")
        assert (found.kept, found.notes) == (1, [])


def test_a_file_is_tried_without_being_taken(tmp_path: Path) -> None:
    history = History(tmp_path / "history")
    source = write(
        tmp_path,
        [f"'o', NULL, 'x', '', {day(1)}", f"'p', NULL, 'n', '1', {day(1)}"],
        "order_id, customer, shop, receipt, moment",
    )
    counted = try_source(history, Orders.icekeel_table, source, now=NOW, ahead=False)
    broken = {one.check.text: (one.rows, list(one.examples)) for one in counted.broken if one.rows}
    assert broken == {"receipt: empty": (1, [(1, "")]), "shop: not an allowed value": (1, [(1, "x")])}
    assert (counted.rows, counted.set_aside, counted.verdict) == (2, 1, "quarantine")
    assert not (tmp_path / "history").exists()


def test_private_values_are_held_against_history_as_pseudonyms(tmp_path: Path) -> None:
    class People(ik.Events, time="moment", id="key"):
        key: ik.Id
        person: ik.Id = ik.private() & ik.matches(r"C\d") & ik.unique()

    table, history, columns = People.icekeel_table, History(tmp_path / "history"), "key, person, moment"
    vault = Vault(tmp_path)
    list(
        ingest(
            history, table, [write(tmp_path, [f"'a', 'C1', {day(1)}"], columns)], Taking(now=NOW, vault=vault)
        )
    )
    rows = [f"'b', 'C1', {day(1)}", f"'c', 'D2', {day(1)}", f"'d', 'C3', {day(1)}", f"'e', 'C3', {day(1)}"]
    source = write(tmp_path, rows, columns, "2.parquet")
    counted = try_source(history, table, source, now=NOW, ahead=False, seek=vault.seek_many)
    assert {one.check.text: list(one.examples) for one in counted.broken if one.rows} == {
        "person: does not match C\\d": [(2, "(private)")],
        "person: another event has it": [(1, "(private)"), (4, "(private)")],
    }
    assert vault.find("person", "C3") is None  # nothing was made of what was only tried
    vault.close()


def test_what_was_found_while_reading_comes_first_and_is_not_missing_as_well() -> None:
    class Sums(ik.Events, time="moment", id="key"):
        key: ik.Id
        net: ik.Num

    table = Sums.icekeel_table
    rows = f"('k', 1.0::DOUBLE, {day(1)}, []), ('l', NULL, {day(1)}, ['net: not a number']), ('m', NULL, {day(1)}, [])"
    given = f"(SELECT * FROM (VALUES {rows}) t(key, net, moment, _wrong))"
    with duckdb.connect() as connection:
        statement = checked(connection, table, given, 0, [])
        found = connection.execute(f"SELECT _faults FROM ({statement}) ORDER BY _sequence").fetchall()
        counted = count(connection, table, given, [], Known(), held={})
    assert found == [([],), (["net: not a number"],), (["net: missing"],)]
    unread = next(one for one in counted.broken if one.check.code == "unread")
    assert (counted.set_aside, unread.rows, unread.examples) == (2, 1, [(2, ["net: not a number"])])


@pytest.mark.parametrize("name", ["parts.parquet", "parts.csv", "parts.json"])
def test_the_last_part_of_a_file_can_block_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    class Sums(ik.Events, time="moment", id="key"):
        key: ik.Id
        net: ik.Num = ik.at_least(0, breach="block")

    monkeypatch.setattr("icekeel.data.parts.PART_ROWS", 2)
    monkeypatch.setattr("icekeel.data.parts.PART_BYTES", 80)
    rows = [f"'k{number}', {number}::DOUBLE, {day(1)}" for number in range(9)]
    with pytest.raises(ContractError):
        take(tmp_path, Sums, [*rows, f"'z', -1::DOUBLE, {day(1)}"], "key, net, moment", name)
    assert History(tmp_path / "history").manifest().tables == {}
    assert take(tmp_path, Sums, rows, "key, net, moment", name).kept == 9
