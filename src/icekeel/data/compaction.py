"""From the journal into history: each record as a row of Parquet, exactly once.

How far the journal was read stands in the same manifest as the files made from it, so a crash at any moment
either keeps both or neither. Pushed rows become versions in the table of their events, answers rows of
`answers/MODEL`, every other record is kept as it is in `records`: nothing that the journal said is lost with its
segments. Rows of a table that the project no longer defines wait in `undefined/` until it does.
"""

from __future__ import annotations

import base64
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from icekeel.compile import literal
from icekeel.core.frames import Frame
from icekeel.core.kinds import Column, Kind
from icekeel.core.time import FOREVER
from icekeel.define import EventTable
from icekeel.journal import Entry, Positions, Predicted, Pushed, Quarantined, Record, Tail, scan
from icekeel.journal.records import decode, encode, kind_name

from .answers import ANSWER_COLUMNS, ANSWERS, answer_row, columns_for
from .history import AVAILABLE, DELETED, OFFSET, SEGMENT, SEQUENCE, History, Manifest, StoredFile
from .relations import array_of, connect, create_table, parquet

STRIDE = 32 << 20
"""Bytes of the journal that are moved in one step, which bounds the memory that takes."""
RECORDS = "records"
UNDEFINED = "undefined/"
KindT = TypeVar("KindT", bound=Entry)
log = logging.getLogger(__name__)

_PLACE = (Column(SEGMENT, Kind.CAT), Column(OFFSET, Kind.TIME))
_AT = Column("at", Kind.TIME)
_STAMPS = (*(Column(AVAILABLE, Kind.TIME), Column(DELETED, Kind.FLAG), Column(SEQUENCE, Kind.TIME)), *_PLACE)
_QUARANTINED = (_AT, Column("row", Kind.TEXT), Column("faults", Kind.TEXT), *_PLACE)
"""Their place too: files of the same content are one, and a row that came twice was set aside twice."""
_RECORDED = (_AT, Column("kind", Kind.CAT), Column("record", Kind.TEXT), *_PLACE)


def compact(
    history: History, journal: Path, tables: Mapping[str, EventTable], answers: Mapping[str, Sequence[Column]]
) -> Manifest:
    """Move what is new in the journal into history; gives the manifest afterwards.

    Args:
        answers: `answer_columns` of each model.
    """
    more = True
    while more:
        with history.adding() as before:
            manifest = before
            tail = Tail(journal, Positions(dict(manifest.journal)))
            pending = _Pending(tables, answers)
            found = pending.find(history, manifest)
            more = pending.read(tail)
            if found or tail.positions.offsets != manifest.journal:
                added = pending.write(history, manifest.sequence)
                manifest = history.replace(manifest, added, journal=tail.positions.offsets, without=found)
    return manifest


def unmoved(
    place: History, journal: Path, manifest: Manifest, tables: Mapping[str, EventTable]
) -> tuple[dict[str, list[StoredFile]], dict[str, int]]:
    """Events that are in the journal alone as files in another place, under their whole paths, and how far it goes."""
    tail, pending = Tail(journal, Positions(dict(manifest.journal))), _Pending(tables, {})
    while records := tail.read():
        for record, at in zip(records, tail.places, strict=True):
            if isinstance(record, Pushed) and record.table in tables:
                pending.add(record, at)
    place.folder.mkdir(parents=True, exist_ok=True)
    files = {
        table: [msgspec.structs.replace(file, name=str(place.folder / table / file.name)) for file in listed]
        for table, listed in pending.write(place, manifest.sequence).items()
    }
    return files, dict(tail.positions.offsets)


def recorded(
    history: History, manifest: Manifest, kinds: type[KindT] | tuple[type[KindT], ...]
) -> Iterator[KindT]:
    """Records of these kinds in history, in the order in which they were moved; not of pushes, answers, quarantine."""
    names = [kind_name(kind) for kind in (kinds if isinstance(kinds, tuple) else (kinds,))]
    for file in history.paths(manifest, RECORDS):
        chosen = ", ".join(map(literal, names))
        yield from (record for record, _ in _stored(file, f"kind IN ({chosen})"))


def all_records(
    history: History, journal: Path, kinds: type[KindT] | tuple[type[KindT], ...]
) -> Iterator[KindT]:
    """The same with those that are still in the journal alone, behind them."""
    manifest = history.manifest()
    yield from recorded(history, manifest, kinds)
    yield from scan(journal, kinds=kinds, since=Positions(manifest.journal))


