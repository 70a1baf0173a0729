"""A table's contract over many rows at once: one SQL condition for each thing that may be wrong with a row.

`contracts` does the same to single records that are pushed; `batches` holds rows against others.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import duckdb

from icekeel.compile import event_leaf, literal, quote, select
from icekeel.core.errors import Fault, nearest
from icekeel.core.kinds import Kind
from icekeel.core.patterns import read_pattern
from icekeel.core.time import FIRST_TIME, LAST_TIME
from icekeel.define.fields import BLOCK, QUARANTINE, Field, policy
from icekeel.define.nodes import EventField, walk
from icekeel.define.tables import EventTable

from .contracts import CLOCK_SKEW, LONGEST_ID, LONGEST_TEXT, length_text, range_text
from .history import AVAILABLE, DELETED
from .relations import SQL_TYPES, columns_of

NOTHING = '"NULL"'
"""SQL type of a column without values."""
FLOATING = ("FLOAT", "DOUBLE")
NUMERIC = (
    *("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT"),
    *("UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT", *FLOATING),
)


def column_faults(fields: Collection[Field], where: str, columns: Mapping[str, str]) -> list[Fault]:
    """What keeps a relation from being read as these fields: columns that are missing or of another type."""
    faults, allowed = list[Fault](), ", ".join(columns)
    for one in fields:
        if one.name not in columns and not one.limits.optional:
            what, near = f'no column "{one.name}"', nearest(one.name, columns)
            faults.append(Fault("missing_column", what, where, "", allowed, near))
    for field in fields:
        kind = columns.get(field.name, "")
        if kind and not _fits(kind, field.kind):
            what = f'column "{field.name}" cannot be read as a {field.kind}'
            faults.append(Fault("wrong_type", what, where, kind, _ACCEPTED[field.kind]))
    return faults


_ACCEPTED = {
    Kind.NUM: "whole or floating numbers (cast a DECIMAL to DOUBLE)",
    Kind.FLAG: "BOOLEAN",
    Kind.TIME: "BIGINT microseconds UTC, TIMESTAMP (UTC), TIMESTAMPTZ, DATE (its midnight UTC)",
    Kind.ID: "VARCHAR or whole numbers",
    Kind.CAT: "VARCHAR",
    Kind.TEXT: "VARCHAR",
}


def _fits(sql_type: str, kind: Kind) -> bool:
    if sql_type == NOTHING:
        return True
    if kind is Kind.NUM:
        return sql_type in NUMERIC
    if kind is Kind.FLAG:
        return sql_type == "BOOLEAN"
    if kind is Kind.TIME:
        return sql_type == "BIGINT" or is_timed(sql_type)
    whole = sql_type in NUMERIC and sql_type not in FLOATING
    return sql_type.startswith(("VARCHAR", "ENUM")) or (kind is Kind.ID and whole)


def is_timed(sql_type: str) -> bool:
    """Whether the values of an SQL type are times."""
    return sql_type.startswith("TIMESTAMP") or sql_type == "DATE"


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that may be wrong with a row.

    Attributes:
        code: As of the fault of a row that is pushed.
        field: Column; empty for a rule.
        text: What quarantine says of it: `net: not 0 or more`.
        demand: What the contract demands, in words: `net is 0 or more`.
        condition: SQL over the stored values, true where a row breaks it.
        breach: What becomes of such a row.
    """

    code: str
    field: str
    text: str
    demand: str
    condition: str
    breach: str = QUARANTINE


def row_checks(table: EventTable, limits: Sequence[Check] = (), *, hidden: bool = False) -> list[Check]:
    """All that is checked of a row by itself, but the rules.

    Args:
        limits: `time_checks`.
        hidden: Whether private columns hold pseudonyms: their texts were checked before.
    """
    kept = (table.id, table.available, table.deleted)
    found = [
        check
        for field in table.fields.values()
        for check in _field_checks(table, field, always=field.name in kept, hidden=hidden)
    ]
    return [*found, *limits]


