"""What a definition means: an interpreter of its tree in plain Python, slow and obvious, apart from every engine.

At the time of a question each event is its newest version known by then. Those with the question's key that pass
the filter and whose time lies in the window are put in the order of (time, id), and the rest is arithmetic, on
exact fractions that are rounded once. Wherever mathematics has no finite answer, the answer is null.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from string import ascii_letters
from typing import Any
from zoneinfo import ZoneInfo

from icekeel.data.history import AVAILABLE, DELETED
from icekeel.define.nodes import AskedAt, Call, EventField, Literal, Node, Op, RequestField, Windowed
from icekeel.define.tables import EventTable
from icekeel.features.aggregates import Function

from .oracle import RELATIVE, SUMMARIES, relative

Value = Any
"""A float, the microseconds of a time, a text or None: what the tree says it is."""
Row = Mapping[str, Value]
"""Of a request its fields; of an event version its columns, `AVAILABLE` and `DELETED`."""


class Oracle:
    """Answers from everything that ever came.

    Args:
        tables: Definitions by name.
        rows: Versions of each table, in the order in which they came.
    """

    def __init__(self, tables: Mapping[str, EventTable], rows: Mapping[str, Sequence[Row]]) -> None:
        self._tables, self._rows = tables, rows
        self._of_events: dict[tuple[int, int], Value] = {}  # only to be spared the same work again
        self._known: dict[tuple[str, int], list[Row]] = {}

    def value(self, node: Node, request: Row, at: int) -> Value:
        """The value of a feature, None for null, flags 1.0 and 0.0."""

        def leaf(node: Node) -> Value:
            match node:
                case RequestField():
                    return request[node.name]
                case AskedAt():
                    return at
                case Windowed():
                    return self._window(node, request, at)
            raise TypeError(f"a request has no {node!r}")

        return evaluate(node, leaf)

    def values(self, window: Windowed, request: Row, at: int) -> list[Any]:
        """The values that a window aggregates, in the order of (time, id), nulls left out."""
        computed = [self._of_event(window.value, row) for row in self._inside(window, request, at)]
        return [value for value in computed if value is not None]

    def _window(self, window: Windowed, request: Row, at: int) -> Value:
        function = Function(window.function)
        if function in (Function.COUNT, Function.SINCE):
            inside = self._inside(window, request, at)
            if function is Function.COUNT:
                return float(len(inside))
            return float(at - int(inside[-1][self._tables[window.keyed.table].time] or 0)) if inside else None
        values = self.values(window, request, at)
        if function in RELATIVE:
            latest = values[-1] if values else None
            asked = latest if window.of is None else self.value(window.of, request, at)
            return relative(function, values, asked)
        return _finite(SUMMARIES[function], values, window.k)

    def _inside(self, window: Windowed, request: Row, at: int) -> list[Row]:
        keyed, table = window.keyed, self._tables[window.keyed.table]
        wanted = [(column, request[field.name]) for column, field in keyed.keys]
        inside = [
            row
            for row in self._newest(table, at)
            if all(value is not None and row[column] == value for column, value in wanted)
            and window.low <= at - int(row[table.time] or 0) <= window.high
            and (keyed.where is None or self._of_event(keyed.where, row) == 1.0)
        ]
        return sorted(inside, key=lambda row: (row[table.time], row[table.id]))

    def _newest(self, table: EventTable, at: int) -> list[Row]:
        """Each event as it was known; of versions available from the same time, the one that came last."""
        if (table.name, at) not in self._known:
            newest: dict[Value, Row] = {}
            for row in self._rows.get(table.name, ()):
                known = newest.get(row[table.id])
                if row[AVAILABLE] <= at and (known is None or known[AVAILABLE] <= row[AVAILABLE]):
                    newest[row[table.id]] = row
            self._known[table.name, at] = [row for row in newest.values() if not row[DELETED]]
        return self._known[table.name, at]

    def _of_event(self, node: Node | None, row: Row) -> Value:
        if node is None:
            raise TypeError("this window reads no column")
        place = id(node), id(row)
        if place not in self._of_events:
            self._of_events[place] = evaluate(node, lambda field: _column(field, row))
        return self._of_events[place]


def _column(node: Node, row: Row) -> Value:
    if isinstance(node, EventField):
        return row[node.name]
    raise TypeError(f"an event has no {node!r}")


def evaluate(node: Node, leaf: Callable[[Node], Value]) -> Value:
    """The value of a tree; `leaf` gives that of what is neither a constant nor a call."""
    if isinstance(node, Literal):
        return node.value
    if not isinstance(node, Call):
        return leaf(node)
    arguments = [evaluate(argument, leaf) for argument in node.args]
    if node.op in _TAKE_NULL:
        return _TAKE_NULL[node.op](node.params, *arguments)
    if None in arguments:
        return None
    return _finite(_STRICT[node.op], node.params, *arguments)


def _finite(function: Callable[..., Any], *arguments: Any) -> Any:
    """What the function gives, None where that is no finite number or no number at all."""
    try:
        value = function(*arguments)
    except (ArithmeticError, ValueError):
        return None
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _and(_: Any, a: Any, b: Any) -> Any:
    return 0.0 if 0.0 in (a, b) else None if None in (a, b) else 1.0


def _or(_: Any, a: Any, b: Any) -> Any:
    return 1.0 if 1.0 in (a, b) else None if None in (a, b) else 0.0


def _table(params: Sequence[Any], a: Any) -> float:
    default, *rest = params
    return float(dict(zip(rest[::2], rest[1::2], strict=True)).get(a, default))


_TAKE_NULL: dict[Op, Callable[..., Value]] = {
    Op.AND: _and,
    Op.OR: _or,
    Op.WHEN: lambda _, flag, a, b: a if flag == 1.0 else b,
    Op.FILL: lambda _, a, b: b if a is None else a,
    Op.KNOWN: lambda _, a: float(a is not None),
    Op.TABLE: _table,
    Op.CROSS: lambda _, a, b: f"{'?' if a is None else a} x {'?' if b is None else b}",
}


def _round(_: Any, a: float) -> float:
    half_up = math.floor(abs(Fraction(a)) + Fraction(1, 2))
    return float(half_up if a > 0 else -half_up)


def _part(params: Sequence[Any], time: int) -> float:
    """Clocks before 1900 and after 2100 go as they did at these turns of the years."""
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=time)
    years = datetime(1900, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)
    offset = min(max(moment, years[0]), years[1]).astimezone(ZoneInfo(params[1])).utcoffset()
    return float(_PARTS[params[0]](moment + (offset or timedelta())))


_PARTS: dict[str, Callable[[datetime], int]] = {
    "minute": lambda local: local.hour * 60 + local.minute,
    "hour": lambda local: local.hour,
    "weekday": lambda local: local.weekday(),
    "hour_of_week": lambda local: local.weekday() * 24 + local.hour,
    "day": lambda local: local.day,
    "day_of_year": lambda local: local.timetuple().tm_yday,
    "week": lambda local: local.isocalendar().week,
    "month": lambda local: local.month,
    "quarter": lambda local: (local.month + 2) // 3,
    "year": lambda local: local.year,
}


def _piece(params: Sequence[Any], text: str) -> str | None:
    pieces, n = text.split(params[0]), params[1]
    return dict(enumerate(pieces)).get(n if n >= 0 else len(pieces) + n)


def _words(_: Any, text: str) -> float:
    return float(len(re.findall(r"[^ \t\n\v\f\r]+", text)))


_STRICT: dict[Op, Callable[..., Value]] = {
    Op.ADD: lambda _, a, b: float(Fraction(a) + Fraction(b)),
    Op.SUB: lambda _, a, b: float(Fraction(a) - Fraction(b)),
    Op.MUL: lambda _, a, b: float(Fraction(a) * Fraction(b)),
    Op.DIV: lambda _, a, b: float(Fraction(a) / Fraction(b)),
    Op.MOD: lambda _, a, b: float(Fraction(a) % Fraction(b)),
    Op.NEG: lambda _, a: -a,
    Op.ABS: lambda _, a: abs(a),
    Op.POW: lambda _, a, b: math.pow(a, b),
    Op.SQRT: lambda _, a: math.sqrt(a),
    Op.EXP: lambda _, a: math.exp(a),
    Op.LN: lambda _, a: math.log(a),
    Op.ROUND: _round,
    Op.FLOOR: lambda _, a: float(math.floor(a)),
    Op.SIGN: lambda _, a: float((a > 0) - (a < 0)),
    Op.LEAST: lambda _, *a: min(a),
    Op.GREATEST: lambda _, *a: max(a),
    Op.LT: lambda _, a, b: float(a < b),
    Op.LE: lambda _, a, b: float(a <= b),
    Op.EQ: lambda _, a, b: float(a == b),
    Op.NE: lambda _, a, b: float(a != b),
    Op.ONE_OF: lambda params, a: float(a in params),
    Op.LENGTH: lambda _, a: float(len(a)),
    Op.WORDS: _words,
    Op.STRIP: lambda _, a: re.sub(r"\A[ \t\n\v\f\r]+|[ \t\n\v\f\r]+\Z", "", a),
    Op.REPLACE: lambda params, a: params[1].join(a.split(params[0])),
    Op.LOWER: lambda _, a: "".join(c.lower() if c in ascii_letters else c for c in a),
    Op.UPPER: lambda _, a: "".join(c.upper() if c in ascii_letters else c for c in a),
    Op.CONTAINS: lambda _, a, b: float(b in a),
    Op.STARTS_WITH: lambda _, a, b: float(a[: len(b)] == b),
    Op.ENDS_WITH: lambda _, a, b: float(b == "" or a[-len(b) :] == b),
    Op.PIECE: _piece,
    Op.NOT: lambda _, a: 1.0 - a,
    Op.ELAPSED: lambda params, start, end: float(end - start) / float(params[0]),
    Op.PART: _part,
    Op.SINE: lambda params, a: math.sin(2 * math.pi * a / params[0]),
    Op.COSINE: lambda params, a: math.cos(2 * math.pi * a / params[0]),
}
