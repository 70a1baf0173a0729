"""Bulk data into history: rows are read in parts, checked against their contract and stored, good ones and bad.

One statement checks all rows of a part. Good rows become a Parquet file of the table's history; bad ones go to
quarantine with every rule they break and their values as they came. What is stored and how far the source was read
stand in one manifest, so that a run that is killed is taken up where it was: nothing is lost, nothing comes twice.

Twice does not mean again: a file is known by its content, a row by what the newest version of it says. A row that
says something else is a new version.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import duckdb

from icekeel.compile import literal, quote
from icekeel.core.errors import Fault, SourceError
from icekeel.core.files import locked
from icekeel.core.ids import file_digest
from icekeel.core.time import FOREVER
from icekeel.define.tables import EventTable

from .batches import admit, checked, known_of, needs_whole
from .checks import time_checks
from .history import AVAILABLE, DELETED, SEQUENCE, SPOOL, TAKEN, History, Manifest, StoredFile
from .parts import Part, form_of, parts_of
from .readings import Reading, hidden, load, refuse_misread, typed
from .relations import SQL_TYPES, connect, one_row, parquet, selected, write_parquet
from .sources import Input, Query, Row, Stored, as_lines, note_types, types_of, watermark_of
from .spines import as_table
from .vault import Vault
from .whole import whole_file

QUARANTINE = "quarantine"
QUERY_ROWS = 200_000
"""Rows of a database that are taken at once."""
SQL = "sql"
"""How rows of a database came, beside the forms of files."""
SETTLED_NS = 2_000_000_000
"""A file that was last written to so long ago is known by its look: size, times, and place on the disk."""
MEMORY = "1GB"
"""What a part may take of the database's memory before it spills."""


@dataclass(slots=True)
class Ingested:
    """What became of one source: a file, an object, a query.

    Attributes:
        files: The stored files; none where the content was known already.
        kept: Rows stored, of which `changed` are later versions of events that were known.
        skipped: Rows that were known already.
        deleted: Of those kept, how many say that an event holds no more because a query does not give it any more.
        reasons: Rule -> rows that broke it; a row may break several.
        warned: Rule -> rows that broke it and were kept, as it says.
        notes: What was out of the ordinary about it as a whole, such as a column of another type.
    """

    table: str
    source: str
    kept: int = 0
    changed: int = 0
    quarantined: int = 0
    skipped: int = 0
    deleted: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    warned: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)
    files: list[StoredFile] = field(default_factory=list)

    @property
    def known(self) -> bool:
        """Whether nothing was new."""
        return not (self.kept or self.quarantined)


@dataclass(frozen=True, slots=True)
class Taking:
    """How rows are taken.

    Attributes:
        announce: Told of each stored file before the manifest lists it. If the process dies in between, the file
            is not listed, so the next run stores and announces it again.
        progress: Told, of a source in several parts, of each.
        now: No row can be known from a later time.
        ahead: Whether rows may be about times that lie after the one from which they are known.
        vault: Gives the pseudonyms of private columns.
    """

    announce: Callable[[str, StoredFile], None] = lambda table, file: None
    progress: Callable[[str], None] = lambda line: None
    now: int = FOREVER
    ahead: bool = False
    vault: Vault | None = None


@dataclass(frozen=True, slots=True)
class Given:
    """A file that was made of a table which the caller has."""

    path: Path


def ingest(
    history: History, table: EventTable, sources: Iterable[Input | Given], how: Taking | None = None
) -> list[Ingested]:
    """Take sources into a table's history, one after the other; gives what became of each.

    Raises:
        SourceError: one that cannot be read, or whose columns are not the table's. What was stored of it before
            is kept, and of a file that is refused as a whole nothing is; sources before it are.
        ContractError: the same of one that breaks something whose policy is `block`.
    """
    history.make()
    spool = history.folder / SPOOL / table.name
    with locked(history.folder / f"ingest-{table.name}.lock"):  # nobody else has anything in this spool
        spool.mkdir(parents=True, exist_ok=True)
        intake = _Intake(history, table, spool, how or Taking())
        results = [intake.take(source) for source in sources]
        shutil.rmtree(spool, ignore_errors=True)
    return results


