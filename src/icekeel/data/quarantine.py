"""Rows that were set aside: found again, handed out to be repaired, taken back, or dismissed.

What became of a row stands in `resolved/TABLE`, a table of history like any other. A repaired row and the mark that it
is resolved come into the same manifest, so that no crash and no second attempt takes a row twice or loses it.

When is a repaired row known? One from a file says so itself, like the rest of its file. One that was pushed is known
from the moment it is admitted: before that nobody could have read it.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from icekeel.compile import literal, quote
from icekeel.core.errors import Fault, SourceError, nearest
from icekeel.core.frames import Frame
from icekeel.core.ids import digest
from icekeel.core.kinds import Column, Kind
from icekeel.define.fields import Limits
from icekeel.define.tables import EventTable
from icekeel.journal import Ingested, Positions, Quarantined, Tail, Writer

from .batches import checked, known_of
from .checks import time_checks
from .contracts import EventContract, Value, grave
from .history import AVAILABLE, DELETED, OFFSET, ORIGIN, SEGMENT, SEQUENCE, History, Manifest, StoredFile
from .relations import array_of, columns_of, connect, create_table, one_row, parquet, write_parquet
from .vault import Hide

QUARANTINE, RESOLVED = "quarantine", "resolved"
REPAIRED, DISMISSED = "repaired", "dismissed"
ID, RULE, VALUE = "quarantine_id", "broken_rule", "broken_value"
"""Columns of the file that is handed out, before those of the table."""
_RESOLVED = tuple(
    Column(name, kind)
    for name, kind in (
        ("id", Kind.ID),
        ("decision", Kind.CAT),
        ("at", Kind.TIME),
        ("by", Kind.CAT),
        ("reason", Kind.TEXT),
    )
)
FETCH = 10_000
"""Rows of a stored file that are in memory at a time."""
_PUSHED = re.compile(r"(?P<what>.*?) @ (?:rows|delete)\[\d+\](?:\.(?P<field>[^,;]*))?(?:[,;].*)?", re.DOTALL)
"""The fault of a row that was pushed, as text: `out of range @ rows[3].items, got 40; allowed: 1 to 30`."""


@dataclass(frozen=True, slots=True)
class SetAside:
    """A row in quarantine.

    Attributes:
        id: Names it for ever.
        row: As it came; private values as pseudonyms.
        pushed: Whether it was pushed, or came from a file.
        decision: `repaired` or `dismissed`; empty while it is open.
        where: The source, and of a file the line (of Parquet the row), where that is known.
    """

    id: str
    row: Any
    faults: Sequence[str]
    pushed: bool
    decision: str = ""
    where: str = ""

    @property
    def rules(self) -> list[str]:
        """What is wrong with which field, without the row's place and value: `items: out of range`."""
        return [rule_of(fault) for fault in self.faults]

    def broken(self, names: Iterable[str]) -> dict[str, Any]:
        """Of these fields those that a fault names, and their values."""
        values = self.row if isinstance(self.row, dict) else {}
        named = {rule.partition(": ")[0] for rule in self.rules}
        return {name: values.get(name) for name in names if name in named}


def rule_of(fault: str) -> str:
    """What is wrong with which field, without the row's place and value."""
    pushed = _PUSHED.fullmatch(fault)
    return fault if pushed is None else ": ".join(part for part in (pushed["field"], pushed["what"]) if part)


def set_aside(history: History, journal: Path, table: str) -> Iterator[SetAside]:
    """Rows in quarantine: those in history and, behind them, those that are in the journal alone."""
    manifest = history.manifest()
    decided = _decided(history, manifest, table)
    for one in _all(history, manifest, journal, table):
        yield replace(one, decision=decided.get(one.id, ""))


def _all(history: History, manifest: Manifest, journal: Path, table: str) -> Iterator[SetAside]:
    for file in history.paths(manifest, f"{QUARANTINE}/{table}"):
        yield from _stored(file)
    tail = Tail(journal, Positions(dict(manifest.journal)))
    while records := tail.read():
        for record, (segment, offset) in zip(records, tail.places, strict=True):
            if isinstance(record, Quarantined) and record.table == table:
                for at, kept in enumerate(record.rows):
                    yield SetAside(f"{segment}-{offset}-{at}", kept.row, kept.faults, True)


