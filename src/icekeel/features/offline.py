"""Features for a whole history, point-in-time correct: the offline feature store.

DuckDB reads the events, joins them to the keys that are asked about and evaluates row-level expressions; the
windows are the kernel's. Rows out equal rows in, in the same order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import duckdb
import numpy as np

from icekeel.compile.sql import quote, select
from icekeel.core.errors import Fault, StateError
from icekeel.core.frames import Array, Floats, Frame, Ints
from icekeel.core.kinds import Column, Kind
from icekeel.core.time import FOREVER
from icekeel.data.history import AVAILABLE, DELETED, SEQUENCE
from icekeel.data.relations import SQL_TYPES, create_table, fetch, from_sql, parquet
from icekeel.define.nodes import AskedAt, EventField, Node, RequestField, Windowed
from icekeel.define.tables import EventTable

from .aggregates import Function
from .plan import Lookup, Plan
from .windows import Questions, Versions, aggregate


class EventStore:
    """The versions of every event, from Parquet files, for questions about any time.

    Args:
        tables: Definitions by name.
        files: Parquet files of each table, as `data.history` keeps them.
        threads: Threads of DuckDB.
    """

    def __init__(
        self, tables: Mapping[str, EventTable], files: Mapping[str, Sequence[Path]], *, threads: int = 2
    ) -> None:
        self._tables = tables
        self._files = files
        self._loaded: set[str] = set()
        self.connection = duckdb.connect(config={"threads": threads})

    def close(self) -> None:
        """Free what was read."""
        self.connection.close()

    def load(self, name: str) -> str:
        """Read a table once; gives the relation, with `_time`, `_start` and `_end` of each version."""
        relation = quote(f"versions of {name}")
        if name not in self._loaded:
            table = self._tables[name]
            fields = ", ".join(quote(field) for field in table.fields)
            self.connection.execute(
                f"CREATE TEMP TABLE {relation} AS SELECT {fields}, {DELETED}, {quote(table.time)} AS _time, "
                f"{AVAILABLE} AS _start, coalesce(lead({AVAILABLE}) OVER (PARTITION BY {quote(table.id)} "
                f"ORDER BY {AVAILABLE}, {SEQUENCE}), {FOREVER}) AS _end FROM {self._source(table)}"
            )
            self._loaded.add(name)
        return relation

    def _source(self, table: EventTable) -> str:
        """All files; a column that came into the definition after a file was stored is null there."""
        fields = [
            f"CAST(NULL AS {SQL_TYPES[field.kind]}) AS {quote(name)}" for name, field in table.fields.items()
        ]
        fields += [f"0::BIGINT AS {AVAILABLE}", f"0::DOUBLE AS {DELETED}", f"0::BIGINT AS {SEQUENCE}"]
        none = f"SELECT {', '.join(fields)} WHERE false"
        files = self._files.get(table.name, ())
        return f"({none} UNION ALL BY NAME FROM {parquet(files, union=True)})" if files else f"({none})"

    def versions(
        self, name: str, values: Sequence[Node], keys: Sequence[str], codes: str
    ) -> tuple[Versions, dict[int, Array]]:
        """Versions of the events whose key is asked about.

        Args:
            name: Event table.
            values: Expressions over its columns.
            keys: Its key columns.
            codes: Relation with these key columns and the `_code` of each key.

        Returns:
            The versions, texts as codes; and for each column of texts the text of each code.
        """
        relation = self.load(name)
        statement, columns = select(values, _event_leaf, f"(SELECT * FROM {relation} WHERE {DELETED} = 0)")
        on = " AND ".join(f"v.{quote(key)} = k.{quote(key)}" for key in keys) or "true"
        listed = "".join(f", v.{column} AS _value{at}" for at, column in enumerate(columns))
        rows = self.connection.execute(
            f"SELECT k._code, v._time, v._start, v._end{listed} FROM ({statement}) v JOIN {codes} k ON {on} "
            f"WHERE v._start < v._end ORDER BY v._time, v.{quote(self._tables[name].id)}"
        ).fetchnumpy()
        code, time, start, end, *fetched = rows.values()
        texts: dict[int, Array] = {}
        numbers: list[Floats] = []
        for at, (node, array) in enumerate(zip(values, fetched, strict=True)):
            values_of = from_sql(array, node.kind)
            if node.kind.is_text:
                values_of, texts[at] = _as_codes(values_of)
            numbers.append(values_of)
        times = [np.asarray(array, dtype=np.int64) for array in (code, time, start, end)]
        order = np.arange(len(code), dtype=np.int64)
        return Versions(times[0], times[1], times[2], times[3], order, tuple(numbers)), texts


def _event_leaf(node: Node) -> str | None:
    return quote(node.name) if isinstance(node, EventField) else None


def _as_codes(texts: Array) -> tuple[Floats, Array]:
    """Each text's place in the sorted list of different texts, NaN for null; and that list."""
    known = texts != None  # noqa: E711  (elementwise)
    different, places = np.unique(texts[known].astype(str), return_inverse=True)
    codes = np.full(len(texts), np.nan)
    codes[known] = places
    return codes, different.astype(object)


