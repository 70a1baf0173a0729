"""Rows of databases, objects and tables of the caller: what is new is taken, what changed becomes a version."""

from __future__ import annotations

import datetime
import decimal
import importlib
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import fsspec
import numpy as np
import pandas
import polars
import pyarrow
import pytest

import icekeel as ik
from icekeel.core.errors import ContractError, SourceError
from icekeel.core.kinds import Kind
from icekeel.core.time import parse_time
from icekeel.data import History, Ingested, StoredFile, Taking, find_sources, ingest, ingest_table
from icekeel.data.questions import read_questions
from icekeel.data.sources import _token, as_lines, lowered, note_types, types_of, watermark_of
from icekeel.data.trial import draft_source, try_source
from icekeel.define import Sql
from icekeel.define.fields import Field

NOW = parse_time("2026-01-01")


class Orders(ik.Events, time="placed", available="updated", id="order_id", deleted="gone"):
    order_id: ik.Id
    net: ik.Num = ik.at_least(0)
    gone: ik.Flag = ik.optional()


TABLE = Orders.icekeel_table
SHOP = Sql("orders", "sqlite:///shop.db", "updated")


def change(folder: Path, *statements: str) -> None:
    with closing(sqlite3.connect(folder / "shop.db")) as database, database:
        for one in statements:
            database.execute(one)


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    change(
        tmp_path,
        "CREATE TABLE orders (order_id INTEGER, net NUMERIC, gone INTEGER, placed TEXT, updated TEXT)",
        "INSERT INTO orders VALUES (7, 1.5, 0, '2025-03-01 10:00:00', '2025-03-01 10:00:00')",
        "INSERT INTO orders VALUES (8, 2, 0, '2025-03-01 11:00:00', '2025-03-02 10:00:00.5')",
        "INSERT INTO orders VALUES (9, -2, 0, '2025-03-02 11:00:00', '2025-03-03 10:00:00')",
    )
    return tmp_path


def take(folder: Path, source: Any = SHOP, **how: Any) -> Ingested:
    inputs = find_sources(folder, source)
    (result,) = ingest(History(folder / "history"), TABLE, inputs, Taking(**{"now": NOW, **how}))
    return result


def counts(result: Ingested) -> tuple[int, int, int, int, int]:
    return result.kept, result.changed, result.deleted, result.quarantined, result.skipped


def stored(folder: Path, columns: str = "order_id, net, _deleted") -> list[tuple[Any, ...]]:
    files = [str(path) for path in History(folder / "history").files("Orders")]
    with duckdb.connect() as connection:
        return connection.execute(
            f"SELECT {columns} FROM read_parquet({files}) ORDER BY _sequence"
        ).fetchall()


def test_of_a_database_what_is_new_is_taken_and_what_changed_becomes_a_version(shop: Path) -> None:
    assert counts(take(shop)) == (2, 0, 0, 1, 0)
    assert stored(shop) == [("7", 1.5, 0.0), ("8", 2.0, 0.0)]
    assert counts(take(shop)) == (0, 0, 0, 0, 1)  # the row at the watermark is read again, and known
    change(
        shop,
        "INSERT INTO orders VALUES (10, 5, 0, '2025-03-03 10:00:00', '2025-03-03 10:00:00')",  # at the watermark
        "UPDATE orders SET net = 3, updated = '2025-03-04 10:00:00' WHERE order_id = 8",
        "UPDATE orders SET gone = 1, updated = '2025-03-05 10:00:00' WHERE order_id = 7",
    )
    assert counts(take(shop)) == (3, 2, 0, 0, 1)
    assert stored(shop)[2:] == [("10", 5.0, 0.0), ("8", 3.0, 0.0), ("7", None, 1.0)]
    late = "INSERT INTO orders VALUES (11, 5, 0, '2025-03-04 12:00:00', '2025-03-04 12:00:00')"
    change(shop, late)  # committed behind the watermark
    assert counts(take(shop)) == (0, 0, 0, 0, 1)
    patient = Sql(SHOP.query, SHOP.url, SHOP.watermark, look_back="2d")
    assert counts(take(shop, patient)) == (1, 0, 0, 0, 4)
    assert counts(take(shop, patient)) == (0, 0, 0, 0, 5)


