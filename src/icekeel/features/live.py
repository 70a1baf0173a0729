"""The online side of features: event rows into the store, a request's features out of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import lmdb
import msgspec
import numpy as np

from icekeel.compile import Row, compile_event
from icekeel.core.frames import Floats
from icekeel.core.time import FOREVER
from icekeel.data.history import AVAILABLE, DELETED
from icekeel.define.nodes import EventField, Node
from icekeel.define.tables import EventTable

from .aggregates import View
from .online.lmdb import LmdbWindows, TextCodes, open_database
from .online.versions import Batch, Keys
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
        seen: Whatever was journaled before this time of the keeper's clock is projected, microseconds UTC; 0 in a
            rehearsal, whose time says nothing of that.
    """

    serial: int = 0
    positions: bytes = b""
    known_until: int = 0
    now: int = 0
    pushed: int = 0
    seen: int = 0


_decode_state = msgspec.msgpack.Decoder(State).decode


class StateCell:
    """Where the keeper's `State` lies in the online environment."""

    def __init__(self, environment: lmdb.Environment) -> None:
        self._database = open_database(environment, _META)

    def read(self, txn: lmdb.Transaction) -> State:
        """The state as of the transaction; a fresh one before the first commit."""
        raw = txn.get(_STATE, db=self._database)
        return State() if raw is None else _decode_state(raw)

    def write(self, txn: lmdb.Transaction, state: State) -> None:
        """Replace the state within the transaction."""
        txn.put(_STATE, msgspec.msgpack.encode(state), db=self._database)


def encode_key(values: Sequence[Value]) -> bytes | None:
    """The key of a view as bytes; None where a part is null. Texts are length-prefixed, so no two keys meet."""
    text = ""
    for value in values:
        if value is None:
            return None
        part = value if isinstance(value, str) else repr(float(value) + 0.0)  # -0.0 is 0.0
        text += f"{len(part)}:{part}"
    return text.encode()


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
        self._tables: dict[str, _TableFeed] = {}
        for name, table in tables.items():
            views = [lookup for lookup in lookups if lookup.view.table == name]
            if views:
                self._tables[name] = _TableFeed(table, views, codes)

    def reads(self, table: str) -> bool:
        """Whether any view is made of this table."""
        return table in self._tables

    def horizon(self, table: str) -> int:
        """How far back the views of a table reach, and what tells whether it is fresh, microseconds."""
        return self._tables[table].back

    def versions(
        self, txn: lmdb.Transaction, table: str, rows: Sequence[Mapping[str, Value]], available: int
    ) -> Batch:
        """The versions of these rows.

        Args:
            txn: A write transaction; texts that are new get a code in it.
            table: Their table; one that `reads` says yes to.
            available: When they became available, unless a row says so itself.
        """
        return self.batch(txn, table, [(rows, available)])

    def batch(
        self, txn: lmdb.Transaction, table: str, pushes: Sequence[tuple[Sequence[Mapping[str, Value]], int]]
    ) -> Batch:
        """The versions of several pushes, each with the time it became available; see `versions`."""
        rows = [row for part, _ in pushes for row in part]
        available = [at for part, at in pushes for _ in part]
        return self._tables[table].batch(txn, rows, available)


class _TableFeed:
    """Columns of the rows of one table."""

    def __init__(self, table: EventTable, lookups: Sequence[Lookup], codes: TextCodes) -> None:
        self._table = table
        self._codes = codes
        limits = [
            limit for limit in table.fresh.limits if limit < FOREVER
        ]  # to know how old the newest row is
        self.back = max(*(lookup.view.back for lookup in lookups), *limits, 0)
        self._names = tuple(table.fields)
        self._lookups = lookups
        nodes = list(dict.fromkeys(value for lookup in lookups for value in lookup.values))
        computed = [node for node in nodes if not isinstance(node, EventField)]
        self._fields = {node: node.name for node in nodes if isinstance(node, EventField)}
        self._computed = {node: place for place, node in enumerate(computed)}
        self._compute: Row = compile_event(tuple(table.fields.values()), computed)

    def batch(
        self, txn: lmdb.Transaction, rows: Sequence[Mapping[str, Value]], available: list[int]
    ) -> Batch:
        table, n = self._table, len(rows)
        columns: dict[str, list[Any]] = {name: [row.get(name) for row in rows] for name in self._names}
        given = [row.get(AVAILABLE) for row in rows]
        start = [at if own is None else int(own) for own, at in zip(given, available, strict=True)]
        values = self._values(txn, columns)
        keys: dict[tuple[str, ...], Keys] = {}
        per_view = []
        for lookup in self._lookups:
            names = lookup.view.keys
            if names not in keys:
                parts = zip(*(columns[name] for name in names), strict=True) if names else [()] * n
                keys[names] = Keys.by(list(parts), encode_key)
            per_view.append(_without_idle(keys[names], lookup, values))
        return Batch(
            ids=[str(one).encode() for one in columns[table.id]],
            time=np.array([one or 0 for one in columns[table.time]], np.int64),
            start=np.array(start, np.int64),
            deleted=np.array([bool(row.get(DELETED)) for row in rows], np.bool_),
            keys=per_view,
            values=[
                np.stack([values[node] for node in lookup.values], axis=1)
                if lookup.values
                else np.empty((n, 0))
                for lookup in self._lookups
            ],
        )

    def _values(self, txn: lmdb.Transaction, columns: Mapping[str, list[Any]]) -> dict[Node, Floats]:
        """The value of every expression for each row, NaN for null, texts by their codes."""
        found: dict[Node, Sequence[Any]] = {node: columns[name] for node, name in self._fields.items()}
        if self._computed:
            computed = list(zip(*map(self._compute, zip(*columns.values(), strict=True)), strict=True))
            found |= {node: computed[place] for node, place in self._computed.items()}
        codes: dict[Any, float] = {}
        for node, column in found.items():
            if node.kind.is_text:
                for text in column:
                    if text is not None and text not in codes:
                        codes[text] = self._codes.encode(txn, text)
                found[node] = [codes.get(text, _nan) for text in column]
        return {node: np.array(column, np.float64) for node, column in found.items()}


