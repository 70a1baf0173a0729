"""A real server process: swapped under load, stopped in the middle of a request, started before its keeper."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from icekeel.app import App
from icekeel.journal import Predicted, scan, verify
from icekeel.testing.small import REQUEST, train_small, write_small_project

from .shipping import two_versions

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("served")
    two_versions(folder)
    return folder


@contextmanager
def running(folder: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A server process and its port."""
    command = [sys.executable, "-m", "icekeel", "serve", "--project", str(folder), "--port", "0"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    try:
        assert process.stdout is not None
        text = ""
        while "}" not in text:
            line = process.stdout.readline()
            assert line, "the server ended before it listened"
            text += line
        yield process, json.loads(text)["listening"]
    finally:
        process.kill()
        process.communicate()


class Caller(threading.Thread):
    """Asks on one keep-alive connection until it is told to stop."""

    def __init__(self, port: int, token: str, name: str) -> None:
        super().__init__(name=name)
        self.stop = threading.Event()
        self.answers: list[dict[str, Any]] = []
        self.failures: list[str] = []
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        self._headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}

    def ask(self, number: int) -> None:
        body = json.dumps({**REQUEST, "parcel_id": f"{self.name}-{number}"})
        self._connection.request("POST", "/v1/predict/late", body, self._headers)
        reply = self._connection.getresponse()
        text = reply.read()
        if reply.status == 200:
            self.answers.append(json.loads(text))
        else:
            self.failures.append(f"{reply.status} {text!r}")

    def run(self) -> None:
        number = 0
        while not self.stop.is_set():
            try:
                self.ask(number)
            except OSError as error:
                self.failures.append(repr(error))
                return
            number += 1
        self.close()

    def close(self) -> None:
        self._connection.close()


def test_versions_change_under_load_without_a_failed_request(project: Path) -> None:
    app = App(project)
    token = app.access().create("load", ("predict",))
    registry = app.registry()
    with running(project) as (process, port):
        callers = [Caller(port, token, f"caller{n}") for n in range(3)]
        for caller in callers:
            caller.start()
        served = []
        for turn in range(10):
            version = f"late-{2 - turn % 2}"
            registry.set_alias("late", "champion", version, reason="test", by="test", override="test")
            watcher = Caller(port, token, f"watcher{turn}")
            for number in range(10_000):  # each asks the server, which takes over within its next look
                watcher.ask(number)
                if watcher.answers[-1]["version"] == version:
                    break
            watcher.close()
            served.append(watcher.answers[-1]["version"])
            assert watcher.failures == []
        for caller in callers:
            caller.stop.set()
            caller.join()
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
    registry.close()
    assert served == ["late-2", "late-1"] * 5
    assert [caller.failures for caller in callers] == [[], [], []]
    given = {answer["prediction_id"]: answer["version"] for caller in callers for answer in caller.answers}
    assert set(given.values()) == {"late-1", "late-2"}
    journaled = [entry for entry in scan(project / ".icekeel" / "journal") if isinstance(entry, Predicted)]
    versions = {entry.id: entry.version for entry in journaled}
    assert len(versions) == len(journaled)
    assert given.items() <= versions.items()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_request_under_way_is_finished_before_the_end(
    project: Path, number: signal.Signals, capfd: pytest.CaptureFixture[str]
) -> None:
    token = App(project).access().create("stop", ("predict",))
    body = json.dumps(REQUEST).encode()
    head = (
        f"POST /v1/predict/late HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {token}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\nExpect: 100-continue\r\n\r\n"
    )
    with running(project) as (process, port), socket.create_connection(("127.0.0.1", port), 20) as caller:
        caller.sendall(head.encode())
        assert caller.recv(100).startswith(b"HTTP/1.1 100")  # the request has begun
        process.send_signal(number)
        _wait_until_closed(port)
        caller.sendall(body)
        text = b""
        while part := caller.recv(10_000):
            text += part
        assert text.startswith(b"HTTP/1.1 200")
        assert process.wait(10) == 0
    assert "leak" not in capfd.readouterr().err  # what DuckDB says of objects that are never collected
    given = json.loads(text.partition(b"\r\n\r\n")[2])["prediction_id"]
    journal = project / ".icekeel" / "journal"
    assert given in {entry.id for entry in scan(journal) if isinstance(entry, Predicted)}
    verify(journal)


def _wait_until_closed(port: int) -> None:
    """Until nobody listens any more: connecting is what tells."""
    for _ in range(100_000):
        try:
            socket.create_connection(("127.0.0.1", port), 20).close()
        except ConnectionResetError:
            continue  # the listening socket was closed between the two packets of a connection
        except ConnectionRefusedError:
            return
    raise AssertionError("the server goes on listening")


def test_it_starts_before_its_keeper_and_answers_once_that_has_run(tmp_path: Path) -> None:
    write_small_project(tmp_path)
    train_small(tmp_path)
    app = App(tmp_path)
    token = app.access().create("early", ("predict",))
    with running(tmp_path) as (process, port):
        caller = Caller(port, token, "early")
        caller.ask(0)
        assert caller.failures[0].startswith("503")
        registry = app.registry()
        with app.journal("keep") as journal:
            keeper = app.keeper(registry, journal)
            keeper.step()
            keeper.close()
        registry.close()
        for number in range(10_000):
            caller.ask(number)
            if caller.answers:
                break
        caller.close()
        assert caller.answers
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