def ingest_table(history: History, table: EventTable, given: Any, how: Taking | None = None) -> Ingested:
    """Take a data frame of pandas or Polars, an Arrow table or a list of dicts into history, like a file of it.

    Raises:
        SourceError: it is none of these, or as `ingest`.
    """
    with tempfile.TemporaryDirectory(prefix="icekeel-") as folder:
        rows = as_table(given)
        file = Path(folder) / ("rows.jsonl" if isinstance(rows, list) else "rows.parquet")
        try:
            if isinstance(rows, list):
                file.write_bytes(as_lines(rows))
            else:
                with closing(connect(folder=Path(folder))) as connection:
                    connection.register("given", rows)
                    write_parquet(connection, "SELECT * FROM given", file)
        except (duckdb.Error, TypeError) as error:
            raise SourceError(Fault("not_a_table", str(error).splitlines()[0], "table")) from error
        (result,) = ingest(history, table, [Given(file)], how)
    return result


class _Intake:
    """One table's sources on their way into history."""

    def __init__(self, history: History, table: EventTable, spool: Path, how: Taking) -> None:
        self._history, self._table, self._spool, self._how = history, table, spool, how
        self._fields = list(table.fields.values())
        self._ids: list[Path] | None = None
        self._types: dict[str, Counter[str]] = {}
        self._know(history.manifest())

    def _know(self, manifest: Manifest) -> None:
        """Go on from a manifest: nobody else takes sources of this table meanwhile."""
        tables = self._table.name, f"{QUARANTINE}/{self._table.name}"
        self._states, self._rows = manifest.sources.get(self._table.name, {}), Counter[str]()
        for one in chain(*map(manifest.origins, tables)):
            self._rows[one.source] += one.rows

    def take(self, source: Input | Given) -> Ingested:
        if isinstance(source, Query):
            return self._query(source)
        if isinstance(source, Stored):
            return self._object(source)
        if isinstance(source, Given):
            return self._file(source.path, "table", {})
        return self._local(source)

    def _local(self, path: Path) -> Ingested:
        """Take a file; one that is as it was when its content was taken is not read again."""
        form_of(path)
        key, stamp = f"file {path.resolve()}", _settled(path)
        before, _, content = self._states.get(key, "").rpartition(" ")
        if stamp and stamp == before and self._states.get(content) == TAKEN:
            return Ingested(self._table.name, str(path), skipped=self._rows[content])
        return self._file(path, str(path), {key: stamp} if stamp else {})

    def _object(self, source: Stored) -> Ingested:
        form_of(Path(source.path))
        key = f"object {source.token}"
        if (content := self._states.get(key)) is not None:
            return Ingested(self._table.name, source.url, skipped=self._rows[content])
        copy = source.fetch(self._spool)
        result = self._file(copy, source.url, {key: ""})
        copy.unlink()
        return result

    def _file(self, path: Path, name: str, also: Mapping[str, str]) -> Ingested:
        """Take a file, or what is not taken of it yet.

        Args:
            also: Other names of it, kept at its end with its content, each behind how it looked under that name.
        """
        result = Ingested(self._table.name, name)
        form_of(path)
        try:
            before, content = _stamp(path), file_digest(path)
            also = {key: f"{stamp} {content}".lstrip() for key, stamp in also.items()}
            state = self._states.get(content)
            if state is None and self._rows[content]:  # taken before states were kept
                state = TAKEN
            if state == TAKEN:
                result.skipped = self._rows[content]
                if also:
                    with self._history.adding() as manifest:
                        states = {self._table.name: {content: TAKEN, **also}}
                        self._know(self._history.replace(manifest, {}, sources=states))
                return result
            rows = 0
            if state is None and needs_whole(self._table):
                self._admit(path, name, content, result)
            for part in parts_of(path, name, self._fields, state or ""):
                if _stamp(path) != before:
                    raise SourceError(Fault("source_changed", "the file changed while it was read", name))
                after = {content: part.after} if part.after else {content: TAKEN, **also}
                rows += self._part(part, path, content, result, after, first=not (state or rows))
                if part.after:
                    self._how.progress(f"{self._table.name}: {rows:,} rows of {name}")
        except (duckdb.Error, OSError) as error:
            what = getattr(error, "strerror", None) or str(error).splitlines()[0]
            raise SourceError(Fault("unreadable", what, name)) from error
        return result

    def _admit(
        self, path: Path | None, name: str, content: str, result: Ingested, parts: Iterable[Part] = ()
    ) -> None:
        """Count all of a file, or of the parts of a query, before any of it is taken."""
        table, how, manifest = self._table, self._how, self._history.manifest()
        hide = None if how.vault is None else how.vault.hide_many
        with closing(self._connect(path)) as connection:
            whole = whole_file(connection, path or self._spool, name, self._fields, self._spool, hide, parts)
            limits = time_checks(table, how.now, ahead=how.ahead)
            known = known_of(self._history, manifest, table, form_of(path) if path else SQL, content)
            held = whole.held or types_of(self._types)
            result.notes += admit(connection, table, whole.relation, limits, known, held=held, where=name)

    def _query(self, query: Query) -> Ingested:
        """Take what a query gives, a part after the other, each with the watermark that it leads to."""
        result = Ingested(self._table.name, str(query))
        content = f"{query.key} {self._history.manifest().taken}"  # each run is a source of its own
        self._ids = [] if query.sql.whole else None
        self._types, rows = {}, 0
        batches = self._batches(query)
        if needs_whole(self._table):
            if kept := self._spooled(batches):
                parts = (Part("json", file.read_bytes(), "") for file, _ in kept)
                self._admit(None, str(query), content, result, parts)
            batches = ((file.read_bytes(), high) for file, high in kept)
        for text, high in batches:
            state = {query.key: high} if high else {}
            rows += self._part(Part("json", text, ""), None, content, result, state, first=not rows)
            self._how.progress(f"{self._table.name}: {rows:,} rows of {query}")
        if self._ids is not None:
            self._delete_missing(query, content, result)
        return result

    def _batches(self, query: Query) -> Iterator[tuple[bytes, str]]:
        """Some rows of a query at a time as lines, and their highest watermark; their types are noted."""
        batch, mark = list[Row](), query.sql.watermark
        for some in chain(query.rows(self._fields, self._states.get(query.key, "")), [None]):
            note_types(some or (), self._types)
            batch += some or ()
            if batch and (some is None or len(batch) >= QUERY_ROWS):
                yield as_lines(batch), watermark_of(batch, mark) if mark else ""
                batch.clear()

    def _spooled(self, batches: Iterable[tuple[bytes, str]]) -> list[tuple[Path, str]]:
        """The same in files: all of a run is looked at before any of it is taken."""
        kept = list[tuple[Path, str]]()
        for text, high in batches:
            kept.append((self._spool / f"run-{len(kept)}.jsonl", high))
            kept[-1][0].write_bytes(text)
        return kept

    def _part(
        self,
        part: Part,
        path: Path | None,
        content: str,
        result: Ingested,
        state: Mapping[str, str],
        *,
        first: bool,
    ) -> int:
        """Check a part and store it together with the state that it leads to; gives its rows."""
        table, how = self._table, self._how
        with self._history.adding() as manifest, closing(self._connect(path)) as connection:
            reading = load(connection, part, path, self._spool / "part", self._fields)
            hide = None if how.vault is None else how.vault.hide_many
            reading = hidden(connection, reading, self._fields, hide)
            limits = time_checks(table, how.now, ahead=how.ahead)
            form = part.form if path else SQL
            known = known_of(self._history, manifest, table, form, content)
            rows, held = typed(reading, self._fields), dict[str, str]()
            if first and path is None:
                held = types_of(self._types)
            elif first:
                held = refuse_misread(connection, reading, self._fields, result.source)
            if first and not needs_whole(table):
                where = result.source
                result.notes += admit(connection, table, rows, limits, known, held=held, where=where)
            statement = checked(connection, table, rows, manifest.sequence, limits, known)
            connection.execute(f"CREATE TEMP TABLE checked AS {statement}")
            if self._ids is not None:
                self._ids.append(self._spool / f"ids-{len(self._ids)}.parquet")
                ids = f"SELECT {quote(table.id)} AS id FROM checked WHERE {quote(table.id)} IS NOT NULL"
                write_parquet(connection, ids, self._ids[-1])
            besides = _Besides(self._history, manifest, table, "" if path is None else content)
            result.skipped += besides.drop_known(connection)
            bad, again = besides.set_aside(connection, reading, manifest.sequence)
            result.skipped += again
            result.changed += besides.changed(connection)
            for name, tally in (("_faults", result.reasons), ("_warned", result.warned)):
                tally.update(dict(connection.execute(_REASONS.format(name)).fetchall()))
            added = self._stored(connection, content, result, bad)
            for file in added.get(table.name, ()):
                how.announce(table.name, file)
            types = {f"{table.name}.{form}": known.types_after(table, held)} if held else {}
            sources = {table.name: state}
            self._know(self._history.replace(manifest, added, types=types, sources=sources))
            return _count(connection, reading.relation)

    def _connect(self, path: Path | None) -> duckdb.DuckDBPyConnection:
        reads = [] if path is None else [path]
        connection = connect(threads=2, reads=reads, folder=self._history.folder, memory_limit=MEMORY)
        connection.execute("SET TimeZone = 'UTC'")
        return connection

    def _stored(
        self, connection: duckdb.DuckDBPyConnection, content: str, result: Ingested, bad: int
    ) -> dict[str, list[StoredFile]]:
        """The files of the good rows that are left in `checked`, and of the bad ones."""
        table, draft = self._table, self._history.folder / f"{self._table.name}.draft"
        added = {}
        fields = ", ".join(quote(name) for name in table.fields)
        span = f"SELECT count(*), min({AVAILABLE}), max({AVAILABLE}) FROM checked WHERE len(_faults) = 0"
        good, since, until = one_row(connection, span)
        try:
            if good:
                columns = f"{fields}, {AVAILABLE}, {DELETED}, {SEQUENCE}"
                write_parquet(connection, f"SELECT {columns} FROM checked WHERE len(_faults) = 0", draft)
                added[table.name] = [
                    self._history.adopt(table.name, draft, good, content, known_from=since, known_until=until)
                ]
            if bad:
                name = f"{QUARANTINE}/{table.name}"
                columns = f"row, faults, {literal(result.source)} AS source, line"
                write_parquet(connection, f"SELECT {columns} FROM bad", draft)
                added[name] = [self._history.adopt(name, draft, bad, content)]
        finally:
            draft.unlink(missing_ok=True)
        result.kept += good
        result.quarantined += bad
        result.files += added.get(table.name, [])
        return added

    def _delete_missing(self, query: Query, content: str, result: Ingested) -> None:
        """Say of every event that the query does not give any more that it does not hold, from now on."""
        table, now, ids = self._table, self._how.now, self._ids or []
        with self._history.adding() as manifest, closing(self._connect(None)) as connection:
            files = self._history.paths(manifest, table.name)
            if files and not ids:
                what = "the query gives no row at all, so none is said to be deleted"
                raise SourceError(Fault("no_rows", what, str(query)))
            if not files:
                return
            name = quote(table.id)
            connection.execute(
                f"CREATE TEMP TABLE gone AS SELECT {name}, row_number() OVER () AS _at FROM (SELECT {name}, "
                f"arg_max({DELETED}, ({AVAILABLE}, {SEQUENCE})) AS _gone FROM {parquet(files, union=True)} GROUP BY 1) "
                f"WHERE _gone = 0 AND {name} NOT IN (SELECT id FROM {parquet(ids)})"
            )
            given = {table.id: name, table.deleted: "1.0", table.available: str(now)}
            if table.available == table.time:
                del given[table.available]
            values = [
                f"CAST({given.get(one.name, 'NULL')} AS {SQL_TYPES[one.kind]}) AS {quote(one.name)}"
                for one in self._fields
            ]
            connection.execute(
                f"CREATE TEMP TABLE checked AS SELECT {', '.join(values)}, {now}::BIGINT AS {AVAILABLE}, "
                f"1::DOUBLE AS {DELETED}, _at + {manifest.sequence} AS {SEQUENCE}, []::VARCHAR[] AS _faults FROM gone"
            )
            before = result.kept
            added = self._stored(connection, content, result, 0)
            result.deleted = result.kept - before
            for file in added.get(table.name, ()):
                self._how.announce(table.name, file)
            if added:
                self._history.replace(manifest, added)