def _without_idle(keys: Keys, lookup: Lookup, values: Mapping[Node, Floats]) -> Keys:
    """Without versions that pass no filter of a view all of whose windows have one: they need not be stored."""
    filters = {one.where for one in lookup.view.aggregates}
    if -1 in filters:
        return keys
    passes = np.any([values[lookup.values[place]] == 1.0 for place in filters], axis=0)
    return Keys(np.where(passes, keys.of, -1), keys.names)


class Read(NamedTuple):
    """Features of one request, what they were read from, and the `ages` of the plan: NaN for none in reach."""

    values: list[Any]
    state: State
    ages: Sequence[float] = ()


class LiveFeatures:
    """Computes the features of single requests from the online store.

    Args:
        environment: The store, open for reading.
        views: Every view of the project, as the keeper keeps them.
    """

    def __init__(self, environment: lmdb.Environment, plan: Plan, views: Sequence[View]) -> None:
        self._environment = environment
        self._windows = LmdbWindows(environment, views)
        self._codes = TextCodes(environment)
        self._cell = StateCell(environment)
        self._compute = plan.compile()
        self._ages = [plan.slots[age] for age in plan.ages]
        places = {field.name: at for at, field in enumerate(plan.fields)}
        self._lookups = [
            (
                lookup.view,
                [places[name] for name in lookup.key_fields],
                _Params.of(plan, lookup),
                lookup.texts,
            )
            for lookup in plan.lookups
        ]

    def state(self) -> State:
        """How far the keeper is."""
        with self._environment.begin() as txn:
            return self._cell.read(txn)

    def newest(self, tables: Iterable[str]) -> dict[str, int]:
        """When the newest event of each table became available, microseconds UTC; 0 before any."""
        with self._environment.begin() as txn:
            return {table: self._windows.newest(txn, table) for table in tables}

    def read(self, request: Sequence[Value], asked_at: int) -> Read:
        """The features of a request, in the plan's order, exactly as known at `asked_at`.

        Args:
            request: Checked values in field order.
        """
        slots: list[Any] = []
        codes = self._codes
        with self._environment.begin(buffers=True) as txn:
            for view, places, params, texts in self._lookups:
                key = encode_key([request[at] for at in places])
                asked = params.values(txn, codes, request, asked_at) if params is not None else ()
                found: list[Any] = self._windows.read(txn, view, key, asked_at, asked)
                for at in texts:
                    if found[at] == found[at]:
                        found[at] = codes.decode(txn, found[at])
                slots += found
            state = self._cell.read(txn)
        ages = [slots[at] for at in self._ages] if self._ages else ()
        return Read(self._compute(request, asked_at, slots), state, ages)

    def read_many(self, requests: Sequence[Sequence[Value]], asked_at: int) -> list[Read]:
        """What `read` gives for each of several requests, all at one state; a key is read once however many ask."""
        by_view: list[list[list[Any]]] = []
        codes = self._codes
        with self._environment.begin(buffers=True) as txn:
            for view, places, params, texts in self._lookups:
                asked = [
                    (
                        encode_key([request[at] for at in places]),
                        tuple(params.values(txn, codes, request, asked_at)) if params is not None else (),
                    )
                    for request in requests
                ]
                different = dict.fromkeys(asked)
                found: list[list[Any]] = self._windows.read_many(txn, view, list(different), asked_at)
                for one in found if texts else ():
                    for at in texts:
                        if one[at] == one[at]:
                            one[at] = codes.decode(txn, one[at])
                answers = dict(zip(different, found, strict=True))
                by_view.append([answers[one] for one in asked])
            state = self._cell.read(txn)
        slots = [[one for part in parts for one in part] for parts in zip(*by_view, strict=True)]
        return [
            Read(self._compute(request, asked_at, row), state, [row[at] for at in self._ages])
            for request, row in zip(requests, slots or [[] for _ in requests], strict=True)
        ]


class _Params(NamedTuple):
    """The parameters of a lookup: `compute` gives them, those at `texts` are compared with texts."""

    compute: Row
    texts: frozenset[int]

    @classmethod
    def of(cls, plan: Plan, lookup: Lookup) -> _Params | None:
        """None for a lookup without parameters."""
        texts = frozenset(at for at, node in enumerate(lookup.params) if node.kind.is_text)
        return cls(plan.compile_params(lookup), texts) if lookup.params else None

    def values(
        self, txn: lmdb.Transaction, codes: TextCodes, request: Sequence[Value], asked_at: int
    ) -> list[float]:
        """One number each, NaN for null, texts by their codes: -1 for one that no event has."""
        found = self.compute(request, asked_at)
        return [
            _nan if value is None else codes.find(txn, value) if at in self.texts else float(value)
            for at, value in enumerate(found)
        ]
