"""The versions of every event, read from Parquet out of core, for the keys that are asked about.

Only the columns that a view reads leave the files. When a version is replaced is worked out for ids that occur
more than once, which most tables do not have. What is more than fits is split by key onto disk, part by part.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import duckdb
import numpy as np

from icekeel.compile.sql import event_leaf, literal, quote, select
from icekeel.core.errors import Fault, StateError
from icekeel.core.frames import Array, Floats, Frame, Ints
from icekeel.core.kinds import Column, Kind
from icekeel.core.time import FOREVER
from icekeel.data.history import AVAILABLE, DELETED, SEQUENCE
from icekeel.data.relations import (
    SQL_TYPES,
    connect,
    create_table,
    fetch,
    from_sql,
    one_row,
    parquet,
    selected,
)
from icekeel.define.nodes import AskedAt, Node, RequestField
from icekeel.define.tables import EventTable

from .plan import Lookup
from .windows import Versions

PART_BYTES = 640 << 20
"""Most that the rows of one part take as arrays; the kernel takes about four times that."""
MEMORY = "750MB"
"""What DuckDB may hold before it spills."""
SPILL = "icekeel-spill"
ASKED_AT = "_asked_at"
"""Column of the times asked, beside the request's fields."""
_HASHES = 1 << 25
"""Most hashes of ids compared at a time."""


class EventStore:
    """The versions of every event, from Parquet files, for questions about any time.

    Args:
        files: Parquet files of each table, as `data.history` keeps them.
        folder: Where to spill; by default where the system keeps temporary files.
        part_bytes: Most that rows read at once may take.
        delay: Microseconds by which every row becomes available later than it did.
    """

    def __init__(
        self,
        tables: Mapping[str, EventTable],
        files: Mapping[str, Sequence[Path]],
        *,
        threads: int = 2,
        folder: Path | None = None,
        part_bytes: int = PART_BYTES,
        delay: int = 0,
    ) -> None:
        self._tables = tables
        self._files = files
        self.part_bytes = part_bytes
        self._relations: dict[str, tuple[str, bool]] = {}
        self._hashes: dict[str, Array] = {}
        self._known = FOREVER
        self._available = f"{AVAILABLE} + {delay} AS {AVAILABLE}" if delay else AVAILABLE
        beside = Path(folder or tempfile.gettempdir())
        _sweep(beside)
        self.spill = beside / f"{SPILL}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self.connection = connect(
            threads=threads,
            reads=[file for listed in files.values() for file in listed],
            folder=self.spill,
            memory_limit=MEMORY,
            temp_directory=str(self.spill),
            preserve_insertion_order=False,
        )

    def close(self) -> None:
        """Free what was read, in memory and on disk."""
        self.connection.close()
        shutil.rmtree(self.spill, ignore_errors=True)

    def forget_after(self, known: int) -> None:
        """From here on, see nothing that became available later than this."""
        self._known = known
        self._relations.clear()

    def _source(self, table: EventTable) -> str:
        """All rows known; a column that came into the definition after a file was stored is null there."""
        kinds = {name: SQL_TYPES[field.kind] for name, field in table.fields.items()}
        kinds |= {AVAILABLE: "BIGINT", DELETED: "DOUBLE", SEQUENCE: "BIGINT"}
        files = self._files.get(table.name, ())
        if not files:
            listed = [f"CAST(NULL AS {kind}) AS {quote(name)}" for name, kind in kinds.items()]
            return f"(SELECT {', '.join(listed)}, 0::BIGINT AS _place WHERE false)"
        rows = parquet(files, union=True)
        listed = selected(self.connection, rows, kinds)
        listed[listed.index(quote(AVAILABLE))] = self._available
        place = "(file_index::BIGINT << 40) + file_row_number AS _place"
        known = f" WHERE {AVAILABLE} <= {self._known}" if self._known < FOREVER else ""
        return f"(SELECT {', '.join(listed)}, {place} FROM {rows}{known})"

    def versions(self, name: str) -> tuple[str, bool]:
        """The relation of a table's versions, with `_time`, `_start`, `_end` and `_place`; whether any has an end."""
        if name not in self._relations:
            table = self._tables[name]
            source, key = self._source(table), quote(table.id)
            listed = ", ".join(quote(field) for field in table.fields)
            listed += f", {DELETED}, {quote(table.time)} AS _time, {AVAILABLE} AS _start, _place"
            single = f"SELECT {listed}, {FOREVER}::BIGINT AS _end FROM {source}"
            if name not in self._hashes:  # of all that was ever seen, also once some of it is forgotten
                self._hashes[name] = self._repeated(name, f"SELECT hash({key}) AS hash FROM {source}")
            repeated = self._hashes[name]
            if len(repeated):
                again, replaced = quote(f"repeated of {name}"), quote(f"replaced of {name}")
                with incoming(self.connection, {"hash": repeated}) as some:
                    self.connection.execute(f"CREATE OR REPLACE TEMP TABLE {again} AS SELECT * FROM {some}")
                self.connection.execute(
                    f"CREATE OR REPLACE TEMP TABLE {replaced} AS SELECT {listed}, coalesce(lead({AVAILABLE}) OVER "
                    f"(PARTITION BY {key} ORDER BY {AVAILABLE}, {SEQUENCE}), {FOREVER}) AS _end "
                    f"FROM {source} WHERE hash({key}) IN (SELECT hash FROM {again})"
                )
                single += f" WHERE hash({key}) NOT IN (SELECT hash FROM {again})"
                single += f" UNION ALL SELECT * FROM {replaced} WHERE _start < _end"
            self._relations[name] = f"({single})", len(repeated) > 0
        return self._relations[name]

    def _repeated(self, name: str, hashes: str) -> Array:
        """The hashes of all ids that may occur more than once."""
        parts = self.rows(name) // _HASHES + 1
        found: list[Array] = [np.zeros(0, dtype=np.uint64)]
        for part in range(parts):
            only = f" WHERE hash % {parts} = {part}" if parts > 1 else ""
            some = self.connection.execute(f"SELECT hash FROM ({hashes}){only}").fetchnumpy()["hash"]
            some.sort()
            found.append(some[1:][some[1:] == some[:-1]])
        return np.unique(np.concatenate(found))

    def newest(self, name: str, now: int) -> int | None:
        """When the newest row of a table became available that was known at `now`; None before any."""
        statement = (
            f"SELECT max({AVAILABLE}) FROM {self._source(self._tables[name])} WHERE {AVAILABLE} <= {now}"
        )
        (found,) = one_row(self.connection, statement)
        return None if found is None else int(found)

    def table(self, name: str) -> EventTable:
        """The definition of a table."""
        return self._tables[name]

    def rows(self, name: str) -> int:
        """How many versions of a table are stored."""
        files = self._files.get(name, ())
        if not files:
            return 0
        listed = ", ".join(literal(str(file)) for file in files)
        return int(
            one_row(self.connection, f"SELECT sum(num_rows) FROM parquet_file_metadata([{listed}])")[0]
        )