@dataclass(frozen=True, slots=True)
class _Besides:
    """A part beside what history holds already, but for the other parts of the same content."""

    history: History
    manifest: Manifest
    table: EventTable
    content: str

    def _files(self, name: str, since: int = -FOREVER, until: int = FOREVER) -> list[Path]:
        return [
            self.history.folder / name / one.name
            for one in self.manifest.tables.get(name, ())
            if one.source != self.content and one.known_from <= until and one.known_until >= since
        ]

    def drop_known(self, connection: duckdb.DuckDBPyConnection) -> int:
        """Drop good rows that say what the newest version of that id and availability says; gives how many.

        Of several such rows in one part each is known that any of its versions says.
        """
        span = f"SELECT min({AVAILABLE}), max({AVAILABLE}) FROM checked WHERE len(_faults) = 0"
        since, until = one_row(connection, span)
        files = [] if since is None else self._files(self.table.name, since, until)
        if not files:
            return 0
        rows, key = parquet(files, union=True), quote(self.table.id)
        types = {one.name: SQL_TYPES[one.kind] for one in self.table.fields.values()}
        columns = selected(connection, rows, types)
        connection.execute(
            f"CREATE TEMP TABLE known AS SELECT {', '.join(columns)}, {AVAILABLE}, {DELETED}, row_number() OVER "
            f"(PARTITION BY {key}, {AVAILABLE} ORDER BY {SEQUENCE} DESC) AS _age FROM {rows} "
            f"WHERE {AVAILABLE} BETWEEN {since} AND {until} "
            f"AND {key} IN (SELECT {key} FROM checked WHERE len(_faults) = 0)"
        )
        same = " AND ".join(
            f"given.{quote(name)} IS NOT DISTINCT FROM known.{quote(name)}"
            for name in (*self.table.fields, DELETED)
        )
        alike = f"SELECT *, count(*) OVER (PARTITION BY {key}, {AVAILABLE}) AS _alike FROM checked WHERE len(_faults) = 0"
        connection.execute(
            f"CREATE TEMP TABLE again AS SELECT DISTINCT given.{SEQUENCE} AS place FROM ({alike}) given JOIN known "
            f"ON given.{key} = known.{key} AND given.{AVAILABLE} = known.{AVAILABLE} AND {same} "
            "AND (known._age = 1 OR given._alike > 1)"
        )
        return int(
            one_row(connection, f"DELETE FROM checked WHERE {SEQUENCE} IN (SELECT place FROM again)")[0]
        )

    def set_aside(
        self, connection: duckdb.DuckDBPyConnection, reading: Reading, sequence: int
    ) -> tuple[int, int]:
        """Bad rows as they came, in a table `bad`: how many there are, and how many others were set aside before."""
        rows = (
            f"SELECT {reading.raw} AS row, row_number() OVER () + {sequence} AS place FROM {reading.relation}"
        )
        connection.execute(
            f"CREATE TEMP TABLE bad AS SELECT CAST(given.row AS VARCHAR) AS row, _faults AS faults, place, "
            f"{reading.line(f'given.place - {sequence}')} AS line FROM ({rows}) given "
            f"JOIN checked ON given.place = checked.{SEQUENCE} WHERE len(_faults) > 0 ORDER BY place"
        )
        bad, again = _count(connection, "bad"), 0
        if bad and (files := self._files(f"{QUARANTINE}/{self.table.name}")):
            before = " UNION ALL ".join(
                f"SELECT CAST(row AS VARCHAR) AS row FROM {parquet([one])}" for one in files
            )
            connection.execute(
                "CREATE TEMP TABLE seen AS SELECT place FROM bad WHERE row IN (" + before + ")"
            )
            connection.execute(f"DELETE FROM checked WHERE {SEQUENCE} IN (SELECT place FROM seen)")
            again = one_row(connection, "DELETE FROM bad WHERE place IN (SELECT place FROM seen)")[0]
        return bad - again, again

    def changed(self, connection: duckdb.DuckDBPyConnection) -> int:
        """Good rows of events that are known."""
        files, key = self._files(self.table.name), quote(self.table.id)
        good = "checked WHERE len(_faults) = 0"
        if not files or not _count(connection, good):
            return 0
        known = f"SELECT {key} FROM {parquet(files, union=True)} WHERE {key} IN (SELECT {key} FROM {good})"
        return _count(connection, f"{good} AND {key} IN ({known})")


_REASONS = (
    "SELECT fault, count(*) FROM (SELECT unnest({}) AS fault FROM checked) GROUP BY 1 ORDER BY 2 DESC, 1"
)


def _stamp(path: Path) -> tuple[int, int, int]:
    found = path.stat()
    return found.st_ino, found.st_size, found.st_mtime_ns


def _settled(path: Path) -> str:
    """How a file looks from outside; empty where it was written just now, and might be again with the same look."""
    try:
        found = path.stat()
    except OSError:
        return ""
    if max(found.st_mtime_ns, found.st_ctime_ns) > time.time_ns() - SETTLED_NS:
        return ""
    return f"{found.st_ino} {found.st_size} {found.st_mtime_ns} {found.st_ctime_ns}"


def _count(connection: duckdb.DuckDBPyConnection, rows: str) -> int:
    return int(one_row(connection, f"SELECT count(*) FROM {rows}")[0])
