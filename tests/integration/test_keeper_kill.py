"""A keeper and a server killed with -9 at random moments: nothing is lost, nothing is doubled.

Run as a program, this file is what gets killed: `python -m tests.integration.test_keeper_kill keep|serve FOLDER`.
"""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

from icekeel.core.time import DAY, HOUR
from icekeel.journal import Decided, Predicted, Pushed, scan
from icekeel.testing.small import TRAINED_TO

from .shipping import Office, drain, kept, open_app, settled, temporary_project, windows

DAYS = 4


def keep(folder: Path) -> None:
    app = open_app(folder)
    with kept(app) as keeper:
        print("ready", flush=True)
        keeper.run(threading.Event())


def serve(folder: Path) -> None:
    """Push, ask and end the days that the journal does not hold yet, a little at a time."""
    app = open_app(folder)
    with app.online(readonly=True) as online:
        office = Office(app, online)
        done = max([TRAINED_TO, *(record.at for record in scan(app.places.journal, kinds=Predicted))])
        start = done - done % HOUR
        print("ready", flush=True)
        for hour in range(start, TRAINED_TO + DAYS * DAY, HOUR):
            office.push(hour, hour + HOUR)
            office.ask(hour, hour + HOUR)
            office.tick(hour + HOUR)
            time.sleep(0.01)
        office.close()


def spawn(what: str, folder: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tests.integration.test_keeper_kill", what, str(folder)]
    root = Path(__file__).parents[2]
    child = subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert child.stdout is not None
    assert child.stdout.readline() == b"ready\n", child.communicate()[1].decode()
    return child


def end(child: subprocess.Popen[bytes], *, kill: bool) -> None:
    if kill:
        child.kill()
    said = child.communicate()[1].decode()
    # Who has done its work may have ended in the moment before it was killed.
    assert child.returncode in ((-9, 0) if kill else (0,)), said


def test_whatever_is_killed_the_projections_are_those_of_the_journal() -> None:
    rng = random.Random(5)
    with temporary_project() as folder:
        app = open_app(folder)
        with kept(app):
            pass
        server, keeper = spawn("serve", folder), spawn("keep", folder)
        for victim in ("keep", "serve", "keep", "keep"):
            time.sleep(rng.uniform(0.02, 0.4))
            if victim == "keep":
                end(keeper, kill=True)
                keeper = spawn("keep", folder)
            elif server.poll() is None:
                end(server, kill=True)
                server = spawn("serve", folder)
        end(server, kill=False)
        end(keeper, kill=True)

        records = list(scan(app.places.journal))
        pushed = sum(len(record.rows) for record in records if isinstance(record, Pushed))
        answered = [record.id for record in records if isinstance(record, Predicted)]
        with kept(app) as last:
            drain(last)
            assert last.state.pushed == pushed > 4 * 60
            after, seen = settled(last), windows(app, last._online)
            assert last.state.now >= TRAINED_TO + DAYS * DAY
            assert max(Counter(row.id for row in after).values()) == 1
            assert {row.id for row in after} <= set(answered)
            # All are delivered within a day or so: what was asked on the first two days is settled.
            old = [
                record for record in records if isinstance(record, Predicted) and record.at < TRAINED_TO + DAY
            ]
            assert {record.id for record in old} <= {row.id for row in after}
            decisions = last._registry.decisions()
            days = Counter(run.started_at for run in last._registry.runs("daily"))
        told = Counter(record.id for record in records if isinstance(record, Decided))
        assert told == Counter(decision.id for decision in decisions)
        assert len(told) >= 2
        assert set(days.values()) == {1}
        assert sorted(days) == [TRAINED_TO + day * DAY for day in range(min_day(days), DAYS + 1)]
        shutil.rmtree(app.places.online)
        with kept(app) as again:
            drain(again)
            assert settled(again) == after
            assert windows(app, again._online) == seen
            assert again.state.pushed == pushed


def min_day(days: Counter[int]) -> int:
    return (min(days) - TRAINED_TO) // DAY


if __name__ == "__main__":
    {"keep": keep, "serve": serve}[sys.argv[1]](Path(sys.argv[2]))
