"""What the journal holds goes into history once, or stays where it is."""

from __future__ import annotations

import os
from functools import partialmethod
from pathlib import Path
from typing import Any

import duckdb
import msgspec
import pytest

import icekeel as ik
from icekeel.core.ids import new_id
from icekeel.core.kinds import Column, Kind
from icekeel.data import AVAILABLE, DELETED, History, compaction
from icekeel.data.answers import ANSWERS, answer_columns, answers_in
from icekeel.data.compaction import UNDEFINED, compact, recorded
from icekeel.data.relations import parquet
from icekeel.journal import Decided, Predicted, Pushed, Quarantined, Tail, Value, Writer
from icekeel.journal.segments import segment_sizes
from tests.unit.journal.examples import ONE_OF_EACH, PREDICTED


class Orders(ik.Events, time="ordered_at", id="order_id"):
    order_id: ik.Id


TABLES = {"orders": Orders.icekeel_table}
ANSWER = {"price": answer_columns((), ())}
ROWS: list[dict[str, Value]] = [{"order_id": "a", "ordered_at": 5}, {"order_id": "b", "ordered_at": 6}]


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    with Writer(tmp_path / "journal", "serve", clock=lambda: 10) as writer:
        writer.append_many([Pushed(at=10, table="orders", rows=ROWS), PREDICTED])
    return tmp_path / "journal"


@pytest.mark.parametrize(
    ("tables", "answers", "missing"), [({}, ANSWER, ["orders"]), (TABLES, {}, []), ({}, {}, ["orders"])]
)
def test_what_the_project_no_longer_declares_is_not_lost(
    journal: Path,
    tmp_path: Path,
    tables: dict[str, ik.EventTable],
    answers: dict[str, tuple[Column, ...]],
    missing: list[str],
) -> None:
    history = History(tmp_path / "history")
    waiting = compact(history, journal, tables, answers)
    assert {name for name in waiting.tables if name.startswith(UNDEFINED)} == {
        UNDEFINED + name for name in missing
    }
    with Writer(journal, "serve", clock=lambda: 11) as writer:
        writer.append(Pushed(at=11, table="orders", rows=[{"order_id": "c", "ordered_at": 7}]))
    assert compact(history, journal, tables, answers).rows("orders") == (3 if tables else 0)
    restored = compact(history, journal, TABLES, ANSWER)
    assert (restored.rows("orders"), restored.rows(f"{ANSWERS}/price")) == (3, 1)
    assert not [name for name in restored.tables if name.startswith(UNDEFINED)]
    assert compact(history, journal, {}, {}) == restored  # what was moved needs no definition


def test_each_record_is_moved_once(journal: Path, tmp_path: Path) -> None:
    history = History(tmp_path / "history")
    assert compact(history, journal, TABLES, ANSWER) == compact(history, journal, TABLES, ANSWER)
    assert history.manifest().rows("orders") == 2


def test_a_pushed_row_keeps_its_place_in_the_journal(journal: Path, tmp_path: Path) -> None:
    history = History(tmp_path / "history")
    (first,) = segment_sizes(journal)
    with Writer(journal, "serve", clock=lambda: 20) as writer:
        writer.append(Pushed(at=20, table="orders", rows=[{"order_id": "c", "ordered_at": 7}]))
    compact(history, journal, TABLES, ANSWER)
    with duckdb.connect() as connection:
        found = connection.execute(
            f"SELECT order_id, _segment, _offset FROM {parquet(history.files('orders'))} ORDER BY 1"
        ).fetchall()
    assert [(row[0], row[1] == first, row[2]) for row in found] == [
        ("a", True, 8),
        ("b", True, 8),
        ("c", False, 8),
    ]


def test_a_deletion_is_moved_as_a_version_of_its_id_alone(tmp_path: Path) -> None:
    gone: dict[str, Value] = {"order_id": "a", "ordered_at": None, DELETED: 1.0}
    with Writer(tmp_path / "journal", "serve", clock=lambda: 10) as writer:
        writer.append(Pushed(at=10, table="orders", rows=[*ROWS, gone]))
    history = History(tmp_path / "history")
    compact(history, tmp_path / "journal", TABLES, ANSWER)
    listed = f"order_id, ordered_at, {AVAILABLE}, {DELETED}"
    rows = duckdb.from_parquet([str(file) for file in history.files("orders")]).select(listed).fetchall()
    assert rows == [("a", 5, 10, 0.0), ("b", 6, 10, 0.0), ("a", None, 10, 1.0)]


