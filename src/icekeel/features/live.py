"""The online side of features: event rows into the store, a request's features out of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import lmdb
import msgspec

from icekeel.compile import Row, compile_event
from icekeel.core.kinds import Kind
from icekeel.data.history import AVAILABLE, DELETED
from icekeel.define.tables import EventTable

from .aggregates import Function, View
from .online.lmdb import LmdbWindows, TextCodes
from .online.versions import EventVersion
from .plan import Lookup, Plan

Value = float | int | str | bool | None
_META = b"keeper"
_STATE = b"state"
_nan = float("nan")


class State(msgspec.Struct, frozen=True, array_like=True):
    """How far the projections are, committed together with them.

    Attributes:
        serial: Grows with every commit of the keeper; answers name the serial they were read at.
        positions: How far the journal was read, see `journal.Positions`.
        known_until: Availability of the newest event projected, microseconds UTC.
        now: The keeper's clock at that commit, microseconds UTC.
        pushed: Pushed rows projected since ever.
    """

    serial: int = 0
    positions: bytes = b""
    known_until: int = 0
    now: int = 0
    pushed: int = 0


class StateCell:
    """Where the keeper's `State` lies in the online environment."""

    def __init__(self, environment: lmdb.Environment) -> None:
        self._database = environment.open_db(_META, create=not environment.flags()["readonly"])

    def read(self, txn: lmdb.Transaction) -> State:
        """The state as of the transaction; a fresh one before the first commit."""
        raw = txn.get(_STATE, db=self._database)
        return State() if raw is None else msgspec.msgpack.decode(raw, type=State)

    def write(self, txn: lmdb.Transaction, state: State) -> None:
        """Replace the state within the transaction."""
        txn.put(_STATE, msgspec.msgpack.encode(state), db=self._database)


def encode_key(values: Sequence[Value]) -> bytes | None:
    """The key of a view as bytes; None where a part is null. Texts are length-prefixed, so no two keys meet."""
    parts = []
    for value in values:
        if value is None:
            return None
        text = value if isinstance(value, str) else repr(float(value))
        parts.append(f"{len(text)}:{text}")
    return "".join(parts).encode()


def outcome_key(values: Sequence[Value]) -> str:
    """The key by which an answer meets its outcome; empty, which meets none, where a part is null.

    A single text stands as it is, so that people find it in the journal; several parts are length-prefixed.
    """
    if len(values) == 1 and isinstance(values[0], str):
        return values[0]
    return (encode_key(values) or b"").decode()


def all_views(plans: Sequence[Plan]) -> list[Lookup]:
    """Every different view of some plans, in a stable order."""
    found = {lookup.view.name: lookup for plan in plans for lookup in plan.lookups}
    return [found[name] for name in sorted(found)]


class EventFeed:
    """Makes event versions of the rows of event tables, for the views of an online store."""

    def __init__(self, tables: Mapping[str, EventTable], lookups: Sequence[Lookup], codes: TextCodes) -> None:
        self._codes = codes
        self._tables: dict[str, _TableFeed] = {}
        for name, table in tables.items():
            views = [lookup for lookup in lookups if lookup.view.table == name]
            if views:
                self._tables[name] = _TableFeed(table, views)

    def reads(self, table: str) -> bool:
        """Whether any view is made of this table."""
        return table in self._tables

    def horizon(self, table: str) -> int:
        """How far back the views of a table reach, microseconds."""
        return self._tables[table].back

    def versions(
        self, txn: lmdb.Transaction, table: str, rows: Sequence[Mapping[str, Value]], available: int
    ) -> list[EventVersion]:
        """The versions of these rows.

        Args:
            txn: A write transaction; texts that are new get a code in it.
            table: Their table; one that `reads` says yes to.
            rows: Contract-checked rows.
            available: When they became available, unless a row says so itself.
        """
        return [self._tables[table].version(row, available, self._codes, txn) for row in rows]


