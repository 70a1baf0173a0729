"""The flights that left New York, for rehearsals: about 40 an hour, from summer on."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from icekeel.core.time import DAY, parse_time
from icekeel.examples import sources

from .prepare import AVAILABLE, prepare

BEGINS = parse_time("2013-06-01")
"""Where the rehearsal begins; what is known by then is its past."""


def lay_out(folder: Path, *, days: int, seed: int, say: Callable[[str], None]) -> None:
    """A project with the flights from January to `days` after `BEGINS`; the seed changes nothing, they are real."""
    del seed
    prepared = prepare(folder / "data", progress=say)
    shutil.copy(Path(__file__).with_name("project.py"), folder)
    sources.lay_out(prepared.folder, folder, AVAILABLE, BEGINS + days * DAY)