def _stored(file: Path, condition: str) -> Iterator[tuple[Any, tuple[str, int]]]:
    with connect(reads=[file]) as connection:
        rows = connection.execute(
            f"SELECT record, {SEGMENT}, {OFFSET} FROM {parquet([file])} WHERE {condition}"
        ).fetchall()
    for text, segment, offset in rows:
        yield decode(base64.b85decode(text)), (segment, offset)


class _Pending:
    """Rows by the table they belong to, until they are written."""

    def __init__(self, tables: Mapping[str, EventTable], answers: Mapping[str, Sequence[Column]]) -> None:
        self._columns: dict[str, Sequence[Column]] = {
            name: (*(Column(field.name, field.kind) for field in table.fields.values()), *_STAMPS)
            for name, table in tables.items()
        }
        self._columns |= {f"{ANSWERS}/{model}": columns for model, columns in answers.items()}
        self._rows: dict[str, list[dict[str, Any]]] = {}

    def find(self, history: History, manifest: Manifest) -> list[str]:
        """Take what waited for a definition that there is now; gives the tables where it waited."""
        there = {UNDEFINED + name for name in self._columns}
        found = [name for name in manifest.tables if name in there]
        for name in found:
            for file in history.paths(manifest, name):
                for record, place in _stored(file, "true"):
                    self.add(record, place)
        return found

    def read(self, tail: Tail) -> bool:
        """Take the next `STRIDE` bytes of the journal; gives whether there may be more."""
        begun = sum(tail.positions.offsets.values())
        while records := tail.read():
            for record, place in zip(records, tail.places, strict=True):
                self.add(record, place)
            if sum(tail.positions.offsets.values()) - begun >= STRIDE:
                return True
        return False

    def add(self, record: Record, place: tuple[str, int]) -> None:
        if isinstance(record, Quarantined):
            rows = [
                {
                    "at": record.at,
                    "row": msgspec.json.encode(kept.row).decode(),
                    "faults": "\n".join(kept.faults),
                    **_stamp(place),
                }
                for kept in record.rows
            ]
            self._add(f"quarantine/{record.table}", _QUARANTINED, rows)
            return
        if isinstance(record, Predicted):
            self._add(f"{ANSWERS}/{record.model}", ANSWER_COLUMNS, [answer_row(record)])
        elif isinstance(record, Pushed) and record.table in self._columns:
            stamps = {AVAILABLE: record.at, DELETED: 0.0}
            self._add(record.table, (), [stamps | row | _stamp(place) for row in record.rows])
        else:
            name = UNDEFINED + record.table if isinstance(record, Pushed) else RECORDS
            if name != RECORDS and name not in self._rows:
                log.warning("not_in_project", extra={"moved_to": name})
            kept = {"at": record.at, "kind": kind_name(type(record))}
            kept |= {"record": base64.b85encode(encode(record)).decode()}
            self._add(name, _RECORDED, [kept | _stamp(place)])

    def _add(self, name: str, columns: Sequence[Column], rows: list[dict[str, Any]]) -> None:
        self._columns.setdefault(name, columns)
        self._rows.setdefault(name, []).extend(rows)

    def write(self, history: History, sequence: int) -> dict[str, list[StoredFile]]:
        added: dict[str, list[StoredFile]] = {}
        connection = connect(folder=history.folder)
        try:
            for name, rows in self._rows.items():
                answers, declared = name.startswith(f"{ANSWERS}/"), self._columns[name]
                if any(column.name == SEQUENCE for column in declared):
                    for at, row in enumerate(rows):
                        row[SEQUENCE] = sequence + at
                columns = columns_for(rows, declared)
                frame = Frame({column.name: array_of(rows, column) for column in columns})
                create_table(connection, "_new", columns, frame)
                draft = history.folder / f"{name.replace('/', '-')}.draft"
                order = "_id" if answers else "_row"  # so that statistics tell which ids a row group holds
                connection.execute(
                    f"COPY (SELECT * EXCLUDE (_row) FROM _new ORDER BY {order}) TO {literal(str(draft))} "
                    "(FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE 20480)"
                )
                known = next((one for one in (AVAILABLE, "_asked_at", "at") if one in frame), None)
                since = int(frame[known].min()) if known else -FOREVER
                until = int(frame[known].max()) if known else FOREVER
                added[name] = [history.adopt(name, draft, len(rows), known_from=since, known_until=until)]
        finally:
            connection.close()
        return added


def _stamp(place: tuple[str, int]) -> dict[str, Any]:
    return {SEGMENT: place[0], OFFSET: place[1]}