class _TableFeed:
    def __init__(self, table: EventTable, lookups: Sequence[Lookup]) -> None:
        self.names = tuple(table.fields)
        self.id = table.id
        self.time = table.time
        self.back = max(lookup.view.back for lookup in lookups)
        self.keys = [lookup.view.keys for lookup in lookups]
        fields = tuple(table.fields.values())
        values = [value for lookup in lookups for value in lookup.values]
        self.compute: Row = compile_event(fields, values)
        self.cuts: list[slice] = []
        self.filters: list[list[int]] = []
        start = 0
        for lookup in lookups:
            self.cuts.append(slice(start, start + len(lookup.values)))
            filters = {one.where for one in lookup.view.aggregates}
            self.filters.append([] if -1 in filters else [start + place for place in filters])
            start += len(lookup.values)

    def version(
        self, row: Mapping[str, Value], available: int, codes: TextCodes, txn: lmdb.Transaction
    ) -> EventVersion:
        start = row.get(AVAILABLE)
        computed = [
            _nan if value is None else codes.encode(txn, value) if isinstance(value, str) else value
            for value in self.compute([row.get(name) for name in self.names])
        ]
        return EventVersion(
            id=str(row[self.id]),
            time=int(row[self.time] or 0),
            start=available if start is None else int(start),
            deleted=bool(row.get(DELETED)),
            keys=tuple(
                None if self._idle(filters, computed) else encode_key([row.get(column) for column in keys])
                for keys, filters in zip(self.keys, self.filters, strict=True)
            ),
            values=tuple(tuple(computed[cut]) for cut in self.cuts),
        )

    @staticmethod
    def _idle(filters: Sequence[int], computed: Sequence[Any]) -> bool:
        """Whether a version passes no filter of a view all of whose windows have one: it need not be stored."""
        return bool(filters) and not any(computed[place] == 1.0 for place in filters)


class Read(NamedTuple):
    """Features of one request, and what they were read from."""

    values: list[Any]
    state: State


class LiveFeatures:
    """Computes the features of single requests from the online store.

    Args:
        environment: The store, open for reading.
        plan: What to compute.
        views: Every view of the project, as the keeper keeps them.
    """

    def __init__(self, environment: lmdb.Environment, plan: Plan, views: Sequence[View]) -> None:
        self._environment = environment
        self._windows = LmdbWindows(environment, views)
        self._codes = TextCodes(environment)
        self._cell = StateCell(environment)
        self._compute = plan.compile()
        places = {field.name: at for at, field in enumerate(plan.fields)}
        self._lookups = [
            (lookup.view, [places[name] for name in lookup.key_fields], _texts(lookup))
            for lookup in plan.lookups
        ]

    def state(self) -> State:
        """How far the keeper is."""
        with self._environment.begin() as txn:
            return self._cell.read(txn)

    def read(self, request: Sequence[Value], asked_at: int) -> Read:
        """The features of a request, in the plan's order, exactly as known at `asked_at`.

        Args:
            request: Checked values in field order.
            asked_at: Microseconds UTC.
        """
        slots: list[Any] = []
        with self._environment.begin(buffers=True) as txn:
            for view, places, texts in self._lookups:
                key = encode_key([request[at] for at in places])
                found: list[Any] = [float(one) for one in self._windows.read(txn, view, key, asked_at)]
                for at in texts:
                    if found[at] == found[at]:
                        found[at] = self._codes.decode(txn, found[at])
                slots += found
            state = self._cell.read(txn)
        return Read(self._compute(request, asked_at, slots), state)


def _texts(lookup: Lookup) -> list[int]:
    """Places of the aggregates of a view whose number is the code of a text."""
    return [
        at
        for at, one in enumerate(lookup.view.aggregates)
        if one.function in (Function.FIRST, Function.LAST) and lookup.values[one.column].kind is Kind.CAT
    ]
