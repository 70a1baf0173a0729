"""Windows of events, as seen from a question: `Orders.where(customer=Quote.customer).last("365d")`.

An event counts in `last(w)` when `asked_at - w <= event_time < asked_at`, in `next(w)` when
`asked_at <= event_time < asked_at + w`, and in both only as its newest version available at `asked_at`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from icekeel.core.errors import Fault, IcekeelError, nearest
from icekeel.core.kinds import Kind
from icekeel.core.time import DAY, HOUR, MINUTE, parse_duration

from .expressions import CLASSES, Expression, Num, expression, invalid, lift
from .fields import Field
from .nodes import Call as CallNode
from .nodes import (
    EventField,
    Invalid,
    Keyed,
    Literal,
    Node,
    Op,
    Outcome,
    RequestField,
    Scalar,
    Windowed,
    walk,
)

EVER = 2**61
"""The span of a reference table: its newest row, however old. Bounded because the key is the id."""

Fields = Mapping[str, Field]


def keyed(
    table: str, fields: Fields, filters: tuple[Any, ...], keys: Mapping[str, Any]
) -> tuple[Keyed, list[Fault]]:
    """Read `where(...)`: request fields are keys, constants and flags are filters."""
    faults: list[Fault] = []
    pairs: list[tuple[str, RequestField]] = []
    conditions: list[Node] = []
    for column, value in sorted(keys.items()):
        where = f"{table}.where({column}=)"
        field = fields.get(column)
        if field is None:
            faults.append(_no_column(where, column, fields))
            continue
        node = lift(value)
        if isinstance(node, Invalid):
            faults += node.faults
        elif isinstance(node, RequestField):
            if node.kind.is_text != field.kind.is_text or field.kind in (Kind.NUM, Kind.TIME, Kind.TEXT):
                allowed = "an Id, Cat or Flag on both sides"
                faults.append(
                    Fault("bad_key", "these cannot be joined", where, f"{field.kind} = {node.kind}", allowed)
                )
            pairs.append((column, node))
        elif isinstance(node, Literal):
            if node.kind.is_text != field.kind.is_text or field.kind is Kind.TIME:
                got = f"{field.kind} = {node.value!r}"
                faults.append(Fault("bad_key", "these cannot be compared", where, got))
            event = EventField(table, column, field.kind)
            conditions.append(CallNode(Op.EQ, (event, node), Kind.FLAG))
        else:
            faults.append(
                Fault("bad_key", "a key is a field of the request or a constant", where, repr(value))
            )
    for condition in filters:
        node = lift(condition)
        faults += _event_only(node, table, f"{table}.where", Kind.FLAG)
        conditions.append(node)
    combined: Node | None = None
    for node in conditions:
        combined = node if combined is None else CallNode(Op.AND, (combined, node), Kind.FLAG)
    return Keyed(table, tuple(pairs), combined), faults


def _no_column(where: str, column: str, fields: Fields) -> Fault:
    return Fault(
        "unknown_column", f'no column "{column}"', where, "", ", ".join(fields), nearest(column, fields)
    )


def _event_only(node: Node, table: str, where: str, kind: Kind | None = None) -> list[Fault]:
    faults: list[Fault] = []
    for below in walk(node):
        if isinstance(below, Invalid):
            faults += below.faults
        elif isinstance(below, EventField) and below.table != table:
            faults.append(
                Fault(
                    "foreign_column",
                    f"only columns of {table} may stand here",
                    where,
                    f"{below.table}.{below.name}",
                )
            )
        elif not isinstance(below, EventField | Literal | CallNode):
            faults.append(Fault("not_of_the_event", f"only columns of {table} may stand here", where))
    if kind is not None and not isinstance(node, Invalid) and node.kind is not kind:
        faults.append(Fault("wrong_kind", f"expected a {kind}", where, f"a {node.kind}"))
    return faults


class Selection:
    """Events that belong to a question; a horizon makes a window of them."""

    __slots__ = ("_faults", "_fields", "_id", "_keyed")

    def __init__(self, keyed: Keyed, fields: Fields, id_column: str, faults: list[Fault]) -> None:
        self._keyed = keyed
        self._fields = fields
        self._id = id_column
        self._faults = faults

    def last(self, horizon: str) -> Window:
        """Events of the past `horizon`: `asked_at - horizon <= event_time < asked_at`."""
        length = self._length(horizon, "last")
        return Window(self._keyed, self._fields, 1, length, self._faults)

    def next(self, horizon: str) -> Window:
        """Planned events: `asked_at <= event_time < asked_at + horizon`, as known at `asked_at`."""
        length = self._length(horizon, "next")
        return Window(self._keyed, self._fields, 1 - length, 0, self._faults)

    def within(self, horizon: str) -> Later:
        """What happened from the question on: `asked_at <= event_time < asked_at + horizon`. Outcomes only."""
        return Later(self._keyed, self._fields, self._length(horizon, "within"), self._faults)

    def _length(self, horizon: str, method: str) -> int:
        try:
            return parse_duration(horizon)
        except IcekeelError as error:
            fault = error.faults[0]
            where = f"{self._keyed.table}.{method}"
            self._faults.append(Fault(fault.code, fault.what, where, fault.got, fault.allowed, fault.hint))
            return DAY


class _Columns:
    """Attribute access to the columns of a table, with a fault for names it does not have."""

    __slots__ = ("_faults", "_fields", "_keyed")

    def __init__(self, keyed: Keyed, fields: Fields, faults: list[Fault]) -> None:
        self._keyed = keyed
        self._fields = fields
        self._faults = faults

    def _node(self, name: str) -> Node:
        if name.startswith("_"):
            raise AttributeError(name)
        field = self._fields.get(name)
        if field is None:
            return Invalid((_no_column(f"{self._keyed.table}.{name}", name, self._fields),))
        return EventField(self._keyed.table, name, field.kind)


class Window(_Columns):
    """Events of a stretch of time; its columns are aggregated: `window.revenue.sum()`."""

    __slots__ = ("_high", "_low")

    def __init__(self, keyed: Keyed, fields: Fields, low: int, high: int, faults: list[Fault]) -> None:
        super().__init__(keyed, fields, faults)
        self._low = low
        self._high = high

    def __getattr__(self, name: str) -> Values:
        return Values(self, self._node(name))

    def __getitem__(self, value: Expression) -> Values:
        """An expression over the event's columns: `window[Orders.revenue * Orders.margin].sum()`."""
        node = lift(value)
        self._faults.extend(_event_only(node, self._keyed.table, f"{self._keyed.table}[...]"))
        return Values(self, node)

    def count(self) -> Num:
        """Number of events; 0 when there are none."""
        return self._numeric("count", None)

    def minutes_since(self, *, empty: float | None = None) -> Num:
        """Minutes from the latest event of the window to the question; null, or `empty`, without one."""
        return self._since(MINUTE, empty)

    def hours_since(self, *, empty: float | None = None) -> Num:
        """Hours from the latest event of the window to the question; null, or `empty`, without one."""
        return self._since(HOUR, empty)

    def days_since(self, *, empty: float | None = None) -> Num:
        """Days from the latest event of the window to the question; null, or `empty`, without one."""
        return self._since(DAY, empty)

    def _since(self, unit: int, empty: float | None) -> Num:
        value = self._numeric("since", None) / float(unit)
        return value if empty is None else value.fill(empty)

    def _numeric(self, function: str, value: Node | None, empty: float | None = None, k: int = 0) -> Num:
        result: Num = self._aggregate(function, value, Kind.NUM, empty, k)
        return result

    def _aggregate(self, function: str, value: Node | None, kind: Kind, empty: Scalar, k: int) -> Any:
        faults = [*self._faults, *(value.faults if isinstance(value, Invalid) else ())]
        if faults:
            return CLASSES[kind](Invalid(tuple(faults), kind))
        node = Windowed(function, self._keyed, self._low, self._high, value, kind, k)
        result = expression(node)
        return result if empty is None else result.fill(empty)