def rule_checks(table: EventTable, columns: Sequence[str]) -> list[Check]:
    """The rules, each over the column that holds whether a row keeps it; of a row with an infinite number, none."""
    found = []
    for rule, column in zip(table.rules, columns, strict=True):
        read = dict.fromkeys(one.name for one in walk(rule.condition) if isinstance(one, EventField))
        numbers = [quote(name) for name in read if table.fields[name].kind is Kind.NUM]
        finite = "".join(f" AND coalesce(isfinite({name}), true)" for name in numbers)
        breach = rule.breach or table.contract.breach
        text = f"rule: {rule.sentence}"
        found.append(Check("breaks_rule", "", text, rule.sentence, f"{column} = 0{finite}", breach))
    return found


@dataclass(frozen=True, slots=True)
class Staged:
    """The rows of a relation in stored form, and all that is checked of each.

    Attributes:
        source: Relation of the stored values, `_at` (the row's number, from 1), and whatever the checks read.
        checks: Conditions over its columns.
    """

    source: str
    checks: Sequence[Check]

    def any_of(self, *breaches: str) -> str:
        """SQL: whether a row breaks a rule of one of these policies."""
        conditions = [f"({check.condition})" for check in self.checks if check.breach in breaches]
        return f"coalesce({' OR '.join(conditions)}, false)" if conditions else "false"


def stage(
    connection: duckdb.DuckDBPyConnection,
    table: EventTable,
    relation: str,
    limits: Sequence[Check],
    *,
    further: str = "",
    hidden: bool = False,
    numbered: str = "row_number() OVER ()",
) -> Staged:
    """The rows of a relation, ready to be checked.

    Args:
        limits: `time_checks`.
        further: More columns to compute from the relation's own, beginning with a comma.
        numbered: SQL of a row's number.
    """
    columns = columns_of(connection, relation)
    flag = f"coalesce({quote(table.deleted)}, false)" if table.deleted in columns else ""
    kept = (table.id, table.available, table.deleted)
    values = [
        f"{stored(field, columns)} AS {quote(field.name)}"
        if field.name in kept or not flag
        else f"CASE WHEN NOT {flag} THEN {stored(field, columns)} END AS {quote(field.name)}"
        for field in table.fields.values()
    ]
    at = f", {numbered} AS _at" if numbered else ""
    deleted = f"CAST({flag or 'false'} AS DOUBLE) AS {DELETED}"
    rows = f"SELECT {', '.join(values)}, {deleted}{at}{further} FROM {relation}"
    source = f"(SELECT *, {quote(table.available)} AS {AVAILABLE} FROM ({rows}))"
    statement, rules = select([rule.condition for rule in table.rules], event_leaf, source)
    return Staged(f"({statement})", [*row_checks(table, limits, hidden=hidden), *rule_checks(table, rules)])


def stored(field: Field, columns: Mapping[str, str]) -> str:
    """The expression for a column in the form in which values are stored; null where there is no such column."""
    name, sql_type = quote(field.name), columns.get(field.name)
    if field.kind is Kind.TIME and sql_type is not None and is_timed(sql_type):
        return f"epoch_us({name})"
    return f"CAST({name if sql_type else 'NULL'} AS {SQL_TYPES[field.kind]})"


def time_checks(table: EventTable, now: int, *, ahead: bool) -> list[Check]:
    """Checks of times that cannot be.

    Args:
        now: No row can be known from a later time.
        ahead: Whether rows may be about times that lie after the one from which they are known.
    """
    time, known = quote(table.time), quote(table.available)
    code, latest, found = "in_the_future", now + CLOCK_SKEW, []
    if table.available != table.time or not ahead:
        text, demand = f"{table.available}: in the future", f"{table.available} is not in the future"
        found.append(
            Check(code, table.available, text, demand, f"{known} > {latest} AND {known} <= {LAST_TIME}")
        )
    if table.available != table.time and not ahead:
        later = f"{time} <= {LAST_TIME} AND {time}::HUGEINT > {known}::HUGEINT + {CLOCK_SKEW}"
        demand = f"{table.time} is not after {table.available}"
        found.append(Check(code, table.time, f"{table.time}: after {table.available}", demand, later))
    return [replace(check, breach=strict(table)) for check in found]


