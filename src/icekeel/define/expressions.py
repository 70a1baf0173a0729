"""What a user computes with: typed expressions over fields, windows and constants.

`Quote.colors * 2` is a `Num`, `Quote.colors > 4` a `Flag`. An expression only records what is meant;
nothing is computed here. Operators follow Python's notation, with `&`, `|` and `~` for logic.
"""

from __future__ import annotations

import math
import zoneinfo
from collections.abc import Mapping
from typing import Any

from icekeel.core.errors import Fault, nearest
from icekeel.core.kinds import Kind
from icekeel.core.time import DAY, HOUR, MINUTE

from .nodes import AskedAt, Call, Invalid, Literal, Node, Op, Scalar, shallow

PARTS = {"minute": 1440, "hour": 24, "weekday": 7, "day": 31, "month": 12}
"""Calendar parts and their period: minute of the day, hour, weekday (Monday 0), day of month, month (1-12)."""

LARGEST = 200
"""Parts of an expression at most: recursion must reach the last, and `x = x * x` in a loop doubles them, and each is hashed and walked."""


class Expression:
    """A value of some kind, yet to be computed. Subclasses give each kind its operations."""

    __slots__ = ("node",)
    __hash__ = None  # type: ignore[assignment]  # == makes a Flag, so expressions cannot be keys

    def __init__(self, node: Node) -> None:
        self.node = node

    def __bool__(self) -> bool:
        raise TypeError("an expression has no truth value yet: use &, | and ~ instead of and, or, not")

    def __repr__(self) -> str:
        return f"<{self.node.kind} expression>"

    def known(self) -> Flag:
        """Whether the value is not null."""
        return Flag(call(Op.KNOWN, Kind.FLAG, self))

    def __eq__(self, other: object) -> Flag:  # type: ignore[override]
        return Flag(_compare(Op.EQ, self, other))

    def __ne__(self, other: object) -> Flag:  # type: ignore[override]
        return Flag(_compare(Op.NE, self, other))

    # Arithmetic stands here so that a category in a sum is reported with all other faults, not raised alone.

    def __add__(self, other: Num | float) -> Num:
        return _num(Op.ADD, self, other)

    def __radd__(self, other: float) -> Num:
        return _num(Op.ADD, other, self)

    def __sub__(self, other: Num | float) -> Num:
        return _num(Op.SUB, self, other)

    def __rsub__(self, other: float) -> Num:
        return _num(Op.SUB, other, self)

    def __mul__(self, other: Num | float) -> Num:
        return _num(Op.MUL, self, other)

    def __rmul__(self, other: float) -> Num:
        return _num(Op.MUL, other, self)

    def __truediv__(self, other: Num | float) -> Num:
        return _num(Op.DIV, self, other)

    def __rtruediv__(self, other: float) -> Num:
        return _num(Op.DIV, other, self)

    def __pow__(self, other: Num | float) -> Num:
        return _num(Op.POW, self, other)

    def __neg__(self) -> Num:
        return _num(Op.NEG, self)

    def __abs__(self) -> Num:
        return _num(Op.ABS, self)

    def __lt__(self, other: Num | float) -> Flag:
        return Flag(call(Op.LT, Kind.FLAG, self, other, of=Kind.NUM))

    def __le__(self, other: Num | float) -> Flag:
        return Flag(call(Op.LE, Kind.FLAG, self, other, of=Kind.NUM))

    def __gt__(self, other: Num | float) -> Flag:
        return Flag(call(Op.LT, Kind.FLAG, other, self, of=Kind.NUM))

    def __ge__(self, other: Num | float) -> Flag:
        return Flag(call(Op.LE, Kind.FLAG, other, self, of=Kind.NUM))


class Num(Expression):
    """A number (float64)."""

    __slots__ = ()
    __hash__ = None

    def fill(self, value: Num | float) -> Num:
        """This value, or `value` where it is null."""
        return _num(Op.FILL, self, value)

    def clip(self, low: float, high: float) -> Num:
        """The value moved into [low, high]."""
        return _num(Op.LEAST, _num(Op.GREATEST, self, low), high)

    def round(self) -> Num:
        """The nearest whole number, halves away from zero."""
        return _num(Op.ROUND, self)

    def floor(self) -> Num:
        """The largest whole number not above the value."""
        return _num(Op.FLOOR, self)


class Flag(Num):
    """Yes, no or unknown; counts as 1 and 0 in arithmetic."""

    __slots__ = ()
    __hash__ = None

    def __and__(self, other: Flag) -> Flag:
        return Flag(call(Op.AND, Kind.FLAG, self, other, of=Kind.FLAG))

    def __or__(self, other: Flag) -> Flag:
        return Flag(call(Op.OR, Kind.FLAG, self, other, of=Kind.FLAG))

    def __invert__(self) -> Flag:
        return Flag(call(Op.NOT, Kind.FLAG, self, of=Kind.FLAG))


