"""Two quiet virtual years through the keeper itself, without HTTP: what its detectors say of nothing."""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import duckdb

from bench.report import Result
from icekeel.app import App
from icekeel.core.errors import RefusedError
from icekeel.core.time import DAY, Clock, parse_time
from icekeel.examples.quotes import demo
from icekeel.examples.quotes.simulate import simulate
from icekeel.journal import Ticked
from icekeel.operations.workshop.workshop import Order, admit
from icekeel.settings import Settings

TABLES = {
    "results": ("Results", "decided_at"),
    "orders": ("Orders", "booked_at"),
    "capacity": ("Capacity", "measured_at"),
}
START, LIVE, END = (parse_time(day) for day in ("2021-01-01", "2023-01-01", "2025-01-01"))
QUOTES = 80_000
"""In the four years: 40,000 to learn from, and as many asked."""
SEED = 11
MONTH = 30.4 * DAY


def quiet() -> Result:
    """Alerts a month of two quiet years of quotes: daily, weekly and yearly cycles, growth, dependent rows.

    The simulation of `icekeel demo quotes`, another seed: quotes come on working days by the hour, more in November,
    customers come back, the backlog of the plant has a memory of days. One version, trained on the two years before,
    answers all of them; nothing is retrained, and nothing else changes.
    """
    began = time.process_time()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        simulate(folder / "source", n=QUOTES, seed=SEED, start="2021-01-01", days=(END - START) // DAY)
        now = [LIVE]
        app = _app(folder, lambda: now[0])
        registry = app.registry()
        version, _ = app.workshop(registry).train(Order("price", LIVE, rung="lightgbm"), _silent)
        with app.journal("train") as journal:
            admit(registry, journal, app.model("price"), version, at=LIVE, by="bench")
        asked = _live(app, registry, folder / "source", now)
        alerts = registry.alerts()
        registry.close()
    for alert in alerts:
        print(
            f"{(alert.at - LIVE) / DAY:.1f} d {alert.cause}: {alert.evidence.get('sentences')}",
            file=sys.stderr,
        )
    return {
        "per_month": len(alerts) / ((END - LIVE) / MONTH),
        "alerts": [alert.cause for alert in alerts],
        "asked": asked,
        "cpu_s": time.process_time() - began,
    }


def _silent(line: str) -> None:
    print(line, file=sys.stderr)


def _app(folder: Path, clock: Clock) -> App:
    shutil.copy(Path(demo.__file__).with_name("project.py"), folder)
    with duckdb.connect() as connection:
        for name, available in {
            "quotes": "sent_at",
            **{name: at for name, (_, at) in TABLES.items()},
        }.items():
            rows = connection.from_parquet(str(folder / "source" / f"{name}.parquet"))
            rows.filter(f"{available} <= {LIVE}").write_parquet(str(folder / f"{name}.parquet"))
    app = App(folder, Settings(rehearsal=True, auth=False), clock=clock)
    app.ingest([])
    return app


def _live(app: App, registry: Any, source: Path, now: list[int]) -> int:
    """Day by day: what happens, what is asked, midnight; `now` is what the application takes for the time."""
    events = {table: _by_day(source / f"{name}.parquet", at) for name, (table, at) in TABLES.items()}
    quotes = _by_day(source / "quotes.parquet", "sent_at")
    asked = 0
    with app.journal("keep") as kept, app.journal("serve") as served:
        keeper = app.keeper(registry, kept)
        answerer = app.answerers(registry, served, keeper._online)["price"]
        intake = app.intake(served)
        for day in range(LIVE // DAY, END // DAY):
            now[0] = (day + 1) * DAY
            for table, rows in events.items():
                if day in rows:
                    intake.push(table, rows[day])
            _drain(keeper)
            answerer.router.refresh()
            for row in quotes.get(day, ()):
                with suppress(RefusedError):  # by the guard; the answer is journaled all the same
                    request = {name: value for name, value in row.items() if name != "sent_at"}
                    answerer.answer(request, asked_at=row["sent_at"])
                asked += 1
            _drain(keeper)
            served.append(Ticked(at=(day + 1) * DAY))
            _drain(keeper)
        keeper.close()
    return asked


def _drain(keeper: Any) -> None:
    while keeper.step():
        pass


def _by_day(path: Path, available: str) -> dict[int, list[dict[str, Any]]]:
    """Rows that became available while live, by day, in that order."""
    found: dict[int, list[dict[str, Any]]] = {}
    for row in _rows(path, available):
        found.setdefault(row[available] // DAY, []).append(row)
    return found


def _rows(path: Path, available: str) -> Iterator[dict[str, Any]]:
    with duckdb.connect() as connection:
        result = connection.execute(
            f"FROM read_parquet($path) WHERE {available} > {LIVE} AND {available} <= {END} ORDER BY {available}",
            {"path": str(path)},
        )
        names = [column[0] for column in result.description or []]
        while rows := result.fetchmany(10_000):
            yield from (dict(zip(names, row, strict=True)) for row in rows)
