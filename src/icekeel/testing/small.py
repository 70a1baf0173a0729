"""A project small enough to be trained inside a test: parcels of four depots, late when their depot is full.

The world is drawn day by day, each day from its own seed, so a longer one begins with the shorter one: what
comes after `small_world(60)` in `small_world(90)` can be pushed and asked for as traffic.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from icekeel.app import App
from icekeel.core.time import DAY, HOUR, MINUTE, parse_time
from icekeel.operations.workshop.workshop import Order, admit
from icekeel.registry import Decision, Version
from icekeel.settings import Settings

START = parse_time("2024-01-01")
TRAINED_DAYS = 60
TRAINED_TO = START + TRAINED_DAYS * DAY
"""Everything in the files of `write_small_project` happened before."""

REQUEST: Mapping[str, Any] = {"parcel_id": "new", "depot": "north", "service": "express", "weight": 3.5}
"""A valid request for `/v1/predict/late`."""

_DEPOTS = ("east", "north", "south", "west")
_PER_DAY = 60

PROJECT = '''"""Will this parcel be more than 15 minutes late?"""

import icekeel as ik


class Parcel(ik.Request):
    parcel_id: ik.Id
    depot: ik.Cat
    service: ik.Cat = ik.one_of("express", "standard")
    weight: ik.Num = ik.between(0, 50, optional=True)


class Scans(ik.Events, time="scanned_at", available="booked_at", id="scan_id", source="scans.csv"):
    """What lies in a depot, booked ten minutes later."""

    scan_id: ik.Id
    depot: ik.Cat
    backlog: ik.Num = ik.at_least(0)


class Deliveries(ik.Events, time="delivered_at", id="parcel_id", source="deliveries.csv"):
    """A parcel at its door."""

    parcel_id: ik.Id
    depot: ik.Cat
    minutes_late: ik.Num


here = Scans.where(depot=Parcel.depot)
arrived = Deliveries.where(depot=Parcel.depot)


class Plain(ik.Features):
    depot = Parcel.depot
    service = Parcel.service
    weight = Parcel.weight


class Windowed(Plain):
    backlog = here.last("6h").backlog.last()
    backlog_trend = backlog - here.last("1d").backlog.mean()
    late_1d = arrived.last("1d").minutes_late.mean()
    delivered_1d = arrived.last("1d").count()


late = ik.Model(
    "late",
    Parcel,
    Windowed,
    baseline=Plain,
    history=ik.table_of(Parcel, "questions.csv", asked_at="asked_at"),
    target=Deliveries.where(parcel_id=Parcel.parcel_id).within("2d").minutes_late.latest(absent=ik.UNKNOWN) > 15,
    error="log_loss",
    choose=ik.Simplest(within=ik.usd_per_year(1_000, error_point=10_000)),
    action=ik.Act("warn", missed=4, false=1),
    guard=ik.Guard(budget=0.02),
    rollout=ik.Rollout(unit=Parcel.parcel_id, share=0.5, minimum_days=1, split=True),
    retrain=ik.Retrain(every="month"),
)
'''


@dataclass(frozen=True, slots=True)
class World:
    """Rows as a source file or a push holds them, each list in the order in which they became known.

    Attributes:
        scans, deliveries: Rows of the two event tables.
        questions: Requests, with `asked_at` beside the fields of the request.
    """

    scans: Sequence[Mapping[str, Any]]
    deliveries: Sequence[Mapping[str, Any]]
    questions: Sequence[Mapping[str, Any]]


def small_world(days: int) -> World:
    """What happens from `START` on: 4 depots scanned every 3 hours, 60 parcels a day, some 40 % of them late."""
    world = World([], [], [])
    for day in range(days):
        _draw_day(day, world)
    deliveries = sorted(world.deliveries, key=lambda row: row["delivered_at"])
    return World(world.scans, deliveries, world.questions)


def _draw_day(day: int, world: Any) -> None:
    rng = np.random.default_rng([7, day])
    loads = rng.gamma(2.0, 20.0, len(_DEPOTS))
    for hour in range(0, 24, 3):
        for depot, load in zip(_DEPOTS, loads, strict=True):
            at = START + day * DAY + hour * HOUR
            backlog = round(float(load * (1 + hour / 24) + rng.uniform(0, 4)), 1)
            world.scans.append(
                {
                    "scan_id": f"{depot}-{day}-{hour}",
                    "depot": depot,
                    "backlog": backlog,
                    "scanned_at": at,
                    "booked_at": at + 10 * MINUTE,
                }
            )
    for number, asked in enumerate(np.sort(rng.integers(3 * HOUR, 20 * HOUR, _PER_DAY)).tolist()):
        place, express = int(rng.integers(len(_DEPOTS))), bool(rng.random() < 0.4)
        name, asked_at = f"p{day}-{number}", START + day * DAY + asked
        weight = round(float(rng.uniform(0.1, 20)), 2)
        late = weight - 14 + 6.0 * place + 0.35 * loads[place] - 20 * express + rng.normal(0, 10)
        delivered_at = asked_at + 2 * HOUR + int(max(late, 0) * MINUTE)
        world.questions.append(
            {
                "parcel_id": name,
                "depot": _DEPOTS[place],
                "service": "express" if express else "standard",
                "weight": weight,
                "asked_at": asked_at,
            }
        )
        world.deliveries.append(
            {
                "parcel_id": name,
                "depot": _DEPOTS[place],
                "minutes_late": round(float(late), 1),
                "delivered_at": delivered_at,
            }
        )


def write_small_project(folder: Path, project: str = PROJECT) -> None:
    """Write `project.py` and its sources: `scans.csv`, `deliveries.csv`, `questions.csv`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "project.py").write_text(project, encoding="utf-8")
    world = small_world(TRAINED_DAYS)
    deliveries = [row for row in world.deliveries if row["delivered_at"] < TRAINED_TO]
    for name, rows in (("scans", world.scans), ("deliveries", deliveries), ("questions", world.questions)):
        write_rows(folder / f"{name}.csv", rows)


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows with the same keys as a CSV file."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def train_small(
    folder: Path, *, settings: Settings | None = None, baseline: bool = False, rung: str = "linear"
) -> Version:
    """Ingest the sources and train and admit one version as of `TRAINED_TO`; the first one becomes champion.

    Args:
        folder: Made by `write_small_project`.
        settings: As for `App`.
        baseline: On the `Plain` features; a second version on the others then becomes challenger.
        rung: `group`, `linear` or `lightgbm`; empty climbs the whole ladder.
    """
    app = App(folder, settings, clock=lambda: TRAINED_TO)
    app.ingest([])
    return train_once(app, "late", baseline=baseline, rung=rung)[0]


def train_once(
    app: App, model: str, *, baseline: bool = False, rung: str = "linear"
) -> tuple[Version, Decision]:
    """Train and admit one version as of the app's clock, and what was decided about it."""
    now = app.clock()
    with closing(app.registry()) as registry, app.journal("train") as journal:
        version, _ = app.workshop(registry).train(Order(model, now, baseline, rung), lambda line: None)
        return version, admit(registry, journal, app.model(model), version, at=now, by="test")


def keep_up(app: App) -> None:
    """Let a keeper do all there is to do."""
    with (
        closing(app.registry()) as registry,
        app.journal("keep") as journal,
        closing(app.keeper(registry, journal)) as keeper,
    ):
        while keeper.step():
            pass
