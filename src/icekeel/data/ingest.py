"""Bulk data into history: files are read, checked against their contract and stored, good rows and bad.

One statement checks all rows. Good rows become a Parquet file of the table's history; bad ones go to
quarantine with every rule they break and their values as they came. A file that was taken in before is
recognised by its content and skipped.
"""

from __future__ import annotations

import glob
import shutil
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb
import numpy as np

from icekeel.compile import literal, quote, select
from icekeel.core.errors import Fault, SourceError, nearest
from icekeel.core.frames import Array, Frame
from icekeel.core.ids import file_digest
from icekeel.core.kinds import Column, Kind
from icekeel.core.time import FIRST_TIME, FOREVER, LAST_TIME
from icekeel.define.fields import Field
from icekeel.define.nodes import EventField, Node
from icekeel.define.tables import EventTable

from .contracts import CLOCK_SKEW, LONGEST_ID, LONGEST_TEXT, range_text
from .history import AVAILABLE, DELETED, SEQUENCE, History, StoredFile
from .relations import SPILL, connect, create_table
from .vault import Vault

QUARANTINE = "quarantine"
_READERS = {
    ".parquet": "read_parquet",
    ".csv": "read_csv",
    ".json": "read_json",
    ".jsonl": "read_json",
    ".ndjson": "read_json",
}
_NOTHING = '"NULL"'
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


@dataclass(frozen=True, slots=True)
class Ingested:
    """What became of one source file.

    Attributes:
        file: The stored file; None when the content was known already.
        reasons: Rule -> rows that broke it; a row may break several.
    """

    table: str
    source: Path
    file: StoredFile | None
    kept: int
    quarantined: int
    reasons: Mapping[str, int]

    @property
    def skipped(self) -> bool:
        """Whether the content had been taken in before."""
        return self.file is None


def find_sources(folder: Path, pattern: str) -> list[Path]:
    """The files that a `source=` names, sorted.

    Raises:
        SourceError: there are none.
    """
    found = sorted(Path(path) for path in glob.glob(str(folder / pattern)))
    if not found:
        raise SourceError(
            Fault(
                "no_source", "no such file", str(folder / pattern), hint="is source= relative to the project?"
            )
        )
    return found


def ingest(
    history: History,
    table: EventTable,
    sources: Sequence[Path],
    *,
    announce: Callable[[Ingested], None] = lambda one: None,
    now: int = FOREVER,
    ahead: bool = False,
    vault: Vault | None = None,
) -> list[Ingested]:
    """Take files into a table's history.

    Args:
        now: No row can be known from a later time.
        ahead: Whether rows may be about times that lie after the one from which they are known.
        vault: Gives the pseudonyms of private columns.
        announce: Told of each stored file before the manifest lists it. If the process dies in between, the file
            is not listed, so the next run stores and announces it again.

    Raises:
        SourceError: a file that cannot be read, or whose columns are not the table's. Nothing of that file
            is kept; files before it are.
    """
    results = []
    for source in sources:
        with history.adding() as manifest:
            content = file_digest(source)
            if any(file.source == content for file in manifest.tables.get(table.name, ())):
                results.append(Ingested(table.name, source, None, 0, 0, {}))
                continue
            sequence = manifest.sequence
            limits = _time_faults(table, now, ahead=ahead)
            loaded, added = _take(history, table, source, content, sequence, limits, vault)
            announce(loaded)
            history.replace(manifest, added)
            results.append(loaded)
    return results


def _take(
    history: History,
    table: EventTable,
    source: Path,
    content: str,
    sequence: int,
    limits: Sequence[str],
    vault: Vault | None,
) -> tuple[Ingested, dict[str, list[StoredFile]]]:
    draft = history.folder / f"{table.name}.draft"
    shutil.rmtree(history.folder / SPILL, ignore_errors=True)  # what a crash left
    connection = connect(threads=2, reads=[source], folder=history.folder)
    try:
        texts = [field.name for field in table.fields.values() if field.kind.is_text]
        relation = read_source(connection, source, texts)
        held = columns_of(connection, relation)
        held |= _empty(connection, relation, table, held)
        if wrong := column_faults(table.fields.values(), str(source), held):
            raise SourceError(*wrong)
        relation = _hidden(connection, table, relation, vault)
        checked = _checked(connection, table, relation, sequence, limits)
        connection.execute(f"CREATE TEMP TABLE checked AS {checked}")
        reasons = dict(
            connection.execute(
                "SELECT fault, count(*) FROM (SELECT unnest(_faults) AS fault FROM checked) GROUP BY 1 ORDER BY 2 DESC, 1"
            ).fetchall()
        )
        fields = ", ".join(quote(name) for name in table.fields)
        columns = f"{fields}, {AVAILABLE}, {DELETED}, {SEQUENCE}"
        good = _copy(connection, f"SELECT {columns} FROM checked WHERE len(_faults) = 0", draft)
        known = connection.execute(f"SELECT min({AVAILABLE}) FROM checked WHERE len(_faults) = 0").fetchone()
        known_from = FOREVER if known is None or known[0] is None else int(known[0])
        added = {table.name: [history.adopt(table.name, draft, good, content, known_from=known_from)]}
        bad = _copy(
            connection, "SELECT _raw AS row, _faults AS faults FROM checked WHERE len(_faults) > 0", draft
        )
        if bad:
            name = f"{QUARANTINE}/{table.name}"
            added[name] = [history.adopt(name, draft, bad, content)]
    except duckdb.Error as error:
        raise SourceError(Fault("unreadable", str(error).splitlines()[0], str(source))) from error
    finally:
        connection.close()
        draft.unlink(missing_ok=True)
    return Ingested(table.name, source, added[table.name][0], good, bad, reasons), added


