"""Workers and keeper killed with -9 under load: what a client was told is in the journal once, and in history once."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from collections import Counter
from pathlib import Path

import duckdb

from bench.report import Result
from icekeel.journal import Predicted, scan

from .load import Load, result_of
from .system import System, running

KILLS = 200
WORKERS = 2
PAUSES_S = (0.02, 1.5)
"""Between two kills, drawn evenly: processes are killed while they start, too."""


def measure(kills: int = KILLS, workers: int = WORKERS) -> Result:
    """Answers that a client has and the journal or history has not, or has twice."""
    rng = random.Random(6)
    killed: Counter[str] = Counter()
    with running(workers=workers) as system:
        log = system.folder / "answers.log"
        seconds = kills * (sum(PAUSES_S) / 2 + 0.05)
        load = Load.on(system, seconds, pause_s=0.01, log=str(log)).start()
        while load.poll() is None and sum(killed.values()) < kills:
            time.sleep(rng.uniform(*PAUSES_S))
            killed[_kill(system, rng)] += 1
        found = result_of(load)
        for name in ("serve", "keep"):
            if system.ended(name):
                system.start(name)
        system.wait_ready()
        system.stop()
        told = [line.split()[3] for line in log.read_text().splitlines() if line.split()[3] != "-"]
        listed = {"journal": _in_journal(system), "history": _in_history(system)}
    if found["statuses"].get("500"):
        raise RuntimeError(f"server errors: {found['statuses']}")
    return {
        **compared(told, listed),
        "answers": len(told),
        "kills": dict(killed),
        "client": found,
    }


def compared(told: list[str], listed: dict[str, Counter[str]]) -> Result:
    """How many ids that were told are missing somewhere, and how many are there more than once."""
    lost = {name: sum(one not in ids for one in told) for name, ids in listed.items()}
    doubled = {name: sum(count - 1 for count in ids.values()) for name, ids in listed.items()}
    return {
        "lost": sum(lost.values()),
        "doubled": sum(doubled.values()),
        "lost_in": lost,
        "doubled_in": doubled,
        "kept": {name: len(ids) for name, ids in listed.items()},
    }


def _kill(system: System, rng: random.Random) -> str:
    """One process, started again if nobody else does that; gives which."""
    name = "keep" if rng.random() < 0.5 else "serve"
    victims = system.victims() if name == "serve" else [system.pid("keep")]
    for victim in rng.sample(victims, min(1, len(victims))):
        with contextlib.suppress(ProcessLookupError):
            os.kill(victim, signal.SIGKILL)
    if name == "keep" or system.workers == 1:
        system.wait(name)
    if system.ended(name):
        system.start(name)
    return name


def _in_journal(system: System) -> Counter[str]:
    return Counter(record.id for record in scan(system.app().places.journal, kinds=Predicted))


def _in_history(system: System) -> Counter[str]:
    app = system.app()
    manifest = app.workspace.compact()
    files: list[Path] = list(app.history().paths(manifest, "answers/cost"))
    with duckdb.connect() as connection:
        rows = connection.execute(
            "SELECT _id FROM read_parquet(?)", [[str(file) for file in files]]
        ).fetchall()
    return Counter(row[0] for row in rows)
