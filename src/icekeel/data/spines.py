"""Questions that somebody brings along: a table of requests and when each was asked, in whatever form.

A data frame of pandas or Polars, an Arrow table, anything else that streams Arrow, a list of dicts, or the path
of a Parquet, CSV or JSON-lines file. What is computed for them goes back as further columns of the same kind of
table, whose own columns, rows and order stay as they are.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from importlib import import_module
from math import isnan
from pathlib import Path
from typing import Any

import duckdb
import numpy as np

from icekeel.compile.sql import literal, quote
from icekeel.core.errors import Fault, IcekeelError, RequestError, SourceError, first_faults, shorten
from icekeel.core.frames import Array, Frame, Ints
from icekeel.core.kinds import Column, Kind
from icekeel.core.time import FIRST_TIME, LAST_TIME, parse_time
from icekeel.define.fields import Field

from .checks import column_faults, stored
from .contracts import RecordParser
from .parts import form_of
from .relations import array_of, columns_of, connect, create_table, fetch
from .vault import HideMany, Vault

ASKED_AT = "_asked_at"
_KINDS = "a data frame of pandas or Polars, an Arrow table, a list of dicts, or the path of a file"


@dataclass(frozen=True, slots=True)
class Spine:
    """Questions, `n` of them.

    Attributes:
        requests: The request's fields; those that the table lacks are null.
        asked_at: When each was asked, shape `(n,)`, microseconds UTC.
    """

    requests: Frame
    asked_at: Ints


def as_table(table: Any) -> Any:
    """The table as `read_spine` and `add_columns` take it: what streams Arrow, perhaps only once, as an Arrow table.

    Raises:
        SourceError: it is none, or needs a library that is not installed.
    """
    if isinstance(table, list | str | Path) or _library(table) in ("pandas", "polars"):
        return table
    if not hasattr(table, "__arrow_c_stream__"):
        raise SourceError(Fault("not_a_table", "expected a table", "table", shorten(type(table)), _KINDS))
    try:
        arrow = import_module("pyarrow")  # an Arrow table is pyarrow's, which only such callers have
    except ImportError as error:
        fault = Fault("no_pyarrow", "this table needs pyarrow", "table", hint="pip install pyarrow")
        raise SourceError(fault) from error
    return arrow.table(table)


def _library(table: Any) -> str:
    return type(table).__module__.partition(".")[0]


def read_spine(table: Any, fields: Sequence[Field], asked_at: str, vault: Vault | None = None) -> Spine:
    """The questions in a table.

    Args:
        table: From `as_table`; columns that are no field of the request are left aside.
        fields: Of the request; those that are not optional must be there.
        asked_at: Column that tells when each question was asked.
        vault: Knows the pseudonyms of private fields; a value it does not know is nobody's.

    Raises:
        SourceError: columns that are missing or of another type, times outside the calendar, infinite numbers.
        RequestError: the same of a list of dicts, each row with every fault.
    """
    if isinstance(table, list):
        rows = [_known(decoded(row), {*(field.name for field in fields), asked_at}) for row in table]
        return read_rows(rows, fields, asked_at, vault)
    columns = [*(Column(field.name, field.kind) for field in fields), Column(ASKED_AT, Kind.TIME)]
    reads = [Path(table)] if isinstance(table, str | Path) else []
    with connect(threads=2, reads=reads) as connection:
        relation, where = _relation(connection, table, fields)
        held = columns_of(connection, relation)
        asked = Field(asked_at, Kind.TIME)
        faults = column_faults([*fields, asked], where, held)
        if faults:
            raise SourceError(*dict.fromkeys(faults))
        listed = [f"{stored(field, held)} AS {quote(field.name)}" for field in fields]
        listed.append(f"{stored(asked, held)} AS {quote(ASKED_AT)}")
        frame = fetch(connection, f"SELECT {', '.join(listed)} FROM {relation}", columns)
    _check_values(frame, fields, asked_at, where)
    frame = hide_columns(frame, fields, None if vault is None else vault.seek_many)
    return Spine(frame.select([field.name for field in fields]), frame[ASKED_AT])


def hide_columns(frame: Frame, fields: Sequence[Field], hide: HideMany | None) -> Frame:
    """The frame with pseudonyms in place of the values of private fields."""
    hidden = {}
    for field in fields:
        if field.entity:
            if hide is None:
                raise ValueError("private fields are not read without a vault")
            known = hide(field.entity, set(frame[field.name]) - {None})
            hidden[field.name] = np.array([known.get(value) for value in frame[field.name]], dtype=object)
    return frame.with_columns(hidden)


def read_rows(
    rows: Sequence[Any], fields: Sequence[Field], asked_at: str, vault: Vault | None = None
) -> Spine:
    """The questions in decoded JSON objects, which have no other members.

    Raises:
        RequestError: every fault of every row.
    """
    parser = RecordParser(
        [*(field for field in fields if field.name != asked_at), Field(asked_at, Kind.TIME)],
        None if vault is None else vault.seek,
    )
    parsed = [parser.parse(row, f"rows[{place}]") for place, row in enumerate(rows)]
    faults = [fault for _, found in parsed for fault in found]
    if faults:
        raise RequestError(*first_faults(faults, len(faults)))
    records = [dict(zip(parser.names, values, strict=True)) for values, _ in parsed]
    requests = {field.name: array_of(records, Column(field.name, field.kind)) for field in fields}
    return Spine(Frame(requests), array_of(records, Column(asked_at, Kind.TIME)))


def add_columns(table: Any, fields: Sequence[Field], added: Frame, columns: Sequence[Column]) -> Any:
    """The table with further columns: of the same kind, but a DuckDB relation for a path.

    Args:
        table, fields: As for `read_spine`.
        added: As many rows, in the same order.
        columns: Of `added`.

    Raises:
        SourceError: the table has a column of one of these names.
    """
    taken = sorted(set(added) & set(_names(table)))
    if taken:
        raise SourceError(*(Fault("twice", f'the table has a column "{name}" already') for name in taken))
    if isinstance(table, list):
        lists = {name: plain(values) for name, values in added.columns.items()}
        return [row | {name: lists[name][at] for name in lists} for at, row in enumerate(table)]
    if isinstance(table, str | Path):
        return _joined(table, fields, added, columns)
    return _framed(table, added)


def decoded(row: Any) -> Any:
    """A record as JSON would have it: a `datetime` as microseconds UTC, NumPy's scalars as Python's."""
    if not isinstance(row, Mapping):
        return row
    return {name: _decoded(value) for name, value in row.items()}


def _decoded(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, datetime):
        with suppress(IcekeelError):  # such as pandas' NaT; the contract names it
            return parse_time(value)
    return value


def plain(values: Array) -> list[Any]:
    """Python values, None for null."""
    return [None if isinstance(value, float) and isnan(value) else value for value in values.tolist()]


def _known(row: Any, names: set[str]) -> Any:
    return {name: value for name, value in row.items() if name in names} if isinstance(row, Mapping) else row


def _relation(connection: duckdb.DuckDBPyConnection, table: Any, fields: Sequence[Field]) -> tuple[str, str]:
    """A relation over the table, and how faults name it."""
    if isinstance(table, str | Path):
        texts = [field.name for field in fields if field.kind.is_text]
        return read_source(connection, Path(table), texts), str(table)
    connection.register("given", table)
    return "given", "table"


def read_source(connection: duckdb.DuckDBPyConnection, source: Path, texts: Collection[str] = ()) -> str:
    """The relation that reads a file, by its ending.

    Columns named in `texts` are read as they are written, not as what they look like: "007" is no number.

    Raises:
        SourceError: an ending that is not read, or a file DuckDB cannot make sense of.
    """
    reader = f"read_{form_of(source)}"
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


def _check_values(frame: Frame, fields: Sequence[Field], asked_at: str, where: str) -> None:
    times = frame[ASKED_AT]
    faults = []
    if wrong := int(((times < FIRST_TIME) | (times > LAST_TIME)).sum()):
        what = f'no time in "{asked_at}" of {wrong:,} rows'
        faults.append(Fault("bad_time", what, where, allowed="the years 1 to 9999"))
    for field in fields:
        if field.kind is Kind.NUM and (wrong := int(np.isinf(frame[field.name]).sum())):
            faults.append(Fault("not_finite", f'no finite number in "{field.name}" of {wrong:,} rows', where))
    if faults:
        raise SourceError(*faults)


def _names(table: Any) -> list[str]:
    if isinstance(table, list):
        return list({str(name) for row in table for name in row})
    if isinstance(table, str | Path):
        with connect(reads=[Path(table)]) as connection:
            return list(columns_of(connection, read_source(connection, Path(table))))
    return [str(name) for name in getattr(table, "column_names", getattr(table, "columns", ()))]


def _joined(
    path: str | Path, fields: Sequence[Field], added: Frame, columns: Sequence[Column]
) -> duckdb.DuckDBPyRelation:
    connection = duckdb.connect(config={"threads": 2})
    create_table(connection, "added", columns, added)
    source, _ = _relation(connection, path, fields)
    connection.execute(
        'CREATE TEMP TABLE joined AS SELECT given.* EXCLUDE ("row of file"), added.* EXCLUDE (_row) '
        f'FROM (SELECT *, row_number() OVER () - 1 AS "row of file" FROM {source}) given '
        'JOIN added ON given."row of file" = added._row ORDER BY added._row'
    )
    return connection.table("joined")


def _framed(table: Any, added: Frame) -> Any:
    """A frame with further columns. Its library is the caller's: it is loaded already, and none of ours."""
    library = _library(table)
    module = sys.modules[library]
    if library == "pandas":
        return table.assign(**added.columns)
    if library == "polars":
        kinds = {name: module.String if added[name].dtype == object else module.Float64 for name in added}
        return table.with_columns(
            module.Series(name, plain(added[name]), dtype=kind) for name, kind in kinds.items()
        )
    for name, values in added.columns.items():
        kind = module.string() if values.dtype == object else module.float64()
        table = table.append_column(name, module.array(plain(values), kind))
    return table
