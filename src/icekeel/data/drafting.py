"""A contract drafted from data: the text of a class for the project file, to be read and corrected by a person.

What the data cannot say is not guessed: ranges are drawn wide (0, or twice what was seen), values are listed only where
they are few and seen often, a pattern only where every text has the same shape. The rows drafted from pass.
"""

from __future__ import annotations

import keyword
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import duckdb

from icekeel.compile import literal, quote
from icekeel.core.errors import Fault, SourceError, nearest
from icekeel.core.kinds import Kind
from icekeel.core.time import FIRST_TIME, LAST_TIME
from icekeel.define.sources import Source
from icekeel.define.tables import RESERVED

from .checks import FLOATING, NUMERIC, is_timed
from .contracts import CLOCK_SKEW, LONGEST_ID, LONGEST_TEXT
from .relations import columns_of, one_row

FEW_VALUES, SEEN_EACH = 12, 30
"""A text is one of a list where it has at most so many values, each seen so many times on average."""
MANY_VALUES = 1_000
LONGEST_WORD = 64
ENOUGH = 100
"""Rows from which a share of nulls, a shape or uniqueness says something."""
_KNOWN = re.compile("available|known|book|record|load|creat|updat|ingest|receiv|insert|publish")
_IDENTIFIER = re.compile(r"(^|_)(id|key|uuid|guid|number|no|nr|code)$|[a-z]I[dD]$")
_CLASSES = {"A": "[A-Z]", "a": "[a-z]", "9": r"\d"}
_MICROS_OF_2000, _MICROS_OF_2100 = 946_684_800_000_000, 4_102_444_800_000_000


@dataclass(frozen=True, slots=True)
class Drafted:
    """A column as it was found, and what is drafted for it.

    Attributes:
        why: What keeps it out of the contract; empty where nothing does.
        limits: What stands to the right of `=`.
    """

    name: str
    sql_type: str
    rows: int
    found: Mapping[str, Any]
    kind: Kind | None
    why: str = ""
    limits: tuple[str, ...] = ()

    @property
    def nulls(self) -> int:
        """Rows without a value."""
        return self.rows - int(self.found["values"])

    @property
    def line(self) -> str:
        """Its line in the class."""
        if self.why or self.kind is None:
            name = self.name if self.name.isprintable() else repr(self.name)
            return f"    # {name}: {self.why} ({self.sql_type})"
        limits = " & ".join(self.limits)
        return f"    {self.name}: ik.{self.kind.capitalize()}{f' = {limits}' if limits else ''}"


@dataclass(frozen=True, slots=True)
class Draft:
    """A drafted contract."""

    text: str
    columns: Sequence[Drafted]


def draft(
    connection: duckdb.DuckDBPyConnection,
    relation: str,
    name: str,
    source: Source,
    *,
    now: int,
    identifier: str = "",
    time: str = "",
) -> Draft:
    """Draft the class of an event table from rows.

    Args:
        name: Of the class.
        now: Times after it are no event times.
        identifier, time: Columns of `id=` and `time=`; guessed where not given.

    Raises:
        SourceError: there are no rows, or no column that may be the id, or the time.
    """
    columns, where = _looked_at(connection, relation), str(source)
    rows = columns[0].rows if columns else 0
    if not rows:
        raise SourceError(Fault("no_rows", "nothing can be drafted from no rows", where))
    given = {identifier, time} - {"", *(one.name for one in columns)}
    if given:
        names = [one.name for one in columns]
        faults = (
            Fault("missing_column", f'no column "{one}"', where, hint=nearest(one, names)) for one in given
        )
        raise SourceError(*faults)
    key = identifier or _identifier(connection, relation, columns, where)
    times = _times(connection, relation, columns, now, time, where)
    columns = [replace(one, kind=Kind.ID) if one.name == key else one for one in columns]
    columns = [
        replace(one, limits=_limits(connection, relation, one, required=one.name in (key, *times)))
        for one in columns
    ]
    options = f'time="{times[0]}", ' + (f'available="{times[1]}", ' if len(times) > 1 else "")
    told = _quoted(source) if isinstance(source, str) else f"ik.sql{repr(source).removeprefix('Sql')}"
    head = f'class {name}(ik.Events, {options}id="{key}", source={told}):'
    about = f'    """Drafted from {rows:,} rows: what is there, not what should be. Read every line."""'
    lines = [one.line for one in columns]
    return Draft("\n".join(["import icekeel as ik", "", "", head, about, "", *lines]) + "\n", columns)


