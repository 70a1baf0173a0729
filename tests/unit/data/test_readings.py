"""Texts become rows by the contract alone: nothing is guessed, and a line that is no row is set aside as it came."""

from __future__ import annotations

import csv
import gzip
import io
import json
import random
from pathlib import Path
from typing import Any

import duckdb
import pytest

import icekeel as ik
from icekeel.core.errors import SourceError
from icekeel.data import History, Ingested, StoredFile, Taking, ingest, parts
from icekeel.data import quarantine as aside


class Sales(ik.Events, time="at", id="sale"):
    sale: ik.Id
    shop: ik.Cat
    net: ik.Num = ik.optional()
    paid: ik.Flag = ik.optional()
    note: ik.Text = ik.optional()


TABLE = Sales.icekeel_table
HEADER = "sale,shop,net,paid,note,at\n"
DAY = 1_740_787_200_000_000


def rows_of(folder: Path, columns: str = "*", table: str = "Sales") -> list[tuple[Any, ...]]:
    files = [str(path) for path in History(folder / "history").files(table)]
    if not files:
        return []
    with duckdb.connect() as connection:
        return connection.execute(f"SELECT {columns} FROM read_parquet({files})").fetchall()


def take(folder: Path, content: str | bytes, name: str = "sales.csv", **how: Any) -> Ingested:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    (result,) = ingest(History(folder / "history"), TABLE, [path], Taking(**how))
    return result


def set_aside(folder: Path) -> list[tuple[Any, list[str]]]:
    return [(json.loads(row), faults) for row, faults in rows_of(folder, "row, faults", "quarantine/Sales")]


FIELDS = ", ".join(f'"{name}"' for name in TABLE.fields)


def test_values_are_what_the_contract_says_not_what_they_look_like(tmp_path: Path) -> None:
    text = HEADER + "007,5,1e3,true,2025-03-01,2025-03-01\n1.0,true,-.5,false,7,2025-03-01T12:00:00+12:00\n"
    text += f'9007199254740993,2025-03-01,,,"a ""b"", c",{DAY}\n'
    assert take(tmp_path, text).kept == 3
    assert rows_of(tmp_path, FIELDS) == [
        ("007", "5", 1000.0, 1.0, "2025-03-01", DAY),
        ("1.0", "true", -0.5, 0.0, "7", DAY),
        ("9007199254740993", "2025-03-01", None, None, 'a "b", c', DAY),
    ]


