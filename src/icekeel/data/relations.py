"""Frames into DuckDB and back, and the few pieces of SQL text that every statement needs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import duckdb
import numpy as np

from icekeel.compile.sql import literal, quote
from icekeel.core.frames import NO_TIME, Array, Frame
from icekeel.core.kinds import Column, Kind

SQL_TYPES = dict.fromkeys(Kind, "VARCHAR") | {Kind.NUM: "DOUBLE", Kind.FLAG: "DOUBLE", Kind.TIME: "BIGINT"}


def connect(
    *, threads: int = 1, reads: Iterable[Path] = (), folder: Path | None = None, **config: str | bool | int
) -> duckdb.DuckDBPyConnection:
    """A database in memory that no statement takes anywhere else: no network, no extension, no variable of Python.

    Args:
        reads: Files it may read.
        folder: Where it may read and write, spilling included; without one what does not fit into memory fails.
    """
    limits: dict[str, str | bool | int | float | list[str]] = {
        "threads": threads,
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
        "python_enable_replacements": False,
        # Databases share it: each deletes its own files, and those of processes that were killed.
        "temp_directory": "" if folder is None else str(folder / "spill"),
    }
    connection = duckdb.connect(config={**limits, **config})
    for name, paths in (("allowed_paths", reads), ("allowed_directories", [folder] if folder else [])):
        listed = ", ".join(literal(str(path)) for path in paths)
        connection.execute(f"SET {name} = [{listed}]")
    connection.execute("SET enable_external_access = false")
    return connection


def parquet(files: Sequence[object], *, union: bool = False) -> str:
    """A relation over Parquet files of the same columns; with `union`, a column that a file lacks is null there."""
    listed = ", ".join(literal(str(file)) for file in files)
    return f"read_parquet([{listed}]{', union_by_name = true' if union else ''})"


def columns_of(connection: duckdb.DuckDBPyConnection, relation: str) -> dict[str, str]:
    """The columns of a relation and their SQL types."""
    return {row[0]: row[1] for row in connection.execute(f"DESCRIBE SELECT * FROM {relation}").fetchall()}


def selected(connection: duckdb.DuckDBPyConnection, relation: str, types: Mapping[str, str]) -> list[str]:
    """SQL of columns of a relation, by name and SQL type: null where it lacks one."""
    held = columns_of(connection, relation)
    return [
        quote(name) if name in held else f"CAST(NULL AS {kind}) AS {quote(name)}"
        for name, kind in types.items()
    ]


def write_parquet(connection: duckdb.DuckDBPyConnection, statement: str, target: Path) -> int:
    """Write the rows of a statement as a file; gives how many."""
    options = "(FORMAT parquet, COMPRESSION zstd)"
    return int(one_row(connection, f"COPY ({statement}) TO {literal(str(target))} {options}")[0])


def create_table(
    connection: duckdb.DuckDBPyConnection, name: str, columns: Sequence[Column], frame: Frame
) -> None:
    """Make (or replace) a temporary table of a frame's rows, in order, with exact types.

    `columns` may hold fewer names than the frame. NaN and `NO_TIME` become NULL.
    """
    connection.register(
        "_incoming", {"_row": np.arange(len(frame)), **{c.name: frame[c.name] for c in columns}}
    )
    try:
        listed = "".join(f", {_incoming(column)} AS {quote(column.name)}" for column in columns)
        connection.execute(
            f"CREATE OR REPLACE TEMP TABLE {quote(name)} AS SELECT _row{listed} FROM _incoming"
        )
    finally:
        connection.unregister("_incoming")


def _incoming(column: Column) -> str:
    value = f"CAST({quote(column.name)} AS {SQL_TYPES[column.kind]})"
    if column.kind.is_text:
        return value
    null = str(NO_TIME) if column.kind is Kind.TIME else "CAST('NaN' AS DOUBLE)"
    return f"nullif({value}, {null})"


def one_row(connection: duckdb.DuckDBPyConnection, statement: str) -> tuple[Any, ...]:
    """The row of a statement that gives one."""
    (row,) = connection.execute(statement).fetchall()
    return row


def fetch(connection: duckdb.DuckDBPyConnection, statement: str, columns: Sequence[Column]) -> Frame:
    """The rows of a statement whose columns are, in order, `columns`."""
    rows = list(connection.execute(statement).fetchnumpy().values())
    return Frame(
        {column.name: from_sql(array, column.kind) for column, array in zip(columns, rows, strict=True)}
    )


def from_sql(array: Array, kind: Kind) -> Array:
    """A fetched column in the representation of `core.frames`."""
    if kind.is_text:
        # `filled(None)` would mean the default filling, which is "?".
        texts = np.array(np.ma.getdata(array), dtype=object)
        texts[np.ma.getmaskarray(array)] = None
        return texts
    if kind is Kind.TIME:
        return np.asarray(np.ma.filled(np.ma.asarray(array, dtype=np.int64), NO_TIME), dtype=np.int64)
    return np.asarray(np.ma.filled(np.ma.asarray(array, dtype=np.float64), np.nan), dtype=np.float64)


def array_of(rows: Sequence[Mapping[str, Any]], column: Column) -> Array:
    """One column of records in the representation of `core.frames`; what a record lacks is null."""
    values = [row.get(column.name) for row in rows]
    if column.kind.is_text:
        result = np.empty(len(values), dtype=object)
        result[:] = values
        return result
    if column.kind is Kind.TIME:
        return np.array([NO_TIME if value is None else value for value in values], dtype=np.int64)
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)