class Cat(Expression):
    """A category: one of a moderate number of texts."""

    __slots__ = ()
    __hash__ = None

    def fill(self, value: str) -> Cat:
        """This value, or `value` where it is null."""
        return Cat(call(Op.FILL, Kind.CAT, self, value, of=Kind.CAT))


class Id(Expression):
    """An identifier: joins rows, is never a feature."""

    __slots__ = ()
    __hash__ = None


class Text(Expression):
    """Free text."""

    __slots__ = ()
    __hash__ = None


class Time(Expression):
    """A moment (microseconds UTC)."""

    __slots__ = ()
    __hash__ = None


CLASSES: Mapping[Kind, type[Expression]] = {
    Kind.NUM: Num,
    Kind.FLAG: Flag,
    Kind.CAT: Cat,
    Kind.ID: Id,
    Kind.TEXT: Text,
    Kind.TIME: Time,
}
KINDS: Mapping[type[Expression], Kind] = {cls: kind for kind, cls in CLASSES.items()}

asked_at = Time(AskedAt())
"""The time of the question: in training from the history, in serving now."""


def expression(node: Node) -> Any:
    """The expression class that fits the node's kind."""
    return CLASSES[node.kind](node)


def invalid(kind: Kind, fault: Fault) -> Any:
    """An expression that carries a fault to the place where all faults are reported."""
    return CLASSES[kind](Invalid((fault,), kind))


def lift(value: object) -> Node:
    """The node of an expression or of a Python constant."""
    if isinstance(value, Expression):
        return value.node
    if isinstance(value, bool):
        return Literal(float(value), Kind.FLAG)
    if isinstance(value, int | float) and math.isfinite(value):
        return Literal(float(value) + 0.0, Kind.NUM)  # -0.0 equals 0.0 and would share its node
    if isinstance(value, str):
        return Literal(value, Kind.CAT)
    return Invalid(
        (Fault("bad_constant", "this is neither an expression nor a finite constant", got=repr(value)[:60]),)
    )


_NUMERIC = (Kind.NUM, Kind.FLAG)
_FITTING = {Kind.NUM: _NUMERIC, Kind.CAT: (Kind.CAT, Kind.ID, Kind.TEXT)}


def call(op: Op, kind: Kind, *args: object, of: Kind | None = None, params: tuple[Scalar, ...] = ()) -> Node:
    """A call node; arguments of the wrong kind turn it into an `Invalid`."""
    nodes = tuple(lift(arg) for arg in args)
    faults: list[Fault] = [fault for node in nodes if isinstance(node, Invalid) for fault in node.faults]
    for node in nodes:
        fits = of is None or node.kind is of or node.kind in _FITTING.get(of, ())
        if not fits and not isinstance(node, Invalid):
            faults.append(
                Fault(
                    "wrong_kind", f"{op} needs a {of}", got=f"a {node.kind}", hint=_HINTS.get(node.kind, "")
                )
            )
    if not faults and sum(1 for node in nodes for _ in shallow(node)) >= LARGEST:
        what = f"an expression has at most {LARGEST} parts, those used again counted again"
        faults.append(Fault("too_large", what, hint="make it two features"))
    return Invalid(tuple(dict.fromkeys(faults)), kind) if faults else Call(op, nodes, kind, params)


_HINTS = {
    Kind.TIME: "ik.hours_between, ik.days_between and ik.part make numbers of times",
    Kind.CAT: "ik.table makes numbers of categories",
}


def _num(op: Op, *args: object) -> Num:
    return Num(call(op, Kind.NUM, *args, of=Kind.NUM))


def _compare(op: Op, left: Expression, right: object) -> Node:
    node, other = left.node, lift(right)
    textual, other_textual = node.kind.is_text, other.kind.is_text
    both = node.kind in _NUMERIC and other.kind in _NUMERIC
    if (
        not (both or (textual and other_textual))
        and not isinstance(node, Invalid)
        and not isinstance(other, Invalid)
    ):
        return Invalid(
            (
                Fault(
                    "wrong_kind",
                    f"cannot compare a {node.kind} with a {other.kind}",
                    hint=_HINTS.get(node.kind, ""),
                ),
            ),
            Kind.FLAG,
        )
    return call(op, Kind.FLAG, left, right)


def exp(x: Num) -> Num:
    """e to the power x; null where that overflows."""
    return _num(Op.EXP, x)


