"""The processes that are measured: a server and a keeper over a copy of the bench project, on a shifted clock."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import icekeel
from bench.children import CACHE
from icekeel.app import App
from icekeel.core.ids import digest
from icekeel.core.time import wall_clock

from . import shop

PATH = "/v1/predict/cost"
TICKS = os.sysconf("SC_CLK_TCK")


class System:
    """A keeper and a server, each restarted at will.

    Attributes:
        folder: The project that they run on, a copy.
        port, token: How to reach the server.
    """

    def __init__(self, folder: Path, workers: int) -> None:
        self.folder = folder
        self.port = free_port()
        self.token = (folder / "token.txt").read_text()
        self.workers = workers
        self._shift = shop.shift()
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    @property
    def bodies(self) -> Path:
        """A request in each line."""
        return self.folder / "bodies.jsonl"

    @property
    def address(self) -> str:
        """Of the server."""
        return f"http://127.0.0.1:{self.port}"

    def app(self) -> App:
        """The project, opened, on the clock of its processes."""
        return App(self.folder, clock=lambda: wall_clock() + self._shift)

    def start(self, name: str) -> None:
        """Start `serve` or `keep`; it is not waited for."""
        command = [
            sys.executable,
            "-m",
            "icekeel",
            name,
            "--project",
            str(self.folder),
            "--shift",
            str(self._shift),
        ]
        if name == "serve":
            command += ["--port", str(self.port)]
        with (self.folder / f"{name}.log").open("a") as log:
            environment = {**os.environ, "ICEKEEL_WORKERS": str(self.workers), "OMP_NUM_THREADS": "1"}
            self._running[name] = subprocess.Popen(
                command, stdout=log, stderr=log, env=environment, start_new_session=True
            )

    def pid(self, name: str) -> int:
        """Of a process that was started."""
        return self._running[name].pid

    def victims(self) -> list[int]:
        """The processes that answer requests: the workers, or the server itself where it is the only one."""
        serve = self.pid("serve")
        return family(serve)[1:] if self.workers > 1 else [serve]

    def wait(self, name: str) -> None:
        """Until a process has ended, however it ended."""
        self._running[name].wait()

    def ended(self, name: str) -> bool:
        """Whether a process has ended."""
        return self._running[name].poll() is not None

    def wait_ready(self, limit_s: float = 90) -> None:
        """Until the server answers that it is ready."""
        end = time.monotonic() + limit_s
        while True:
            try:
                with urllib.request.urlopen(f"{self.address}/readyz", timeout=5):
                    return
            except OSError:
                if time.monotonic() > end or self._running["serve"].poll() is not None:
                    log = (self.folder / "serve.log").read_text(errors="replace")[-3_000:]
                    raise RuntimeError(f"the server is not ready: {log}") from None
                time.sleep(0.02)

    def get(self, path: str) -> bytes:
        """What a path answers."""
        return self.send(path, None)

    def send(self, path: str, body: Any) -> bytes:
        """What a path answers to a JSON body, or to a GET where there is none."""
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.address}{path}", data, headers)
        with urllib.request.urlopen(request, timeout=60) as reply:
            return bytes(reply.read())

    def stop(self) -> None:
        """End both, the server first."""
        for name in ("serve", "keep"):
            if (process := self._running.get(name)) is not None and process.poll() is None:
                process.terminate()
                try:
                    process.wait(20)
                except subprocess.TimeoutExpired:
                    for pid in reversed(family(process.pid)):
                        with contextlib.suppress(ProcessLookupError):
                            os.kill(pid, signal.SIGKILL)
                    process.wait()


@contextmanager
def running(*, workers: int = 1) -> Iterator[System]:
    """A server and a keeper over a fresh copy of the project, which is removed afterwards."""
    with copied() as folder:
        system = System(folder, workers)
        try:
            system.start("keep")
            system.start("serve")
            system.wait_ready()
            yield system
        finally:
            system.stop()


@contextmanager
def copied() -> Iterator[Path]:
    """A copy of the project, which is made anew where the code has changed since."""
    made = CACHE / f"serving-{_code()}"
    if not made.exists():
        for old in CACHE.glob("serving-*"):
            shutil.rmtree(old)
        draft = CACHE / "serving-draft"
        with contextlib.redirect_stdout(sys.stderr):
            shop.make(draft)
        draft.rename(made)
    with tempfile.TemporaryDirectory(dir=CACHE) as folder:
        yield Path(shutil.copytree(made, Path(folder) / "project"))


def _code() -> str:
    """A digest of the package's code and of what makes the project."""
    own = [Path(str(shop.__file__)), Path(str(shop.__file__)).with_name("project.py")]
    files = [*sorted(Path(str(icekeel.__file__)).parent.rglob("*.py")), *own]
    return digest(b"".join(file.read_bytes() for file in files))[:12]


def family(pid: int) -> list[int]:
    """A process and its descendants, parents first."""
    found = [pid]
    for parent in found:
        with contextlib.suppress(OSError):
            for task in Path(f"/proc/{parent}/task").iterdir():
                found += [int(child) for child in (task / "children").read_text().split()]
    return found


def cpu_s(pid: int) -> float:
    """User and system CPU seconds so far of a process and its descendants, all threads."""
    total = 0
    for one in family(pid):
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
            total += int(fields[11]) + int(fields[12])
    return total / TICKS


def free_port() -> int:
    """A port of loopback that nobody listens on."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])