def _looked_at(connection: duckdb.DuckDBPyConnection, relation: str) -> list[Drafted]:
    """Every column with what one scan finds."""
    listed, names = ["count(*)"], []
    types = columns_of(connection, relation)
    for name, sql_type in types.items():
        asked = _asked(quote(name), sql_type)
        names.append(list(asked))
        listed += asked.values()
    rows, *values = one_row(connection, f"SELECT {', '.join(listed)} FROM {relation}")
    columns = []
    for (name, sql_type), keys in zip(types.items(), names, strict=True):
        found = dict(zip(keys, values, strict=False))
        del values[: len(keys)]
        kind = _kind(name, sql_type, rows, found)
        columns.append(Drafted(name, sql_type, rows, found, kind, _why(name, kind, found, types)))
    return columns


def _asked(name: str, sql_type: str) -> dict[str, str]:
    asked = {"values": f"count({name})", "distinct": f"approx_count_distinct({name})"}
    if sql_type in NUMERIC:
        finite = f"FILTER (isfinite({name}::DOUBLE))"
        asked |= {"low": f"min({name}) {finite}", "high": f"max({name}) {finite}"}
        asked |= {"odd": f"count_if(NOT isfinite({name}::DOUBLE))"}
    if is_timed(sql_type):
        asked |= {"low": f"min(epoch_us({name}))", "high": f"max(epoch_us({name}))"}
    if sql_type.startswith(("VARCHAR", "ENUM")):
        text = f"{name}::VARCHAR"
        asked |= {"short": f"min(length({text}))", "long": f"max(length({text}))"}
        asked |= {"bytes": f"max(strlen({text}))", "odd": f"count_if(contains({text}, chr(0)))"}
        asked |= {"spaced": f"count_if(contains({text}, ' '))"}
    return asked


def _kind(name: str, sql_type: str, rows: int, found: Mapping[str, Any]) -> Kind | None:
    called_id = _IDENTIFIER.search(name) is not None
    if sql_type == "BOOLEAN":
        return Kind.FLAG
    if is_timed(sql_type):
        return Kind.TIME
    if sql_type in NUMERIC:
        whole = sql_type not in FLOATING
        moments = (
            whole
            and found["low"] is not None
            and _MICROS_OF_2000 <= found["low"] <= found["high"] <= _MICROS_OF_2100
        )
        return Kind.TIME if moments else Kind.ID if whole and called_id else Kind.NUM
    if not sql_type.startswith(("VARCHAR", "ENUM")):
        return None
    many = found["distinct"] > min(MANY_VALUES, max(rows / 2, FEW_VALUES))
    word = not found["spaced"] and (found["long"] or 0) <= LONGEST_WORD
    if (called_id or (many and word)) and _can_identify(found):
        return Kind.ID
    return Kind.TEXT if many else Kind.CAT


def _can_identify(found: Mapping[str, Any]) -> bool:
    """Whether texts may be identifiers; whole numbers, of which nothing is said here, always may."""
    return not found.get("odd") and (found.get("short", 1) or 0) > 0 and found.get("bytes", 1) <= LONGEST_ID


