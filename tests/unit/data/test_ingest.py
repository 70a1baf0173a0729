"""Files into history: good rows are kept exactly, bad ones set aside with every reason, nothing is done twice."""

from __future__ import annotations

import importlib
import json
import multiprocessing
import os
from pathlib import Path
from typing import Any

import duckdb
import pytest

import icekeel as ik
from icekeel.core.errors import SourceError
from icekeel.core.time import LAST_TIME
from icekeel.data import AVAILABLE, DELETED, SEQUENCE, History, Ingested, Taking, find_sources, ingest
from icekeel.data.contracts import CLOCK_SKEW

inner = importlib.import_module("icekeel.data.ingest")  # the package has a function of that name
DAY_ONE = 1_740_787_200_000_000


class Orders(ik.Events, time="ordered_at", available="booked_at", id="order_id", source="orders*.csv"):
    order_id: ik.Id
    customer: ik.Cat = ik.one_of("a", "it's")
    net: ik.Num = ik.at_least(0)
    gross: ik.Num = ik.optional()
    paid: ik.Flag = ik.optional()
    note: ik.Text = ik.optional()

    @ik.rule("gross is at least net")
    def sane(row: Any) -> Any:
        return row.gross >= row.net


class Copies(ik.Events, time="ordered_at", id="order_id"):
    order_id: ik.Id


TABLE = Orders.icekeel_table
GOOD = (
    "SELECT '007' AS order_id, 'a' AS customer, 1.5::DOUBLE AS net, 2.0::DOUBLE AS gross, true AS paid, 'é' AS note, "
    "TIMESTAMP '2025-03-01' AS ordered_at, TIMESTAMPTZ '2025-03-01 12:00:00+12:00' AS booked_at"
)
KEPT = ("007", "a", 1.5, 2.0, 1.0, "é", DAY_ONE, DAY_ONE)


def write(folder: Path, statement: str, name: str = "orders.parquet") -> Path:
    form = {".parquet": "parquet", ".csv": "csv, HEADER", ".jsonl": "json"}[Path(name).suffix]
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute(f"COPY ({statement}) TO '{folder / name}' (FORMAT {form})")
    return folder / name


def take(folder: Path, *sources: Path) -> list[Ingested]:
    return list(ingest(History(folder / "history"), TABLE, sources))


def stored(folder: Path, table: str = "Orders", columns: str = "*") -> list[tuple[Any, ...]]:
    files = [str(path) for path in History(folder / "history").files(table)]
    if not files:
        return []
    with duckdb.connect() as connection:
        return connection.execute(f"SELECT {columns} FROM read_parquet({files})").fetchall()


def reasons(folder: Path, statement: str) -> list[str]:
    """Why the one row of the statement was set aside."""
    (result,) = take(folder, write(folder, statement))
    ((raw, faults),) = stored(folder, "quarantine/Orders", "row, faults") or [("", [])]
    assert result.reasons == dict.fromkeys(faults, 1)
    assert result.kept + result.quarantined == 1
    assert not faults or "order_id" in json.loads(raw)
    return list(faults)


@pytest.mark.parametrize("name", ["orders.parquet", "orders.csv", "orders.jsonl"])
def test_a_good_row_is_kept_exactly_whatever_the_format(tmp_path: Path, name: str) -> None:
    (result,) = take(tmp_path, write(tmp_path, GOOD, name))
    assert (result.kept, result.quarantined, dict(result.reasons), result.skipped) == (1, 0, {}, 0)
    assert stored(tmp_path, columns=", ".join(TABLE.fields)) == [KEPT]
    assert stored(tmp_path, columns=f"{AVAILABLE}, {DELETED}, {SEQUENCE}") == [(DAY_ONE, 0.0, 1)]


def test_sql_types_are_stored_as_declared(tmp_path: Path) -> None:
    exact = GOOD.replace("1.5::DOUBLE", "1::TINYINT").replace("'007'", "9007199254740993::BIGINT")
    exact = exact.replace("TIMESTAMP '2025-03-01' AS", f"{DAY_ONE}::BIGINT AS").replace(
        "TIMESTAMPTZ", "TIMESTAMP_NS"
    )
    take(tmp_path, write(tmp_path, exact.replace(" 12:00:00+12:00", "")))
    assert stored(tmp_path, columns="order_id, net, ordered_at, booked_at") == [
        ("9007199254740993", 1.0, DAY_ONE, DAY_ONE)
    ]


