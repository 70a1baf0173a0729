"""Commands of Icekeel in processes of their own, on a project that lies elsewhere in time."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from icekeel.core.time import wall_clock

PATIENCE_S = 180.0


@contextmanager
def command(
    folder: Path, name: str, *arguments: str, now: int | None = None
) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    """A command that keeps running, on the project's time if that is given, and what it says once it is ready."""
    shift = [] if now is None else [f"--shift={now - wall_clock()}"]
    called = [sys.executable, "-m", "icekeel", name, "--project", str(folder), *shift, *arguments]
    process = subprocess.Popen(
        called,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    try:
        assert process.stdout is not None
        text = process.stdout.readline()
        assert text, f"{name} ended"
        yield process, json.loads(text)
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=PATIENCE_S)


def run(folder: Path, *arguments: str, given: str = "") -> subprocess.CompletedProcess[str]:
    called = [sys.executable, "-m", "icekeel", *arguments, "--project", str(folder)]
    return subprocess.run(
        called, input=given, capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )


def icekeel(folder: Path, *arguments: str, status: int = 0) -> Any:
    done = run(folder, *arguments, "--json")
    assert done.returncode == status, done.stderr
    return json.loads(done.stdout)


def refused(folder: Path, *arguments: str) -> Any:
    """The code of the error that a command ends with."""
    return json.loads(run(folder, *arguments, "--json").stderr.splitlines()[-1])["error"]


def call(port: int, token: str, path: str, body: Any = None) -> tuple[int, str]:
    """Status and body that a server answers with; where there is a body to be sent, to a POST."""
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)) as connection:
        method, sent = ("GET", None) if body is None else ("POST", json.dumps(body))
        connection.request(method, path, sent, headers)
        reply = connection.getresponse()
        return reply.status, reply.read().decode()


def until(what: Callable[[], Any], why: str = "it does not come about") -> Any:
    end = time.monotonic() + PATIENCE_S
    while not (found := what()):
        assert time.monotonic() < end, why
        time.sleep(0.02)
    return found