def _why(name: str, kind: Kind | None, found: Mapping[str, Any], names: Mapping[str, str]) -> str:
    if kind is None:
        return "not a type that is read; cast it, a DECIMAL to DOUBLE"
    usable = name.isidentifier() and not keyword.iskeyword(name) and not name.startswith("_")
    if not usable or name in RESERVED:
        return "not a name for a field; give the column another"
    if any(other != name and other.lower() == name.lower() for other in names):
        return "differs from another column only in upper and lower case"
    if not found["values"]:
        return "holds nothing"
    if kind is Kind.NUM and found["odd"]:
        return f"not finite in {found['odd']:,} rows, which would go to quarantine"
    if kind is Kind.TIME and not FIRST_TIME <= found["low"] <= found["high"] <= LAST_TIME:
        return "holds times outside the calendar"
    return f"holds texts over {LONGEST_TEXT:,} characters" if found.get("long", 0) > LONGEST_TEXT else ""


def _identifier(
    connection: duckdb.DuckDBPyConnection, relation: str, columns: Sequence[Drafted], source: str
) -> str:
    """The column that identifies an event: of those that no two rows share, the one that is called so."""
    usable = [
        one
        for one in columns
        if not one.why
        and not one.nulls
        and one.kind in (Kind.ID, Kind.CAT, Kind.TEXT)
        and _can_identify(one.found)
    ]
    alone = [one.name for one in usable if _alone(connection, relation, one)]
    called = [name for name in alone if _IDENTIFIER.search(name)]
    versions = [one.name for one in usable if one.kind is Kind.ID]
    if found := [*called, *alone, *versions]:
        return found[0]
    raise SourceError(Fault("no_id", "no column identifies a row", source, hint="name it: --id COLUMN"))


def _alone(connection: duckdb.DuckDBPyConnection, relation: str, one: Drafted) -> bool:
    """Whether no two rows share a value."""
    values = int(one.found["values"])
    if one.found["distinct"] < 0.9 * values:  # approximate: within a few per cent
        return False
    return one_row(connection, f"SELECT count(DISTINCT {quote(one.name)}) FROM {relation}") == (values,)


def _times(
    connection: duckdb.DuckDBPyConnection,
    relation: str,
    columns: Sequence[Drafted],
    now: int,
    given: str,
    source: str,
) -> list[str]:
    """The column of the event time and, where one is called so and never before it, that of availability."""
    whole = [one for one in columns if one.kind is Kind.TIME and not one.why and not one.nulls]
    past = [one for one in whole if one.found["high"] <= now]
    named = [one for one in whole if one.name == given]
    first = (named if given else [one for one in past if not _KNOWN.search(one.name)] or past)[:1]
    if not first:
        what = "no column says when a row happened: without nulls, none in the future"
        raise SourceError(Fault("no_time", what, source, hint="name it: --time COLUMN"))
    time = _micros(first[0])
    for one in past:
        if one is not first[0] and _KNOWN.search(one.name):
            early = f"SELECT count(*) FROM {relation} WHERE {time} > {_micros(one)} + {CLOCK_SKEW}"
            if one_row(connection, early) == (0,):
                return [first[0].name, one.name]
    return [first[0].name]


def _micros(one: Drafted) -> str:
    return f"epoch_us({quote(one.name)})" if is_timed(one.sql_type) else quote(one.name)


def _limits(
    connection: duckdb.DuckDBPyConnection, relation: str, one: Drafted, *, required: bool
) -> tuple[str, ...]:
    if one.why:
        return ()
    limits = []
    if one.kind is Kind.NUM:
        limits.append(_range(float(one.found["low"]), float(one.found["high"])))
    if one.kind is not None and one.kind.is_text and one.sql_type.startswith(("VARCHAR", "ENUM")):
        values = _few(connection, relation, one) if one.kind is Kind.CAT else []
        pattern = "" if values or one.rows < ENOUGH else _shape(connection, relation, one)
        limits += [f"ik.one_of({', '.join(map(_quoted, values))})"] if values else []
        limits += [f"ik.matches({_written(pattern)})"] if pattern else []
    if one.kind is not None and one.kind.is_text and not required and one.rows >= ENOUGH:
        limits += ["ik.unique()"] if _alone(connection, relation, one) else []
    if one.nulls:
        share = math.ceil(100 * (1.5 * one.nulls / one.rows + 0.02)) / 100
        limits.append(f"ik.optional(most={share})" if one.rows >= ENOUGH and share < 1 else "ik.optional()")
    return tuple(limits)


