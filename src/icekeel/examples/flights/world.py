"""The flights that left New York, for rehearsals: about 40 an hour, from summer on."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import duckdb

from icekeel.core.time import DAY, parse_time

from .prepare import prepare
from .replay import AVAILABLE

BEGINS = parse_time("2013-06-01")
"""Where the rehearsal begins; what is known by then is its past."""


def lay_out(folder: Path, *, days: int, seed: int, say: Callable[[str], None]) -> None:
    """A project with the flights from January to `days` after `BEGINS`; the seed changes nothing, they are real."""
    del seed
    prepared = prepare(folder / "data", progress=say)
    shutil.copy(Path(__file__).with_name("project.py"), folder)
    with duckdb.connect(config={"threads": 2}) as connection:
        for table, available in AVAILABLE.items():
            source, target = prepared.path(table), folder / f"{table}.parquet"
            where = f"{available} <= {BEGINS + days * DAY}"
            connection.execute(
                f"COPY (SELECT * FROM read_parquet('{source}') WHERE {where} ORDER BY {available}) "
                f"TO '{target}' (FORMAT parquet)"
            )
