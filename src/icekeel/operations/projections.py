"""What the keeper derives from the journal: online windows, and answers joined with what came of them.

Every projection writes in the transaction it is given, the one in which the keeper also commits how far it has
read, so that a crash neither loses nor doubles.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import duckdb
import lmdb
import msgspec

from icekeel.compile import Row, compile_event, quote
from icekeel.data import AVAILABLE, DELETED, SEQUENCE
from icekeel.data.relations import parquet
from icekeel.define import EventTable, Model, Project
from icekeel.engines import Engine
from icekeel.features.live import EventFeed
from icekeel.features.online.lmdb import LmdbWindows
from icekeel.features.outcomes import target_function
from icekeel.journal import Predicted, Pushed

_OFFSET = 2**63
Value = float | int | str | bool | None


class Happened(msgspec.Struct, frozen=True, array_like=True):
    """An event that may decide an outcome: when, in which order, its value and when it was known."""

    time: int
    id: str
    value: float | None
    available: int


class Waiting(msgspec.Struct, array_like=True):
    """An answer whose outcome is not settled.

    Attributes:
        shadows: Version -> what it would have predicted.
        happened: Events of its window so far.
    """

    asked_at: int
    id: str
    unit: str
    version: str
    arm: str
    share: float
    prediction: float
    answer: float
    shadows: dict[str, float]
    happened: list[Happened] = []


class Settled(msgspec.Struct, frozen=True, array_like=True):
    """An answer and what came of it; `settled_at` is when that became known."""

    settled_at: int
    asked_at: int
    id: str
    unit: str
    version: str
    arm: str
    share: float
    prediction: float
    answer: float
    shadows: dict[str, float]
    target: float


class EventProjection:
    """Pushed events into the online windows."""

    def __init__(self, feed: EventFeed, windows: LmdbWindows) -> None:
        self._feed = feed
        self._windows = windows

    def apply(self, txn: lmdb.Transaction, records: Sequence[Pushed]) -> int:
        """Project a batch; gives the availability of the newest version, 0 for an empty one."""
        newest = 0
        by_table: dict[str, list[Any]] = {}
        for record in records:
            if self._feed.reads(record.table):
                versions = self._feed.versions(txn, record.table, record.rows, record.at)
                by_table.setdefault(record.table, []).extend(versions)
        for table, versions in by_table.items():
            self._windows.apply(txn, table, versions)
            newest = max(newest, *(version.start for version in versions))
        return newest


class AnswerProjection:
    """Answers of one model: kept waiting until their outcome is known, then settled.

    Args:
        environment: Of the keeper.
        model: The definition.
        project: For the outcome's event table.
    """

    def __init__(self, environment: lmdb.Environment, model: Model, project: Project) -> None:
        self._waiting = environment.open_db(f"waiting/{model.name}".encode())
        self._settled = environment.open_db(f"settled/{model.name}".encode())
        self._outcome = model.outcome
        self._target = target_function(model.target)
        table = project.tables[self._outcome.keyed.table]
        self.table = table.name
        self._time, self._id = table.time, table.id
        self._names = list(table.fields)
        self._keys = [column for column, _ in self._outcome.keyed.keys]
        parts = [part for part in (self._outcome.value, self._outcome.keyed.where) if part is not None]
        self._row: Row = compile_event(tuple(table.fields.values()), parts)
        self._filtered = self._outcome.keyed.where is not None
        self._valued = self._outcome.value is not None

    def answered(
        self, txn: lmdb.Transaction, records: Sequence[Predicted], shadows: Mapping[str, Shadow]
    ) -> None:
        """Keep answers waiting, with what versions in shadow would have said."""
        for record in records:
            waiting = Waiting(
                record.at, record.id, record.unit, record.version, record.arm, record.share,
                record.prediction, record.answer, {name: shadow(record.features) for name, shadow in shadows.items()},
            )  # fmt: skip
            txn.put(
                record.key.encode() + b"\0" + record.id.encode(),
                msgspec.msgpack.encode(waiting),
                db=self._waiting,
            )

    def happened(self, txn: lmdb.Transaction, records: Sequence[Pushed]) -> None:
        """Match rows of the outcome's table with the answers that wait for them."""
        for record in records:
            for row in record.rows:
                computed = self._row([row.get(name) for name in self._names])
                if self._filtered and not computed[-1]:
                    continue
                value = computed[0] if self._valued else 1.0
                known = row.get(AVAILABLE)
                available = record.at if known is None else int(known)
                event = Happened(int(row[self._time] or 0), str(row[self._id]), value, available)
                key = "\x1f".join(str(row.get(column)) for column in self._keys).encode()
                self._match(txn, key, event)

    def _match(self, txn: lmdb.Transaction, key: bytes, event: Happened) -> None:
        for place, waiting in _with_prefix(txn, self._waiting, key + b"\0"):
            if not waiting.asked_at <= event.time < waiting.asked_at + self._outcome.within:
                continue
            waiting.happened = [one for one in waiting.happened if one.id != event.id] + [event]
            if self._outcome.closes_early and event.value is not None:
                self._settle(txn, place, waiting, event.available)
            else:
                txn.put(place, msgspec.msgpack.encode(waiting), db=self._waiting)

    def close(self, txn: lmdb.Transaction, now: int) -> None:
        """Settle or drop the answers whose time is over at `now`."""
        for place, waiting in _with_prefix(txn, self._waiting, b""):
            over = waiting.asked_at + self._outcome.within
            if over <= now:
                self._settle(txn, place, waiting, over)

    def _settle(self, txn: lmdb.Transaction, place: bytes, waiting: Waiting, at: int) -> None:
        txn.delete(place, db=self._waiting)
        value = self._value(waiting.happened)
        target = None if value is None else self._target(value)
        if target is None:
            return
        settled = Settled(
            at, waiting.asked_at, waiting.id, waiting.unit, waiting.version, waiting.arm, waiting.share,
            waiting.prediction, waiting.answer, waiting.shadows, target,
        )  # fmt: skip
        key = (at + _OFFSET).to_bytes(8, "big") + waiting.id.encode()
        txn.put(key, msgspec.msgpack.encode(settled), db=self._settled)

    def _value(self, happened: Sequence[Happened]) -> float | None:
        ordered = sorted(
            (event for event in happened if event.value is not None), key=lambda one: (one.time, one.id)
        )
        values = [float(event.value) for event in ordered if event.value is not None]
        if not values:
            return None if self._outcome.absent is None else float(self._outcome.absent)
        return _AGGREGATES[self._outcome.function](values)

    def settled(self, txn: lmdb.Transaction, since: int, until: int) -> list[Settled]:
        """Answers settled in `[since, until)`, in that order."""
        found = []
        cursor = txn.cursor(self._settled)
        if cursor.set_range((since + _OFFSET).to_bytes(8, "big")):
            last = (until + _OFFSET).to_bytes(8, "big")
            for key, raw in cursor:
                if bytes(key[:8]) >= last:
                    break
                found.append(msgspec.msgpack.decode(raw, type=Settled))
        return found

    def pending(self, txn: lmdb.Transaction) -> int:
        """Answers that wait for their outcome."""
        return int(txn.stat(self._waiting)["entries"])


