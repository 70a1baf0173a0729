"""The print shop on the web, for rehearsals: 20 quotes a minute, day and night."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from icekeel.core.ids import digest
from icekeel.core.time import format_time, parse_time

from .simulate import ONLINE, simulate

PER_MINUTE = 20
PAST_DAYS = 21
"""Days of quotes that are known when a rehearsal begins."""
BEGINS = parse_time("2024-10-07")


def lay_out(folder: Path, *, days: int, seed: int, say: Callable[[str], None]) -> None:
    """A project with `PAST_DAYS` of history and `days` more; the same arguments give the same."""
    code = b"".join(Path(__file__).with_name(name).read_bytes() for name in ("simulate.py", "customers.py"))
    key, marker = digest(code + f"{days}/{seed}/{PER_MINUTE}".encode()), folder / "made_from"
    if marker.exists() and marker.read_text() == key:
        return
    shutil.rmtree(folder, ignore_errors=True)
    all_days = PAST_DAYS + days
    n = PER_MINUTE * 1440 * all_days
    start = format_time(BEGINS)[:10]
    truth = simulate(folder, n=n, seed=seed, start=start, days=all_days, pace=ONLINE)
    shutil.copy(Path(__file__).with_name("project.py"), folder)
    say(f"simulation: {', '.join(f'{rows:,} {name}' for name, rows in truth.rows.items())}")
    marker.write_text(key)