def _quoted(text: str) -> str:
    return f'"{text}"' if text.isprintable() and not {'"', "\\"} & set(text) else repr(text)


def _written(pattern: str) -> str:
    return repr(pattern) if '"' in pattern else f'r"{pattern}"'


def _range(low: float, high: float) -> str:
    """Wide ends: 0, 1, or the next of 1, 2, 5 times a power of ten beyond twice what was seen."""
    ends = [0.0 if low >= 0 else -_beyond(-low), _beyond(high) if high > 0 else 0.0]
    if low >= 0 and high <= 1 and high != round(high):
        ends[1] = 1.0
    if ends[0] == ends[1]:
        return "ik.at_least(0)"
    return (
        f"ik.between({', '.join(f'{end:_.0f}' if abs(end) >= 1 or not end else f'{end:g}' for end in ends)})"
    )


def _beyond(value: float) -> float:
    power = 10.0 ** math.floor(math.log10(2 * value)) if value < 1e300 else value / 2
    return next(step * power for step in (1, 2, 5, 10, 20) if step * power >= 2 * value or step == 20)


def _few(connection: duckdb.DuckDBPyConnection, relation: str, one: Drafted) -> list[str]:
    if one.found["distinct"] > 2 * FEW_VALUES or one.found["long"] > 60:
        return []
    name = quote(one.name)
    values = connection.execute(
        f"SELECT DISTINCT {name}::VARCHAR FROM {relation} WHERE {name} IS NOT NULL ORDER BY 1"
    ).fetchall()
    often = len(values) <= FEW_VALUES and one.found["values"] >= SEEN_EACH * len(values)
    return [value for (value,) in values] if often else []


def _literally(char: str) -> str:
    return re.sub(r"[.^$*+?{}\[\]\\|()]", r"\\\g<0>", char)


def _shape(connection: duckdb.DuckDBPyConnection, relation: str, one: Drafted) -> str:
    """The pattern of texts that all have one shape: runs of capitals, small letters, digits, and what stands between."""
    name = f"{quote(one.name)}::VARCHAR"
    shape = name
    for letter, run in (("A", "[A-Z]+"), ("a", "[a-z]+"), ("9", "[0-9]+")):
        shape = f"regexp_replace({shape}, '{run}', '{letter}', 'g')"
    found = connection.execute(
        f"SELECT DISTINCT {shape} FROM {relation} WHERE {quote(one.name)} IS NOT NULL LIMIT 2"
    ).fetchall()
    if len(found) != 1 or not 0 < len(found[0][0]) <= 40 or not found[0][0].isprintable():
        return ""
    runs = list(found[0][0])
    grouped = "".join(f"({_CLASSES[run]}+)" if run in _CLASSES else _literally(run) for run in runs)
    places = [run for run in runs if run in _CLASSES]
    asked = []
    for place in range(1, len(places) + 1):
        part = f"regexp_extract({name}, {literal(grouped)}, {place}, 's')"
        asked += [f"min(length({part}))", f"max(length({part}))", f"min({part})", f"max({part})"]
    statement = f"SELECT {', '.join(asked)} FROM {relation} WHERE {quote(one.name)} IS NOT NULL"
    sizes = iter(one_row(connection, statement) if asked else ())
    pattern, fixed = "", True
    for run in runs:
        if run not in _CLASSES:
            pattern += _literally(run)
            continue
        short, long, least, most = (next(sizes) for _ in range(4))
        fixed = fixed and short == long
        if run != "9" and least == most:
            pattern += least
        else:
            pattern += _CLASSES[run] + (f"{{{short}}}" if short == long > 1 else "" if long == 1 else "+")
    return pattern if fixed or len(runs) > 1 else ""
