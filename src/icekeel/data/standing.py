"""What held at a moment: of every event its newest version known then, unless that deletes it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from icekeel.compile.sql import quote

from .history import AVAILABLE, DELETED, OFFSET, ORIGIN, SEGMENT, SEQUENCE
from .relations import parquet

OWN = frozenset({AVAILABLE, DELETED, SEQUENCE, SEGMENT, OFFSET, ORIGIN})
"""Columns of stored versions that no event has."""


def standing(files: Sequence[Path], key: str, columns: Sequence[str], now: int) -> str:
    """A relation of the events of some files as they were known at `now`.

    Args:
        files: Of one event table, at least one.
        columns: Which columns of the files it has.
    """
    listed = ", ".join(quote(name) for name in columns if name not in OWN)
    return (
        f"(SELECT {listed} FROM (SELECT *, row_number() OVER (PARTITION BY {quote(key)} ORDER BY {AVAILABLE} DESC, "
        f"{SEQUENCE} DESC) AS _newest FROM {parquet(files, union=True)} WHERE {AVAILABLE} <= {now}) "
        f"WHERE _newest = 1 AND {DELETED} = 0)"
    )
