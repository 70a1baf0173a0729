"""A small world for tests of features: rows in, features out, by the engines that serve.

world = ik.given(Orders("1", "a", 100, 0.3, ordered_at="2025-03-01", booked_at="2025-03-03"))
assert world.at("2025-03-02")[Features.clv](customer="a") == 0
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from icekeel.compile.closure import compile_event
from icekeel.core.errors import Fault, IcekeelError, ProjectError, nearest
from icekeel.core.frames import Floats
from icekeel.core.kinds import Kind
from icekeel.core.time import FOREVER, parse_time
from icekeel.define.expressions import Expression
from icekeel.define.features import Feature
from icekeel.define.fields import Field, Limits
from icekeel.define.nodes import RequestField, broken, walk
from icekeel.define.policies import After
from icekeel.define.tables import DELETED, Events, EventTable

from .plan import Lookup, Plan, make_plan
from .windows import Questions, Versions, aggregate

Value = float | str | int | None


def coerce(value: Any, kind: Kind) -> Value:
    """A Python value in the representation that closures take: float, `str`, microseconds or None."""
    if value is None:
        return None
    if kind is Kind.TIME:
        return parse_time(value)
    return str(value) if kind.is_text else float(value)


@dataclass(frozen=True, slots=True)
class Row:
    """One version of an event: its values in field order; of one that deletes, only id and availability hold."""

    values: list[Any]
    deleted: bool


class World:
    """Some events, and questions about them."""

    def __init__(self, rows: Mapping[str, list[Row]], tables: Mapping[str, EventTable]) -> None:
        self._rows = rows
        self._tables = tables

    def at(self, time: Any) -> Moment:
        """The world as it was known at a time."""
        return Moment(self, parse_time(time))

    def versions(self, lookup: Lookup, key: tuple[Value, ...]) -> tuple[Versions, dict[str, float]]:
        """The versions in a view under one key, and the codes of its texts."""
        table = self._tables.get(lookup.view.table)
        texts: dict[str, float] = {}
        if table is None:
            return Versions(
                _NONE, _NONE, _NONE, _NONE, _NONE, tuple(np.zeros(0) for _ in lookup.values)
            ), texts
        names = list(table.fields)
        start, id_, time = (names.index(name) for name in (table.available, table.id, table.time))
        keys = [names.index(name) for name in lookup.view.keys]
        rows = sorted(self._rows[table.name], key=lambda row: (row.values[id_], row.values[start]))
        ends = [
            after.values[start] if after is not None and after.values[id_] == row.values[id_] else FOREVER
            for row, after in zip(rows, [*rows[1:], None], strict=True)
        ]
        kept = [
            (row.values, end)
            for row, end in zip(rows, ends, strict=True)
            if not row.deleted and tuple(row.values[k] for k in keys) == key
        ]
        kept.sort(key=lambda pair: (pair[0][time], pair[0][id_]))
        compute = compile_event(tuple(table.fields.values()), lookup.values)
        computed = [[_number(value, texts) for value in compute(row)] for row, _ in kept]
        columns: Floats = np.array(computed, dtype=np.float64).reshape(len(kept), len(lookup.values))
        versions = Versions(
            key=np.zeros(len(kept), dtype=np.int64),
            time=np.array([row[time] for row, _ in kept], dtype=np.int64),
            start=np.array([row[start] for row, _ in kept], dtype=np.int64),
            end=np.array([end for _, end in kept], dtype=np.int64),
            order=np.arange(len(kept), dtype=np.int64),
            columns=tuple(columns.T),
        )
        return versions, texts


_NONE = np.zeros(0, dtype=np.int64)


def _number(value: Any, texts: dict[str, float]) -> float:
    if value is None:
        return float("nan")
    return texts.setdefault(value, float(len(texts))) if isinstance(value, str) else float(value)


class Moment:
    """A world at one time; `moment[Features.clv](customer="a")` is a feature's value then."""

    def __init__(self, world: World, time: int) -> None:
        self._world = world
        self._time = time

    def __getitem__(self, feature: Expression | After) -> Callable[..., Any]:
        """A function of the request's fields that gives the value; fields left out are null.

        A postprocessor is one too, of those and `answer`.
        """
        node = feature.node
        if wrong := broken(walk(node)):
            raise ProjectError(*wrong)
        fields = {
            below.name: Field(below.name, below.kind, Limits(optional=True))
            for below in walk(node)
            if isinstance(below, RequestField)
        }
        plan = make_plan(tuple(fields.values()), [Feature("value", node)])
        compute = plan.compile()

        def value(**request: Any) -> Any:
            unknown = [name for name in request if name not in fields]
            if unknown:
                name = unknown[0]
                what = f'the feature does not use "{name}"'
                raise IcekeelError(
                    Fault("unknown_field", what, "", "", ", ".join(fields), nearest(name, fields))
                )
            given = {name: coerce(request.get(name), field.kind) for name, field in fields.items()}
            slots = [slot for lookup in plan.lookups for slot in self._windows(plan, lookup, given)]
            return compute(list(given.values()), self._time, slots)[0]

        return value

    def _windows(self, plan: Plan, lookup: Lookup, given: Mapping[str, Value]) -> list[Any]:
        key = tuple(given[name] for name in lookup.key_fields)
        versions, texts = self._world.versions(lookup, key)
        unknown = None in key or not len(versions.key)
        params = [
            _asked(value, texts) for value in plan.compile_params(lookup)(list(given.values()), self._time)
        ]
        asked = Questions(
            key=np.array([-1 if unknown else 0]),
            at=np.array([self._time], dtype=np.int64),
            params=tuple(np.array([value]) for value in params),
        )
        values = [float(one[0]) for one in aggregate(versions, asked, lookup.view.aggregates)]
        decoded = {code: text for text, code in texts.items()}
        return [decoded.get(value) if at in lookup.texts else value for at, value in enumerate(values)]


def _asked(value: Value, texts: Mapping[str, float]) -> float:
    """A parameter of a question; a text that no event has equals none."""
    return (
        texts.get(value, -1.0) if isinstance(value, str) else float("nan") if value is None else float(value)
    )


def given(*events: Events) -> World:
    """A world in which exactly these event versions exist, for tests of features.

    Columns left out are null; times are ISO 8601 texts, `datetime`s or microseconds. A row of `ik.deleted`, or
    one that is true in the column of the table's `deleted=`, says that the event of its id holds no more.

    Raises:
        IcekeelError: a row without an id or a time.
    """
    faults: list[Fault] = []
    rows: dict[str, list[Row]] = {}
    tables: dict[str, EventTable] = {}
    for event in events:
        table = type(event).icekeel_table
        tables[table.name] = table
        row = {name: coerce(event.icekeel_row.get(name), field.kind) for name, field in table.fields.items()}
        deleted = bool(event.icekeel_row.get(DELETED) or row.get(table.deleted))
        for name in (table.available, table.id) if deleted else (table.time, table.available, table.id):
            if row[name] is None:
                what = "a row of test data needs its id and its times"
                faults.append(Fault("missing_field", what, f"{table.name}.{name}", repr(event)))
        rows.setdefault(table.name, []).append(Row(list(row.values()), deleted))
    if faults:
        raise IcekeelError(*dict.fromkeys(faults))
    return World(rows, tables)
