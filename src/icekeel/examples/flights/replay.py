"""The prepared flights in the order in which a live system would have received them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb

from icekeel.core.time import DAY

AVAILABLE = {
    "flights": "known_at",
    "arrivals": "reported_at",
    "weather": "published_at",
    "planes": "registered_at",
    "questions": "asked_at",
}
"""For each table, the column that says when a row became available (a question: when it is asked)."""

Value = str | int | float | bool | None
Row = dict[str, Value]


@dataclass(frozen=True, slots=True)
class Batch:
    """The rows that became available in `start < t <= end`, by table; a table without rows is absent.

    Rows are in order of availability, ties by id. Values are plain Python: times in microseconds UTC, None for null.
    """

    start: int
    end: int
    tables: dict[str, list[Row]]


def batches(
    folder: Path, start: int, end: int, step_us: int, *, tables: Sequence[str] = tuple(AVAILABLE)
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
    with duckdb.connect() as connection:
        connection.execute("SET threads = 1")
        for first in range(start, end, span):
            last = min(first + span, end)
            steps: defaultdict[int, dict[str, list[Row]]] = defaultdict(dict)
            for table in tables:
                for index, row in _rows(
                    connection, folder / f"{table}.parquet", AVAILABLE[table], first, last
                ):
                    steps[(index - 1) // step_us].setdefault(table, []).append(row)
            for number, opening in enumerate(range(first, last, step_us)):
                yield Batch(opening, min(opening + step_us, last), steps.pop(number, {}))


def _rows(
    connection: duckdb.DuckDBPyConnection, path: Path, available: str, first: int, last: int
) -> Iterator[tuple[int, Row]]:
    """Rows that became available in `first < t <= last`, each after its microseconds since `first`."""
    result = connection.execute(
        f"SELECT {available} - $first, * FROM read_parquet($path) WHERE {available} > $first AND {available} <= $last",
        {"path": str(path), "first": first, "last": last},
    )
    names = [column[0] for column in result.description or []][1:]
    for since, *values in result.fetchall():
        yield since, dict(zip(names, values, strict=True))
