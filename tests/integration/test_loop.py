"""`icekeel up` with its schedule, as real processes: ended at random, hanging, twice on one project; and it goes on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bench.decisions import chaos
from icekeel.app import App
from icekeel.cli.scaffold import scaffold
from icekeel.registry import Run

from .commands import icekeel, run

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="two workers")
PATIENCE_S = 120.0


@contextmanager
def up(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "icekeel", "up", "--port", "0", "--json", "--project", str(folder)]
    with (folder / "log.txt").open("a") as log:
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=log,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            start_new_session=True,
        )
    assert process.stdout is not None
    try:
        assert process.stdout.readline(), (folder / "log.txt").read_text()
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=PATIENCE_S)


def until(true: Callable[[], bool], folder: Path) -> None:
    end = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < end, (folder / "log.txt").read_text()[-2_000:]
        time.sleep(0.05)


def runs(folder: Path, kind: str, of: str) -> list[Run]:
    registry = App(folder).registry()
    found = [run for run in registry.runs(kind) if run.details.get("of") == of]
    registry.close()
    return found


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    scaffold(tmp_path / "shop", lambda line: None)
    return tmp_path / "shop"


def test_whatever_is_killed_nothing_acknowledged_is_lost_or_doubled() -> None:
    found = chaos.measure(seconds=7, pause_s=1.0, seed=3)
    assert found["lost"] == 0, found["lost_in"]
    assert found["doubled"] == 0, found["doubled_in"]
    assert found["unclean_stops"] == []
    assert all(found["acknowledged"].values()), found["acknowledged"]
    assert sum(found["kills"].values()) >= 3


def test_what_hangs_is_ended_with_an_alert_and_what_is_stopped_goes_on(shop: Path) -> None:
    (shop / "icekeel.toml").write_text('ingest_every = "1h"\nlongest_ingest = "1h"\n')
    orders = shop / "data" / "orders.csv"
    orders.rename(shop / "orders.csv")
    os.mkfifo(orders)  # whoever reads it waits for ever
    with up(shop):
        until(lambda: [run.status for run in runs(shop, "ingest", "Orders")] == ["running"], shop)
    assert [run.status for run in runs(shop, "ingest", "Orders")] == ["interrupted"]
    (shop / "icekeel.toml").write_text('ingest_every = "1h"\nlongest_ingest = "15s"\n')
    with up(shop):  # begins it again at once
        until(lambda: len(runs(shop, "ingest", "Orders")) == 2, shop)
        until(lambda: runs(shop, "ingest", "Orders")[-1].status == "failed", shop)
        until(lambda: [run.status for run in runs(shop, "ingest", "Deliveries")] == ["done"], shop)
    assert runs(shop, "ingest", "Orders")[-1].details["output"] == "it took longer than 15s and was ended"
    told = {one["cause"]: one for one in icekeel(shop, "alerts", "--open")}
    assert "icekeel ingest Orders" in told["ingest Orders"]["todo"]
    assert "icekeel quarantine list Deliveries" in told["source Deliveries"]["todo"]
    listed = icekeel(shop, "runs", "ingest")
    assert [(one["of"], one["status"]) for one in listed][-1] == ("Deliveries", "done")
    assert "3 quarantined" in listed[-1]["did"]
    assert icekeel(shop, "runs", "backup") == []


def test_a_second_up_on_the_same_project_ends_and_says_why(shop: Path) -> None:
    with up(shop) as first:
        second = run(shop, "up", "--port", "0")
        assert (second.returncode, first.poll()) == (1, None)
        assert "a keeper runs here already" in second.stderr


def test_back_ups_go_where_the_settings_say_and_one_that_cannot_be_made_alarms(shop: Path) -> None:
    (shop / "icekeel.toml").write_text('ingest_every = "never"\nbackup_to = "../kept"\n')
    kept = shop.parent / "kept"
    kept.write_text("a file where the folder should be")
    with up(shop):
        until(lambda: [run.status for run in runs(shop, "backup", "")] == ["failed"], shop)
        until(lambda: any(one["cause"] == "backup" for one in icekeel(shop, "alerts", "--open")), shop)
    kept.unlink()
    icekeel(shop, "backup", "--to", str(kept))
    assert json.loads(json.dumps(icekeel(shop, "backup", "list")))
