"""Parts of files as relations whose columns are what the contract says they are.

A text says nothing of its types and nothing is guessed: "007" is an identifier where an `ik.Id` is declared and the
number 7 where an `ik.Num` is. A value that does not read as declared is a fault of its row. Parquet has exact types;
they are checked for the file as a whole.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb
import numpy as np

from icekeel.compile import literal, quote
from icekeel.core.errors import Fault, SourceError, shorten
from icekeel.core.frames import Array, Frame
from icekeel.core.kinds import Column, Kind
from icekeel.define.fields import Field

from .checks import NOTHING, column_faults, text_checks
from .parts import BLANK, LINE_MARK, LONGEST_RECORD, Part, Spoilt, is_utf8, mended_csv, mended_lines
from .relations import columns_of, create_table, one_row, parquet
from .vault import HideMany

WRONG = "_wrong"
"""Column of what was found wrong while a row was read: texts like those of the contract."""
_LINE, _WHY = "_line", "_why"
_FEW = 10
"""So many values that all do not read say that the column is another than the one declared."""
_UNREAD = {
    Kind.NUM: "not a number",
    Kind.FLAG: "not true or false",
    Kind.TIME: "not a time",
    Kind.ID: "not an identifier",
    Kind.CAT: "not a text",
    Kind.TEXT: "not a text",
}


@dataclass(frozen=True, slots=True)
class Reading:
    """A part in the database.

    Attributes:
        relation: The rows as they came, in order.
        columns: Names and SQL types as they came; `JSON` for values that are known by their spelling alone.
        text: Whether the types are yet to be found.
        raw: Expression of the whole row as it came, as JSON.
        before: Lines, or rows, of the file before the first one; None where they came from no file.
        apart: Whether rows are not just one line each; then the table `_lines` has where each begins.
    """

    relation: str
    columns: Mapping[str, str]
    text: bool
    raw: str
    before: int | None = None
    apart: bool = False

    def line(self, number: str) -> str:
        """SQL of the line of the file, or the row of Parquet, that a row is, by its number from 1."""
        if self.before is None:
            return "CAST(NULL AS BIGINT)"
        within = f"(SELECT line FROM _lines WHERE _lines.number = {number})" if self.apart else number
        return f"{within} + {self.before}"


def load(
    connection: duckdb.DuckDBPyConnection,
    part: Part,
    path: Path | None,
    draft: Path,
    fields: Collection[Field],
) -> Reading:
    """Make a part readable.

    Args:
        path: The file of a part of Parquet.
        draft: Where text may be written.
    """
    if part.form == "parquet" and path is not None:
        low, high = part.rows
        columns = columns_of(connection, parquet([path]))
        chosen = f"file_row_number >= {low} AND file_row_number < {high}"
        rows = f"read_parquet({literal(str(path))}, file_row_number = true)"
        relation = f"(SELECT * EXCLUDE (file_row_number) FROM {rows} WHERE {chosen})"
        return Reading(relation, columns, False, _struct({name: quote(name) for name in columns}), low)
    spoilt, places = (
        _load_csv(connection, part, draft)
        if part.form == "csv"
        else _load_json(connection, part, draft, fields)
    )
    if places:
        _note_lines(connection, places)
    lists = {place: np.array([one[place] for one in spoilt], dtype=object) for place in (0, 1)}
    listed = [Column(_LINE, Kind.TEXT), Column(_WHY, Kind.TEXT)]
    create_table(connection, "_spoilt", listed, Frame({_LINE: lists[0], _WHY: lists[1]}))
    names = _distinct(part.names) if part.form == "csv" else [field.name for field in fields]
    columns = dict.fromkeys(names, "VARCHAR" if part.form == "csv" else "JSON")
    shown = ", ".join(f"c{place} AS {quote(name)}" for place, name in enumerate(names))
    nothing = "NULL::VARCHAR, " * len(columns)
    relation = f"(SELECT {shown}, {_LINE}, {_WHY} FROM _texts UNION ALL SELECT {nothing}{_LINE}, {_WHY} FROM _spoilt)"
    if part.form == "json":
        raw = f"CASE WHEN {_WHY} IS NULL THEN {_LINE} ELSE to_json({_LINE}) END"
    else:
        row = _struct({name: quote(name) for name in columns})
        raw = f"CASE WHEN {_LINE} IS NULL THEN {row} ELSE to_json({_LINE}) END"
    return Reading(relation, columns, True, raw, part.before, bool(places))


def _note_lines(connection: duckdb.DuckDBPyConnection, places: Sequence[int]) -> None:
    line = Column("line", Kind.TIME)  # a whole number, as times are
    create_table(connection, "_places", [line], Frame({"line": np.array(places, dtype=np.int64)}))
    connection.execute("CREATE OR REPLACE TEMP TABLE _lines AS SELECT _row + 1 AS number, line FROM _places")


def _struct(values: Mapping[str, str]) -> str:
    return f"to_json(struct_pack({', '.join(f'{quote(name)} := {value}' for name, value in values.items())}))"


def _distinct(names: Iterable[str]) -> list[str]:
    """The names of columns; one that was there already, whatever its case, or has none, with its place."""
    taken: dict[str, str] = {}
    for place, name in enumerate(names):
        usable = name and name.lower() not in taken and name not in (_LINE, _WHY)
        taken[name.lower() if usable else f"{name} ({place + 1})".lower()] = (
            name if usable else f"{name} ({place + 1})"
        )
    return list(taken.values())


def _load_csv(
    connection: duckdb.DuckDBPyConnection, part: Part, draft: Path
) -> tuple[list[Spoilt], list[int]]:
    """The lines that are no rows, and where rows and they begin where that is not line by line."""
    columns, text = len(part.names), part.text
    returns, pairs = text.count(b"\r"), text.count(b"\r\n")
    uniform = not returns or returns == pairs == text.count(b"\n")
    if text and uniform and is_utf8(text):
        draft.write_bytes(text)
        try:
            _make_texts(connection, _csv_rows(part, draft, "\\r\\n" if returns else "\\n"))
            if (broken := _all_there(connection, part)) is not None:
                return [], _after_breaks(connection, part) if broken else []
        except duckdb.Error:  # some line of it is no row
            pass
    text, spoilt, places = mended_csv(text, columns, part.delimiter)
    draft.write_bytes(text)
    nothing = ", ".join(f"NULL::VARCHAR AS c{place}" for place in range(columns))
    _make_texts(connection, _csv_rows(part, draft, "\\n") if text else f"(SELECT {nothing} WHERE false)")
    return spoilt, places


def _csv_rows(part: Part, draft: Path, end: str) -> str:
    """All options are said: DuckDB would guess those left out, from some of the lines."""
    kinds = ", ".join(f"'c{place}': 'VARCHAR'" for place in range(len(part.names)))
    return (
        f"read_csv({literal(str(draft))}, auto_detect = false, header = false, delim = {literal(part.delimiter)}, "
        f"quote = '\"', escape = '\"', new_line = '{end}', columns = {{{kinds}}}, max_line_size = {LONGEST_RECORD})"
    )


def _make_texts(connection: duckdb.DuckDBPyConnection, rows: str) -> None:
    nothing = f"NULL::VARCHAR AS {_LINE}, NULL::VARCHAR AS {_WHY}"
    connection.execute(f"CREATE OR REPLACE TEMP TABLE _texts AS SELECT *, {nothing} FROM {rows}")


def _all_there(connection: duckdb.DuckDBPyConnection, part: Part) -> int | None:
    """Line breaks inside rows, where every line became a row or a part of one; a quote left open swallows others."""
    inside = f"sum({_breaks(part)})" if b'"' in part.text else "0"
    rows, broken = one_row(connection, f"SELECT count(*), coalesce({inside}, 0) FROM _texts")
    lines = part.text.count(b"\n") + (not part.text.endswith(b"\n"))
    return int(broken) if rows + broken == lines else None


def _breaks(part: Part) -> str:
    one = "coalesce(length(c{0}) - length(replace(c{0}, chr(10), '')), 0)"
    return " + ".join(one.format(place) for place in range(len(part.names)))


def _after_breaks(connection: duckdb.DuckDBPyConnection, part: Part) -> list[int]:
    """Where each row begins."""
    broken = connection.execute(f"SELECT {_breaks(part)} FROM _texts").fetchnumpy().popitem()[1]
    return [int(line) for line in np.arange(1, len(broken) + 1) + np.cumsum(broken) - broken]


def _load_json(
    connection: duckdb.DuckDBPyConnection, part: Part, draft: Path, fields: Collection[Field]
) -> tuple[list[Spoilt], list[int]]:
    text, spoilt, places = part.text, list[Spoilt](), list[int]()
    lines = text.removesuffix(b"\n").split(b"\n")
    sound = LINE_MARK not in text and is_utf8(text) and max(map(len, lines)) <= LONGEST_RECORD
    if not (sound and all(one.strip(BLANK) for one in lines)):
        text, spoilt, places = mended_lines(text)
    draft.write_bytes(text or b"\n")
    rows = (
        f"read_csv({literal(str(draft))}, auto_detect = false, header = false, delim = {literal(LINE_MARK.decode())}, "
        f"quote = '', escape = '', columns = {{'{_LINE}': 'VARCHAR'}}, max_line_size = {LONGEST_RECORD + 2})"
    )
    paths = ", ".join(literal(f"$.{field.name}") for field in fields)
    values = "".join(f"CAST(_values[{place + 1}] AS VARCHAR) AS c{place}, " for place in range(len(fields)))
    valid = f"CASE WHEN json_valid({_LINE}) AND ltrim({_LINE})[1] = '{{' THEN {_LINE} END"
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE _texts AS SELECT {values}{_LINE}, "
        f"CASE WHEN _values IS NULL THEN 'line: no JSON object' END AS {_WHY} FROM "
        f"(SELECT {_LINE}, json_extract({valid}, [{paths}]) AS _values FROM {rows} WHERE trim({_LINE}) <> '')"
    )
    return spoilt, places


def hidden(
    connection: duckdb.DuckDBPyConnection, reading: Reading, fields: Collection[Field], hide: HideMany | None
) -> Reading:
    """The reading with pseudonyms in place of private values, and in `_private` what was wrong with those.

    Where there are any, only the declared columns go on from here: another may hold the same values, and so may a
    line that could not be read.
    """
    declared = [field for field in fields if field.name in reading.columns]
    private = [field for field in declared if field.entity]
    if not any(field.entity for field in fields):
        return reading
    if hide is None:
        raise ValueError("private columns are not read without a vault")
    texts = ", ".join(f"{_plain(reading, one.name)} AS {quote(one.name)}" for one in private)
    given = f"SELECT *{f' REPLACE ({texts})' if texts else ''}, row_number() OVER () AS _at FROM {reading.relation}"
    listed, joins = [], ""
    for place, field in enumerate(private):
        name = quote(field.name)
        found = connection.execute(
            f"SELECT DISTINCT {name} FROM ({given}) WHERE {name} IS NOT NULL"
        ).fetchall()
        known = hide(field.entity, (value for (value,) in found))
        values = Frame({"_value": _array(known), "_hidden": _array(known.values())})
        create_table(connection, f"_p{place}", [Column(one, Kind.ID) for one in values], values)
        listed.append(f"_p{place}._hidden AS {name}")
        joins += f" LEFT JOIN _p{place} ON given.{name} = _p{place}._value"
    listed += [f"given.{quote(field.name)}" for field in declared if not field.entity]
    listed += [_WHY] if reading.text else []
    checks = [check for field in private for check in text_checks(field, f"given.{quote(field.name)}")]
    wrong = ", ".join(f"CASE WHEN {check.condition} THEN {literal(check.text)} END" for check in checks)
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE _given AS SELECT {', '.join(listed)}, [{wrong}]::VARCHAR[] AS _private "
        f"FROM ({given}) given{joins} ORDER BY _at"
    )
    columns = {field.name: reading.columns[field.name] for field in declared}
    columns |= {field.name: "VARCHAR" for field in private}
    raw = _struct({name: quote(name) for name in columns})
    if reading.text:
        raw = f"""CASE WHEN {_WHY} IS NULL THEN {raw} ELSE '{{"not kept": "a line"}}' END"""
    return Reading("_given", columns, reading.text, raw, reading.before, reading.apart)


def _plain(reading: Reading, name: str) -> str:
    if reading.columns[name] == "JSON":
        return f"({quote(name)} ->> '$')"
    return f"CAST({quote(name)} AS VARCHAR)"


def _array(values: Iterable[str]) -> Array:
    listed = list(values)
    array = np.empty(len(listed), dtype=object)
    array[:] = listed
    return array


def typed(reading: Reading, fields: Collection[Field]) -> str:
    """The relation of the declared columns in their types, and `_wrong`."""
    private = ["_private"] if reading.relation == "_given" else []
    if not reading.text:
        listed = ", ".join([*map(quote, reading.columns), f"{(private or ['[]::VARCHAR[]'])[0]} AS {WRONG}"])
        return f"(SELECT {listed} FROM {reading.relation})"
    values, cases = [], [_WHY]
    for field in fields:
        if (kind := reading.columns.get(field.name)) is None:
            continue
        value = _from_json(field) if kind == "JSON" else _from_text(field)
        name = quote(field.name)
        values.append(f"{value} AS {name}")
        there = f"{name} <> 'null'" if kind == "JSON" else f"{name} IS NOT NULL"
        if value != name:
            cases.append(
                f"CASE WHEN {there} AND {value} IS NULL THEN {literal(f'{field.name}: {_UNREAD[field.kind]}')} END"
            )
    wrong = f"list_filter([{', '.join(cases)}]::VARCHAR[], lambda fault: fault IS NOT NULL)"
    if again := _header_again(reading):
        wrong = f"CASE WHEN {again} THEN ['line: the header again'] ELSE {wrong} END"
    wrong = f"list_concat(_private, {wrong})" if private else wrong
    return f"(SELECT {''.join(f'{one}, ' for one in values)}{wrong} AS {WRONG} FROM {reading.relation})"


def _header_again(reading: Reading) -> str:
    """Of CSV: whether a row holds the names of the columns, as in a file that was put together of several."""
    if "JSON" in reading.columns.values() or reading.relation == "_given":
        return ""
    return " AND ".join(f"{quote(name)} = {literal(name)}" for name in reading.columns)


def _from_text(field: Field) -> str:
    name = quote(field.name)
    if field.kind is Kind.NUM:
        return f"TRY_CAST({name} AS DOUBLE)"
    if field.kind is Kind.FLAG:
        return f"TRY_CAST({name} AS BOOLEAN)"
    if field.kind is Kind.TIME:  # a smaller whole number, before 1973, is more likely seconds or a date
        whole = f"CASE WHEN regexp_full_match({name}, '-?[0-9]{{15,18}}') THEN CAST({name} AS BIGINT) END"
        return f"coalesce(epoch_us(TRY_CAST({name} AS TIMESTAMPTZ)), {whole})"
    return name


def _from_json(field: Field) -> str:
    name = quote(field.name)
    first, text = f"{name}[1]", f"({name} ->> '$')"
    number = f"({first} = '-' OR {first} BETWEEN '0' AND '9')"
    if field.kind is Kind.NUM:
        return f"CASE WHEN {number} THEN TRY_CAST({name} AS DOUBLE) END"
    if field.kind is Kind.FLAG:
        return f"CASE WHEN {name} = 'true' THEN true WHEN {name} = 'false' THEN false END"
    if field.kind is Kind.TIME:
        whole = f"regexp_full_match({name}, '-?[0-9]{{1,18}}')"
        return (
            f"CASE WHEN {first} = '\"' THEN epoch_us(TRY_CAST({text} AS TIMESTAMPTZ)) "
            f"WHEN {whole} THEN CAST({name} AS BIGINT) END"
        )
    if field.kind is Kind.ID:
        whole = f"regexp_full_match({name}, '-?[0-9]+')"
        return f"CASE WHEN {first} = '\"' THEN {text} WHEN {whole} THEN {name} END"
    return f"CASE WHEN {first} = '\"' THEN {text} END"


def refuse_misread(
    connection: duckdb.DuckDBPyConnection, reading: Reading, fields: Collection[Field], where: str
) -> dict[str, str]:
    """Check the columns of a file as a whole; gives the SQL types as they came, of a text `text`.

    Raises:
        SourceError: columns that are missing, of another type, or of which no value reads as declared; no row at all.
    """
    columns = dict(reading.columns)
    if not reading.text:
        held = columns | _empty(connection, reading, fields)
        if wrong := column_faults(fields, where, held):
            raise SourceError(*wrong)
        return held
    rows, spoilt, example = one_row(
        connection,
        f"SELECT count(*), count({_WHY}), first([{_WHY}, {reading.raw}::VARCHAR]) FILTER ({_WHY} IS NOT NULL) FROM {reading.relation}",
    )
    if spoilt and rows == spoilt:
        why, line = example
        what = f"no line of it is a row; {why.removeprefix('line: ')}"
        raise SourceError(Fault("unreadable", what, where, shorten(json.loads(line))))
    if "JSON" in columns.values() and rows > spoilt:
        columns = _present(connection, reading)
    faults = column_faults(
        fields, where, {name: columns[name] for name in columns} | _declared_types(fields, columns)
    )
    faults += _misread(connection, reading, [field for field in fields if field.name in columns], where)
    if faults:
        raise SourceError(*faults)
    return dict.fromkeys(columns, "text")


def _declared_types(fields: Collection[Field], columns: Mapping[str, str]) -> dict[str, str]:
    kinds = {Kind.NUM: "DOUBLE", Kind.FLAG: "BOOLEAN", Kind.TIME: "BIGINT"}
    return {field.name: kinds.get(field.kind, "VARCHAR") for field in fields if field.name in columns}


def _present(connection: duckdb.DuckDBPyConnection, reading: Reading) -> dict[str, str]:
    """The columns that some object has, and of those without any the names of the undeclared ones."""
    counts = ", ".join(f"count({quote(name)})" for name in reading.columns)
    found = one_row(connection, f"SELECT {counts} FROM {reading.relation}")
    held = {name: kind for (name, kind), count in zip(reading.columns.items(), found, strict=True) if count}
    if len(held) < len(reading.columns) and reading.relation != "_given":
        keys = f"SELECT unnest(json_keys({_LINE})) AS key FROM _texts WHERE {_WHY} IS NULL LIMIT 100000"
        others = connection.execute(f"SELECT DISTINCT key FROM ({keys}) ORDER BY 1 LIMIT 100").fetchall()
        held |= {name: "JSON" for (name,) in others if name not in reading.columns}
    return held


def _misread(
    connection: duckdb.DuckDBPyConnection, reading: Reading, fields: Collection[Field], where: str
) -> list[Fault]:
    """Columns of at least `_FEW` values none of which reads as declared."""
    asked = [
        field for field in fields if not (field.kind.is_text and reading.columns[field.name] == "VARCHAR")
    ]
    if not asked:
        return []
    counts = []
    for field in asked:
        name, json_kind = quote(field.name), reading.columns[field.name] == "JSON"
        value = _from_json(field) if json_kind else _from_text(field)
        there = f"nullif({name}, 'null')" if json_kind else name
        counts += [f"count({there})", f"count({value})", f"first({there}) FILTER ({there} IS NOT NULL)"]
    found = one_row(connection, f"SELECT {', '.join(counts)} FROM {reading.relation}")
    faults = []
    for place, field in enumerate(asked):
        values, read, example = found[3 * place : 3 * place + 3]
        if values >= _FEW and not read:
            what = f'column "{field.name}" cannot be read as a {field.kind}: none of its values is'
            got = "" if field.limits.private else shorten(example)
            faults.append(Fault("wrong_type", what, where, got, _SPELT.get(field.kind, "texts")))
    return faults


_SPELT = {
    Kind.NUM: "numbers with a point: 1234.5",
    Kind.FLAG: "true, false",
    Kind.TIME: "ISO 8601, or microseconds since 1970 UTC",
    Kind.ID: "texts or whole numbers",
}


def _empty(
    connection: duckdb.DuckDBPyConnection, reading: Reading, fields: Collection[Field]
) -> dict[str, str]:
    """Columns that are said to hold texts and hold nothing, with their true type."""
    names = [f.name for f in fields if reading.columns.get(f.name) == "VARCHAR" and not f.kind.is_text]
    if not names:
        return {}
    counts = ", ".join(f"count({quote(name)})" for name in names)
    found = one_row(connection, f"SELECT {counts} FROM {reading.relation}")
    return {name: NOTHING for name, count in zip(names, found, strict=True) if not count}