def _hidden(
    connection: duckdb.DuckDBPyConnection, table: EventTable, relation: str, vault: Vault | None
) -> str:
    """The relation with pseudonyms in place of private values, and in `_private` what was wrong with those.

    Of a file with private columns only the declared ones go on from here: another may hold the same values.
    """
    columns = columns_of(connection, relation)
    declared = [field for field in table.fields.values() if field.name in columns]
    private = [field for field in declared if field.entity]
    if not any(field.entity for field in table.fields.values()):
        return relation
    if vault is None:
        raise ValueError("private columns are not read without a vault")
    texts = ", ".join(f"CAST({quote(one.name)} AS VARCHAR) AS {quote(one.name)}" for one in private)
    given = f"SELECT *{f' REPLACE ({texts})' if texts else ''}, row_number() OVER () AS _at FROM {relation}"
    listed, joins = [], ""
    for place, field in enumerate(private):
        name = quote(field.name)
        found = connection.execute(
            f"SELECT DISTINCT {name} FROM ({given}) WHERE {name} IS NOT NULL"
        ).fetchall()
        known = vault.hide_many(field.entity, (value for (value,) in found))
        values = Frame({"_value": _texts(known), "_hidden": _texts(known.values())})
        create_table(connection, f"_p{place}", [Column(one, Kind.ID) for one in values], values)
        listed.append(f"_p{place}._hidden AS {name}")
        joins += f" LEFT JOIN _p{place} ON given.{name} = _p{place}._value"
    listed += [f"given.{quote(field.name)}" for field in declared if not field.entity]
    wrong = ", ".join(case for field in private for case in _text_faults(field, f"given.{quote(field.name)}"))
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE _given AS SELECT {', '.join(listed)}, [{wrong}]::VARCHAR[] AS _private "
        f"FROM ({given}) given{joins} ORDER BY _at"
    )
    return "_given"


def _texts(values: Iterable[str]) -> Array:
    listed = list(values)
    array = np.empty(len(listed), dtype=object)
    array[:] = listed
    return array


def _copy(connection: duckdb.DuckDBPyConnection, statement: str, target: Path) -> int:
    connection.execute(f"COPY ({statement}) TO {literal(str(target))} (FORMAT parquet, COMPRESSION zstd)")
    count = connection.execute(f"SELECT count(*) FROM ({statement})").fetchone()
    return int(count[0]) if count else 0


def read_source(connection: duckdb.DuckDBPyConnection, source: Path, texts: Collection[str] = ()) -> str:
    """The relation that reads a file, by its ending.

    Columns named in `texts` are read as they are written, not as what they look like: "007" is no number.

    Raises:
        SourceError: an ending that is not read, or a file DuckDB cannot make sense of.
    """
    reader = _READERS.get(source.suffix.lower())
    if reader is None:
        raise SourceError(
            Fault("unknown_format", "unknown kind of file", str(source), source.suffix, ", ".join(_READERS))
        )
    relation = f"{reader}({literal(str(source))})"
    try:
        columns = columns_of(connection, relation)
    except duckdb.Error as error:
        raise SourceError(Fault("unreadable", str(error).splitlines()[0], str(source))) from error
    if reader == "read_parquet" or not columns.keys() & set(texts):
        return relation
    typed = {name: "VARCHAR" if name in texts else kind for name, kind in columns.items()}
    listed = ", ".join(f"{literal(name)}: {literal(kind)}" for name, kind in typed.items())
    option = "types" if reader == "read_csv" else "columns"
    return f"{reader}({literal(str(source))}, {option} = {{{listed}}})"


def columns_of(connection: duckdb.DuckDBPyConnection, relation: str) -> dict[str, str]:
    """The columns of a relation and their SQL types."""
    return {row[0]: row[1] for row in connection.execute(f"DESCRIBE SELECT * FROM {relation}").fetchall()}


def _empty(
    connection: duckdb.DuckDBPyConnection, relation: str, table: EventTable, columns: Mapping[str, str]
) -> dict[str, str]:
    """Columns that are said to hold texts and hold nothing, as an empty one of a CSV file, with their true type."""
    names = [
        name
        for name, field in table.fields.items()
        if columns.get(name) == "VARCHAR" and not field.kind.is_text
    ]
    if not names:
        return {}
    counts = ", ".join(f"count({quote(name)})" for name in names)
    found = connection.execute(f"SELECT {counts} FROM {relation}").fetchone() or ()
    return {name: _NOTHING for name, count in zip(names, found, strict=True) if not count}


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
    if sql_type == _NOTHING:
        return True
    if kind is Kind.NUM:
        return sql_type in _NUMERIC
    if kind is Kind.FLAG:
        return sql_type == "BOOLEAN"
    if kind is Kind.TIME:
        return sql_type in ("BIGINT", "TIMESTAMP WITH TIME ZONE") or sql_type.startswith("TIMESTAMP")
    whole = sql_type in _NUMERIC and sql_type not in ("FLOAT", "DOUBLE")
    return sql_type.startswith(("VARCHAR", "ENUM")) or (kind is Kind.ID and whole)


def _checked(
    connection: duckdb.DuckDBPyConnection,
    table: EventTable,
    relation: str,
    sequence: int,
    limits: Sequence[str],
) -> str:
    """A statement: the fields in stored form, their raw values as JSON, and the list of faults of each row."""
    columns = columns_of(connection, relation)
    wrong = "_private" if columns.pop("_private", None) else "[]"
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


def _time_faults(table: EventTable, now: int, *, ahead: bool) -> list[str]:
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
    return [*_text_faults(field, name), *_cases(checks)]


def _text_faults(field: Field, name: str) -> list[str]:
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