def _stored(file: Path) -> Iterator[SetAside]:
    with connect(reads=[file]) as connection:
        relation = parquet([file])
        held = columns_of(connection, relation)
        pushed = SEGMENT in held
        origin = ORIGIN if ORIGIN in held else literal(file.name)
        name = f"{origin}[:16] || '-' || (row_number() OVER (PARTITION BY {origin} ORDER BY _place) - 1)"
        if pushed:
            within = f"row_number() OVER (PARTITION BY {SEGMENT}, {OFFSET} ORDER BY _place) - 1"
            name = f"{SEGMENT} || '-' || {OFFSET} || '-' || ({within})"
        rows = f"(SELECT *, row_number() OVER () AS _place FROM {relation})"
        where = "coalesce(source || ', line ' || line, source)" if "line" in held else "''"
        found = connection.execute(f"SELECT {name}, row, faults, {where} FROM {rows} ORDER BY _place")
        while some := found.fetchmany(FETCH):
            for identifier, row, faults, place in some:
                listed = faults if isinstance(faults, list) else faults.split("\n")
                yield SetAside(identifier, _decoded(row), listed, pushed, where=place)


def _decoded(row: str) -> Any:
    try:
        return json.loads(row)
    except ValueError:
        return row


def _decided(history: History, manifest: Manifest, table: str) -> dict[str, str]:
    files = history.paths(manifest, f"{RESOLVED}/{table}")
    if not files:
        return {}
    with connect(reads=files) as connection:
        return dict(connection.execute(f"SELECT id, decision FROM {parquet(files)}").fetchall())


def hand_out(rows: Iterable[SetAside], table: EventTable, target: Path) -> int:
    """Write the open rows as a CSV file to be edited: id, rules, values, then the fields; gives how many.

    Null is an empty cell, and so is an empty text.
    """
    names = list(table.fields)
    count = 0
    with target.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([ID, RULE, VALUE, *names])
        for one in rows:
            if one.decision:
                continue
            values = one.row if isinstance(one.row, dict) else {}
            broken = one.broken(names)
            shown = "; ".join(f"{name}={_cell(value)}" for name, value in broken.items())
            if not values:  # a line that could not be read at all
                shown = _cell(one.row)
            cells = [_cell(values.get(name)) for name in names]
            writer.writerow([one.id, "; ".join(one.rules), shown, *cells])
            count += 1
    return count


def _cell(value: Any) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    return json.dumps(value)


def read_back(path: Path, table: EventTable | None = None) -> dict[str, dict[str, Any]]:
    """Quarantine id -> row, from a file that was handed out; of a table, what its cells say by their fields.

    Raises:
        SourceError: no such file, no column of ids, an id twice, columns that the table has not, or not all it has.
    """
    names = [] if table is None else list(table.fields)
    found: dict[str, dict[str, Any]] = {}
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, strict=True)
            header = reader.fieldnames or []
            if ID not in header:
                raise SourceError(
                    Fault("missing_column", f'no column "{ID}"', str(path), "", "", nearest(ID, header))
                )
            strange = [one for one in header if one not in (ID, RULE, VALUE, *names)] if table else []
            faults = [
                Fault("unknown_field", f'no field "{one}"', str(path), hint=nearest(one, names))
                for one in strange
            ]
            for row in reader:
                where, identifier = f"{path}:{reader.line_num}", row.get(ID) or ""
                if None in row or None in row.values():
                    faults.append(Fault("ragged", "more or fewer cells than columns", where))
                elif identifier in found:
                    faults.append(Fault("twice", "this row stands there twice", where, identifier))
                fields = table.fields if table else {}
                found[identifier] = {name: _value(row.get(name) or "", fields[name].kind) for name in fields}
            lost = [one for one in names if one not in header]  # an optional value would be lost in silence
            faults += (Fault("missing_column", f'no column "{one}"', str(path)) for one in lost)
            if faults:
                raise SourceError(*faults[:50])
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        what = getattr(error, "strerror", None) or str(error)
        raise SourceError(Fault("unreadable", what, str(path))) from error
    return found