def test_a_row_that_changes_within_the_look_back_is_a_version_each_time(shop: Path) -> None:
    source = Sql(SHOP.query, SHOP.url, SHOP.watermark, look_back="30d")
    take(shop, source)
    for net, known in ((9, 2), (2, 2)):  # and back to what it was
        change(shop, f"UPDATE orders SET net = {net} WHERE order_id = 8")
        assert counts(take(shop, source)) == (1, 1, 0, 0, known)
    assert stored(shop, "net")[1:] == [(2.0,), (9.0,), (2.0,)]


def test_a_query_without_a_watermark_is_read_whole_and_may_say_what_is_gone(shop: Path) -> None:
    query = "SELECT order_id, net, placed, updated FROM orders WHERE placed > '2025-01-01 :00' AND gone = 0;"
    source = Sql(query, SHOP.url, whole=True)
    assert counts(take(shop, source)) == (2, 0, 0, 1, 0)
    change(shop, "UPDATE orders SET gone = 1 WHERE order_id IN (8, 9)")
    assert counts(take(shop, source)) == (1, 0, 1, 0, 1)
    assert stored(shop, "order_id, net, gone, updated, _available, _deleted")[-1] == (
        "8", None, 1.0, NOW, NOW, 1.0,
    )  # fmt: skip
    assert counts(take(shop, source)) == (0, 0, 0, 0, 1)
    change(shop, "UPDATE orders SET gone = 0 WHERE order_id = 8")
    assert take(shop, source, now=NOW + 1).kept == 0  # it says what was known before it was deleted
    change(shop, "DELETE FROM orders")
    with pytest.raises(SourceError) as caught:
        take(shop, source)
    assert caught.value.code == "no_rows"


