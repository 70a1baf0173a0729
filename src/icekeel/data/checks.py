"""A table's contract over many rows at once: one SQL expression for each thing that may be wrong with a row.

`contracts` does the same to single records that are pushed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

import duckdb

from icekeel.compile import literal, quote, select
from icekeel.core.errors import Fault, nearest
from icekeel.core.kinds import Kind
from icekeel.core.time import FIRST_TIME, LAST_TIME
from icekeel.define.fields import Field
from icekeel.define.nodes import EventField, Node
from icekeel.define.tables import EventTable

from .contracts import CLOCK_SKEW, LONGEST_ID, LONGEST_TEXT, range_text
from .history import AVAILABLE, DELETED, SEQUENCE

NOTHING = '"NULL"'
"""SQL type of a column without values."""
_NUMERIC = (
    "TINYINT",
    "SMALLINT",
    "INTEGER",
    "BIGINT",
    "UTINYINT",
    "USMALLINT",
    "UINTEGER",
    "UBIGINT",
    "FLOAT",
    "DOUBLE",
    "HUGEINT",
)


def columns_of(connection: duckdb.DuckDBPyConnection, relation: str) -> dict[str, str]:
    """The columns of a relation and their SQL types."""
    return {row[0]: row[1] for row in connection.execute(f"DESCRIBE SELECT * FROM {relation}").fetchall()}


def column_faults(fields: Collection[Field], where: str, columns: Mapping[str, str]) -> list[Fault]:
    """What keeps a relation from being read as these fields: columns that are missing or of another type."""
    faults = [
        Fault(
            "missing_column",
            f'no column "{one.name}"',
            where,
            "",
            ", ".join(columns),
            nearest(one.name, columns),
        )
        for one in fields
        if one.name not in columns and not one.limits.optional
    ]
    for field in fields:
        kind = columns.get(field.name, "")
        if kind and not _fits(kind, field.kind):
            what = f'column "{field.name}" cannot be read as a {field.kind}'
            faults.append(Fault("wrong_type", what, where, kind, _ACCEPTED[field.kind]))
    return faults


_ACCEPTED = {
    Kind.NUM: "whole or floating numbers (cast a DECIMAL to DOUBLE)",
    Kind.FLAG: "BOOLEAN",
    Kind.TIME: "BIGINT microseconds UTC, TIMESTAMP (UTC), TIMESTAMPTZ",
    Kind.ID: "VARCHAR or whole numbers",
    Kind.CAT: "VARCHAR",
    Kind.TEXT: "VARCHAR",
}


def _fits(sql_type: str, kind: Kind) -> bool:
    if sql_type == NOTHING:
        return True
    if kind is Kind.NUM:
        return sql_type in _NUMERIC
    if kind is Kind.FLAG:
        return sql_type == "BOOLEAN"
    if kind is Kind.TIME:
        return sql_type in ("BIGINT", "TIMESTAMP WITH TIME ZONE") or sql_type.startswith("TIMESTAMP")
    whole = sql_type in _NUMERIC and sql_type not in ("FLOAT", "DOUBLE")
    return sql_type.startswith(("VARCHAR", "ENUM")) or (kind is Kind.ID and whole)


def checked(
    connection: duckdb.DuckDBPyConnection,
    table: EventTable,
    relation: str,
    sequence: int,
    limits: Sequence[str],
) -> str:
    """A statement: the fields in stored form, their raw values as JSON, and the list of faults of each row."""
    columns = columns_of(connection, relation)
    wrong = "_wrong" if columns.pop("_wrong", None) else "[]"
    flag = f"coalesce({quote(table.deleted)}, false)" if table.deleted in columns else "false"
    kept = (table.id, table.available, table.deleted)
    values = [
        f"{stored(field, columns)} AS {quote(field.name)}"
        if field.name in kept
        else f"CASE WHEN NOT {flag} THEN {stored(field, columns)} END AS {quote(field.name)}"
        for field in table.fields.values()
    ]
    raw = ", ".join(f"{quote(name)} := {quote(name)}" for name in columns)
    source = (
        f"(SELECT *, {quote(table.available)} AS {AVAILABLE}, _at + {sequence} AS {SEQUENCE} FROM "
        f"(SELECT {', '.join(values)}, CAST({flag} AS DOUBLE) AS {DELETED}, to_json(struct_pack({raw})) AS _raw, {wrong} AS _wrong, row_number() OVER () AS _at FROM {relation}))"
    )
    statement, rules = select([rule.condition for rule in table.rules], _leaf, source)
    cases = [
        case for field in table.fields.values() for case in _field_faults(field, always=field.name in kept)
    ]
    cases += limits
    for rule, name in zip(table.rules, rules, strict=True):
        cases.append(f"CASE WHEN {name} = 0 THEN {literal('rule: ' + rule.sentence)} END")
    listed = ", ".join(cases)
    return f"SELECT *, list_filter(list_concat(_wrong, [{listed}]), lambda fault: fault IS NOT NULL) AS _faults FROM ({statement})"


def _leaf(node: Node) -> str | None:
    return quote(node.name) if isinstance(node, EventField) else None


def stored(field: Field, columns: Mapping[str, str]) -> str:
    """The expression for a column in the form in which values are stored; null where there is no such column."""
    name, sql_type = quote(field.name), columns.get(field.name)
    if field.kind is Kind.TIME:
        timed = sql_type is not None and sql_type.startswith("TIMESTAMP")
        return f"epoch_us({name})" if timed else f"CAST({name if sql_type else 'NULL'} AS BIGINT)"
    target = {Kind.NUM: "DOUBLE", Kind.FLAG: "DOUBLE"}.get(field.kind, "VARCHAR")
    return f"CAST({name if sql_type else 'NULL'} AS {target})"


def time_faults(table: EventTable, now: int, *, ahead: bool) -> list[str]:
    """Expressions like those of `_field_faults`, about times that cannot be."""
    time, known = quote(table.time), quote(table.available)
    checks = []
    if table.available != table.time:
        checks.append(
            (f"{known} > {now + CLOCK_SKEW} AND {known} <= {LAST_TIME}", f"{table.available}: in the future")
        )
        if not ahead:
            later = f"{time} <= {LAST_TIME} AND {time}::HUGEINT > {known}::HUGEINT + {CLOCK_SKEW}"
            checks.append((later, f"{table.time}: after {table.available}"))
    elif not ahead:
        checks.append(
            (f"{time} > {now + CLOCK_SKEW} AND {time} <= {LAST_TIME}", f"{table.time}: in the future")
        )
    return _cases(checks)


def _field_faults(field: Field, *, always: bool) -> list[str]:
    """Expressions that give a fault or null; `always` where the row of a deletion has the field too."""
    name, limits = quote(field.name), field.limits
    checks = []
    if not limits.optional:
        missing = f"{name} IS NULL" if always else f"{name} IS NULL AND {DELETED} = 0"
        checks.append((missing, f"{field.name}: missing"))
    if field.kind is Kind.NUM:
        checks.append((f"NOT isfinite({name})", f"{field.name}: not a finite number"))
        bounds = [f"{name} < {literal(limits.low)}"] if limits.low is not None else []
        bounds += [f"{name} > {literal(limits.high)}"] if limits.high is not None else []
        if bounds:
            checks.append(
                (f"isfinite({name}) AND ({' OR '.join(bounds)})", f"{field.name}: not {range_text(field)}")
            )
    if field.kind is Kind.TIME:
        checks.append(
            (f"{name} NOT BETWEEN {FIRST_TIME} AND {LAST_TIME}", f"{field.name}: outside the calendar")
        )
    if limits.allowed is not None:
        allowed = ", ".join(literal(value) for value in limits.allowed)
        checks.append((f"{name} NOT IN ({allowed})", f"{field.name}: not an allowed value"))
    return [*text_faults(field, name), *_cases(checks)]


def text_faults(field: Field, name: str) -> list[str]:
    """The same of the texts in the expression `name`; of a private field's pseudonym they always give null."""
    checks = []
    if field.kind.is_text:
        checks.append((f"length({name}) > {LONGEST_TEXT}", f"{field.name}: over {LONGEST_TEXT:,} characters"))
    if field.kind is Kind.ID:
        checks.append((f"{name} = ''", f"{field.name}: empty"))
        checks.append((f"strlen({name}) > {LONGEST_ID}", f"{field.name}: over {LONGEST_ID} bytes"))
        checks.append((f"contains({name}, chr(0))", f"{field.name}: holds NUL"))
    return _cases(checks)


def _cases(checks: Iterable[tuple[str, str]]) -> list[str]:
    return [f"CASE WHEN {condition} THEN {literal(text)} END" for condition, text in checks]