class Values:
    """One column of a window, to be aggregated. Nulls are skipped."""

    __slots__ = ("_value", "_window")

    def __init__(self, window: Window, value: Node) -> None:
        self._window = window
        self._value = value

    def sum(self) -> Num:
        """Sum; 0 without values."""
        return self._number("sum", None)

    def mean(self, *, empty: float | None = None) -> Num:
        """Arithmetic mean; null, or `empty`, without values. Of a flag: the share."""
        return self._number("mean", empty)

    def min(self, *, empty: float | None = None) -> Num:
        """Smallest value."""
        return self._number("min", empty)

    def max(self, *, empty: float | None = None) -> Num:
        """Largest value."""
        return self._number("max", empty)

    def std(self, *, empty: float | None = None) -> Num:
        """Sample standard deviation (n - 1); null, or `empty`, below two values."""
        return self._number("std", empty)

    def first(self, *, empty: Any = None) -> Any:
        """Value of the earliest event, by (event_time, id)."""
        return self._any("first", empty)

    def last(self, *, empty: Any = None) -> Any:
        """Value of the latest event, by (event_time, id)."""
        return self._any("last", empty)

    def distinct(self) -> Num:
        """Number of different values; 0 without values."""
        return self._window._numeric("distinct", self._value)

    def mean_of_last(self, k: int, *, empty: float | None = None) -> Num:
        """Mean of the latest `k` values, of fewer where there are fewer."""
        return self._number("last_mean", empty, k)

    def change_over_last(self, k: int, *, empty: float | None = None) -> Num:
        """Latest value minus the `k`-th before it; null, or `empty`, with fewer than `k + 1` values."""
        return self._number("last_change", empty, k)

    def _number(self, function: str, empty: float | None, k: int = 0) -> Num:
        where = f"{self._window._keyed.table}.{function}"
        if self._value.kind not in (Kind.NUM, Kind.FLAG) and not isinstance(self._value, Invalid):
            fault = Fault("wrong_kind", f"{function} needs numbers", where, f"a {self._value.kind}")
            return Num(Invalid((fault,)))
        if function.startswith("last_") and (not isinstance(k, int) or not 1 <= k <= 1000):
            return Num(Invalid((Fault("bad_k", "expected how many values", where, repr(k), "1 to 1000"),)))
        return self._window._numeric(function, self._value, empty, k)

    def _any(self, function: str, empty: Any) -> Any:
        kind = self._value.kind
        if kind in (Kind.TIME, Kind.TEXT, Kind.ID):
            where = f"{self._window._keyed.table}.{function}"
            return invalid(
                Kind.NUM, Fault("wrong_kind", f"{function} needs a Num, Flag or Cat", where, f"a {kind}")
            )
        return self._window._aggregate(function, self._value, kind, empty, 0)