def strict(table: EventTable) -> str:
    """What becomes of a row that cannot be kept whatever the policy says."""
    return BLOCK if table.contract.breach == BLOCK else QUARANTINE


def _field_checks(table: EventTable, field: Field, *, always: bool, hidden: bool) -> Iterator[Check]:
    """`always` where the row of a deletion has the field too."""
    name, limits, default = quote(field.name), field.limits, table.contract.breach

    def check(code: str, condition: str, text: str, demand: str, breach: str = strict(table)) -> Check:
        return Check(code, field.name, f"{field.name}: {text}", f"{field.name} {demand}", condition, breach)

    if not limits.optional:
        missing = f"{name} IS NULL" if always else f"{name} IS NULL AND {DELETED} = 0"
        yield check("missing_field", missing, "missing", "is given")
    if field.kind is Kind.NUM:
        yield check("wrong_type", f"NOT isfinite({name})", "not a finite number", "is a finite number")
        bounds = [f"{name} < {literal(limits.low)}"] if limits.low is not None else []
        bounds += [f"{name} > {literal(limits.high)}"] if limits.high is not None else []
        if bounds:
            condition, within = f"isfinite({name}) AND ({' OR '.join(bounds)})", range_text(field)
            breach = policy(limits, "out_of_range", default)
            yield check("out_of_range", condition, f"not {within}", f"is {within}", breach)
    if field.kind is Kind.TIME:
        outside = f"{name} NOT BETWEEN {FIRST_TIME} AND {LAST_TIME}"
        yield check("bad_time", outside, "outside the calendar", "lies in the years 1 to 9999")
    if limits.allowed is not None:
        allowed = ", ".join(literal(value) for value in limits.allowed)
        breach = policy(limits, "not_allowed", default)
        demand = f"is one of {', '.join(limits.allowed)}"
        yield check("not_allowed", f"{name} NOT IN ({allowed})", "not an allowed value", demand, breach)
    if not (hidden and field.entity):
        yield from text_checks(field, name, default)


def text_checks(field: Field, name: str, default: str = QUARANTINE) -> list[Check]:
    """What is checked of a text by itself, over the expression `name`; of a private field, before it is hidden.

    Args:
        default: What becomes of breaches, where a limit does not say.
    """
    limits, always = field.limits, BLOCK if default == BLOCK else QUARANTINE
    found: list[tuple[str, str, str, str, str]] = []
    if field.kind.is_text:
        most = f"{LONGEST_TEXT:,} characters"
        over = f"length({name}) > {LONGEST_TEXT}"
        found.append(("wrong_type", over, f"over {most}", f"has at most {most}", always))
    if field.kind is Kind.ID:
        most = f"{LONGEST_ID} bytes"
        found.append(("wrong_type", f"{name} = ''", "empty", "is not empty", always))
        over = f"strlen({name}) > {LONGEST_ID}"
        found.append(("wrong_type", over, f"over {most}", f"has at most {most}", always))
        found.append(
            ("wrong_type", f"contains({name}, chr(0))", "holds NUL", "holds no NUL character", always)
        )
    if limits.pattern is not None:
        written = literal(read_pattern(limits.pattern).re2)
        breach, demand = policy(limits, "no_match", default), f"matches {limits.pattern}"
        condition = f"NOT regexp_full_match({name}, {written})"
        found.append(("no_match", condition, f"does not match {limits.pattern}", demand, breach))
    if limits.shortest or limits.longest is not None:
        longest = LONGEST_TEXT if limits.longest is None else limits.longest
        breach = policy(limits, "wrong_length", default)
        condition = f"length({name}) NOT BETWEEN {limits.shortest or 0} AND {longest}"
        words = length_text(field)
        found.append(("wrong_length", condition, f"not {words}", f"has {words}", breach))
    return [
        Check(code, field.name, f"{field.name}: {text}", f"{field.name} {demand}", condition, breach)
        for code, condition, text, demand, breach in found
    ]
