"""`icekeel demo`: which demonstrations there are, and where they work."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from icekeel.core.errors import Fault, SettingsError, nearest
from icekeel.examples.flights.demo import run as run_flights
from icekeel.examples.quotes.demo import run as run_quotes

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