_AGGREGATES: Mapping[str, Callable[[list[float]], float]] = {
    "last": lambda values: values[-1],
    "first": lambda values: values[0],
    "sum": sum,
    "mean": lambda values: sum(values) / len(values),
    "max": max,
    "count": lambda values: float(len(values)),
}


def stored_rows(
    file: Path, table: EventTable, *, since: int, batch: int = 20_000
) -> Iterator[list[dict[str, Value]]]:
    """The rows of a stored file in batches, as pushed rows look.

    Args:
        since: Rows with an older event time are left out.
    """
    names = [*table.fields, AVAILABLE, DELETED]
    listed = ", ".join(quote(name) for name in names)
    connection = duckdb.connect(config={"threads": 1})
    try:
        result = connection.execute(
            f"SELECT {listed} FROM {parquet([file])} WHERE {quote(table.time)} >= {since} ORDER BY {SEQUENCE}"
        )
        while rows := result.fetchmany(batch):
            yield [dict(zip(names, row, strict=True)) for row in rows]
    finally:
        connection.close()


def _with_prefix(txn: lmdb.Transaction, database: Any, prefix: bytes) -> Iterator[tuple[bytes, Waiting]]:
    """Entries whose key begins so, read before any is changed."""
    found = []
    cursor = txn.cursor(database)
    if cursor.set_range(prefix):
        for key, raw in cursor:
            if not bytes(key).startswith(prefix):
                break
            found.append((bytes(key), msgspec.msgpack.decode(raw, type=Waiting)))
    return iter(found)


class Shadow:
    """What a version would have predicted, from the features that were journaled."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._names = [column.name for column in engine.columns]

    def __call__(self, features: Mapping[str, Any]) -> float:
        """The prediction for an answer's journaled features."""
        values = [features.get(name) for name in self._names]
        return self._engine.predict_one(values)
