"""Windows of events, as seen from a question: `Orders.where(customer=Quote.customer).last("365d")`.

An event counts in `last(w)` when `asked_at - w <= event_time < asked_at`, in `next(w)` when
`asked_at <= event_time < asked_at + w`, and in both only as its newest version available at `asked_at`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from icekeel.core.errors import Fault, IcekeelError, shorten
from icekeel.core.kinds import Kind
from icekeel.core.time import DAY, HOUR, MINUTE, parse_duration

from .columns import NO_OUTCOME, Columns, Fields, event_only, no_aggregate
from .expressions import Expression, Num, Unfinished, Wrong, expression, invalid, lift
from .later import Later
from .nodes import (
    AskedAt,
    Call,
    EventField,
    Invalid,
    Keyed,
    Literal,
    Node,
    Outcome,
    RequestField,
    Scalar,
    Windowed,
    broken,
    shallow,
)

EVER = 2**61
"""The span of a reference table: its newest row, however old. Bounded because the key is the id."""

LONGEST = 365_250 * DAY
"""A horizon at most, so that no sum of times leaves 64 bits."""


class Selection(Columns):
    """Events that belong to a question; only a horizon makes a window of them."""

    __slots__ = ()

    def last(self, horizon: str = "") -> Window:
        """Events of the past `horizon`: `asked_at - horizon <= event_time < asked_at`."""
        length, faults = self._length(horizon, "last")
        return Window(self._keyed, self._fields, 1, length, faults)

    def next(self, horizon: str = "") -> Window:
        """Planned events: `asked_at <= event_time < asked_at + horizon`, as known at `asked_at`."""
        length, faults = self._length(horizon, "next")
        return Window(self._keyed, self._fields, 1 - length, 0, faults)

    def within(self, horizon: str = "") -> Later:
        """What happened from the question on: `asked_at <= event_time < asked_at + horizon`. Outcomes only."""
        length, faults = self._length(horizon, "within")
        return Later(self._keyed, self._fields, length, faults)

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            if name.startswith("_"):
                raise AttributeError(name)
            return getattr(self._endless(name), name)

        def __getitem__(self, value: Expression) -> Any:
            return self._endless("[...]")[value]

    def _endless(self, name: str) -> Window:
        where = f"{self._keyed.table}.where(...).{name}"
        hint = 'write .last("30d") or .next("30d") before it'
        fault = Fault("no_horizon", "a window needs a horizon", where, hint=hint)
        return Window(self._keyed, self._fields, 1, DAY, [*self._faults, fault])

    def _length(self, horizon: str, method: str) -> tuple[int, list[Fault]]:
        where = f"{self._keyed.table}.{method}"
        if horizon == "":
            hint = f'.{method}("30d")'
            return DAY, [*self._faults, Fault("no_horizon", "a window needs a horizon", where, hint=hint)]
        try:
            length = parse_duration(horizon if len(str(horizon)) <= 12 else "")
            if length <= LONGEST:
                return length, self._faults
            fault = Fault("bad_duration", "a horizon is at most 1,000 years")
        except IcekeelError as error:
            fault = error.faults[0]
        got, allowed = shorten(horizon), fault.allowed or '"30s", "15m", "1h", "30d", "2w"'
        return DAY, [*self._faults, Fault(fault.code, fault.what, where, got, allowed, fault.hint)]


class Window(Columns):
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
        faults = event_only(node, self._keyed.table, f"{self._keyed.table}[...]")
        return Values(self, Invalid(tuple(faults), node.kind) if faults else node)

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

    def _aggregate(
        self, function: str, value: Node | None, kind: Kind, empty: Scalar, k: int = 0, of: Node | None = None
    ) -> Any:
        faults = [*self._faults, *(value.faults if isinstance(value, Invalid) else ())]
        if faults:
            return invalid(kind, *faults)
        result = expression(Windowed(function, self._keyed, self._low, self._high, value, kind, k, of))
        return result if empty is None else result.fill(empty)


class Values(Unfinished):
    """One column of a window, to be aggregated. Nulls are skipped."""

    __slots__ = ("_value", "_window")

    def __init__(self, window: Window, value: Node) -> None:
        self._window = window
        self._value = value

    def sum(self) -> Num:
        """Sum; 0 without values."""
        return self._number("sum", None)

    def mean(self, *, empty: float | None = None) -> Num:
        """Arithmetic mean; null, or `empty`, without values."""
        return self._number("mean", empty)

    def share(self, *, empty: float | None = None) -> Num:
        """Share of the events, among those where the flag is known, for which it holds."""
        if self._value.kind is not Kind.FLAG and not isinstance(self._value, Invalid):
            table = self._window._keyed.table
            hint = f'make a flag of it: window[{table}.column == "a"].share(), or .share_of("a")'
            return self._wrong("share needs a flag", f"a {self._value.kind}", "share", hint=hint)
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

    def acceleration_over_last(self, k: int, *, empty: float | None = None) -> Num:
        """The change over the last `k` minus the change over the `k` before; null, or `empty`, below `2k + 1` values."""
        return self._number("last_acceleration", empty, k)

    def share_of(self, value: Any = None, *, empty: float | None = None) -> Num:
        """Share of the values that equal `value`, an expression over the request; without it, the latest value."""
        return self._of("share_of", value, empty)

    def rank_of(self, value: Any = None, *, empty: float | None = None) -> Num:
        """Rank of `value`, an expression over the request, among the values; without it, of the latest value.

        `(less + equal / 2) / n`: 0 below all, 1 above all, 0.5 in the middle or among equals.
        """
        return self._of("rank_of", value, empty)

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Wrong:
            return no_aggregate(self, name, f"{self._window._keyed.table}.{name}")

        def __call__(self, *_: object, **__: object) -> Wrong:
            """A column has no value to call: the fault says what to write."""
            return Wrong(self._value if isinstance(self._value, Invalid) else lift(self))

    def _number(self, function: str, empty: float | None, k: int = 0) -> Num:
        if self._value.kind not in _NUMERIC and not isinstance(self._value, Invalid):
            return self._wrong(f"{function} needs numbers", f"a {self._value.kind}", function)
        if function.startswith("last_") and (not isinstance(k, int) or not 1 <= k <= 1000):
            return self._wrong("expected how many values", shorten(k), function, "bad_k", allowed="1 to 1000")
        return self._window._numeric(function, self._value, empty, k)

    def _any(self, function: str, empty: Any) -> Any:
        kind = self._value.kind
        if kind in (Kind.TIME, Kind.TEXT, Kind.ID):
            return self._wrong(f"{function} needs a Num, Flag or Cat", f"a {kind}", function)
        return self._window._aggregate(function, self._value, kind, empty)

    def _of(self, function: str, value: Any, empty: float | None) -> Num:
        of = None if value is None else lift(value)
        column = self._value
        if faults := broken([column] if of is None else [column, of]):
            return invalid(Kind.NUM, *faults)
        if column.kind is Kind.TIME or (function == "rank_of" and column.kind.is_text):
            return self._wrong(f"{function} cannot be asked of this column", f"a {column.kind}", function)
        for below in () if of is None else shallow(of):
            if isinstance(below, Outcome):
                return self._wrong(NO_OUTCOME, "an outcome", function, "needs_outcome")
            if not isinstance(below, RequestField | AskedAt | Literal | Call):
                what = f"{function} asks about a value of the request"
                hint = f"leave it out to ask about the window's latest value: .{function}()"
                got = "another column" if isinstance(below, EventField) else "a window"
                return self._wrong(what, got, function, "not_of_the_request", hint=hint)
        if of is not None and (of.kind is Kind.TIME or of.kind.is_text != column.kind.is_text):
            return self._wrong(
                f"{function} compares two of one kind", f"a {column.kind} and a {of.kind}", function
            )
        result: Num = self._window._aggregate(function, column, Kind.NUM, empty, of=of)
        return result

    def _wrong(
        self,
        what: str,
        got: str,
        function: str,
        code: str = "wrong_kind",
        *,
        allowed: str = "",
        hint: str = "",
    ) -> Num:
        where = f"{self._window._keyed.table}.{_METHODS.get(function, function)}"
        return invalid(Kind.NUM, *self._window._faults, Fault(code, what, where, got, allowed, hint))


_NUMERIC = (Kind.NUM, Kind.FLAG)
_METHODS = {
    "last_mean": "mean_of_last",
    "last_change": "change_over_last",
    "last_acceleration": "acceleration_over_last",
}


class Reference(Columns):
    """The newest row of a reference table for a key: `Planes.of(tail=Flight.tail).seats`."""

    __slots__ = ("_reach",)

    def __init__(self, keyed: Keyed, fields: Fields, faults: list[Fault], reach: int) -> None:
        super().__init__(keyed, fields, faults)
        self._reach = reach

    def __getattr__(self, name: str) -> Any:
        return Values(
            Window(self._keyed, self._fields, 1, self._reach, self._faults), self._node(name)
        ).last()
