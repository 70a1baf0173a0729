"""What is measured, each in a process of its own: `python -m bench.features.tasks run TASK` prints one JSON object.

`make TASK` makes its data, `differ TASK` tells how many of a peer's values are not ours.

`cpu_s` is user and system time of all threads from the first byte read to the result in memory; imports and
making the data are not in it. `peak_gb` is the most memory that the process ever had.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import duckdb
import numpy as np

from bench.children import CACHE
from bench.report import ROOT, Result
from icekeel.core.frames import Array

from . import offline, online
from .data import FEAST, LARGE, LATE, SKEWED, SPARSE, STORED, UNIFORM, WIDE, Sales
from .figures import CHECKS

RESULTS = CACHE / "results"
FUZZ_VALUES = 100_000


def _timed(name: str, compute: Callable[[], Mapping[str, Array]]) -> Result:
    begin = time.process_time()
    columns = compute()
    cpu_s = time.process_time() - begin
    RESULTS.mkdir(parents=True, exist_ok=True)
    np.savez(RESULTS / f"{name}.npz", **dict(columns))  # type: ignore[arg-type]
    return {"cpu_s": cpu_s, "rows": len(next(iter(columns.values())))}


def fuzz() -> Result:
    """Random worlds through every engine, against the oracle."""
    command = [sys.executable, "tools/fuzz.py", "--values", str(FUZZ_VALUES), "--seed", "1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode not in (0, 1) or "mismatches: " not in done.stdout:
        raise RuntimeError(f"{' '.join(command)} failed: {done.stderr[-2000:]}")
    last = done.stdout.strip().splitlines()[-1]
    return {"mismatches": int(last.rsplit(" ", 1)[1]), "said": last}


DATA: dict[str, Sales] = {
    "newest": WIDE,
    "newest_by_sql": WIDE,
    "windows": SKEWED,
    "windows_by_sql": SKEWED,
    "windows_of_late": LATE,
    "windows_of_uniform": UNIFORM,
    "windows_of_100m": LARGE,
    "newest_beside_feast": FEAST,
    "newest_of_sparse": SPARSE,
    "feast": FEAST,
    "feast_of_sparse": SPARSE,
    "feast_online": STORED,
}
"""Task -> the data it is done on."""

STATEMENTS = {"newest_by_sql": "asof", "windows_by_sql": "windows"}
"""Tasks that are statements in `sql/`."""

FEASTS = {"feast": "offline", "feast_of_sparse": "offline", "feast_online": "online"}
"""Tasks done by Feast in its own environment."""

_OTHERS: dict[str, Callable[[], Mapping[str, Any]]] = {
    "closure": online.closure,
    "reads": online.reads,
    "ingest": partial(online.ingest, hot=False),
    "ingest_hot": partial(online.ingest, hot=True),
    "fuzz": fuzz,
}


def run(name: str) -> Result:
    """Do a task in this process."""
    if name in _OTHERS:
        found = dict(_OTHERS[name]())
    elif name in STATEMENTS:
        found = _timed(name, partial(offline.by_sql, DATA[name], STATEMENTS[name]))
    else:
        found = _timed(name, partial(offline.ours, DATA[name]))
    return found | {"peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9}


def make(name: str) -> Result:
    """Make a task's data unless it is there."""
    DATA[name].make()
    return {}


def differ(task: str) -> Result:
    """How many values of a peer differ from ours."""
    ours = dict(np.load(RESULTS / f"{CHECKS[task]}.npz"))
    theirs = _of_feast(task, list(ours)) if task in FEASTS else dict(np.load(RESULTS / f"{task}.npz"))
    return {"differ": sum(offline.differences(ours, theirs).values())}


def _of_feast(task: str, names: Sequence[str]) -> dict[str, Array]:
    """Feast's rows, which come in an order of their own, in that of the questions."""
    questions, given = DATA[task].questions_file, RESULTS / f"{task}.parquet"
    with duckdb.connect() as connection:
        rows = connection.execute(
            "WITH asked AS (SELECT *, row_number() OVER (PARTITION BY customer, asked_at) AS n, file_row_number AS q "
            f"FROM read_parquet('{questions}', file_row_number = true)), given AS (SELECT *, epoch_us(event_timestamp) "
            f"AS asked_at, row_number() OVER (PARTITION BY customer, event_timestamp) AS n FROM '{given}') "
            "SELECT given.* FROM asked JOIN given USING (customer, asked_at, n) ORDER BY q"
        ).fetchnumpy()
    return {name: np.ma.filled(np.ma.asarray(rows[name], dtype=np.float64), np.nan) for name in names}


if __name__ == "__main__":
    print(json.dumps({"run": run, "make": make, "differ": differ}[sys.argv[1]](sys.argv[2])))
