"""Several real worker processes on one port: killed, swapped, stopped, and left by their parent."""

from __future__ import annotations

import http.client
import json
import os
import random
import signal
import sys
import threading
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from icekeel.app import App
from icekeel.journal import Predicted, scan
from icekeel.testing.small import REQUEST

from .commands import PATIENCE_S, call, command, run, until
from .shipping import two_versions

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="SO_REUSEPORT")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("workers")
    app = two_versions(folder)
    (folder / "token").write_text(app.access().create("asker", ("admin",)))
    return folder


class Asker:
    """Asks one question or looks at one page on a connection of its own."""

    def __init__(self, folder: Path, port: int) -> None:
        token = (folder / "token").read_text()
        self._port, self._token = port, token

    def get(self, path: str, body: Any = None) -> str:
        status, text = call(self._port, self._token, path, body)
        assert status == 200, text
        return text

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.get("/v1/status"))
        return found

    def predict(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.get("/v1/predict/late", {**REQUEST, "parcel_id": name}))
        return found

    def requests(self) -> float:
        """Predictions that all workers have counted."""
        return sum(
            float(line.rpartition(" ")[2])
            for line in self.get("/metrics").splitlines()
            if line.startswith('icekeel_http_requests_total{kind="predict"')
        )


def lives(pid: int) -> bool:
    """Whether a thread of it is left: until the last is gone its socket takes connections, and then resets them."""
    try:
        states = [
            stat.read_text().rpartition(")")[2].split()[0]
            for stat in Path(f"/proc/{pid}/task").glob("*/stat")
        ]
    except OSError:
        return lives(pid)  # one went meanwhile
    return any(state not in "ZX" for state in states)


def test_two_workers_answer_as_one_server_also_when_one_is_killed(project: Path) -> None:
    with command(project, "serve", "--port", "0", "--workers", "2") as (process, said):
        ask = Asker(project, said["listening"])
        assert len(set(said["workers"])) == 2
        until(lambda: len(ask.status()["workers"]) == 2)
        for number in range(40):
            ask.predict(f"before-{number}")
        seen = [0.0]
        while seen[-1] < 40:  # what the other worker has counted is known here once it has written that
            seen.append(ask.requests())
        assert seen == sorted(seen)
        assert [ask.requests() for _ in range(20)] == [40] * 20
        os.kill(said["workers"][0], signal.SIGKILL)
        until(lambda: not lives(said["workers"][0]))
        assert ask.requests() >= 40
        until(lambda: {one["pid"] for one in ask.status()["workers"]} - set(said["workers"]) != set())
        status = ask.status()
        assert said["workers"][1] in {one["pid"] for one in status["workers"]}
        assert not [problem for problem in status["problems"] if problem.startswith("workers")]
        assert ask.requests() >= 40
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_S) == 0
        assert not any(lives(one["pid"]) for one in status["workers"])
    assert list((project / ".icekeel" / "workers").iterdir()) == []


def test_every_worker_follows_a_promotion_and_a_roll_back_within_a_second(project: Path) -> None:
    registry = App(project).registry()
    with command(project, "serve", "--port", "0", "--workers", "2") as (_, said):
        ask = Asker(project, said["listening"])
        for version in ("late-2", "late-1"):
            registry.set_alias("late", "champion", version, reason="test", by="test", override="test")

            def followed(version: str = version) -> bool:
                model = ask.status()["models"]["late"]
                return bool(model["champion"] == version and model["workers"] == "2 of 2")

            until(followed)
            assert {ask.predict(f"swap-{number}")["version"] for number in range(20)} == {version}
    registry.close()


def test_workers_end_when_the_process_that_started_them_is_killed(project: Path) -> None:
    with command(project, "serve", "--port", "0", "--workers", "2") as (process, said):
        process.kill()
        process.wait()
        until(lambda: not any(lives(pid) for pid in said["workers"]))


def test_a_second_signal_ends_everything_at_once(project: Path) -> None:
    with command(project, "serve", "--port", "0", "--workers", "2") as (process, said):
        for pid in said["workers"]:
            os.kill(pid, signal.SIGSTOP)  # they do not stop when asked
        process.send_signal(signal.SIGTERM)
        time.sleep(0.5)  # the two must not come as one
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_S) == 128 + signal.SIGTERM
        until(lambda: not any(lives(pid) for pid in said["workers"]))


def test_a_second_server_does_not_share_the_port_of_the_first(project: Path) -> None:
    with command(project, "serve", "--port", "0", "--workers", "2") as (_, said):
        for workers in ("1", "2"):
            done = run(project, "serve", "--port", str(said["listening"]), "--workers", workers)
            assert done.returncode != 0
            assert "in use" in done.stderr


KILLS = 12


def test_whatever_is_killed_under_load_each_answer_given_is_in_the_journal_once(project: Path) -> None:
    rng = random.Random(11)
    given: list[str] = []
    stop = threading.Event()

    def load(ask: Asker, name: str) -> None:
        number = 0
        while not stop.is_set():
            with suppress(OSError, http.client.HTTPException):  # its worker was killed before it had answered
                given.append(ask.predict(f"{name}-{number}")["prediction_id"])
            number += 1

    with command(project, "up", "--port", "0", "--workers", "2", "--json") as (process, said):
        ask = Asker(project, int(said["address"].rpartition(":")[2]))
        callers = [threading.Thread(target=load, args=(ask, f"load{at}")) for at in range(3)]
        for caller in callers:
            caller.start()
        for _ in range(KILLS):
            time.sleep(rng.uniform(0, 0.3))
            os.kill(rng.choice(_children(process.pid)), signal.SIGKILL)
            answered = len(given)
            until(lambda: len(_children(process.pid)) == 3)
            until(lambda answered=answered: len(given) > answered + 5)  # type: ignore[misc]
        stop.set()
        for caller in callers:
            caller.join()
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_S) == 0
    journaled = Counter(
        record.id for record in scan(project / ".icekeel" / "journal") if isinstance(record, Predicted)
    )
    assert set(given) <= set(journaled)
    assert max(journaled.values()) == 1
    assert len(given) == len(set(given))


def _children(pid: int) -> list[int]:
    """Children of a process that live."""
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [child for child in map(int, text.split()) if lives(child)]