@pytest.mark.parametrize(
    ("source", "code", "told"),
    [
        (Sql("order", SHOP.url), "unreadable", "order"),
        (Sql("SELECT order_id FROM orders", SHOP.url), "missing_column", "net"),
        (Sql("orders", "sqlite:///no.db"), "no_database", "no.db"),
        (Sql("orders", "env:SHOP_DB"), "no_database", "SHOP_DB is not set"),
        (Sql("orders", "postgresql+nothing://h/d"), "no_database", ""),
        (Sql("orders", "env:SHOP_URL"), "no_driver", "pip install"),
    ],
)
def test_a_database_that_cannot_be_read_is_told_of_and_no_password_is(
    shop: Path, source: Sql, code: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHOP_URL", "postgresql+psycopg2://me:hush@127.0.0.1:1/shop")
    with pytest.raises(SourceError) as caught:
        take(shop, source)
    assert caught.value.code == code
    assert told in str(caught.value) and "hush" not in str(caught.value)


def test_a_database_that_vanishes_midway_leaves_whole_parts_and_is_gone_on_with(
    shop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = "WITH RECURSIVE n(i) AS (SELECT 100 UNION ALL SELECT i + 1 FROM n WHERE i < 399)"
    change(
        shop,
        f"INSERT INTO orders {rows} SELECT i, i, 0, '2025-04-01', datetime('2025-04-01', i || ' minutes') FROM n",
    )
    monkeypatch.setattr("icekeel.data.sources.FETCH", 50)
    monkeypatch.setattr(sys.modules[Ingested.__module__], "QUERY_ROWS", 50)
    parts = 0

    def announce(table: str, file: StoredFile) -> None:
        nonlocal parts
        parts += 1
        if parts == 3:
            raise OSError("the connection was reset")

    with pytest.raises(OSError, match="reset"):
        take(shop, announce=announce)
    assert len(stored(shop)) == 99
    assert take(shop).kept + len(stored(shop)) > 300
    assert sorted(int(one) for (one,) in stored(shop, "order_id")) == [7, 8, *range(100, 400)]


@pytest.mark.parametrize(
    ("value", "back", "lower"),
    [
        (datetime.datetime(2025, 3, 1, 12), "1h", datetime.datetime(2025, 3, 1, 11)),
        (datetime.datetime(2025, 3, 1, 12, tzinfo=datetime.UTC), "", datetime.datetime(2025, 3, 1, 12, tzinfo=datetime.UTC)),
        (datetime.date(2025, 3, 1), "1h", datetime.date(2025, 2, 28)),
        ("2025-03-01 12:00:00.75", "1h", "2025-03-01 11:00:00"),
        ("2025-03-01T12:00:00Z", "1h", "2025-03-01T11:00:00"),
        ("2025-03-01", "1d", "2025-02-28"),
        ("2025-03-01 12:00:00.75", "", "2025-03-01 12:00:00.75"),
        (1_000_000_000, "1s", 999_000_000),
        (decimal.Decimal("12.5"), "", decimal.Decimal("12.5")),
        (7, "", 7),
    ],
)  # fmt: skip
def test_a_watermark_is_remembered_as_the_database_spells_it(value: Any, back: str, lower: Any) -> None:
    found = lowered(watermark_of([{"w": value}, {"w": None}], "w"), back)
    assert (found, type(found)) == (lower, type(lower))


def test_what_a_driver_gives_is_written_without_loss() -> None:
    row = {
        "d": decimal.Decimal("12345678901234567.891"),
        "t": datetime.datetime(2025, 3, 1, 12, 0, 0, 123456),
        "s": "é\n",
        "i": 2**63 - 1,
        "z": None,
    }
    assert as_lines([row]) == (
        b'{"d":12345678901234567.891,"t":"2025-03-01T12:00:00.123456","s":"\xc3\xa9\\n","i":9223372036854775807,"z":null}\n'
    )


@pytest.fixture
def storage() -> Iterator[Any]:
    system = fsspec.filesystem("memory")
    system.store.clear()
    yield system
    system.store.clear()


def test_objects_are_read_once_and_again_when_they_are_written_again(tmp_path: Path, storage: Any) -> None:
    text = "order_id,net,placed,updated\n1,5,2025-03-01,2025-03-01\n"
    storage.pipe("/shop/a.csv", text.encode())
    storage.pipe("/shop/b.csv", text.replace("1,5", "2,5").encode())

    def run() -> list[tuple[int, ...]]:
        inputs = find_sources(tmp_path, "memory://shop/*.csv")
        return [counts(one) for one in ingest(History(tmp_path / "history"), TABLE, inputs, Taking(now=NOW))]

    assert run() == [(1, 0, 0, 0, 0)] * 2
    assert run() == [(0, 0, 0, 0, 1)] * 2
    storage.pipe("/shop/b.csv", text.replace("1,5", "2,6").encode())
    assert run() == [(0, 0, 0, 0, 1), (1, 1, 0, 0, 0)]
    assert sorted(stored(tmp_path)) == [("1", 5.0, 0.0), ("2", 5.0, 0.0), ("2", 6.0, 0.0)]


def test_a_copy_that_was_begun_goes_on_and_an_object_that_changes_is_told_of(
    tmp_path: Path, storage: Any
) -> None:
    storage.pipe("/shop/a.csv", b"order_id,net\n" * 100)
    (source,) = find_sources(tmp_path, "memory://shop/a.csv")
    spool = tmp_path / "spool"
    spool.mkdir()
    (spool / f"{source.token}.begun").write_bytes(b"ORDER_ID,net\n")  # type: ignore[union-attr]
    copy = source.fetch(spool)  # type: ignore[union-attr]
    assert copy.read_bytes() == b"ORDER_ID,net\n" + b"order_id,net\n" * 99
    copy.unlink()
    storage.pipe("/shop/a.csv", b"something else")
    with pytest.raises(SourceError) as caught:
        source.fetch(spool)  # type: ignore[union-attr]
    assert caught.value.code == "source_changed"
    assert not list(spool.iterdir())


@pytest.mark.parametrize(
    ("url", "code", "told"),
    [
        ("memory://shop/none-*.csv", "no_source", "no such file"),
        ("s4://shop/a.csv", "unreadable", "s4"),
        ("s3://shop/a.csv", "no_driver", "pip install s3fs"),
    ],
)
def test_storage_that_cannot_be_reached_is_told_of(tmp_path: Path, url: str, code: str, told: str) -> None:
    with pytest.raises(SourceError) as caught:
        find_sources(tmp_path, url)
    assert caught.value.code == code and told in str(caught.value)


ROWS = {
    "order_id": ["1", "2", None],
    "net": [5.0, 6.0, 7.0],
    "placed": np.array(["2025-03-01"] * 3, dtype="datetime64[us]"),
    "updated": np.array(["2025-03-01"] * 3, dtype="datetime64[us]"),
}


@pytest.mark.parametrize("make", [pandas.DataFrame, polars.DataFrame, pyarrow.table])
def test_tables_of_the_caller_are_taken_like_files_and_only_once(tmp_path: Path, make: Any) -> None:
    history, how = History(tmp_path / "history"), Taking(now=NOW)
    assert counts(ingest_table(history, TABLE, make(ROWS), how)) == (2, 0, 0, 1, 0)
    assert counts(ingest_table(history, TABLE, make(ROWS), how)) == (0, 0, 0, 0, 3)
    changed = ROWS | {"net": [5.0, 8.0, 7.0]}
    assert counts(ingest_table(history, TABLE, make(changed), how)) == (1, 1, 0, 0, 2)


def test_dicts_too_and_what_is_no_table_is_told_of(tmp_path: Path) -> None:
    history = History(tmp_path / "history")
    row = {"order_id": "1", "net": 5, "placed": datetime.datetime(2025, 3, 1), "updated": "2025-03-01"}
    assert ingest_table(history, TABLE, [row, row | {"net": "x"}]).kept == 1
    for wrong, code in ((5, "not_a_table"), (pandas.DataFrame({"order_id": ["1"]}), "missing_column")):
        with pytest.raises(SourceError) as caught:
            ingest_table(history, TABLE, wrong)
        assert caught.value.code == code


FIELDS = [Field("order_id", Kind.ID), Field("net", Kind.NUM), Field("updated", Kind.TIME)]


def test_past_questions_come_from_the_same_sources(shop: Path, storage: Any) -> None:
    history = History(shop / "history")
    want = [("7", 1.5), ("8", 2.0), ("9", -2.0)]
    text = "order_id,net,updated\n7,1.5,2025-03-01\n8,2,2025-03-02\n9,-2,2025-03-03\n"
    (shop / "orders.csv").write_text(text)
    storage.pipe("/shop/a.csv", text.encode())
    for source in (Sql("orders", SHOP.url), "orders.csv", "memory://shop/a.csv"):
        frame = read_questions(history, source, shop, FIELDS)
        assert list(zip(frame["order_id"], frame["net"], strict=True)) == want
    (shop / "orders.csv").write_text(text + "10,x,2025-03-03\n")
    with pytest.raises(SourceError) as caught:
        read_questions(history, "orders.csv", shop, FIELDS)
    assert caught.value.code == "unreadable_rows" and "net: not a number" in str(caught.value)


def test_a_source_of_any_kind_is_tried_and_drafted_from(shop: Path, storage: Any) -> None:
    history = History(shop / "history")
    text = "order_id,net,placed,updated\n1,5,2025-03-01,2025-03-01\n2,-5,2025-03-01,2025-03-01\n"
    storage.pipe("/shop/a.csv", text.encode())
    many = replace(TABLE, contract=ik.Contract(rows=(1_000, None)))  # of a query all rows are no batch
    for source, table, rows in ((SHOP, many, 3), ("memory://shop/a.csv", TABLE, 2)):
        (found,) = find_sources(shop, source)
        counted = try_source(history, table, found, now=NOW, ahead=False)
        assert (counted.rows, counted.set_aside, counted.verdict) == (rows, 1, "quarantine")
        drafted = draft_source(found, "Shop", now=NOW, identifier="order_id", time="placed", said=source)
        told = "ik.sql(query='orders', url='sqlite:///shop.db'" if rows == 3 else '"memory://shop/a.csv"'
        assert f"source={told}" in drafted.text
    assert not history.folder.exists()


def test_an_address_is_read_again_when_what_its_server_says_of_it_changes() -> None:
    class Web:  # as fsspec does over HTTP
        tag = "a"

        def info(self, path: str) -> dict[str, object]:
            return {"name": path, "size": 5, "ETag": self.tag}

        def unstrip_protocol(self, path: str) -> str:
            return path

        def ukey(self, path: str) -> str:
            return path

    web = Web()
    before = _token(web, "https://host/a.csv")
    assert _token(web, "https://host/a.csv") == before
    web.tag = "b"
    assert _token(web, "https://host/a.csv") != before


def test_a_folder_may_have_any_name_and_a_query_may_end_in_a_comment(shop: Path) -> None:
    odd = shop / "a [1] *"
    odd.mkdir()
    (odd / "b.csv").write_text("")
    assert find_sources(odd, "*.csv") == [odd / "b.csv"]
    assert counts(take(shop, Sql("SELECT * FROM orders -- all of them", SHOP.url))) == (2, 0, 0, 1, 0)


class Counted(ik.Events, time="placed", id="order_id", contract=ik.Contract(rows=(3, 5), types="block")):
    order_id: ik.Id
    net: ik.Num = ik.optional()
    note: ik.Text = ik.optional()


def counted(folder: Path, query: str, table: type[ik.Events] = Counted) -> Ingested:
    source = find_sources(folder, Sql(query, SHOP.url))
    (result,) = ingest(History(folder / "history"), table.icekeel_table, source, Taking(now=NOW))
    return result


@pytest.mark.parametrize("part", [2, 200_000])
def test_what_is_said_of_a_batch_is_judged_of_a_run_and_not_of_its_parts(
    shop: Path, monkeypatch: pytest.MonkeyPatch, part: int
) -> None:
    monkeypatch.setattr(importlib.import_module("icekeel.data.ingest"), "QUERY_ROWS", part)
    monkeypatch.setattr(importlib.import_module("icekeel.data.sources"), "FETCH", 1)
    for given in (
        "order_id < 9",
        "order_id < 9 UNION ALL SELECT * FROM orders UNION ALL SELECT * FROM orders",
    ):
        with pytest.raises(ContractError, match=r"rows, not 3 to 5"):
            counted(shop, f"SELECT * FROM orders WHERE {given}")
    assert not (shop / "history" / "Counted").exists()  # not a part of it was taken
    assert counted(shop, "SELECT * FROM orders").kept == 3
    assert counted(shop, "SELECT * FROM orders WHERE order_id = 0").known  # no news are no batch


class Typed(ik.Events, time="placed", id="order_id"):
    order_id: ik.Id
    net: ik.Num = ik.optional()
    note: ik.Text = ik.optional()


@pytest.mark.parametrize("table", [Counted, Typed])
def test_a_column_of_a_database_that_changes_its_type_is_noticed(shop: Path, table: type[ik.Events]) -> None:
    said = {table: "net: VARCHAR, was number"}
    assert counted(shop, "SELECT order_id, net, placed FROM orders", table).notes == []
    same = "SELECT order_id + 10 AS order_id, CAST(net AS INTEGER) AS net, placed FROM orders"
    assert counted(shop, same, table).notes == []  # a number is a number
    empty = "SELECT order_id + 20 AS order_id, NULL AS net, placed FROM orders"
    assert counted(shop, empty, table).notes == []
    other = "SELECT order_id + 30 AS order_id, CAST(net AS TEXT) AS net, placed FROM orders"
    if table is Typed:
        assert counted(shop, other, table).notes == [said[table]]
        return
    with pytest.raises(ContractError) as caught:
        counted(shop, other, table)
    assert [fault.what for fault in caught.value.faults] == [said[table]]


def test_a_decimal_is_another_number_to_who_has_both() -> None:
    counts: dict[str, Any] = {}
    note_types([{"a": decimal.Decimal(1), "b": 1, "c": None}, {"a": None, "b": 2.5, "c": None}], counts)
    assert types_of(counts) == {"a": "DECIMAL", "b": "DOUBLE", "c": '"NULL"'}