def _value(cell: str, kind: Kind) -> Any:
    """A cell as JSON would have it; what does not read as its kind stays a text, for the contract to name."""
    if not cell:
        return None
    if kind is Kind.FLAG:
        return {"true": True, "false": False}.get(cell.lower(), cell)
    if kind in (Kind.NUM, Kind.TIME) and "_" not in cell:
        with suppress(ValueError):
            return int(cell)
        with suppress(ValueError):
            return float(cell) if kind is Kind.NUM else cell
    return cell


@dataclass(frozen=True, slots=True)
class Resolution:
    """What became of rows that somebody decided about.

    Attributes:
        done: Rows that are resolved now.
        before: Those that had been before; nothing happened to them.
        faults: Quarantine id -> why the row stays where it is.
        file: Of the rows that were taken into history.
    """

    done: int
    before: int
    faults: Mapping[str, Sequence[str]]
    file: StoredFile | None = None


@dataclass(frozen=True, slots=True)
class Desk:
    """Where quarantined rows of one project are decided about.

    Attributes:
        now: When, microseconds UTC.
        ahead: Tables that may hold plans.
    """

    history: History
    journal: Path
    by: str
    reason: str
    now: int
    ahead: Collection[str] = ()

    def dismiss(self, table: str, ids: Iterable[str]) -> Resolution:
        """Mark rows as such that nobody will repair. They stay where they are."""
        with self.history.adding() as manifest:
            _, waiting, before, faults = self._sorted(manifest, table, ids)
            if waiting:
                self.history.replace(manifest, self._resolved(table, waiting, DISMISSED))
        return Resolution(len(waiting), before, faults)

    def admit(
        self, table: EventTable, rows: Mapping[str, Mapping[str, Any]], journal: Writer, hide: Hide | None
    ) -> Resolution:
        """Check repaired rows again, all of the contract but what is demanded of a batch, and take those that pass.

        Args:
            rows: Quarantine id -> decoded row.
            journal: Told of the file that holds them before the manifest lists it, as of one that is taken in.
            hide: Gives the pseudonyms of private values that were changed.
        """
        with self.history.adding() as manifest:
            held, waiting, before, faults = self._sorted(manifest, table.name, rows)
            good: dict[str, dict[str, Value]] = {}
            for identifier in waiting:
                values, wrong = self._read(table, held[identifier], rows[identifier], hide)
                if wrong:
                    faults[identifier] = wrong
                else:
                    good[identifier] = values
            pushed = {identifier for identifier in good if held[identifier].pushed}
            file, broken = self._store(manifest, table, good, pushed) if good else (None, {})
            faults |= broken
            done = [identifier for identifier in good if identifier not in broken]
            if file is not None:
                name, rows_in = file.name, file.rows
                journal.append(Ingested(self.now, table.name, name, name.split(".")[0], rows_in))
                added = {table.name: [file], **self._resolved(table.name, done, REPAIRED)}
                self.history.replace(manifest, added)
        return Resolution(len(done), before, faults, file)

    def _sorted(
        self, manifest: Manifest, table: str, ids: Iterable[str]
    ) -> tuple[dict[str, SetAside], list[str], int, dict[str, Sequence[str]]]:
        """These rows as they are in quarantine; which are open; how many are resolved; why others cannot be."""
        wanted = dict.fromkeys(ids)
        every = _all(self.history, manifest, self.journal, table)
        held = {one.id: one for one in every if one.id in wanted}
        decided = _decided(self.history, manifest, table)
        known = [one for one in wanted if one in held]
        faults: dict[str, Sequence[str]] = {
            one: [f"no such row in quarantine of {table}"] for one in wanted if one not in held
        }
        waiting = [one for one in known if one not in decided]
        return held, waiting, len(known) - len(waiting), faults

    def _read(
        self, table: EventTable, one: SetAside, row: Mapping[str, Any], hide: Hide | None
    ) -> tuple[dict[str, Value], list[str]]:
        """The row as it is stored, and what keeps it out. A private value that was left alone is a pseudonym already."""
        before = one.row if isinstance(one.row, dict) else {}
        same = [
            field.name
            for field in table.fields.values()
            if field.entity and row.get(field.name) is not None and row[field.name] == before.get(field.name)
        ]
        if wrong := [f"{name}: still as it was" for name in one.broken(same)]:
            return {}, wrong
        bare = {name: replace(table.fields[name], limits=Limits(optional=True)) for name in same}
        read = replace(table, fields={**table.fields, **bare})
        contract = EventContract(read, stamped=one.pushed, ahead=table.name in self.ahead, hide=hide)
        given = dict(row)
        if one.pushed and table.available != table.time:
            del given[table.available]
        values, faults = contract.parse(given, "", self.now)
        if serious := grave(faults):
            return {}, [str(fault) for fault in serious]
        stored = dict(zip(table.fields, values, strict=True))
        if one.pushed and table.available != table.time:
            stored[table.available] = self.now
        return stored, []

    def _store(
        self, manifest: Manifest, table: EventTable, rows: Mapping[str, dict[str, Value]], pushed: set[str]
    ) -> tuple[StoredFile | None, dict[str, Sequence[str]]]:
        """A file of those that pass what needs other rows too, and what is wrong with the rest."""
        draft = self.history.folder / f"{table.name}.draft"
        columns = [Column(one.name, one.kind) for one in table.fields.values()]
        stamp = Column("_known", Kind.TIME)
        listed = [{**row, "_known": self.now if one in pushed else None} for one, row in rows.items()]
        frame = Frame({column.name: array_of(listed, column) for column in (*columns, stamp)})
        flags = {one.name for one in columns if one.kind is Kind.FLAG}
        shown = ", ".join(f"{quote(n)} = 1 AS {quote(n)}" if n in flags else quote(n) for n in table.fields)
        with connect(folder=self.history.folder) as connection:
            create_table(connection, "_admitted", [*columns, stamp], frame)
            given = f"(SELECT {shown}, CAST([] AS VARCHAR[]) AS _wrong FROM _admitted ORDER BY _row)"
            limits = time_checks(table, self.now, ahead=table.name in self.ahead)
            known = known_of(self.history, manifest, table, "")
            statement = checked(connection, table, given, manifest.sequence, limits, known)
            connection.execute(f"CREATE TEMP TABLE checked AS {statement}")
            place = f"{SEQUENCE} - {manifest.sequence} - 1"
            bad = connection.execute(
                f"SELECT {place}, _faults FROM checked WHERE len(_faults) > 0"
            ).fetchall()
            names = list(rows)
            broken: dict[str, Sequence[str]] = {names[at]: faults for at, faults in bad}
            if len(broken) == len(rows):
                return None, broken
            kept = f"SELECT {', '.join(map(quote, table.fields))}, coalesce(_known, {AVAILABLE}) AS {AVAILABLE}, {DELETED}, {SEQUENCE}"
            kept += f" FROM checked JOIN (SELECT _row, _known FROM _admitted) ON _row = {place} WHERE len(_faults) = 0"
            count = write_parquet(connection, kept, draft)
            (first,) = one_row(connection, f"SELECT min({AVAILABLE}) FROM {parquet([draft])}")
        source = f"admitted:{digest(repr(sorted(rows)).encode())[:32]}"
        return self.history.adopt(table.name, draft, count, source, known_from=first), broken

    def _resolved(self, table: str, ids: Sequence[str], decision: str) -> dict[str, list[StoredFile]]:
        name = f"{RESOLVED}/{table}"
        draft = self.history.folder / f"{RESOLVED}-{table}.draft"
        rows = [
            {"id": one, "decision": decision, "at": self.now, "by": self.by, "reason": self.reason}
            for one in ids
        ]
        frame = Frame({column.name: array_of(rows, column) for column in _RESOLVED})
        with connect(folder=self.history.folder) as connection:
            create_table(connection, "_done", _RESOLVED, frame)
            connection.execute(
                f"COPY (SELECT * EXCLUDE (_row) FROM _done) TO {literal(str(draft))} (FORMAT parquet)"
            )
        return {name: [self.history.adopt(name, draft, len(rows))]}