def test_optional_columns_may_be_missing_and_others_are_left_aside(tmp_path: Path) -> None:
    bare = "SELECT 'o' AS order_id, 'a' AS customer, 1.0::DOUBLE AS net, 5 AS extra, 0::BIGINT AS ordered_at, 0::BIGINT AS booked_at"
    take(tmp_path, write(tmp_path, bare))
    assert stored(tmp_path, columns=", ".join(TABLE.fields)) == [("o", "a", 1.0, None, None, None, 0, 0)]


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        (("2.0::DOUBLE", "'nan'::DOUBLE"), ["gross: not a finite number"]),
        (("1.5::DOUBLE", "'-inf'::DOUBLE"), ["net: not a finite number"]),
        (("1.5::DOUBLE", "NULL::DOUBLE"), ["net: missing"]),
        (("1.5::DOUBLE", "-1e-300::DOUBLE"), ["net: not 0 or more"]),
        (("1.5::DOUBLE", "3::DOUBLE"), ["rule: gross is at least net"]),
        (("2.0::DOUBLE", "NULL::DOUBLE"), []),
        (("'a'", "'it''s'"), []),
        (("'a'", "'A'"), ["customer: not an allowed value"]),
        (("'é'", "repeat('é', 10000)"), []),
        (("'é'", "repeat('é', 10001)"), ["note: over 10,000 characters"]),
        (("'007'", "NULL::VARCHAR"), ["order_id: missing"]),
        (("'007'", "repeat('é', 128)"), []),
        (("'007'", "repeat('é', 129)"), ["order_id: over 256 bytes"]),
        (("'007'", "'0' || chr(0)"), ["order_id: holds NUL"]),
        (("TIMESTAMP '2025-03-01'", "TIMESTAMP '12025-03-01'"), ["ordered_at: outside the calendar"]),
        (("TIMESTAMP '2025-03-01'", "NULL::TIMESTAMP"), ["ordered_at: missing"]),
        (("1.5::DOUBLE", "-1::DOUBLE"), ["net: not 0 or more"]),
    ],
)
def test_a_bad_row_goes_to_quarantine_with_its_reason(
    tmp_path: Path, change: tuple[str, str], wanted: list[str]
) -> None:
    assert reasons(tmp_path, GOOD.replace(*change)) == wanted


def test_a_row_may_break_several_rules(tmp_path: Path) -> None:
    wrong = (
        GOOD.replace("1.5::DOUBLE", "-3.0::DOUBLE")
        .replace("2.0::DOUBLE", "-4.0::DOUBLE")
        .replace("'a'", "'b'")
    )
    assert reasons(tmp_path, wrong) == [
        "customer: not an allowed value",
        "net: not 0 or more",
        "rule: gross is at least net",
    ]


@pytest.mark.parametrize(
    ("change", "code", "hint"),
    [
        (("AS net", "AS nett"), "missing_column", 'did you mean "nett"?'),
        (("1.5::DOUBLE", "'1.5'"), "wrong_type", ""),
        (("1.5::DOUBLE", "1.5::DECIMAL(9, 2)"), "wrong_type", ""),
        (("true AS paid", "1 AS paid"), "wrong_type", ""),
        (("TIMESTAMP '2025-03-01'", "'2025-03-01'"), "wrong_type", ""),
        (("'007'", "7.0::DOUBLE"), "wrong_type", ""),
        (("'a'", "5"), "wrong_type", ""),
    ],
)
def test_columns_that_do_not_fit_are_refused(
    tmp_path: Path, change: tuple[str, str], code: str, hint: str
) -> None:
    with pytest.raises(SourceError) as caught:
        take(tmp_path, write(tmp_path, GOOD.replace(*change)))
    assert [(fault.code, fault.hint) for fault in caught.value.faults] == [(code, hint)]
    assert stored(tmp_path) == []
    assert not list((tmp_path / "history").glob("*.draft"))


def test_files_that_cannot_be_read_are_refused_and_those_before_are_kept(tmp_path: Path) -> None:
    good = write(tmp_path, GOOD)
    truncated, empty, note = tmp_path / "half.parquet", tmp_path / "empty.csv", tmp_path / "note.txt"
    truncated.write_bytes(good.read_bytes()[:-40])
    empty.write_bytes(b"")
    note.write_text("hello")
    broken = tmp_path / "broken.jsonl"
    broken.write_text('{"order_id": ')
    for wrong, code in ((truncated, "unreadable"), (empty, None), (note, "unknown_format"), (broken, None)):
        with pytest.raises(SourceError) as caught:
            take(tmp_path, good, wrong)
        assert code in (None, caught.value.code)
        assert str(wrong) in caught.value.faults[0].where
    assert len(stored(tmp_path)) == 1
    with pytest.raises(SourceError):
        find_sources(tmp_path, "nothing*.parquet")


def test_an_empty_table_is_taken_and_all_bad_rows_too_and_neither_twice(tmp_path: Path) -> None:
    none = write(tmp_path, f"{GOOD} WHERE false", "none.parquet")
    bad = write(tmp_path, GOOD.replace("'a'", "'b'"), "bad.parquet")
    also = write(tmp_path, GOOD.replace("'a'", "'c'"), "also.parquet")
    assert [(r.kept, r.quarantined) for r in take(tmp_path, none, bad, also)] == [(0, 0), (0, 1), (0, 1)]
    assert all(result.known for result in take(tmp_path, none, bad, also))
    assert stored(tmp_path) == []
    assert len(stored(tmp_path, "quarantine/Orders")) == 2


