"""What comes from outside, checked against its declaration: one record at a time, every fault named.

Requests and pushed events pass through here; `ingest` does the same to whole files in SQL.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from textwrap import indent
from typing import Any

from icekeel.compile import compile_event
from icekeel.core.errors import Fault, IcekeelError, first_faults, nearest, shorten
from icekeel.core.kinds import Kind
from icekeel.core.patterns import read_pattern
from icekeel.core.time import FOREVER, MINUTE, format_time, parse_time
from icekeel.define.fields import BLOCK, QUARANTINE, WARN, Field, policy
from icekeel.define.tables import EventTable

from .vault import Hide

Value = float | int | str | None
"""A checked value: float for numbers and flags, `int` microseconds for times, `str`, or None."""

LONGEST_TEXT = 10_000
LONGEST_ID = 256
"""Bytes of UTF-8 in an identifier at most, none of them NUL: every store then orders and keeps ids whole."""
CLOCK_SKEW = 5 * MINUTE
"""How far the clock of who records events may be ahead of ours."""
AHEAD = "plans belong in a table that a window reads with next(), or with of() and no fresh="
MOST_UNKNOWN = 20
"""Unknown fields of a record that are named, each with the nearest name; the others are counted."""


_GRAVITY = {BLOCK: 0, "": 1, WARN: 2}


def grave(faults: Iterable[Fault]) -> list[Fault]:
    """Those that keep a row from being kept: all but warnings."""
    return [fault for fault in faults if fault.policy != WARN]


def _strict(fault: Fault, breach: str) -> Fault:
    """The fault of a value that cannot be kept whatever the policy: it is set aside, or blocks."""
    return replace(fault, policy=BLOCK) if breach == BLOCK else fault


class RecordParser:
    """Reads records of declared fields from decoded JSON.

    Numbers are JSON numbers, finite and within limits; flags `true` or `false`; times ISO 8601 texts or whole
    microseconds since 1970 UTC; texts JSON strings of at most 10,000 characters, ids of at most 256 bytes. A field that is missing is null, which only an
    optional field may be. A field that is not declared is a fault.

    Of a private field the result is the pseudonym; the value itself is in no fault.

    Args:
        hide: Gives pseudonyms; needed where a field is private. Asked only for records without a fault.
        breach: What becomes of records that break a limit that does not say so itself.
    """

    def __init__(
        self, fields: Sequence[Field], hide: Hide | None = None, *, breach: str = QUARANTINE
    ) -> None:
        self.fields = tuple(fields)
        self._breach = breach
        self._private = [(place, field.entity) for place, field in enumerate(fields) if field.entity]
        if self._private and hide is None:
            raise ValueError("private fields are not read without a vault")
        self._hide = hide
        self.names = tuple(field.name for field in fields)
        self._known = frozenset(self.names)
        self._steps = tuple((field.name, field, _READERS[field.kind]) for field in fields)
        self._quick = _compile_ordinary(self.fields)

    def parse(self, record: Any, where: str = "") -> tuple[list[Value], list[Fault]]:
        """The values in field order, and every fault; they mean nothing if there is a fault other than a warning."""
        values = self._quick(record) if type(record) is dict else None
        faults: list[Fault] = []
        if values is None:
            values, faults = self._look_closely(record, where)
        if self._hide is not None and not grave(faults):
            for place, entity in self._private:
                value = values[place]
                if value is not None:
                    values[place] = self._hide(entity, str(value))
        return values, faults

    def _look_closely(self, record: Any, where: str) -> tuple[list[Value], list[Fault]]:
        if not isinstance(record, Mapping):
            got = type(record).__name__ if self._private else shorten(record)
            return [], [Fault("not_an_object", "expected an object", where, got)]
        faults: list[Fault] = []
        values: list[Value] = []
        unknown: list[Any] = []
        if len(record) > len(self.names) or not self._known.issuperset(record):
            unknown = [name for name in record if name not in self._known]
        for name, field, read in self._steps:
            raw = record.get(name)
            value, found = None, list[Fault]()
            if raw is not None:
                try:
                    value = read(raw, field)
                    found = list(_breaches(value, field, self._breach))
                except IcekeelError as error:
                    found = [_strict(fault, self._breach) for fault in error.faults]
            elif not field.limits.optional:
                hint = "" if name in record else nearest(name, map(str, unknown[:MOST_UNKNOWN]))
                found = [_strict(Fault("missing_field", f'"{name}" is missing', hint=hint), self._breach)]
            at, private = _at(where, name), field.limits.private
            faults += (replace(one, where=at, got="" if private else one.got) for one in found)
            values.append(value)
        faults += first_faults(self._unknown(unknown, where), len(unknown), MOST_UNKNOWN)
        listed = sorted(faults, key=lambda one: _GRAVITY[one.policy])
        return values, first_faults(listed, len(listed)) if grave(listed) else listed

    def _unknown(self, names: Sequence[Any], where: str) -> Iterator[Fault]:
        """A fault for each name, made when it is asked for; what is allowed stands in the first."""
        for at, name in enumerate(names):
            allowed = "" if at else ", ".join(self.names)
            hint = nearest(str(name)[:LONGEST_TEXT], self.names)
            yield Fault("unknown_field", f"unknown field {shorten(name)}", where, "", allowed, hint)


class EventContract:
    """Reads rows of an event table and checks its rules.

    Args:
        stamped: True where rows are pushed and Icekeel stamps their availability: the column is then not
            accepted from the caller, and null in the result.
        ahead: Whether rows may be about times that lie after the one from which they are known.
        hide: Gives pseudonyms; needed where a field is private.
    """

    def __init__(
        self, table: EventTable, *, stamped: bool, ahead: bool = False, hide: Hide | None = None
    ) -> None:
        self.table = table
        self.fields = tuple(table.fields.values())
        self._says_when = not stamped and table.available != table.time
        self._ahead = ahead
        self._stamped = stamped and table.available != table.time
        given = [field for field in self.fields if not (self._stamped and field.name == table.available)]
        self._hide = hide
        self._breach = table.contract.breach
        self._parser = RecordParser(given, hide, breach=self._breach)
        self._names = [field.name for field in self.fields]
        self._id = RecordParser([table.fields[table.id]], hide, breach=self._breach)
        read = [table.id, table.deleted, "" if stamped else table.available]
        kept = [field for field in self.fields if field.name in read]
        self._deletion = RecordParser(kept, hide, breach=self._breach)
        self._place, self._time = self._names.index(table.available), self._names.index(table.time)
        conditions = [rule.condition for rule in table.rules]
        self._rules = compile_event(self.fields, conditions) if conditions else None

    def parse(self, row: Any, where: str = "", now: int = FOREVER) -> tuple[list[Value], list[Fault]]:
        """The values in field order, and every fault; those whose policy is `warn` do not keep the row out.

        What needs other rows is not checked: `unique`, `references`, and what is demanded of a batch. The event time may not lie more than `CLOCK_SKEW` after the time from which the row is known, which is
        `now` where that is stamped, unless the table may look ahead. Of a row that deletes only the id, the flag and the time from which it is known are read; the others are null.
        """
        if self.table.deleted and isinstance(row, Mapping) and row.get(self.table.deleted) is True:
            unread = set(self._names).difference(self._deletion.names)
            read = {name: value for name, value in row.items() if name not in unread}
            return self._placed(self._deletion, read, where)
        values, faults = self._parser.parse(row, where)
        if not values:
            return values, faults
        if self._stamped:
            values.insert(self._place, None)
        faults += self._in_time(values, now, where)
        if self._rules is not None:
            for rule, holds in zip(self.table.rules, self._rules(values), strict=True):
                if holds == 0.0:
                    breach = _marked(rule.breach or self._breach)
                    what = f"breaks the rule: {rule.sentence}"
                    faults.append(Fault("breaks_rule", what, where, policy=breach))
        return values, faults

    def set_aside(self, row: Any) -> Any:
        """A bad row as it may be kept: as it came, but of a table with private fields without what may be personal.

        A private value becomes its pseudonym whatever it is, so that it is forgotten with its entity. What is not
        declared is named and not kept, since a private value under a misspelt name must not be either.
        """
        private = {field.name: field.entity for field in self.fields if field.entity}
        if not private or self._hide is None:
            return row
        if not isinstance(row, Mapping):
            return {"not kept": type(row).__name__}
        kept = {name: value for name, value in row.items() if name in self.table.fields}
        for name, entity in private.items():
            if (value := kept.get(name)) is not None:
                kept[name] = self._hide(entity, value if isinstance(value, str) else json.dumps(value))
        undeclared = [name for name in row if name not in kept]
        return {**kept, "not kept": undeclared} if undeclared else kept

    def _in_time(self, values: Sequence[Value], now: int, where: str) -> Sequence[Fault]:
        time, known = values[self._time], values[self._place] if self._says_when else now
        late = []
        if self._says_when and isinstance(known, int) and known > now + CLOCK_SKEW:
            late.append((self.table.available, "it is known from a time that has not come", known, now))
        if not self._ahead and isinstance(time, int) and isinstance(known, int) and time > known + CLOCK_SKEW:
            what = "the event happens after the time from which it is known"
            late.append((self.table.time, what, time, known))
        return [self._future(_at(where, name), what, value, most) for name, what, value, most in late]

    def _future(self, where: str, what: str, value: int, most: int) -> Fault:
        got, allowed = format_time(value), f"up to {format_time(most + CLOCK_SKEW)}"
        return _strict(Fault("in_the_future", what, where, got, allowed, AHEAD), self._breach)

    def parse_deletion(
        self, identifier: Any, where: str = "", now: int = FOREVER
    ) -> tuple[list[Value], list[Fault]]:
        """The values of a row that deletes an event by its id alone, all others null; and every fault."""
        del now
        return self._placed(self._id, {self.table.id: identifier}, where)

    def _placed(
        self, parser: RecordParser, record: Mapping[str, Any], where: str
    ) -> tuple[list[Value], list[Fault]]:
        values, faults = parser.parse(record, where)
        found = dict(zip(parser.names, values, strict=True))
        return [found.get(name) for name in self._names], faults


def _at(where: str, name: str) -> str:
    return f"{where}.{name}" if where else name


def _number(raw: Any, field: Field) -> float:
    if type(raw) is not float and type(raw) is not int:
        raise _wrong(raw, "a number")
    try:
        value = float(raw)
    except OverflowError as error:
        raise _wrong(raw, "a finite number") from error
    if not math.isfinite(value):
        raise _wrong(raw, "a finite number")
    return value


def _marked(breach: str) -> str:
    """A policy as faults carry it: nothing for the usual one."""
    return "" if breach == QUARANTINE else breach


def _breaches(value: Value, field: Field, default: str) -> Iterator[Fault]:
    """The faults of a value of the right type that is not within its limits."""
    limits, got = field.limits, shorten(value)
    found: list[Fault] = []
    if isinstance(value, float) and not _low_end(limits.low) <= value <= _high_end(limits.high):
        found.append(Fault("out_of_range", "out of range", "", got, range_text(field)))
    if isinstance(value, str):
        if limits.allowed is not None and value not in limits.allowed:
            allowed, hint = ", ".join(limits.allowed), nearest(value, limits.allowed)
            found.append(Fault("not_allowed", "not an allowed value", "", got, allowed, hint))
        if limits.pattern is not None and not read_pattern(limits.pattern).matches(value):
            found.append(Fault("no_match", "does not match", "", got, limits.pattern))
        if (
            not (limits.shortest or 0)
            <= len(value)
            <= (LONGEST_TEXT if limits.longest is None else limits.longest)
        ):
            found.append(Fault("wrong_length", "too short or too long", "", got, length_text(field)))
    for fault in found:
        yield replace(fault, policy=_marked(policy(limits, fault.code, default)))


def length_text(field: Field) -> str:
    """The limits of a text as words: `3 to 20 characters`, `at most 20 characters`."""
    low, high = field.limits.shortest or 0, field.limits.longest
    if high is None:
        return f"{low:,} characters or more"
    return f"{low:,} to {high:,} characters" if low else f"at most {high:,} characters"


def _low_end(low: float | None) -> float:
    return -_LARGEST if low is None else float(low)


def _high_end(high: float | None) -> float:
    return _LARGEST if high is None else float(high)


def range_text(field: Field) -> str:
    """The limits of a number as words: `1 to 12`, `0 or more`."""
    low, high = field.limits.low, field.limits.high
    if low is not None and high is not None:
        return f"{low:g} to {high:g}"
    return f"{low:g} or more" if low is not None else f"{high:g} or less"


def _flag(raw: Any, field: Field) -> float:
    del field
    if raw is True or raw is False:
        return 1.0 if raw else 0.0
    raise _wrong(raw, "true or false")


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # half of a surrogate pair, which JSON can spell and nothing can store
        return False
    return True


def _text(raw: Any, field: Field) -> str:
    del field
    if type(raw) is not str:
        raise _wrong(raw, "a text")
    if len(raw) > LONGEST_TEXT:
        raise _wrong(raw, f"at most {LONGEST_TEXT:,} characters")
    if not raw.isascii() and not _is_unicode(raw):
        raise _wrong(raw, "Unicode text")
    return raw


def _identifier(raw: Any, field: Field) -> str:
    text = _text(raw, field)
    if (
        not 0 < len(text) <= LONGEST_ID
        or "\0" in text
        or (not text.isascii() and len(text.encode()) > LONGEST_ID)
    ):
        raise _wrong(raw, f"an identifier of 1 to {LONGEST_ID} bytes without NUL")
    return text


def _time(raw: Any, field: Field) -> int:
    del field
    if type(raw) is not str and type(raw) is not int:
        raise _wrong(raw, "an ISO 8601 time or microseconds since 1970 UTC")
    return parse_time(raw)


def _compile_ordinary(fields: Sequence[Field]) -> Callable[[dict[str, Any]], list[Value] | None]:
    """`ordinary(record)`: what the readers give, in a third of the time; None where one of them may find a fault.

    Generated, as expressions are, since calling a reader costs more than what it does. It only ever accepts what they
    accept: texts in ASCII, whole numbers that a float64 holds, and no field that is not declared.
    """
    lines, known = [], {field.name for field in fields}
    for at, field in enumerate(fields):
        limits = field.limits
        check = _ORDINARY[field.kind].format(
            v=f"v{at}", low=_low_end(limits.low), high=_high_end(limits.high)
        )
        if limits.allowed is not None:
            check += f"\nif v{at} not in allowed{at}: return None"
        if limits.pattern is not None:
            check += f"\nif not matches{at}(v{at}): return None"
        if limits.shortest or limits.longest is not None:
            longest = LONGEST_TEXT if limits.longest is None else limits.longest
            check += f"\nif not {limits.shortest or 0} <= len(v{at}) <= {longest}: return None"
        lines.append(f"v{at} = get({field.name!r})")
        if limits.optional:
            lines += [f"if v{at} is None: whole = False", "else:", indent(check, "    ")]
        else:
            lines.append(check)
    body = indent("\n".join(lines), "    ")
    source = (
        f"def ordinary(record):\n    get, whole = record.get, len(record) == {len(fields)}\n{body}\n"
        f"    if not whole and not known.issuperset(record): return None\n"
        f"    return [{', '.join(f'v{at}' for at in range(len(fields)))}]\n"
    )
    namespace: dict[str, Any] = {"known": known, "time_of": _time_of}
    namespace |= {f"allowed{at}": frozenset(field.limits.allowed or ()) for at, field in enumerate(fields)}
    patterns = {at: field.limits.pattern for at, field in enumerate(fields)}
    namespace |= {
        f"matches{at}": read_pattern(one).matches for at, one in patterns.items() if one is not None
    }
    exec(compile(source, "<icekeel record>", "exec"), namespace)
    function: Callable[[dict[str, Any]], list[Value] | None] = namespace["ordinary"]
    return function


def _time_of(raw: Any) -> int | None:
    try:
        return parse_time(raw) if type(raw) is str or type(raw) is int else None
    except IcekeelError:
        return None


_LARGEST = sys.float_info.max
_TEXT_CHECK = (
    "if type({v}) is not str or len({v}) > " + str(LONGEST_TEXT) + " or not {v}.isascii(): return None"
)
_ORDINARY: dict[Kind, str] = {
    Kind.NUM: (
        "if type({v}) is int and -9007199254740992 <= {v} <= 9007199254740992: {v} = float({v})\n"
        "if type({v}) is not float or not {low} <= {v} <= {high}: return None"
    ),
    Kind.FLAG: "if type({v}) is not bool: return None\n{v} = 1.0 if {v} else 0.0",
    Kind.TIME: "{v} = time_of({v})\nif {v} is None: return None",
    Kind.ID: (
        "if type({v}) is not str or not 0 < len({v}) <= "
        + str(LONGEST_ID)
        + " or not {v}.isascii() or '\\0' in {v}: return None"
    ),
    Kind.CAT: _TEXT_CHECK,
    Kind.TEXT: _TEXT_CHECK,
}
"""Source of what makes a raw value that is surely right the value of a field, and gives up on any other."""


def _wrong(raw: Any, allowed: str) -> IcekeelError:
    return IcekeelError(Fault("wrong_type", "wrong type", got=shorten(raw), allowed=allowed))


_READERS: dict[Kind, Callable[[Any, Field], Value]] = {
    Kind.NUM: _number,
    Kind.FLAG: _flag,
    Kind.TIME: _time,
    Kind.ID: _identifier,
    Kind.CAT: _text,
    Kind.TEXT: _text,
}
