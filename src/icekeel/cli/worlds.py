"""The worlds that come with Icekeel: demonstrations that run on them, and rehearsals without a project of one's own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from icekeel.app import App
from icekeel.core.errors import Fault, SettingsError, nearest
from icekeel.examples.flights.demo import run as run_flights
from icekeel.examples.flights.world import lay_out as lay_out_flights
from icekeel.examples.quotes.demo import run as run_quotes
from icekeel.examples.quotes.world import lay_out as lay_out_quotes
from icekeel.operations.rehearsal.rehearsal import Asked
from icekeel.settings import Settings

from .output import print_line


class Demo(Protocol):
    """A whole system on its history."""

    def __call__(self, folder: Path, *, fresh: bool, say: Callable[[str], None]) -> Path:
        """Run it in `folder`; gives the path of its report."""
        ...


DEMOS: dict[str, Demo] = {"flights": run_flights, "quotes": run_quotes}


def run_demo(system: str, folder: Path | None, *, fresh: bool, say: Callable[[str], None]) -> None:
    """Run a demonstration and tell where its report is.

    Raises:
        SettingsError: there is no demonstration of that name.
    """
    if system not in DEMOS:
        hint = nearest(system, DEMOS)
        raise SettingsError(Fault("unknown_demo", f'no demo "{system}"', "", "", ", ".join(DEMOS), hint))
    report = DEMOS[system](folder or Path("icekeel-demo") / system, fresh=fresh, say=say)
    print_line({"report": str(report)})


WORLDS = {"quotes": lay_out_quotes, "flights": lay_out_flights}
RUNG = "lightgbm"
SPARE_DAYS = 3
"""Faults strike in busy hours only, which takes longer where nights are quiet."""


def world(name: str, folder: Path, asked: Asked, say: Callable[[str], None]) -> tuple[Path, Asked]:
    """A project with as much history as a rehearsal needs, and what is asked of it.

    Raises:
        SettingsError: there is no such world.
    """
    if name not in WORLDS:
        hint = nearest(name, WORLDS)
        raise SettingsError(Fault("unknown_world", f'no world "{name}"', "", "", ", ".join(WORLDS), hint))
    days = asked.days or asked.wishes.days() + SPARE_DAYS
    WORLDS[name](folder, days=days, seed=asked.seed, say=say)
    App(folder, Settings()).ingest([])
    return folder, replace(asked, rung=asked.rung or RUNG)
