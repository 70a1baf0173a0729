"""From the journal into history: pushed events and given answers as Parquet, each exactly once.

How far the journal was read stands in the same manifest as the files made from it, so a crash at any moment
either keeps both or neither.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from icekeel.compile import literal
from icekeel.core.errors import Fault, StateError
from icekeel.core.frames import Frame
from icekeel.core.kinds import Column, Kind
from icekeel.core.time import FOREVER
from icekeel.define import EventTable
from icekeel.journal import Positions, Predicted, Pushed, Quarantined, Record, Tail

from .history import AVAILABLE, DELETED, OFFSET, SEGMENT, SEQUENCE, History, Manifest, StoredFile
from .relations import array_of, connect, create_table

ANSWERS = "answers"
FEATURE = "feature."
"""What the columns of logged features begin with, in a table of answers."""

ANSWER_COLUMNS = (
    Column("_id", Kind.ID),
    Column("_asked_at", Kind.TIME),
    Column("_version", Kind.CAT),
    Column("_arm", Kind.CAT),
    Column("_share", Kind.NUM),
    Column("_unit", Kind.ID),
    Column("_prediction", Kind.NUM),
    Column("_answer", Kind.NUM),
    Column("_action", Kind.CAT),
    Column("_verdict", Kind.CAT),
    Column("_position", Kind.TIME),
    Column("_cpu_us", Kind.NUM),
    Column("_served_at", Kind.TIME),
    Column("_definitions", Kind.ID),
)
"""The columns of every table of answers; the request's fields and the logged features follow."""

_STAMPS = (
    Column(AVAILABLE, Kind.TIME),
    Column(DELETED, Kind.FLAG),
    Column(SEQUENCE, Kind.TIME),
    Column(SEGMENT, Kind.CAT),
    Column(OFFSET, Kind.TIME),
)


def answer_columns(request: Sequence[Column], features: Sequence[Column]) -> tuple[Column, ...]:
    """All columns of a model's table of answers."""
    logged = [Column(FEATURE + column.name, column.kind) for column in features]
    return (*ANSWER_COLUMNS, *request, *logged)


def compact(
    history: History,
    journal: Path,
    tables: Mapping[str, EventTable],
    answers: Mapping[str, Sequence[Column]],
) -> Manifest:
    """Move what is new in the journal into history; gives the manifest afterwards.

    Args:
        history: Where to.
        journal: Folder of the segments.
        tables: Event tables by name.
        answers: `answer_columns` of each model.

    Raises:
        StateError: the journal holds rows of a table, or answers of a model, that the project no longer has. Nothing
            is moved, so nothing is lost; it all is once the definition is back.
    """
    with history.adding() as manifest:
        tail = Tail(journal, Positions(dict(manifest.journal)))
        pending = _Pending(tables, answers)
        while records := tail.read():
            for record, place in zip(records, tail.places, strict=True):
                pending.add(record, place)
        pending.check()
        sequence = sum(len(files) for files in manifest.tables.values()) << 32
        added = pending.write(history, sequence)
        return history.replace(manifest, added, journal=tail.positions.offsets)


class _Pending:
    """Rows by the table they belong to, until they are written."""

    def __init__(self, tables: Mapping[str, EventTable], answers: Mapping[str, Sequence[Column]]) -> None:
        self._columns: dict[str, Sequence[Column]] = {
            name: (*(Column(field.name, field.kind) for field in table.fields.values()), *_STAMPS)
            for name, table in tables.items()
        }
        self._columns |= {f"{ANSWERS}/{model}": columns for model, columns in answers.items()}
        self._rows: dict[str, list[dict[str, Any]]] = {}
        self._missing: set[tuple[str, str]] = set()

    def check(self) -> None:
        """Refuse to go on where records would be passed over: their kind and name are not in the project."""
        if self._missing:
            hint = "restore its definition; once icekeel train has run it may be removed"
            raise StateError(
                *(
                    Fault("not_in_project", f'the journal holds records of the {kind} "{name}"', hint=hint)
                    for kind, name in sorted(self._missing)
                )
            )

    def add(self, record: Record, place: tuple[str, int]) -> None:
        if isinstance(record, Pushed):
            if record.table not in self._columns:
                self._missing.add(("event table", record.table))
                return
            for row in record.rows:
                row.setdefault(AVAILABLE, record.at)
                row.setdefault(DELETED, 0.0)
                row[SEGMENT], row[OFFSET] = place
            self._rows.setdefault(record.table, []).extend(record.rows)
        elif isinstance(record, Predicted):
            name = f"{ANSWERS}/{record.model}"
            if name not in self._columns:
                self._missing.add(("model", record.model))
                return
            self._rows.setdefault(name, []).append(_answer_row(record))
        elif isinstance(record, Quarantined):
            name = f"quarantine/{record.table}"
            self._columns[name] = (Column("row", Kind.TEXT), Column("faults", Kind.TEXT))
            rows = [
                {"row": msgspec.json.encode(kept.row).decode(), "faults": "; ".join(kept.faults)}
                for kept in record.rows
            ]
            self._rows.setdefault(name, []).extend(rows)

    def write(self, history: History, sequence: int) -> dict[str, list[StoredFile]]:
        added: dict[str, list[StoredFile]] = {}
        connection = connect(folder=history.folder)
        try:
            for name, rows in self._rows.items():
                columns = self._columns[name]
                if any(column.name == SEQUENCE for column in columns):
                    for at, row in enumerate(rows):
                        row[SEQUENCE] = sequence + at
                frame = Frame({column.name: array_of(rows, column) for column in columns})
                create_table(connection, "_new", columns, frame)
                draft = history.folder / f"{name.replace('/', '-')}.draft"
                connection.execute(
                    f"COPY (SELECT * EXCLUDE (_row) FROM _new ORDER BY _row) TO {literal(str(draft))} "
                    "(FORMAT parquet, COMPRESSION zstd)"
                )
                known = AVAILABLE if AVAILABLE in frame else "_asked_at"
                known_from = int(frame[known].min()) if known in frame else -FOREVER
                added[name] = [history.adopt(name, draft, len(rows), known_from=known_from)]
        finally:
            connection.close()
        return added


def _answer_row(record: Predicted) -> dict[str, Any]:
    own = {
        "_id": record.id,
        "_asked_at": record.at,
        "_version": record.version,
        "_arm": record.arm,
        "_share": record.share,
        "_unit": record.unit,
        "_prediction": record.prediction,
        "_answer": record.answer,
        "_action": record.action,
        "_verdict": record.verdict,
        "_position": record.position,
        "_cpu_us": record.cpu_us,
        "_served_at": record.served_at,
        "_definitions": record.definitions,
    }
    return own | record.request | {FEATURE + name: value for name, value in record.features.items()}