def test_a_second_run_changes_nothing(tmp_path: Path) -> None:
    source = write(tmp_path, GOOD)
    take(tmp_path, source)
    before = (tmp_path / "history" / "manifest.json").read_bytes()
    renamed = source.rename(tmp_path / "renamed.parquet")
    assert [result.skipped for result in take(tmp_path, renamed)] == [1]
    assert (tmp_path / "history" / "manifest.json").read_bytes() == before


def test_one_file_may_feed_two_tables(tmp_path: Path) -> None:
    source = write(tmp_path, GOOD)
    take(tmp_path, source)
    (copied,) = ingest(History(tmp_path / "history"), Copies.icekeel_table, [source])
    assert (copied.skipped, copied.kept) == (0, 1)


def test_later_files_come_later_in_sequence(tmp_path: Path) -> None:
    first = write(tmp_path, f"{GOOD} FROM range(3)", "first.parquet")
    second = write(tmp_path, f"{GOOD.replace('1.5', '1.25')} FROM range(3)", "second.parquet")
    take(tmp_path, first, second)
    rows = sorted(stored(tmp_path, columns=f"{SEQUENCE}, net"))
    assert [net for _, net in rows] == [1.5] * 3 + [1.25] * 3
    assert len({sequence for sequence, _ in rows}) == 6


def test_columns_named_like_our_own_work_do_no_harm(tmp_path: Path) -> None:
    extra = GOOD + ', 1 AS n0, 2 AS v0, 3 AS fault, 4 AS row, 5 AS "a "" b"'
    assert take(tmp_path, write(tmp_path, extra))[0].kept == 1


def _add(folder: Path, source: Path) -> None:
    take(folder, source)


def test_two_processes_may_add_at_once(tmp_path: Path) -> None:
    sources = [write(tmp_path, GOOD.replace("'007'", f"'{n}'"), f"{n}.parquet") for n in range(2)]
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_add, args=(tmp_path, source)) for source in [*sources, sources[0]]]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0] * 3
    assert sorted(stored(tmp_path, columns="order_id")) == [("0",), ("1",)]
    assert len(set(stored(tmp_path, columns=SEQUENCE))) == 2


class Bookings(ik.Events, time="starts_at", available="booked_at", id="booking", deleted="cancelled"):
    booking: ik.Id
    seats: ik.Num = ik.at_least(1)
    cancelled: ik.Flag = ik.optional()


BOOKING = f"SELECT 'b' AS booking, 2::DOUBLE AS seats, false AS cancelled, {DAY_ONE}::BIGINT AS starts_at, {DAY_ONE}::BIGINT AS booked_at"


def bookings(folder: Path, statement: str, **options: Any) -> Ingested:
    (result,) = ingest(
        History(folder / "history"), Bookings.icekeel_table, [write(folder, statement)], Taking(**options)
    )
    return result


@pytest.mark.parametrize("seats", ["NULL::DOUBLE", "-1::DOUBLE", "'nan'::DOUBLE", "2::DOUBLE"])
def test_of_a_row_that_deletes_only_the_id_and_when_it_was_known_are_read(tmp_path: Path, seats: str) -> None:
    gone = BOOKING.replace("false", "true").replace(
        f"{DAY_ONE}::BIGINT AS starts_at", "NULL::BIGINT AS starts_at"
    )
    result = bookings(tmp_path, f"{BOOKING} UNION ALL {gone.replace('2::DOUBLE', seats)}")
    assert (result.kept, dict(result.reasons)) == (2, {})
    columns = f"booking, seats, cancelled, starts_at, booked_at, {DELETED}, {SEQUENCE}"
    assert stored(tmp_path, "Bookings", columns) == [
        ("b", 2.0, 0.0, DAY_ONE, DAY_ONE, 0.0, 1),
        ("b", None, 1.0, None, DAY_ONE, 1.0, 2),
    ]


@pytest.mark.parametrize("column", ["booking", "booked_at"])
def test_a_row_that_deletes_must_say_which_and_from_when(tmp_path: Path, column: str) -> None:
    gone = BOOKING.replace("false", "true")
    value = "'b'" if column == "booking" else f"{DAY_ONE}::BIGINT"
    kind = "VARCHAR" if column == "booking" else "BIGINT"
    result = bookings(tmp_path, gone.replace(f"{value} AS {column}", f"NULL::{kind} AS {column}"))
    assert dict(result.reasons) == {f"{column}: missing": 1}