@pytest.mark.parametrize("mark", [",", ";", "\t", "|"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_what_stands_between_values_is_found_by_the_declared_names(
    tmp_path: Path, mark: str, end: str
) -> None:
    text = ("\ufeffsale,extra,shop,at\n" + "1,x,a,2025-03-01\n").replace(",", mark).replace("\n", end)
    assert take(tmp_path, text).kept == 1
    assert rows_of(tmp_path, 'sale, shop, net, "at"') == [("1", "a", None, DAY)]


@pytest.mark.parametrize(
    ("line", "row", "fault"),
    [
        (b"2,a,x,,,2025-03-01", {"net": "x"}, "net: not a number"),
        (b"2,a,1,maybe,,2025-03-01", {"paid": "maybe"}, "paid: not true or false"),
        (b"2,a,1,,,01/03/2025", {"at": "01/03/2025"}, "at: not a time"),
        (b"2,a,1,,,1740787200", {"at": "1740787200"}, "at: not a time"),
        (b"2,a,1,,,20250301", {"at": "20250301"}, "at: not a time"),
        (b"2,a,1,,,", {"at": None}, "at: missing"),
        (b"sale,shop,net,paid,note,at", {"net": "net"}, "line: the header again"),
        (b"2,a,1", "2,a,1", "line: fewer columns than the header"),
        (b"2,a,1,,,2025-03-01,b", "2,a,1,,,2025-03-01,b", "line: more columns than the header"),
        (b"2,a,1,,caf\xe9,2025-03-01", "2,a,1,,caf\\xe9,2025-03-01", "line: not UTF-8"),
        (b'2,a,1,,"open,2025-03-01', '2,a,1,,"open,2025-03-01', "line: quotes that do not match"),
        (b'2,a,1,,"open"ed,2025-03-01', '2,a,1,,"open"ed,2025-03-01', "line: quotes that do not match"),
    ],
)
def test_what_is_no_row_is_set_aside_as_it_came(tmp_path: Path, line: bytes, row: Any, fault: str) -> None:
    good = b"1,a,1,,,2025-03-01\n", b'3,a,3,,"two\nlines",2025-03-01\n'
    result = take(tmp_path, HEADER.encode() + good[0] + line + b"\n" + good[1])
    assert (result.kept, result.quarantined, dict(result.reasons)) == (2, 1, {fault: 1})
    assert rows_of(tmp_path, "sale, note") == [("1", None), ("3", "two\nlines")]
    ((raw, faults),) = set_aside(tmp_path)
    assert faults == [fault]
    assert (raw if isinstance(raw, str) else raw | row) == (row if isinstance(row, str) else raw)


def test_lines_may_end_in_different_ways(tmp_path: Path) -> None:
    text = HEADER + "1,a,1,,,2025-03-01\r\n2,a,1,,,2025-03-01\n\n3,a,1,,,2025-03-01\r\n4,a,1,,,2025-03-01"
    assert take(tmp_path, text).kept == 4


LONE = "sale,shop,at\n1,a,2025-03-01\n"


@pytest.mark.parametrize(
    ("name", "content", "code", "where"),
    [
        ("e.csv", b"", "empty_file", "e.csv"),
        ("e.jsonl", b"", "empty_file", "e.jsonl"),
        ("u.csv", LONE.encode("utf-16"), "unreadable", "u.csv"),
        ("l.csv", "sale,größe\n".encode("latin-1"), "unreadable", "l.csv, line 1"),
        ("t.csv", b"sale,shop,sale,at\n1,a,1,2025-03-01\n", "twice", "t.csv, line 1"),
        ("m.csv", b"sale,shopp,at\n1,a,2025-03-01\n", "missing_column", "m.csv"),
        ("h.csv", b"1,a,2025-03-01\n2,a,2025-03-01\n", "missing_column", "h.csv"),
        ("r.csv", b"sale,shop,at\n1,a\n2\n", "unreadable", "r.csv"),
        ("d.csv", LONE.encode() + b"2,a,03/04/2025\n" * 9, None, ""),
        ("D.csv", b"sale,shop,at\n" + b"2,a,03/04/2025\n" * 10, "wrong_type", "D.csv"),
        ("c.csv", b"sale;shop;net;at\n" + b"2;a;1,5;2025-03-01\n" * 10, "wrong_type", "c.csv"),
        ("z.csv.gz", gzip.compress(LONE.encode() * 999, mtime=0)[:-9], "unreadable", "z.csv.gz"),
        ("g.csv.gz", gzip.compress(LONE.encode(), mtime=0), None, ""),
        ("b.jsonl", b'{"sale": ', "unreadable", "b.jsonl"),
        ("a.json", b'[{"sale": "1"', "unreadable", "a.json"),
        ("k.jsonl", b'{"sale": "1", "shpo": "a", "at": 0}\n', "missing_column", "k.jsonl"),
        ("n.jsonl", b'{"sale": "1", "shop": "a", "at": 0, "net": "1"}\n' * 10, "wrong_type", "n.jsonl"),
        ("x.xlsx", b"", "unknown_format", "x.xlsx"),
        ("p.parquet", b"PAR1 and no more", "unreadable", "p.parquet"),
        ("x.parquet.gz", b"", "unknown_format", "x.parquet.gz"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused_and_nothing_of_it_is_kept(
    tmp_path: Path, name: str, content: bytes, code: str | None, where: str
) -> None:
    if code is None:
        assert take(tmp_path, content, name).kept == 1
        return
    with pytest.raises(SourceError) as caught:
        take(tmp_path, content, name)
    assert (caught.value.code, str(tmp_path / where)) == (code, caught.value.faults[0].where)
    assert not History(tmp_path / "history").manifest().tables
    (tmp_path / name).unlink()
    assert take(tmp_path, LONE).kept == 1  # and it is in nobody's way


def test_a_file_of_the_header_alone_holds_no_rows(tmp_path: Path) -> None:
    assert (take(tmp_path, HEADER).kept, take(tmp_path, HEADER.strip(), "other.csv").kept) == (0, 0)


def test_json_lines_keep_their_types_and_their_bad_lines(tmp_path: Path) -> None:
    lines = [
        '{"sale": "007", "shop": "a", "net": 1.50, "paid": true, "note": "é", "at": "2025-03-01", "more": [1]}',
        f'{{"sale": 9007199254740993, "shop": "a", "net": null, "at": {DAY}}}',
        '{"sale": "2", "shop": 5, "net": "1", "paid": 1, "at": "soon"}',
        "broken{",
        "[1]",
        '{"sale": "3"}',
    ]
    result = take(tmp_path, "\n".join(lines).encode() + b"\n\xff\n\n", "sales.jsonl")
    assert (result.kept, result.quarantined) == (2, 5)
    assert rows_of(tmp_path, FIELDS) == [
        ("007", "a", 1.5, 1.0, "é", DAY),
        ("9007199254740993", "a", None, None, None, DAY),
    ]
    assert set_aside(tmp_path) == [
        (json.loads(lines[2]), ["shop: not a text", "net: not a number", "paid: not true or false", "at: not a time"]),
        ("broken{", ["line: no JSON object"]),
        ("[1]", ["line: no JSON object"]),
        ({"sale": "3"}, ["shop: missing", "at: missing"]),
        ("\\xff", ["line: not UTF-8"]),
    ]  # fmt: skip


def test_a_json_array_is_read_too(tmp_path: Path) -> None:
    text = '[\n {"sale": "1",\n  "shop": "a", "at": 0}, {"sale": "2", "shop": "b", "at": 0}]'
    assert take(tmp_path, text, "sales.json").kept == 2


def awkward(rng: random.Random, rows: int) -> tuple[str, list[tuple[str, str]]]:
    """A CSV of values with quotes, delimiters and line ends in them, and what it says."""
    values = ["", "x", 'a "b"', "a, b", "two\nlines", "three\r\nlines\n", "é" * 40, "'", "a\tb"]
    said = [(f"{place}", rng.choice(values)) for place in range(rows)]
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator=rng.choice(["\n", "\r\n"]), quoting=rng.choice([0, 1]))
    writer.writerow(["sale", "shop", "note", "at"])
    writer.writerows([sale, "s", note, "2025-03-01"] for sale, note in said)
    return text.getvalue(), said


@pytest.mark.parametrize("seed", range(6))
def test_however_a_file_is_cut_its_rows_are_the_same(
    tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = random.Random(seed)
    text, said = awkward(rng, 40)
    monkeypatch.setattr(parts, "PART_BYTES", rng.choice([90, 300, 1000]))
    steps: list[str] = []
    assert take(tmp_path, text, progress=steps.append).kept == 40
    assert steps
    found = sorted(rows_of(tmp_path, "sale, coalesce(note, '')"), key=lambda row: int(row[0]))
    assert found == said


class Killed(Exception):
    pass


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet", "csv.gz"])
def test_a_run_that_ends_early_is_taken_up_where_it_was(
    tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "PART_BYTES", 2000)
    monkeypatch.setattr(parts, "PART_ROWS", 100)
    path = tmp_path / f"sales.{form}"
    made = "SELECT range::VARCHAR AS sale, 'a' AS shop, range::DOUBLE AS net, '2025-03-01' AS note, make_timestamp(range) AS at FROM range(1000)"
    with duckdb.connect() as connection:
        kind = {"jsonl": "json", "csv.gz": "csv, COMPRESSION gzip"}.get(form, form)
        connection.execute(f"COPY ({made}) TO '{path}' (FORMAT {kind})")
    history, runs, left = History(tmp_path / "history"), 0, 0

    def announce(table: str, file: StoredFile) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise Killed

    kept: list[int] = []
    while True:
        left, runs = 2, runs + 1
        try:
            (result,) = ingest(history, TABLE, [path], Taking(announce=announce))
            break
        except Killed:
            kept.append(history.manifest().rows("Sales"))
    assert runs > 3
    assert kept == sorted(set(kept))  # each run went on
    assert result.kept < 500
    assert sorted(int(sale) for (sale,) in rows_of(tmp_path, "sale")) == list(range(1000))
    assert not list((tmp_path / "history" / "spool").glob("*/*"))
    (again,) = ingest(history, TABLE, [path])
    assert (again.kept, again.skipped) == (0, 1000)


def test_an_export_of_everything_adds_what_is_new_or_changed(tmp_path: Path) -> None:
    days = ["1,a,1,,,2025-03-01\n2,a,2,,,2025-03-01\nbad\n", "", "", ""]
    days[1] = days[0].replace("2,a,2,", "2,a,3,") + "3,a,1,,,2025-03-02\n"
    days[2] = days[1].replace("2,a,3,", "2,a,2,")  # back to what it was
    days[3] = days[2] + "4,a,1,,,2025-03-02\n"
    found = [take(tmp_path, HEADER + text, f"{day}.csv") for day, text in enumerate(days)]
    assert [(one.kept, one.changed, one.skipped, one.quarantined) for one in found] == [
        (2, 0, 0, 1),
        (2, 1, 2, 0),
        (1, 1, 3, 0),
        (1, 0, 4, 0),
    ]
    assert [row[0] for row in rows_of(tmp_path, "arg_max(net, _sequence) FILTER (sale = '2')")] == [2.0]


def test_a_file_that_vanishes_or_changes_is_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "sales.csv"
    with pytest.raises(SourceError) as caught:
        list(ingest(History(tmp_path / "history"), TABLE, [path]))
    assert (caught.value.code, caught.value.faults[0].where) == ("unreadable", str(path))
    monkeypatch.setattr(parts, "PART_BYTES", 100)
    text = HEADER + "1,a,1,,,2025-03-01\n" * 50

    def change(table: str, file: StoredFile) -> None:
        path.write_text(text + "2,b,,,,2025-03-01\n")

    with pytest.raises(SourceError) as caught:
        take(tmp_path, text, announce=change)
    assert caught.value.code == "source_changed"


def test_a_file_without_a_row_is_told_of_with_the_reason_of_the_line_that_is_shown(tmp_path: Path) -> None:
    with pytest.raises(SourceError) as caught:
        take(tmp_path, "sale,net,paid,label,due,moment\na,b,c,d,e,f,g,h\nz\n")
    fault = caught.value.faults[0]
    assert (fault.what, fault.got) == (
        "no line of it is a row; more columns than the header",
        "'a,b,c,d,e,f,g,h'",
    )


OKAY, BAD = "a,s,1,,,2025-03-01", "bad,s,no,,,2025-03-01"


@pytest.mark.parametrize("size", [1 << 20, 40])
@pytest.mark.parametrize(
    ("rows", "name"),
    [
        ([OKAY, BAD, OKAY, "2" + BAD], "plain"),
        (['"a\nnd",s,1,,,2025-03-01', BAD, '"x",s,1,,"o\n\nh",2025-03-01', "2" + BAD], "quoted"),
        ([OKAY, "a,1", BAD, "", OKAY, "2" + BAD, 'x"y,1', OKAY], "ragged"),
    ],
)
def test_a_row_that_was_set_aside_says_in_which_line_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int, rows: list[str], name: str
) -> None:
    monkeypatch.setattr(parts, "PART_BYTES", size)
    text = "\n".join([HEADER.strip(), *rows]) + "\n"
    take(tmp_path, text)
    found = list(aside.set_aside(History(tmp_path / "history"), tmp_path / "journal", "Sales"))
    assert found
    lines = text.splitlines()
    for one in found:
        begin = one.row["sale"] if isinstance(one.row, dict) else one.row
        line = int(one.where.rpartition(", line ")[2])
        assert one.where.startswith(str(tmp_path / "sales.csv"))
        assert lines[line - 1].startswith(begin.splitlines()[0])
    assert {"plain": 2, "quoted": 2, "ragged": 4}[name] == len(found)


def test_of_json_lines_and_parquet_it_is_told_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good, bad = ({"sale": "a", "shop": "s", "net": net, "at": "2025-03-01"} for net in (1, "no"))
    lines = [json.dumps(good), "", json.dumps(bad), "no JSON", json.dumps({**bad, "sale": "b"})]
    take(tmp_path, "\n".join(lines), "sales.jsonl")
    plain = [json.dumps({**good, "sale": "c"}), json.dumps({**bad, "sale": "d"})]
    take(tmp_path, "\n".join(plain) + "\n", "plain.jsonl")
    monkeypatch.setattr(parts, "PART_ROWS", 2)
    with duckdb.connect() as connection:
        values = (
            "SELECT 'p' || n AS sale, 's' AS shop, CASE WHEN n <> 4 THEN TIMESTAMP '2025-03-01' END AS at "
            "FROM range(1, 7) t(n)"
        )
        connection.execute(f"COPY ({values}) TO '{tmp_path / 'sales.parquet'}' (FORMAT parquet)")
    ingest(History(tmp_path / "history"), Sales.icekeel_table, [tmp_path / "sales.parquet"])
    found = aside.set_aside(History(tmp_path / "history"), tmp_path / "journal", "Sales")
    assert {Path(one.where).name for one in found} == {
        "sales.jsonl, line 3", "sales.jsonl, line 4", "sales.jsonl, line 5", "plain.jsonl, line 2", "sales.parquet, line 4"
    }  # fmt: skip