def test_every_other_record_is_kept_as_it_is(tmp_path: Path) -> None:
    with Writer(tmp_path / "journal", "serve", clock=lambda: 10) as writer:
        writer.append_many(ONE_OF_EACH)
    history = History(tmp_path / "history")
    manifest = compact(history, tmp_path / "journal", {}, {})
    kinds = tuple(type(one) for one in ONE_OF_EACH)
    others = [one for one in ONE_OF_EACH if not isinstance(one, Pushed | Predicted | Quarantined)]
    assert list(recorded(history, manifest, kinds)) == others
    assert list(recorded(history, manifest, Decided)) == [one for one in others if isinstance(one, Decided)]


def test_a_long_journal_is_moved_in_steps_that_each_stand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compaction, "STRIDE", 1)
    for at in range(3):
        with Writer(tmp_path / "journal", "serve", clock=lambda: 10) as writer:
            writer.append_many([Pushed(at=at, table="orders", rows=ROWS)] * 2)
    history = History(tmp_path / "history")
    monkeypatch.setattr(Tail, "read", partialmethod(Tail.read, 1))
    manifest = compact(history, tmp_path / "journal", TABLES, ANSWER)
    assert [file.rows for file in manifest.tables["orders"]] == [2] * 6
    assert manifest.sequence == 6 << 32
    with duckdb.connect() as connection:
        found = connection.execute(
            f"SELECT _sequence FROM {parquet(history.files('orders'))} ORDER BY 1"
        ).fetchall()
    assert len(set(found)) == 12


def test_an_answer_of_other_definitions_keeps_all_it_had(tmp_path: Path) -> None:
    others = [
        msgspec.structs.replace(
            PREDICTED, id=new_id(at), request={"colors": value, "rush": None}, features={"old": at}
        )
        for at, value in enumerate((4.0, "four"))
    ]
    with Writer(tmp_path / "journal", "serve", clock=lambda: 10) as writer:
        writer.append_many(others)
    history = History(tmp_path / "history")
    columns = answer_columns([Column("colors", Kind.NUM)], [Column("new", Kind.NUM)])
    compact(history, tmp_path / "journal", {}, {"price": columns})
    (file,) = history.files(f"{ANSWERS}/price")
    (found,) = answers_in("price", file)
    assert [one.request["colors"] for one in found] == ["4.0", "four"]
    assert [one.features["old"] for one in found] == [0, 1]


class Crash(BaseException):
    pass


@pytest.mark.parametrize("done", [False, True], ids=["before it", "after it"])
@pytest.mark.parametrize("at", range(8))
def test_a_crash_at_any_write_neither_loses_nor_doubles(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int, done: bool
) -> None:
    """At each replacement of a file by another: files of four tables, and the manifest, in two steps."""
    for second in range(2):
        with Writer(tmp_path / "journal", "serve", clock=lambda: 10) as writer:
            others = [one for one in ONE_OF_EACH if not isinstance(one, Pushed | Predicted)]
            answer = msgspec.structs.replace(PREDICTED, id=new_id(second))
            writer.append_many([Pushed(at=second, table="orders", rows=ROWS), answer, *others])
    history = History(tmp_path / "history")
    monkeypatch.setattr(compaction, "STRIDE", 1)
    monkeypatch.setattr(Tail, "read", partialmethod(Tail.read, 1 << 10))
    replace, left = os.replace, iter(range(at, -1, -1))

    def crash(*paths: Any) -> None:
        if next(left, 1):
            replace(*paths)
            return
        if done:
            replace(*paths)
        raise Crash

    monkeypatch.setattr("icekeel.data.history.os.replace", crash)
    with pytest.raises(Crash):
        compact(history, tmp_path / "journal", TABLES, ANSWER)
    manifest = compact(history, tmp_path / "journal", TABLES, ANSWER)
    rows = {name: manifest.rows(name) for name in manifest.tables}
    assert rows == {
        "orders": 4,
        f"{ANSWERS}/price": 2,
        "quarantine/orders": 2,
        "records": 2 * (len(ONE_OF_EACH) - 3),
    }
    history.sweep(manifest)
    on_disk = {path.name for path in history.folder.rglob("*.parquet")}
    assert on_disk == {file.name for files in manifest.tables.values() for file in files}
