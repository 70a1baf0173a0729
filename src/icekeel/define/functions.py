"""Functions of expressions: mathematics, branches, tables, calendar.

All are total: where mathematics has no finite answer the result is null.
"""

from __future__ import annotations

import zoneinfo
from collections.abc import Mapping
from typing import Any

from icekeel.core.errors import Fault, nearest, shorten
from icekeel.core.kinds import Kind
from icekeel.core.time import DAY, HOUR, MINUTE

from .expressions import (
    CLASSES,
    Cat,
    Flag,
    Num,
    Time,
    Words,
    call,
    invalid,
    is_number,
    is_text,
    lift,
    numeric,
)
from .nodes import Invalid, Op, Scalar, broken

PARTS = {
    **{"minute": 1440, "hour": 24, "weekday": 7, "hour_of_week": 168, "day": 31, "day_of_year": 366},
    **{"week": 53, "month": 12, "quarter": 4, "year": 0},
}
"""Calendar parts and their period. From 0: minute of the day, hour, weekday (Monday 0), hour of the week (Monday
0 h); from 1: day of the month, day of the year, ISO week, month, quarter; and the year, which has no period."""


def exp(x: Num) -> Num:
    """e to the power x; null where that overflows."""
    return numeric(Op.EXP, x)


def ln(x: Num) -> Num:
    """Natural logarithm; null for x <= 0."""
    return numeric(Op.LN, x)


def sqrt(x: Num) -> Num:
    """Square root; null for x < 0."""
    return numeric(Op.SQRT, x)


def least(*xs: Num | float) -> Num:
    """The smallest of two or more; null where any is null."""
    return _extreme(Op.LEAST, xs)


def greatest(*xs: Num | float) -> Num:
    """The largest of two or more; null where any is null."""
    return _extreme(Op.GREATEST, xs)


def _extreme(op: Op, xs: tuple[Num | float, ...]) -> Num:
    if len(xs) < 2:
        what, hint = f"ik.{op} compares two numbers or more", "over a window: .column.min(), .column.max()"
        return invalid(Kind.NUM, Fault("too_few", what, got=str(len(xs)), hint=hint))
    return numeric(op, *xs)


def when(condition: Flag, then: Any, otherwise: Any) -> Any:
    """`then` where the condition holds, else `otherwise`, also where the condition is null."""
    return case((condition, then), otherwise=otherwise)


_FAMILIES = ((Kind.NUM, Kind.FLAG), (Kind.TEXT, Kind.ID, Kind.CAT), (Kind.TIME,))
"""Kinds that may be branches of one value, whose kind is then the first of them."""


def case(*branches: tuple[Flag, Any], otherwise: Any) -> Any:
    """The value of the first (flag, value) whose flag holds, else `otherwise`; a null flag does not hold."""
    if not branches or not all(isinstance(one, tuple) and len(one) == 2 for one in branches):
        what = "ik.case takes pairs in parentheses: (flag, value)"
        fault = Fault("bad_case", what, got=shorten(branches), hint="and otherwise= at the end")
        return invalid(Kind.NUM, fault)
    values = [lift(value) for _, value in branches] + [lift(otherwise)]
    kinds = {value.kind for value in values if not isinstance(value, Invalid)}
    alike = [family for family in _FAMILIES if kinds <= set(family)]
    kind = next((kind for kind in alike[0] if kind in kinds), Kind.NUM) if alike else Kind.NUM
    conditions = [lift(condition) for condition, _ in branches]
    faults = broken([*conditions, *values])
    faults += [
        Fault("wrong_kind", "a condition is a flag", got=f"a {node.kind}")
        for node in conditions
        if node.kind is not Kind.FLAG and not isinstance(node, Invalid)
    ]
    if not alike:
        faults.append(
            Fault("wrong_kind", "all branches must be of one kind", got=" and ".join(sorted(kinds)))
        )
    if faults:
        return invalid(kind, *faults)
    result: Any = otherwise
    for condition, value in reversed(branches):
        result = CLASSES[kind](call(Op.WHEN, kind, condition, value, result))
    return result


def table(key: Words, values: Mapping[str, float], *, default: float | None = None) -> Num:
    """The number that `values` gives for a text; `default` for any other and for null."""
    if default is None:
        what, hint = (
            "a table needs default=, for texts it does not hold",
            "default=0, or what suits an unknown text",
        )
        return invalid(Kind.NUM, Fault("missing_default", what, "ik.table", hint=hint))
    bad = [name for name, value in values.items() if not (is_text(name) and is_number(value))]
    if bad or not is_number(default):
        got = shorten(bad[0] if bad else default)
        what = "a table maps texts to finite numbers"
        return invalid(Kind.NUM, Fault("bad_table", what, "ik.table", got))
    pairs: list[Scalar] = [float(default)]
    for name in sorted(values):
        pairs += [name, float(values[name])]
    return Num(call(Op.TABLE, Kind.NUM, key, of=Kind.CAT, params=tuple(pairs)))


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
    """A calendar part in a named time zone; `PARTS` lists them."""
    return _part(time, name, tz, list(PARTS))


def cyclic(time: Time, name: str, *, tz: str) -> tuple[Num, Num]:
    """Sine and cosine of a calendar part's place in its period, so that 23 h lies next to 0 h.

    `sin(2 pi part / period)` and likewise the cosine, with the periods of `PARTS`.
    """
    value = _part(time, name, tz, [one for one, period in PARTS.items() if period])
    period = (float(PARTS.get(name, 1)),)
    return (
        Num(call(Op.SINE, Kind.NUM, value, of=Kind.NUM, params=period)),
        Num(call(Op.COSINE, Kind.NUM, value, of=Kind.NUM, params=period)),
    )


def _part(time: Time, name: str, tz: str, allowed: list[str]) -> Num:
    faults = []
    if name not in allowed:
        what, near = "unknown calendar part", nearest(str(name), allowed)
        faults.append(Fault("bad_part", what, "ik.part", shorten(name), ", ".join(allowed), near))
    if not _zone_exists(tz):
        what, known = "unknown time zone", 'an IANA name: "Europe/Zurich"'
        near = nearest(str(tz), zoneinfo.available_timezones())
        faults.append(Fault("bad_zone", what, "ik.part", shorten(tz), known, near))
    if faults:
        return invalid(Kind.NUM, *faults)
    return Num(call(Op.PART, Kind.NUM, time, of=Kind.TIME, params=(name, tz)))


def _zone_exists(tz: str) -> bool:
    try:
        zoneinfo.ZoneInfo(tz)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError, TypeError):
        return False
    return True