def ln(x: Num) -> Num:
    """Natural logarithm; null for x <= 0."""
    return _num(Op.LN, x)


def sqrt(x: Num) -> Num:
    """Square root; null for x < 0."""
    return _num(Op.SQRT, x)


def least(*xs: Num | float) -> Num:
    """The smallest; null where any is null."""
    return _num(Op.LEAST, *xs)


def greatest(*xs: Num | float) -> Num:
    """The largest; null where any is null."""
    return _num(Op.GREATEST, *xs)


def when(condition: Flag, then: Any, otherwise: Any) -> Any:
    """`then` where the condition holds, else `otherwise`, also where the condition is null."""
    if isinstance(condition, Expression) and not isinstance(condition, Flag):
        fault = Fault("wrong_kind", "ik.when needs a flag", got=f"a {condition.node.kind}")
        return invalid(lift(then).kind, fault)
    kind = lift(then).kind
    second = lift(otherwise).kind
    if kind is not second and {kind, second} != {Kind.NUM, Kind.FLAG}:
        return invalid(
            kind, Fault("wrong_kind", "both branches must be of one kind", got=f"{kind} and {second}")
        )
    if kind is not second:
        kind = Kind.NUM
    return CLASSES[kind](call(Op.WHEN, kind, condition, then, otherwise))


def table(key: Cat | Id, values: Mapping[str, float], *, default: float | None = None) -> Num:
    """The number that `values` gives for a category; `default` for any other and for null."""
    where = "ik.table"
    if default is None:
        missing = Fault("missing_default", "a table needs default=, for texts it does not hold", where)
        return Num(Invalid((missing,)))
    bad = [name for name, value in values.items() if not (isinstance(name, str) and _is_number(value))]
    if bad or not _is_number(default):
        got = repr(bad[0] if bad else default)[:60]
        fault = Fault("bad_table", "a table maps texts to finite numbers", where, got)
        return Num(Invalid((fault,)))
    pairs: list[Scalar] = [float(default)]
    for name in sorted(values):
        pairs += [name, float(values[name])]
    return Num(call(Op.TABLE, Kind.NUM, key, of=Kind.CAT, params=tuple(pairs)))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def cross(left: Cat, right: Cat) -> Cat:
    """The interaction of two categories as one: `custom x metallic`; null stands as `?`."""
    return Cat(call(Op.CROSS, Kind.CAT, left, right, of=Kind.CAT))


def minutes_between(start: Time, end: Time) -> Num:
    """Minutes from `start` to `end`, negative if `end` is earlier."""
    return _elapsed(start, end, MINUTE)


def hours_between(start: Time, end: Time) -> Num:
    """Hours from `start` to `end`, negative if `end` is earlier."""
    return _elapsed(start, end, HOUR)


def days_between(start: Time, end: Time) -> Num:
    """Days of 24 hours from `start` to `end`, negative if `end` is earlier."""
    return _elapsed(start, end, DAY)


def _elapsed(start: Time, end: Time, unit: int) -> Num:
    return Num(call(Op.ELAPSED, Kind.NUM, start, end, of=Kind.TIME, params=(unit,)))


def part(time: Time, name: str, *, tz: str) -> Num:
    """A calendar part in a named time zone: minute (of the day), hour, weekday (Monday 0), day, month."""
    faults = []
    if name not in PARTS:
        faults.append(
            Fault(
                "bad_part",
                "unknown calendar part",
                "ik.part",
                repr(name),
                ", ".join(PARTS),
                nearest(name, PARTS),
            )
        )
    if not _zone_exists(tz):
        faults.append(
            Fault("bad_zone", "unknown time zone", "ik.part", repr(tz), 'an IANA name: "Europe/Zurich"')
        )
    if faults:
        return Num(Invalid(tuple(faults)))
    return Num(call(Op.PART, Kind.NUM, time, of=Kind.TIME, params=(name, tz)))


def _zone_exists(tz: str) -> bool:
    try:
        zoneinfo.ZoneInfo(tz)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError, TypeError):
        return False
    return True


def cyclic(time: Time, name: str, *, tz: str) -> tuple[Num, Num]:
    """Sine and cosine of a calendar part's place in its period, so that 23 h lies next to 0 h.

    `sin(2 pi part / period)` and likewise the cosine, with the periods 1440 minutes, 24 hours, 7 weekdays,
    31 days, 12 months.
    """
    value = part(time, name, tz=tz)
    period = float(PARTS.get(name, 1))
    return (
        Num(call(Op.SINE, Kind.NUM, value, of=Kind.NUM, params=(period,))),
        Num(call(Op.COSINE, Kind.NUM, value, of=Kind.NUM, params=(period,))),
    )
