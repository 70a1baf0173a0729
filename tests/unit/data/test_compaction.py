"""What the journal holds goes into history once, or stays where it is."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest

import icekeel as ik
from icekeel.core.errors import StateError
from icekeel.core.kinds import Column
from icekeel.data import AVAILABLE, DELETED, History
from icekeel.data.compaction import ANSWERS, answer_columns, compact
from icekeel.data.relations import parquet
from icekeel.journal import Pushed, Value, Writer
from icekeel.journal.segments import segment_sizes
from tests.unit.journal.examples import PREDICTED


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
    ("tables", "answers", "missing"),
    [
        ({}, ANSWER, ['event table "orders"']),
        (TABLES, {}, ['model "price"']),
        ({}, {}, ['event table "orders"', 'model "price"']),
    ],
)
def test_what_the_project_no_longer_declares_is_not_lost(
    journal: Path,
    tmp_path: Path,
    tables: dict[str, ik.EventTable],
    answers: dict[str, tuple[Column, ...]],
    missing: list[str],
) -> None:
    history = History(tmp_path / "history")
    with pytest.raises(StateError) as caught:
        compact(history, journal, tables, answers)
    assert [fault.code for fault in caught.value.faults] == ["not_in_project"] * len(missing)
    assert all(name in fault.what for name, fault in zip(missing, caught.value.faults, strict=True))
    assert history.manifest().journal == {}
    restored = compact(history, journal, TABLES, ANSWER)
    assert (restored.rows("orders"), restored.rows(f"{ANSWERS}/price")) == (2, 1)
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