def _sweep(folder: Path) -> None:
    """Delete what processes that were killed have spilled here."""
    for path in folder.glob(f"{SPILL}-*-*"):
        try:
            os.kill(int(path.name.split("-")[2]), 0)
        except ProcessLookupError:
            shutil.rmtree(path, ignore_errors=True)
        except (ValueError, OSError):
            continue


class Scan:
    """The events behind one lookup, for the keys of some requests.

    Attributes:
        codes: Code of each request's key, `(n_requests,)`; -1 where a part of the key is null.
    """

    def __init__(
        self,
        store: EventStore,
        lookup: Lookup,
        inputs: Sequence[Column],
        requests: Frame,
        asked_at: Ints,
        *,
        ordered: bool = True,
    ) -> None:
        """Prepare to read.

        Args:
            inputs: Columns of `requests` that the key, or a parameter, follows from.
            ordered: Whether it matters which of a key's events at the same time comes first.
        """
        self._connection = store.connection
        self._lookup = lookup
        self._ordered = ordered
        self._relation, self._replaced = store.versions(lookup.view.table)
        self._id = quote(store.table(lookup.view.table).id)
        asked = [*inputs, Column(ASKED_AT, Kind.TIME)]
        create_table(self._connection, "_requests", asked, requests.with_columns({ASKED_AT: asked_at}))
        self.codes = self._code_keys(len(requests))
        first, last = (int(asked_at.min()), int(asked_at.max())) if len(asked_at) else (0, 0)
        meets = f"_time BETWEEN {first - lookup.view.back} AND {last + lookup.view.ahead}"
        source = f"(SELECT * FROM {self._relation} WHERE {DELETED} = 0 AND {meets})"
        self._statement, self._names = select(lookup.values, event_leaf, source)
        self._texts = [at for at, node in enumerate(lookup.values) if node.kind.is_text]
        for at in self._texts:
            self._connection.execute(
                f"CREATE OR REPLACE TEMP TABLE _texts{at} AS SELECT text, row_number() OVER () - 1 AS code FROM "
                f"(SELECT DISTINCT {self._names[at]} AS text FROM ({self._statement}) WHERE text IS NOT NULL)"
            )
        self._columns = ["_code", "_time", "_start", "_place"]
        self._columns += ["_end"] if self._replaced else []
        self._columns += [f"_value{at}" for at in range(len(lookup.values))]
        width = 8 * len(self._columns)
        self._parts = 1 + store.rows(lookup.view.table) * width // store.part_bytes
        if self._parts > 1:
            (rows,) = one_row(self._connection, f"SELECT count(*) FROM {source}")
            self._parts = 1 + (rows if lookup.view.keys else 0) * width // store.part_bytes
        self._spill = store.spill

    def _code_keys(self, count: int) -> Ints:
        """Make the table `_keys` of the different keys asked about; gives each request's code."""
        pairs = list(zip(self._lookup.view.keys, self._lookup.key_fields, strict=True))
        if not pairs:
            self._connection.execute("CREATE OR REPLACE TEMP TABLE _keys AS SELECT 0::INTEGER AS _code")
            return np.zeros(count, dtype=np.int64)
        asked = ", ".join(f"{quote(field)} AS {quote(key)}" for key, field in pairs)
        known = " AND ".join(f"{quote(field)} IS NOT NULL" for _, field in pairs)
        self._connection.execute(
            "CREATE OR REPLACE TEMP TABLE _keys AS SELECT *, (row_number() OVER () - 1)::INTEGER AS _code FROM "
            f"(SELECT DISTINCT {asked} FROM _requests WHERE {known})"
        )
        on = " AND ".join(f"r.{quote(field)} = k.{quote(key)}" for key, field in pairs)
        return self._per_request("coalesce(k._code, -1)::BIGINT", f"LEFT JOIN _keys k ON {on}", count)

    def _per_request(self, value: str, joined: str, count: int) -> Array:
        """An expression over the table `_requests` and what is joined to it, in the order of the requests."""
        statement = f"SELECT r._row, {value} AS value FROM _requests r {joined}"
        found = self._connection.execute(statement).fetchnumpy()
        values = np.empty(count, dtype=found["value"].dtype)
        same_rows(len(found["_row"]), count)
        values[found["_row"]] = found["value"]
        return values

    def param(self, of: int, column: int) -> Floats:
        """A parameter of each request, texts by the codes of a column: -1 for one that is not there; NaN for null."""
        node = self._lookup.params[of]
        statement, (name,) = select([node], _request_leaf, "_requests")
        null = "CAST('NaN' AS DOUBLE)"
        value, joined = f"coalesce(CAST(p.{name} AS DOUBLE), {null})", ""
        if column in self._texts:
            value = f"CASE WHEN p.{name} IS NULL THEN {null} ELSE CAST(coalesce(t.code, -1) AS DOUBLE) END"
            joined = f"LEFT JOIN _texts{column} t ON t.text = p.{name}"
        count = len(self.codes)
        return self._per_request(value, f"JOIN ({statement}) p ON p._row = r._row {joined}", count)

    def decode(self, column: int, values: Floats) -> Array:
        """The texts behind codes of a column; None for NaN."""
        decoded = np.full(len(values), None, dtype=object)
        known = ~np.isnan(values)
        different, places = np.unique(values[known].astype(np.int64), return_inverse=True)
        with incoming(self._connection, {"code": different}) as used:
            statement = f"SELECT text FROM {used} JOIN _texts{column} USING (code) ORDER BY code"
            texts = fetch(self._connection, statement, [Column("text", Kind.TEXT)])["text"]
        decoded[known] = texts[places]
        return decoded

    def parts(self) -> Iterator[tuple[Ints, Versions]]:
        """Positions of the requests of each part, and the versions of the events of their keys."""
        rows = f"({self._rows()})"
        if self._parts == 1:
            yield np.arange(len(self.codes)), self._versions(self._fetch(self._columns, rows))
            return
        folder = self._spill / "parts"
        try:
            folder.mkdir(parents=True)
            self._connection.execute(
                f"COPY (SELECT *, _code % {self._parts} AS _part FROM {rows}) TO {literal(str(folder))} "
                "(FORMAT parquet, COMPRESSION uncompressed, PARTITION_BY (_part), OVERWRITE_OR_IGNORE)"
            )
            for part in range(self._parts):
                files = sorted((folder / f"_part={part}").glob("*.parquet"))
                mine = np.flatnonzero(self.codes % self._parts == part)
                relation = parquet(files) if files else f"(SELECT * FROM {rows} WHERE false)"
                self._connection.execute("SET preserve_insertion_order = true")
                columns: dict[str, Array] = {}
                for name in self._columns:  # one by one, since DuckDB holds what it gives a second time
                    columns |= self._fetch([name], relation)
                self._connection.execute("SET preserve_insertion_order = false")
                yield mine, self._versions(columns)
                del columns
                for file in files:
                    file.unlink()
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _rows(self) -> str:
        pairs = self._lookup.view.keys
        on = " AND ".join(f"v.{quote(key)} = k.{quote(key)}" for key in pairs) or "true"
        joined = f"JOIN _keys k ON {on}"
        listed = [name for name in self._columns if not name.startswith("_value")]
        for at, name in enumerate(self._names):
            if at in self._texts:
                joined += f" LEFT JOIN _texts{at} t{at} ON t{at}.text = v.{name}"
            value = f"t{at}.code" if at in self._texts else f"v.{name}"
            listed.append(f"CAST({value} AS DOUBLE) AS _value{at}")
        return f"SELECT {', '.join(listed)} FROM ({self._statement}) v {joined}"

    def _fetch(self, columns: Sequence[str], relation: str) -> Mapping[str, Array]:
        return self._connection.execute(f"SELECT {', '.join(columns)} FROM {relation}").fetchnumpy()

    def _versions(self, rows: Mapping[str, Array]) -> Versions:
        count = len(rows["_code"])
        end = rows["_end"] if self._replaced else np.broadcast_to(np.int64(FOREVER), count)
        place = rows["_place"]  # where order does not matter, one that does not change keeps sums the same
        order = (lambda tied: self._rank(place[tied])) if self._ordered else place
        values = [from_sql(rows[f"_value{at}"], Kind.NUM) for at in range(len(self._names))]
        return Versions(rows["_code"], rows["_time"], rows["_start"], end, order, tuple(values))

    def _rank(self, places: Ints) -> Ints:
        """The ranks of some rows by their ids."""
        with incoming(self._connection, {"at": np.arange(len(places)), "_place": places}) as tied:
            found = self._connection.execute(
                f"SELECT t.at, dense_rank() OVER (ORDER BY v.{self._id}) AS rank "
                f"FROM {tied} t JOIN {self._relation} v USING (_place)"
            ).fetchnumpy()
        same_rows(len(found["at"]), len(places))
        ranks = np.empty(len(places), dtype=np.int64)
        ranks[found["at"]] = found["rank"]
        return ranks


@contextmanager
def incoming(connection: duckdb.DuckDBPyConnection, columns: Mapping[str, Array]) -> Iterator[str]:
    """The name of a relation of some arrays, as long as the context lasts."""
    connection.register("_incoming", dict(columns))
    try:
        yield "_incoming"
    finally:
        connection.unregister("_incoming")


def same_rows(got: int, wanted: int) -> None:
    """Raise a StateError unless a join gave as many rows as went in."""
    if got != wanted:
        raise StateError(Fault("rows_differ", "rows out differ from rows in", got=f"{got} of {wanted}"))


def _request_leaf(node: Node) -> str | None:
    if isinstance(node, AskedAt):
        return ASKED_AT
    return quote(node.name) if isinstance(node, RequestField) else None
