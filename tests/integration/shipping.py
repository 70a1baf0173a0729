"""The small project at work inside one process: pushes, questions, days that end, and what can be compared."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import lmdb
import numpy as np

from icekeel.app import App
from icekeel.core.time import DAY, HOUR, wall_clock
from icekeel.journal import Ticked, Writer
from icekeel.operations.loop.keeper import Keeper
from icekeel.settings import Settings
from icekeel.testing.small import (
    TRAINED_DAYS,
    TRAINED_TO,
    World,
    keep_up,
    small_world,
    train_small,
    write_small_project,
)

SETTINGS = Settings(rehearsal=True, auth=False)
WORLD = small_world(TRAINED_DAYS + 30)
TIMES = {"Scans": "booked_at", "Deliveries": "delivered_at"}


def open_app(folder: Path) -> App:
    return App(folder, SETTINGS, clock=wall_clock)


def rows_between(world: World, table: str, start: int, end: int) -> list[dict[str, Any]]:
    rows = world.scans if table == "Scans" else world.deliveries
    return [dict(row) for row in rows if start < row[TIMES[table]] <= end]


class Office:
    """Serves and pushes, through its own writer."""

    def __init__(self, app: App, online: lmdb.Environment, name: str = "serve") -> None:
        self.app = app
        self.journal: Writer = app.journal(name)
        self.registry = app.registry()
        self.answerers = app.answerers(self.registry, self.journal, online)
        self.intake = app.intake(self.journal)

    def push(self, start: int, end: int) -> int:
        kept = 0
        for table in TIMES:
            if rows := rows_between(WORLD, table, start, end):
                kept += self.intake.push(table, rows).kept
        return kept

    def ask(self, start: int, end: int, every: int = 1) -> int:
        asked = [row for row in WORLD.questions if start < row["asked_at"] <= end][::every]
        answerer = self.answerers["late"]
        answerer.router.refresh()
        for row in asked:
            request = {name: value for name, value in row.items() if name != "asked_at"}
            answerer.answer(request, asked_at=row["asked_at"])
        return len(asked)

    def tick(self, now: int) -> None:
        self.journal.append(Ticked(at=now))

    def close(self) -> None:
        self.journal.close()
        self.registry.close()


@contextmanager
def kept(app: App) -> Iterator[Keeper]:
    with app.journal("keep") as journal:
        registry = app.registry()
        keeper = app.keeper(registry, journal)
        try:
            yield keeper
        finally:
            keeper.close()
            registry.close()


@contextmanager
def at_work(app: App) -> Iterator[tuple[Keeper, Office]]:
    """A keeper, and an office that pushes and asks."""
    with kept(app) as keeper, closing(Office(app, keeper._online)) as office:
        yield keeper, office


def drain(keeper: Keeper) -> None:
    while keeper.step():
        pass


def run_day(keeper: Keeper, office: Office, day: int, *, every: int = 1) -> None:
    """One day from `TRAINED_TO` on: events a moment before the questions that see them, then midnight."""
    start = TRAINED_TO + day * DAY
    office.push(start, start + DAY)
    drain(keeper)
    office.ask(start, start + DAY, every)
    drain(keeper)
    office.tick(start + DAY)
    drain(keeper)


def windows(app: App, online: lmdb.Environment, keys: int = 40) -> list[list[float | str | None]]:
    """What would be served now for a sample of questions at several times of the fourth day.

    Earlier than a day before the newest event nothing is promised: what has left the windows leaves the store at leisure.
    """
    registry = app.registry()
    rng = np.random.default_rng(3)
    found = []
    with app.journal("look") as journal:
        features = app.answerers(registry, journal, online)["late"].windows
        for row in [WORLD.questions[at] for at in rng.integers(0, len(WORLD.questions), keys)]:
            request = [row["parcel_id"], row["depot"], row["service"], row["weight"]]
            for at in (TRAINED_TO + 3 * DAY + hours * HOUR for hours in (1, 7, 20)):
                found.append(list(features.read(request, at).values))
    registry.close()
    return found


def settled(keeper: Keeper) -> list[Any]:
    return list(keeper._results["late"].settled("", 0, TRAINED_TO + 400 * DAY))


def two_versions(folder: Path) -> App:
    """The small project with two versions, the first of them champion, and windows that are up to date."""
    write_small_project(folder)
    train_small(folder, rung="lightgbm")
    train_small(folder, baseline=True)
    app = App(folder, clock=lambda: TRAINED_TO)
    registry = app.registry()
    registry.drop_alias("late", "challenger", reason="test", by="test")
    registry.close()
    keep_up(app)
    return app


@contextmanager
def temporary_project() -> Iterator[Path]:
    """A folder with the small project, its first version champion and its second challenger."""
    with tempfile.TemporaryDirectory() as folder:
        project = Path(folder) / "small"
        write_small_project(project)
        train_small(project, settings=SETTINGS, baseline=True)
        train_small(project, settings=SETTINGS)
        yield project


@contextmanager
def played_project(days: int) -> Iterator[Path]:
    """The same after so many days of answers with their outcomes."""
    with temporary_project() as folder:
        with at_work(open_app(folder)) as (keeper, office):
            for day in range(days):
                run_day(keeper, office, day)
            drain(keeper)
        yield folder
