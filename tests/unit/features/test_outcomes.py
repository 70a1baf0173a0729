"""Outcomes are known, absent or pending; late, corrected and deleted events are seen from when they came."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest

import icekeel as ik
from icekeel.core.frames import Frame
from icekeel.core.kinds import Column, Kind
from icekeel.data import AVAILABLE, DELETED, SEQUENCE
from icekeel.data.relations import create_table
from icekeel.define.nodes import Outcome, shallow
from icekeel.features.offline import EventStore
from icekeel.features.outcomes import Outcomes, Status, historical_outcomes

KNOWN, ABSENT, PENDING = Status.KNOWN, Status.ABSENT, Status.PENDING


class Quote(ik.Request):
    quote_id: ik.Id = ik.optional()


class Results(ik.Events, time="decided_at", available="known_at", id="result"):
    result: ik.Id
    quote_id: ik.Id
    price: ik.Num = ik.optional()
    won: ik.Flag = ik.optional()


later = Results.where(quote_id=Quote.quote_id).within("10s")
S = 1_000_000
COLUMNS = (
    *(Column(field.name, field.kind) for field in Results.icekeel_table.fields.values()),
    *(Column(AVAILABLE, Kind.TIME), Column(DELETED, Kind.FLAG), Column(SEQUENCE, Kind.TIME)),
)
Row = tuple[str, str, float, float, int, int] | tuple[str, str, float, float, int, int, float]
"""id, quote, price, won, decided at and known at in seconds, deleted."""


def outcomes(
    folder: Path, target: ik.Num, rows: Sequence[Row], asked: Sequence[tuple[str | None, float]], now: float
) -> Outcomes:
    file = folder / "rows.parquet"
    columns: dict[str, Any] = {
        "result": np.array([row[0] for row in rows], dtype=object),
        "quote_id": np.array([row[1] for row in rows], dtype=object),
        "price": np.array([row[2] for row in rows], dtype=np.float64),
        "won": np.array([row[3] for row in rows], dtype=np.float64),
        "decided_at": np.array([row[4] * S for row in rows], dtype=np.int64),
        "known_at": np.array([row[5] * S for row in rows], dtype=np.int64),
        AVAILABLE: np.array([row[5] * S for row in rows], dtype=np.int64),
        DELETED: np.array([row[6] if len(row) == 7 else 0.0 for row in rows], dtype=np.float64),
        SEQUENCE: np.arange(len(rows), dtype=np.int64),
    }
    with duckdb.connect() as connection:
        create_table(connection, "rows", COLUMNS, Frame(columns))
        connection.execute(f"COPY (SELECT * EXCLUDE (_row) FROM rows) TO '{file}' (FORMAT parquet)")
    store = EventStore({"Results": Results.icekeel_table}, {"Results": [file]}, threads=1)
    outcome = next(node for node in shallow(target.node) if isinstance(node, Outcome))
    requests = Frame({"quote_id": np.array([one[0] for one in asked], dtype=object)})
    times = np.array([int(one[1] * S) for one in asked], dtype=np.int64)
    found = historical_outcomes(target.node, outcome, requests, times, store, now=int(now * S))
    store.close()
    return found


def only(found: Outcomes) -> tuple[int, float | None, float]:
    """Status, target (None for NaN) and second of knowing of the one question."""
    target = float(found.target[0])
    return int(found.status[0]), None if target != target else target, found.known_at[0] / S  # noqa: PLR0124


LATEST, SUM = later.price.latest(absent=None), later.price.sum(absent=None)
ONE: list[Row] = [("r", "q", 100.0, 1.0, 5, 7)]


@pytest.mark.parametrize(
    ("target", "rows", "now", "wanted"),
    [
        (LATEST, ONE, 6.9, (PENDING, None, 10)),
        (LATEST, ONE, 7, (KNOWN, 100.0, 7)),
        (LATEST, ONE, 99, (KNOWN, 100.0, 7)),
        (SUM, ONE, 7, (PENDING, None, 10)),
        (SUM, ONE, 10, (KNOWN, 100.0, 10)),
        (LATEST, [], 9.9, (PENDING, None, 10)),
        (LATEST, [], 10, (ABSENT, None, 10)),
        (later.price.latest(absent=0), [], 9.9, (PENDING, None, 10)),
        (later.price.latest(absent=0), [], 10, (KNOWN, 0.0, 10)),
        (later.count(), [], 10, (KNOWN, 0.0, 10)),
        (later.count(), ONE, 10, (KNOWN, 1.0, 10)),
        (later.won.mean(absent=0), [*ONE, ("s", "q", 1.0, 0.0, 6, 7)], 10, (KNOWN, 0.5, 10)),
        (later.price.max(absent=0), [*ONE, ("s", "q", 300.0, 0.0, 6, 7)], 10, (KNOWN, 300.0, 10)),
        # the window holds its first moment and not its last
        (SUM, [("r", "q", 1.0, 1.0, 0, 0), ("s", "q", 2.0, 1.0, 10, 10)], 20, (KNOWN, 1.0, 10)),
        (LATEST, [("r", "q", 1.0, 1.0, -1, 0)], 20, (ABSENT, None, 10)),
        # corrections, deletions, and what comes after the time is over
        (LATEST, [*ONE, ("r", "q", 80.0, 1.0, 5, 30)], 29, (KNOWN, 100.0, 7)),
        (LATEST, [*ONE, ("r", "q", 80.0, 1.0, 5, 30)], 30, (KNOWN, 80.0, 30)),
        (LATEST, [*ONE, ("r", "q", 100.0, 1.0, 5, 9, 1.0)], 9.5, (PENDING, None, 10)),
        (LATEST, [*ONE, ("r", "q", 100.0, 1.0, 5, 9, 1.0)], 10, (ABSENT, None, 10)),
        (LATEST, [*ONE, ("r", "other", 100.0, 1.0, 5, 9)], 10, (ABSENT, None, 10)),
        (LATEST, [*ONE, ("r", "q", 100.0, 1.0, 50, 60)], 70, (ABSENT, None, 10)),
        (SUM, [*ONE, ("s", "q", 20.0, 1.0, 9, 40)], 39, (KNOWN, 100.0, 10)),
        (SUM, [*ONE, ("s", "q", 20.0, 1.0, 9, 40)], 40, (KNOWN, 120.0, 40)),
        # which event
        (LATEST, [("b", "q", 1.0, 1.0, 6, 7), ("a", "q", 2.0, 1.0, 6, 8)], 9, (KNOWN, 1.0, 8)),
        (
            later.price.first(absent=0),
            [("b", "q", 1.0, 1.0, 6, 7), ("a", "q", 2.0, 1.0, 6, 7)],
            10,
            (KNOWN, 2.0, 10),
        ),
        # with a value for "nothing came", an early event must not count before the others' time is over
        (later.price.latest(absent=0), ONE, 9.9, (PENDING, None, 10)),
        (LATEST, [*ONE, ("s", "other", 9.0, 1.0, 6, 6)], 9, (KNOWN, 100.0, 7)),
        # nulls: a row without the value is no outcome yet, a target without a value none at all
        (LATEST, [("r", "q", float("nan"), 1.0, 5, 7)], 9, (PENDING, None, 10)),
        (LATEST, [("r", "q", float("nan"), 1.0, 5, 7)], 10, (ABSENT, None, 10)),
        (ik.ln(LATEST), [("r", "q", 0.0, 1.0, 5, 7)], 9, (ABSENT, None, 7)),
        (LATEST > 15, ONE, 9, (KNOWN, 1.0, 7)),
    ],
)
def test_one_question(
    tmp_path: Path, target: ik.Num, rows: list[Row], now: float, wanted: tuple[int, float | None, float]
) -> None:
    assert only(outcomes(tmp_path, target, rows, [("q", 0.0)], now)) == wanted


def test_many_questions_keep_their_order(tmp_path: Path) -> None:
    rows: list[Row] = [("r", "a", 1.0, 1.0, 5, 5), ("s", "b", 2.0, 1.0, 5, 5), ("t", "a", 3.0, 1.0, 25, 25)]
    asked = [("b", 0.0), ("a", 20.0), (None, 0.0), ("a", 0.0), ("c", 28.0), ("b", 0.0)]
    found = outcomes(tmp_path, LATEST, rows, asked, 30)
    assert found.status.tolist() == [KNOWN, KNOWN, ABSENT, KNOWN, PENDING, KNOWN]
    np.testing.assert_array_equal(found.target, [2.0, 3.0, np.nan, 1.0, np.nan, 2.0])


def test_a_filter_chooses_the_events(tmp_path: Path) -> None:
    won = Results.where(Results.won, quote_id=Quote.quote_id).within("10s").price.sum(absent=0)
    rows: list[Row] = [
        ("r", "q", 1.0, 1.0, 5, 5),
        ("s", "q", 2.0, 0.0, 5, 5),
        ("t", "q", 4.0, float("nan"), 5, 5),
    ]
    assert only(outcomes(tmp_path, won, rows, [("q", 0.0)], 10)) == (KNOWN, 1.0, 10)


def test_no_questions(tmp_path: Path) -> None:
    assert len(outcomes(tmp_path, LATEST, ONE, [], 10).target) == 0