class Reference(_Columns):
    """The newest row of a reference table for a key: `Planes.of(tail=Flight.tail).seats`."""

    __slots__ = ()

    def __getattr__(self, name: str) -> Any:
        return Values(Window(self._keyed, self._fields, 1, EVER, self._faults), self._node(name)).last()


UNKNOWN = None
"""For `absent=`: a question without an outcome is left out of training and of the error."""


class Later(_Columns):
    """Events after the question, from which an outcome is made: `later.price.latest(absent=ik.UNKNOWN)`."""

    __slots__ = ("_within",)

    def __init__(self, keyed: Keyed, fields: Fields, within: int, faults: list[Fault]) -> None:
        super().__init__(keyed, fields, faults)
        self._within = within

    def __getattr__(self, name: str) -> LaterValues:
        return LaterValues(self, self._node(name))

    def count(self, *, absent: float | None = 0) -> Num:
        """Number of events."""
        result: Num = self._outcome("count", None, absent)
        return result

    def _outcome(self, function: str, value: Node | None, absent: Scalar) -> Any:
        faults = [*self._faults, *(value.faults if isinstance(value, Invalid) else ())]
        kind = Kind.NUM if value is None or function not in ("last", "first") else value.kind
        if value is not None and value.kind not in (Kind.NUM, Kind.FLAG) and not faults:
            faults.append(
                Fault("wrong_kind", "an outcome is a Num or Flag", self._keyed.table, f"a {value.kind}")
            )
        if faults:
            return CLASSES[kind](Invalid(tuple(faults), kind))
        # With a value for "nothing came", early outcomes alone would be a sample of those that came.
        early = function in ("last", "first") and absent is None
        return expression(Outcome(function, self._keyed, self._within, value, kind, early, absent))


class LaterValues:
    """One column of what happened later."""

    __slots__ = ("_later", "_value")

    def __init__(self, later: Later, value: Node) -> None:
        self._later = later
        self._value = value

    def latest(self, *, absent: float | None) -> Any:
        """Value of the latest event; known as soon as there is one, with `absent=` when the time is over."""
        return self._later._outcome("last", self._value, absent)

    def first(self, *, absent: float | None) -> Any:
        """Value of the first event; known as soon as there is one, with `absent=` when the time is over."""
        return self._later._outcome("first", self._value, absent)

    def sum(self, *, absent: float | None) -> Num:
        """Sum; known when the time is over."""
        result: Num = self._later._outcome("sum", self._value, absent)
        return result

    def mean(self, *, absent: float | None) -> Num:
        """Mean; known when the time is over."""
        result: Num = self._later._outcome("mean", self._value, absent)
        return result

    def max(self, *, absent: float | None) -> Num:
        """Largest value; known when the time is over."""
        result: Num = self._later._outcome("max", self._value, absent)
        return result
