"""The guard: how long a check takes, what it finds of what was never seen, and what it flags of ordinary traffic.

Versions are trained by the pipeline as of the end of the training rows; the traffic is what came after.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from shutil import copy
from typing import Any

import duckdb
import numpy as np

from bench.children import CACHE
from bench.report import Result
from icekeel.app import App
from icekeel.core.frames import Ints
from icekeel.core.time import DAY, parse_time
from icekeel.examples.flights import project as flights_project
from icekeel.examples.flights.prepare import prepare
from icekeel.examples.quotes import project as quotes_project
from icekeel.examples.quotes.simulate import NEVER_SEEN, simulate
from icekeel.guard import Guard
from icekeel.operations.workshop.workshop import Order
from icekeel.serving import load_version
from icekeel.serving.versions import LoadedVersion

from . import shop
from .system import copied

Row = list[float | str | None]
NEVER_PAIR = {"product": "label", "substrate": "kraft"}
"""Taken out of the quotes: both are common, one in ten and one in eight."""
BEYOND: Mapping[str, float | str] = {"product": "label", "material_cost": 4_000.0}
"""Usual for boxes, eight times what labels ever cost."""
STRANGE: Mapping[str, tuple[str, Mapping[str, float | str]]] = {
    "triple": ("unseen_triple", NEVER_SEEN),
    "pair": ("unseen_pair", NEVER_PAIR),
    "value": ("unseen_value", {"substrate": "velvet"}),
    "range": ("out_of_range", BEYOND),
}
"""What is never seen -> the kind of verdict that says so, and the fields that are changed to it."""
CHANGED = 2_000


def speed(n: int = 20_000) -> Result:
    """Microseconds of CPU of a check of 12 categories and 4 numbers: one request in ten is strange, and all are."""
    with copied() as folder:
        app = App(folder, clock=lambda: shop.END)
        registry = app.registry()
        version = load_version(registry.version("cost-1"), app.places.bundles, app.plans["cost"])
        registry.close()
    guard = _guard(version)
    rows = [[one[column.name] for column in guard.columns] for one in shop.requests(n)]
    names = [column.name for column in guard.columns]
    changes: list[dict[str, float | str]] = [
        {"finish": "gold"},
        {"weight": 1e6},
        {"colour": "none", "size": "none"},
    ]
    strange = [with_values(row, names, changes[at % 3]) for at, row in enumerate(rows)]
    mixed = [strange[at] if at % 10 == 0 else row for at, row in enumerate(rows)]
    found: Result = {}
    for name, asked in (("ordinary", rows), ("mixed", mixed), ("strange", strange)):
        spent, flagged = _timed(guard.check, asked)
        found[name] = {
            "p50_us": np.quantile(spent, 0.5),
            "p99_us": np.quantile(spent, 0.99),
            "flagged": flagged / n,
        }
    return found | {"p50_us": found["mixed"]["p50_us"], "p99_us": found["mixed"]["p99_us"]}


def _timed(check: Callable[[Row], Sequence[Any]], rows: Sequence[Row]) -> tuple[list[float], int]:
    """The best of three of each check, and how many were flagged: noise only adds."""
    best, flagged = [float("inf")] * len(rows), 0
    for _ in range(3):
        flagged = 0
        for at, row in enumerate(rows):
            began = time.thread_time_ns()
            found = check(row)
            best[at] = min(best[at], (time.thread_time_ns() - began) / 1e3)
            flagged += bool(found)
    return best, flagged


def quotes(rows: int) -> Result:
    """Recall of each kind, and flags of the quotes sent after the training rows."""
    with tempfile.TemporaryDirectory(dir=CACHE) as name:
        folder = Path(name)
        copy(str(quotes_project.__file__), folder / "project.py")
        simulate(folder, n=int(rows * 1.3), seed=3)
        ids, now, end = _without_pair(folder, rows)
        traffic = Traffic(folder, "price", "linear", now, end)
        return traffic.flags() | {
            "training_rows": ids,
            "recall": {kind: traffic.recall(*strange) for kind, strange in STRANGE.items()},
        }


def _without_pair(folder: Path, rows: int) -> tuple[int, int, int]:
    """Take the pair out; gives the training rows, the time that ends them, and the end of all."""
    path, where = (
        folder / "quotes.parquet",
        " AND ".join(f"{name} = '{value}'" for name, value in NEVER_PAIR.items()),
    )
    with duckdb.connect() as connection:
        connection.execute(
            f"COPY (FROM '{path}' WHERE NOT ({where}) ORDER BY sent_at, quote_id) TO '{path}.new' (FORMAT parquet)"
        )
        Path(f"{path}.new").replace(path)
        # An outcome takes three weeks at the most; what has none yet is no training row.
        decided = connection.execute(
            f"SELECT decided_at FROM '{folder}/results.parquet' JOIN '{path}' USING (quote_id) ORDER BY 1"
        ).fetchall()
        last = connection.execute(f"SELECT max(sent_at) FROM '{path}'").fetchone()
    assert last is not None  # noqa: S101
    return rows, int(decided[rows - 1][0]) + 1, int(last[0]) + 1


class Traffic:
    """A version trained as of `now`, and the questions that were asked from then on to `end`."""

    def __init__(
        self, folder: Path, model: str, rung: str, now: int, end: int, *, baseline: bool = False
    ) -> None:
        app = App(folder, clock=lambda: end + 365 * DAY)  # nothing in the files is later than its clock
        app.ingest([])
        registry = app.registry()
        workshop = app.workshop(registry)
        version, trained = workshop.train(Order(model, now, baseline, rung), lambda line: None)
        self.rows = trained.contents.rows
        self.version = load_version(version, app.places.bundles, app.plans[model])
        _, data = workshop.prepare(model, end, lambda line: None)
        registry.close()
        asked: Ints = np.flatnonzero(data.asked_at >= now)
        self.guard = _guard(self.version)
        self.names = [column.name for column in self.guard.columns]
        requests = data.requests.take(asked)
        self.values: list[Row] = [
            list(row) for row in zip(*(requests[name].tolist() for name in self.names), strict=True)
        ]
        self.predictions = self.version.engine.predict_many(data.features.take(asked)).tolist()

    def flags(self) -> Result:
        """Share of the traffic that is flagged, and how often by which kind."""
        found = [self.guard.check(row, said) for row, said in zip(self.values, self.predictions, strict=True)]
        kinds = Counter(kind for verdicts in found for kind in {verdict.kind for verdict in verdicts})
        share = statistics.fmean(bool(verdicts) for verdicts in found)
        return {"flags": share, "asked": len(found), "kinds": dict(kinds), "training_rows": self.rows}

    def recall(self, kind: str, changes: Mapping[str, float | str]) -> float:
        """Share of the requests, changed so, that get a verdict of this kind."""
        rows = [with_values(row, self.names, changes) for row in self.values[:CHANGED]]
        return statistics.fmean(
            any(verdict.kind == kind for verdict in self.guard.check(row)) for row in rows
        )


def flights() -> Result:
    """Flags of each month's flights by a version trained on the months before; the worst month counts."""
    found = {}
    with tempfile.TemporaryDirectory(dir=CACHE) as name:
        folder = Path(name)
        copy(str(flights_project.__file__), folder / "project.py")
        prepare(folder, progress=lambda line: None)
        for month in (4, 7, 10):
            now, end = parse_time(f"2013-{month:02}-01"), parse_time(f"2013-{month + 1:02}-01")
            found[f"2013-{month:02}"] = Traffic(folder, "late", "linear", now, end, baseline=True).flags()
    return {"flags": max(one["flags"] for one in found.values()), "months": found}


def with_values(row: Row, names: Sequence[str], changes: Mapping[str, float | str]) -> Row:
    """The row with some values replaced."""
    return [changes.get(name, value) for name, value in zip(names, row, strict=True)]


def _guard(version: LoadedVersion) -> Guard:
    assert version.guard is not None  # noqa: S101
    return version.guard