def test_a_file_without_the_flag_deletes_nothing(tmp_path: Path) -> None:
    assert bookings(tmp_path, BOOKING.replace("false AS cancelled, ", "")).kept == 1
    assert stored(tmp_path, "Bookings", f"cancelled, {DELETED}") == [(None, 0.0)]


LATER = DAY_ONE + CLOCK_SKEW


@pytest.mark.parametrize(
    ("starts_at", "booked_at", "ahead", "wanted"),
    [
        (LATER, DAY_ONE, False, []),
        (LATER + 1, DAY_ONE, False, ["starts_at: after booked_at"]),
        (LATER + 1, DAY_ONE, True, []),
        (DAY_ONE, LATER, False, []),
        (DAY_ONE, LATER + 1, True, ["booked_at: in the future"]),
        (LAST_TIME, LAST_TIME, False, ["booked_at: in the future"]),
        (2**63 - 1, DAY_ONE, False, ["starts_at: outside the calendar"]),
        (-(2**63), 2**63 - 1, False, ["booked_at: outside the calendar", "starts_at: outside the calendar"]),
    ],
)
def test_times_that_cannot_be_are_set_aside(
    tmp_path: Path, starts_at: int, booked_at: int, ahead: bool, wanted: list[str]
) -> None:
    row = BOOKING.replace(f"{DAY_ONE}::BIGINT AS starts_at", f"'{starts_at}'::BIGINT AS starts_at")
    row = row.replace(f"{DAY_ONE}::BIGINT AS booked_at", f"'{booked_at}'::BIGINT AS booked_at")
    assert sorted(bookings(tmp_path, row, now=DAY_ONE, ahead=ahead).reasons) == wanted


def test_a_table_of_one_time_holds_no_future_unless_it_may_look_ahead(tmp_path: Path) -> None:
    row = f"SELECT 'o' AS order_id, {LATER + 1}::BIGINT AS ordered_at"
    for ahead, kept in ((False, 0), (True, 1)):
        history = History(tmp_path / f"history {ahead}")
        (result,) = ingest(
            history, Copies.icekeel_table, [write(tmp_path, row)], Taking(now=DAY_ONE, ahead=ahead)
        )
        assert result.kept == kept
        assert dict(result.reasons) == ({} if ahead else {"ordered_at: in the future": 1})


def test_what_another_process_has_spilled_is_left_alone(tmp_path: Path) -> None:
    spilt = tmp_path / "history" / "spill" / "duckdb_temp_1_0_storage_DEFAULT-0.tmp"
    spilt.parent.mkdir(parents=True)
    spilt.touch()
    source = tmp_path / "none.csv"
    source.write_text("")
    with pytest.raises(SourceError):
        ingest(History(tmp_path / "history"), TABLE, [source])
    assert spilt.exists()


def test_a_file_that_looks_as_it_did_is_not_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed: list[Path] = []
    digest = inner.file_digest

    def noted(path: Path) -> str:
        hashed.append(path)
        return str(digest(path))

    monkeypatch.setattr(inner, "file_digest", noted)
    path = write(tmp_path, GOOD)
    monkeypatch.setattr(inner, "SETTLED_NS", 0)
    assert [one.kept for one in take(tmp_path, path)] == [1]
    assert [one.skipped for one in take(tmp_path, path)] == [1]
    assert hashed == [path]
    path.touch()  # looks otherwise, and is what it was
    assert [one.skipped for one in take(tmp_path, path)] == [1]
    assert [one.skipped for one in take(tmp_path, path)] == [1]
    assert hashed == [path] * 2
    before = path.stat()
    write(tmp_path, GOOD.replace("'007'", "'008'"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size
    assert [one.kept for one in take(tmp_path, path)] == [1]  # of the same size, and its time set back
    monkeypatch.setattr(inner, "SETTLED_NS", 3_600_000_000_000)
    hashed.clear()
    for _ in range(2):
        assert [one.skipped for one in take(tmp_path, path)] == [1]
    assert hashed == [path] * 2  # written to just now: not to be trusted


def test_quarantine_is_read_only_where_something_is_set_aside(tmp_path: Path) -> None:
    bad = GOOD.replace("1.5::DOUBLE", "-1.5::DOUBLE")
    take(tmp_path, write(tmp_path, bad, "one.parquet"))
    (aside,) = History(tmp_path / "history").files("quarantine/Orders")
    content = aside.read_bytes()
    aside.write_bytes(b"no Parquet")
    assert [one.kept for one in take(tmp_path, write(tmp_path, GOOD, "two.parquet"))] == [1]
    aside.write_bytes(content)
    again = f"{bad} UNION ALL {bad.replace('007', '009')}"
    assert [
        (one.quarantined, one.skipped) for one in take(tmp_path, write(tmp_path, again, "three.parquet"))
    ] == [(1, 1)]