def historical_features(plan: Plan, requests: Frame, asked_at: Ints, store: EventStore) -> Frame:
    """The features of each request as they were at the time it was asked.

    Args:
        plan: What to compute.
        requests: The request's fields, `n` rows.
        asked_at: When each was asked, shape `(n,)`, microseconds UTC.
        store: The events.

    Returns:
        One row per request, in the same order, one column per feature.
    """
    fields = [Column(field.name, field.kind) for field in plan.fields]
    inputs = [*fields, Column("_asked_at", Kind.TIME)]
    create_table(store.connection, "_requests", inputs, requests.with_columns({"_asked_at": asked_at}))
    slots: list[Array] = []
    for lookup in plan.lookups:
        slots += window_values(lookup, asked_at, store)
    kinds = [Kind.CAT if at in plan.text_slots else Kind.NUM for at in range(len(slots))]
    columns = [Column(f"_slot{at}", kind) for at, kind in enumerate(kinds)]
    create_table(
        store.connection,
        "_slots",
        columns,
        Frame(
            {"_row_again": np.arange(len(requests))}
            | {c.name: slot for c, slot in zip(columns, slots, strict=True)}
        ),
    )

    def leaf(node: Node) -> str | None:
        if isinstance(node, RequestField):
            return quote(node.name)
        if isinstance(node, AskedAt):
            return "_asked_at"
        return f"_slot{plan.slots[node]}" if isinstance(node, Windowed) else None

    relation = "(SELECT * FROM _requests JOIN _slots USING (_row))"
    statement, names = select([feature.node for feature in plan.features], leaf, relation)
    frame = fetch(
        store.connection, f"SELECT {', '.join(names)} FROM ({statement}) ORDER BY _row", plan.columns
    )
    if len(frame) != len(requests):
        raise StateError(
            Fault("rows_differ", "rows out differ from rows in", got=f"{len(frame)} of {len(requests)}")
        )
    return frame


def window_values(lookup: Lookup, asked_at: Ints, store: EventStore) -> list[Array]:
    """Every aggregate of one view for each row of the table `_requests`; texts decoded."""
    view = lookup.view
    codes = key_codes(lookup, store.connection)
    versions, texts = store.versions(view.table, lookup.values, view.keys, "_keys")
    results: list[Array] = []
    for one, values in zip(
        view.aggregates, aggregate(versions, Questions(codes, asked_at), view.aggregates), strict=True
    ):
        if one.column in texts and one.function in (Function.FIRST, Function.LAST):
            decoded = np.full(len(values), None, dtype=object)
            known = ~np.isnan(values)
            decoded[known] = texts[one.column][values[known].astype(np.int64)]
            results.append(decoded)
        else:
            results.append(values)
    return results


def key_codes(lookup: Lookup, connection: duckdb.DuckDBPyConnection) -> Ints:
    """Make the table `_keys` of the different keys asked about; give each request's code, -1 for a null key."""
    if not lookup.view.keys:
        connection.execute("CREATE OR REPLACE TEMP TABLE _keys AS SELECT 0 AS _code")
        count = connection.execute("SELECT count(*) FROM _requests").fetchone()
        return np.zeros(count[0] if count else 0, dtype=np.int64)
    pairs = list(zip(lookup.view.keys, lookup.key_fields, strict=True))
    asked = ", ".join(f"{quote(field)} AS {quote(key)}" for key, field in pairs)
    known = " AND ".join(f"{quote(field)} IS NOT NULL" for _, field in pairs)
    connection.execute(
        "CREATE OR REPLACE TEMP TABLE _keys AS SELECT *, row_number() OVER () - 1 AS _code FROM "
        f"(SELECT DISTINCT {asked} FROM _requests WHERE {known})"
    )
    on = " AND ".join(f"r.{quote(field)} = k.{quote(key)}" for key, field in pairs)
    statement = f"SELECT coalesce(k._code, -1) FROM _requests r LEFT JOIN _keys k ON {on} ORDER BY r._row"
    code = Column("code", Kind.TIME)  # an integer column
    return fetch(connection, statement, [code])["code"]
