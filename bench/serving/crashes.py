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
PAUSE_BETWEEN_S = 0.003
"""Of each of 8 connections between an answer and its next request."""
PAUSE_S = 4.0
"""At most so long, drawn evenly, after the processes were back does the next kill come."""
HURRIED = 0.25
"""Share of the kills that come at once, while processes start."""


def measure(kills: int = KILLS, workers: int = WORKERS) -> Result:
    """Answers that a client has and the journal or history has not, or has twice."""
    rng = random.Random(6)
    killed: Counter[str] = Counter()
    with running(workers=workers) as system:
        log = system.folder / "answers.log"
        load = Load.on(system, 3_600, pause_s=PAUSE_BETWEEN_S, log=str(log)).start()
        while sum(killed.values()) < kills:
            if rng.random() > HURRIED:
                system.wait_ready()
            time.sleep(rng.uniform(0, PAUSE_S))
            killed[_kill(system, rng)] += 1
        system.wait_ready()
        time.sleep(1)
        load.terminate()
        found = result_of(load)
        system.stop()
        told = [line.split()[3] for line in log.read_text().splitlines() if line.split()[3] != "-"]
        listed = {"journal": _in_journal(system), "history": _in_history(system)}
    return {**compared(told, listed), "answers": len(told), "kills": dict(killed), "client": found}


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
    """One process, started again where nobody else does that; gives which."""
    workers = system.victims()
    name = "serve" if workers and rng.random() < 0.5 else "keep"
    victim = rng.choice(workers) if name == "serve" else system.pid("keep")
    with contextlib.suppress(ProcessLookupError):
        os.kill(victim, signal.SIGKILL)
    if name == "keep" or system.workers == 1:
        system.wait(name)
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
