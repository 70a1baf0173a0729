"""Files of rows with the moment each became available: what is known at a time, and what comes after it in order."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import duckdb

from icekeel.compile import literal
from icekeel.core.time import DAY
from icekeel.data.relations import connect, parquet

Value = str | int | float | bool | None
Row = dict[str, Value]


@dataclass(frozen=True, slots=True)
class Batch:
    """The rows that became available in `start < t <= end`, by table; a table without rows is absent.

    Rows are in order of availability, ties as in their file. Values are plain Python: times in microseconds UTC, None
    for null.
    """

    start: int
    end: int
    tables: dict[str, list[Row]]


def lay_out(source: Path, folder: Path, available: Mapping[str, str], until: int) -> None:
    """Copy of each file what was available at a time.

    Args:
        available: For each file, the column that says when a row became available.
    """
    files = {table: source.resolve() / f"{table}.parquet" for table in available}
    target = folder.resolve()
    with connect(threads=2, reads=files.values(), folder=target) as connection:
        for table, column in available.items():
            known = f"SELECT * FROM {parquet([files[table]])} WHERE {column} <= {until}"
            connection.execute(
                f"COPY ({known}) TO {literal(str(target / files[table].name))} (FORMAT parquet)"
            )


def batches(
    folder: Path, available: Mapping[str, str], start: int, end: int, step_us: int
) -> Iterator[Batch]:
    """Every step of `step_us` from `start` to `end` in order, steps without rows included.

    The interval is open at `start` and closed at `end`, so that at the time `batch.end` all that was available
    by then has been given. About a day is held in memory at once.

    Raises:
        ValueError: `step_us` is not above 0.
    """
    if step_us <= 0:
        raise ValueError(f"expected a step above 0 microseconds, got {step_us}")
    span = step_us * max(1, DAY // step_us)
    files = {table: folder.resolve() / f"{table}.parquet" for table in available}
    with connect(reads=files.values()) as connection:
        for first in range(start, end, span):
            last = min(first + span, end)
            steps: defaultdict[int, dict[str, list[Row]]] = defaultdict(dict)
            for table, column in available.items():
                for since, row in _rows(connection, files[table], column, first, last):
                    steps[(since - 1) // step_us].setdefault(table, []).append(row)
            for number, opening in enumerate(range(first, last, step_us)):
                yield Batch(opening, min(opening + step_us, last), steps.pop(number, {}))


def _rows(
    connection: duckdb.DuckDBPyConnection, path: Path, available: str, first: int, last: int
) -> Iterator[tuple[int, Row]]:
    """Rows that became available in `first < t <= last`, each after its microseconds since `first`."""
    result = connection.execute(
        f"SELECT {available} - {first}, * FROM {parquet([path])} WHERE {available} > {first} AND {available} <= {last}"
    )
    names = [column[0] for column in result.description or []][1:]
    for since, *values in sorted(result.fetchall(), key=lambda row: int(row[0])):
        yield since, dict(zip(names, values, strict=True))
