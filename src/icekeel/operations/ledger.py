"""The ledger of runs, told to people; and what a training leaves where it is killed.

What the keeper begins it also follows (`runs`). Of a training as such, whoever began it, a file is locked while it
lives: the system lets go of the lock with the process, however that ends, and whoever looks sees that.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from icekeel.core.files import alone, locked
from icekeel.core.ids import new_id
from icekeel.core.time import DAY, format_second
from icekeel.registry import Run

from .runs import KINDS
from .snapshots import TRAINING

DAILY = "daily"
LISTED = (*KINDS, TRAINING, DAILY)
"""Kinds of runs: those of the schedule; a training as such, also by hand; the duties of a day."""

ALIVE = "alive"
"""Detail of a run that is under way: the file whose lock its process holds."""


@contextmanager
def alive(folder: Path, at: int) -> Iterator[str]:
    """The name of a file in a folder of locks, locked in here: by it others know that what goes on here goes on."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    name = f"{new_id(at)}.{ALIVE}"
    with locked(folder / name):
        try:
            yield name
        finally:
            (folder / name).unlink(missing_ok=True)


def as_known(runs: Sequence[Run], folder: Path) -> list[Run]:
    """Runs as they are: a training whose process is gone without a word was killed, nobody knows when.

    Args:
        folder: Of the locks.
    """
    return [_as_known(run, folder) for run in runs]


def _as_known(run: Run, folder: Path) -> Run:
    name = str(run.details.get(ALIVE, ""))
    if run.status != "running" or not name or not _free(folder / name):
        return run
    why = "its process was killed, or the machine went down"
    return replace(run, status="killed", details={**run.details, "why": why})


def _free(lock: Path) -> bool:
    if not lock.exists():
        return True
    with alone(lock) as free:
        return free


def told(run: Run) -> str:
    """What a run did, or the end of what it said, on one line."""
    details = run.details
    if run.kind == DAILY:
        return f"duties of {format_second(int(details['day']) * DAY)[:10]}"
    if "findings" in details:
        blocking = [str(one["audit"]) for one in details["findings"] if one["verdict"] == "block"]
        count = len(details["findings"])
        return f"audits: {count}, {'blocked by ' + ', '.join(blocking) if blocking else 'none blocks'}"
    made = [str(details[name]) for name in ("did", "version", "why") if details.get(name)]
    if not made and run.status == "failed":
        made = str(details.get("output", "")).splitlines()[-1:]
    reason = str(details.get("reason", ""))
    return "; ".join([*made, *([f"reason: {reason}"] if reason else [])])
