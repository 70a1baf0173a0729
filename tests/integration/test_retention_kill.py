"""Writers, and what moves and removes, killed with -9 at random moments: nothing is lost, nothing is doubled.

Run as a program, this file is what gets killed: `python -m tests.integration.test_retention_kill write|tend FOLDER`.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections import Counter
from itertools import count
from pathlib import Path

import duckdb
import msgspec
import pytest

from icekeel.app import App
from icekeel.core.ids import new_id
from icekeel.core.time import wall_clock
from icekeel.data.answers import Answers, Wanted, answers_in
from icekeel.data.compaction import recorded
from icekeel.data.relations import parquet
from icekeel.journal import Decided, Positions, Predicted, Pushed, Value, Writer, scan
from icekeel.journal.segments import segment_sizes
from icekeel.operations.upkeep.retention import Kept, Retention
from icekeel.testing.small import write_small_project
from tests.unit.journal.examples import PREDICTED

from .commands import PATIENCE_S

KILLS = int(os.environ.get("JOURNAL_KILLS", "12"))
"""`JOURNAL_KILLS=200 pytest tests/integration/test_retention_kill.py` is the long run."""
FEATURES = {"backlog": 1.5, "depot": "north"}


def write(folder: Path) -> None:
    """Answers and events without end; each number is printed once the journal has both."""
    with Writer(folder / ".icekeel" / "journal", "serve", clock=wall_clock, roll_bytes=30_000) as writer:
        print("ready", flush=True)
        for _ in count():
            now = wall_clock()
            one = new_id(now)
            row: dict[str, Value] = {
                "scan_id": one,
                "depot": "north",
                "backlog": 1.0,
                "scanned_at": now,
                "booked_at": now,
            }
            writer.append_many(
                [
                    msgspec.structs.replace(PREDICTED, at=now, id=one, model="late", features=FEATURES),
                    Pushed(at=now, table="Scans", rows=[row]),
                ]
            )
            print(one, flush=True)
            time.sleep(0.001)


def tend(folder: Path) -> None:
    app = App(folder)
    registry = app.registry()
    with app.journal("keep") as journal:
        kept = Kept(journal=1)
        retention = Retention(app.workspace, registry, journal, kept=kept)
        print("ready", flush=True)
        while True:
            projected = app.history().manifest().journal
            retention.remove(projected, at=wall_clock(), sync=lambda: None)


def spawn(what: str, folder: Path, said: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tests.integration.test_retention_kill", what, str(folder)]
    before = said.stat().st_size if said.exists() else 0
    with said.open("ab") as output:
        child = subprocess.Popen(command, cwd=Path(__file__).parents[2], stdout=output)
    while b"ready\n" not in said.read_bytes()[before:]:
        assert child.poll() is None
        time.sleep(0.01)
    return child


def kill(child: subprocess.Popen[bytes]) -> None:
    child.kill()
    assert child.wait() == -9


def removed(folder: Path) -> set[str]:
    """Segments that were moved and are gone."""
    app = App(folder)
    return app.history().manifest().journal.keys() - segment_sizes(app.places.journal).keys()


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_whatever_is_killed_each_record_is_there_once(tmp_path: Path) -> None:
    folder, said = tmp_path / "small", tmp_path / "said"
    write_small_project(folder)
    rng = random.Random(11)
    running = {what: spawn(what, folder, said.with_name(what)) for what in ("write", "tend")}
    try:
        for _ in range(KILLS):
            time.sleep(rng.uniform(0.0, 0.5))
            what = rng.choice(("write", "tend", "tend"))
            kill(running[what])
            running[what] = spawn(what, folder, said.with_name(what))
        deadline = time.monotonic() + PATIENCE_S
        while not removed(folder):
            assert time.monotonic() < deadline, "nothing was removed"
            time.sleep(0.1)
    finally:
        for child in running.values():
            kill(child)

    app = App(folder)
    history, journal = app.history(), app.places.journal
    manifest = history.manifest()
    since = Positions(manifest.journal)
    told = [line for line in said.with_name("write").read_text().split() if line != "ready"]
    answered = Counter(
        one.id
        for file in history.files("answers/late")
        for batch in answers_in("late", file)
        for one in batch
    )
    answered.update(one.id for one in scan(journal, kinds=Predicted, since=since))
    happened = Counter(_stored(app, "Scans"))
    happened.update(
        str(row["scan_id"]) for one in scan(journal, kinds=Pushed, since=since) for row in one.rows
    )
    assert set(told) <= set(answered), "lost"
    assert set(told) <= set(happened), "lost"
    assert {*answered.values()} == {*happened.values()} == {1}, "doubled"
    answers = Answers(history, journal)
    assert set(answers.many(rng.sample(told, 20))) <= set(told)
    assert [one.id for one in answers.find(Wanted(limit=1_000))] == sorted(answered, reverse=True)[:1_000]
    # Each decision to remove is kept although the journal that it was written in is gone.
    registry = app.registry()
    decided = [one.id for one in recorded(history, manifest, Decided)]
    decided += [one.id for one in scan(journal, kinds=Decided, since=since)]
    assert max(Counter(decided).values()) == 1
    known = {one.id for one in registry.decisions("journal")}
    assert set(decided) <= known
    assert len(known) - len(decided) <= KILLS, "a crash between registry and journal, which the keeper mends"
    registry.close()


def _stored(app: App, table: str) -> list[str]:
    with duckdb.connect() as connection:
        files = parquet(app.history().files(table))
        return [row[0] for row in connection.execute(f"SELECT scan_id FROM {files}").fetchall()]


if __name__ == "__main__":
    {"write": write, "tend": tend}[sys.argv[1]](Path(sys.argv[2]))
