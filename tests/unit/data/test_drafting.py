"""A drafted contract loads as it is printed, and the rows it was drafted from pass it."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import duckdb
import pytest

from icekeel.core.errors import SourceError
from icekeel.core.time import parse_time
from icekeel.data import History
from icekeel.data.drafting import Draft
from icekeel.data.trial import draft_source, try_source
from icekeel.define import EventTable

NOW = parse_time("2026-01-01")
ROWS = """
    SELECT 'ORD-' || (1000 + i) AS order_id, i % 40 AS store_id, ['north', 'south', 'it''s'][1 + (i % 3)::INT] AS region,
    'c' || (i % 90) || '.' || chr(65 + (i % 9)::INT) AS slot, (i % 12 + 1)::BIGINT AS month,
    i / 7.0::DOUBLE AS price, -i::DOUBLE AS change, (i % 100) / 100.0::DOUBLE AS share, 0.0::DOUBLE AS zero,
    CASE WHEN i % 10 > 0 THEN i % 2 = 0 END AS paid, 'some words ' || i AS note, NULL::DOUBLE AS empty,
    i::DECIMAL(9, 2) AS exact, 1.0::DOUBLE AS "class", [i] AS list, md5(i::VARCHAR) AS token,
    make_timestamp(1735689600000000 + i * 3600000000) AS created_at,
    make_timestamp(1735689600000000 + i * 3600000000 - 1000000) AS ordered_at,
    TIMESTAMP '2030-01-01' AS due_at FROM range(400) t(i)
"""
WANTED = """
    order_id: ik.Id = ik.matches(r"ORD-\\d{4}")
    store_id: ik.Id
    region: ik.Cat = ik.one_of("it's", "north", "south")
    slot: ik.Cat = ik.matches(r"c\\d+\\.[A-Z]")
    month: ik.Num = ik.between(0, 50)
    price: ik.Num = ik.between(0, 200)
    change: ik.Num = ik.between(-1_000, 0)
    share: ik.Num = ik.between(0, 1)
    zero: ik.Num = ik.at_least(0)
    paid: ik.Flag = ik.optional(most=0.17)
    note: ik.Text = ik.matches(r"some words \\d+") & ik.unique()
    # empty: holds nothing (DOUBLE)
    # exact: not a type that is read; cast it, a DECIMAL to DOUBLE (DECIMAL(9,2))
    # class: not a name for a field; give the column another (DOUBLE)
    # list: not a type that is read; cast it, a DECIMAL to DOUBLE (BIGINT[])
    token: ik.Id = ik.unique()
    created_at: ik.Time
    ordered_at: ik.Time
    due_at: ik.Time
"""


def write(folder: Path, rows: str, name: str = "orders.parquet") -> Path:
    with duckdb.connect() as connection:
        connection.execute(f"COPY ({rows}) TO '{folder / name}'")
    return folder / name


def drafted(source: Path, identifier: str = "", time: str = "") -> Draft:
    return draft_source(source, "Orders", now=NOW, identifier=identifier, time=time, said=source.name)


def loaded(draft: Draft) -> EventTable:
    module = ModuleType("drafted_contract")
    exec(compile(draft.text, "drafted", "exec", dont_inherit=True), vars(module))
    owner = vars(module)["Orders"]
    assert owner.icekeel_faults == []
    table: EventTable = owner.icekeel_table
    return table


def test_what_is_drafted_is_what_the_columns_show(tmp_path: Path) -> None:
    text = drafted(write(tmp_path, ROWS)).text
    assert (
        'class Orders(ik.Events, time="ordered_at", available="created_at", id="order_id", source="orders.parquet"):'
        in text
    )
    assert text.endswith(WANTED)


@pytest.mark.parametrize("name", ["orders.parquet", "orders.csv"])
def test_it_loads_and_its_own_rows_pass(tmp_path: Path, name: str) -> None:
    rows = f"SELECT * EXCLUDE (exact, list) FROM ({ROWS})"
    source = write(tmp_path, rows, name)
    counted = try_source(History(tmp_path / "h"), loaded(drafted(source)), source, now=NOW, ahead=False)
    assert (counted.rows, counted.verdict, [one.check.text for one in counted.broken if one.rows]) == (
        400,
        "pass",
        [],
    )


def test_little_data_says_little(tmp_path: Path) -> None:
    source = write(tmp_path, f"{ROWS} LIMIT 12")
    text = drafted(source).text
    assert "matches" not in text and "one_of" not in text and "unique" not in text
    assert (
        try_source(History(tmp_path / "h"), loaded(drafted(source)), source, now=NOW, ahead=False).verdict
        == "pass"
    )


@pytest.mark.parametrize(
    ("rows", "given", "code"),
    [
        (f"{ROWS} LIMIT 0", {}, "no_rows"),
        ("SELECT 1.5::DOUBLE AS a, TIMESTAMP '2025-01-01' AS b", {}, "no_id"),
        ("SELECT 'x' AS a, TIMESTAMP '2030-01-01' AS b", {}, "no_time"),
        (ROWS, {"identifier": "order"}, "missing_column"),
        (ROWS, {"time": "region"}, "no_time"),
    ],
)
def test_what_cannot_be_drafted_is_said(tmp_path: Path, rows: str, given: dict[str, str], code: str) -> None:
    with pytest.raises(SourceError) as caught:
        drafted(write(tmp_path, rows), **given)
    assert caught.value.code == code


def test_a_header_with_a_name_twice_is_said(tmp_path: Path) -> None:
    path = tmp_path / "twice.csv"
    path.write_text("order_id,net,net,at\n1,2,3,2025-01-01\n")
    with pytest.raises(SourceError) as caught:
        drafted(path)
    assert (caught.value.code, 'two columns are called "net"' in str(caught.value)) == ("twice", True)


def test_id_and_time_may_be_named(tmp_path: Path) -> None:
    text = drafted(write(tmp_path, ROWS), "token", "created_at").text
    assert 'time="created_at", id="token"' in text


def test_no_name_or_value_of_the_data_becomes_a_line_of_its_own(tmp_path: Path) -> None:
    source = tmp_path / "orders.parquet"
    rows = "SELECT 'o' || i AS order_id, TIMESTAMP '2025-03-01' AS at, 'a\nb' AS kind, 1 AS \"x\nimport os\" FROM range(400) t(i)"
    with duckdb.connect() as connection:
        connection.execute(f"COPY ({rows}) TO '{source}' (FORMAT parquet)")
    text = drafted(source).text
    assert r"ik.one_of('a\nb')" in text and "\nimport os" not in text.partition("class")[2]
