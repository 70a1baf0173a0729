"""`icekeel up`: the server and the keeper as two processes, started, watched and stopped together."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import IO, Any

from icekeel.core.errors import Fault, StateError
from icekeel.define import Model, load_project
from icekeel.define.fields import Field
from icekeel.settings import load_settings

from .output import print_line, say

STOP_S = 15
STEADY_S = 30
MOST_DEATHS = 5
LONGEST_PAUSE_S = 60
_POLL_S = 0.1


class Child:
    """A command of Icekeel's in a process of its own.

    Args:
        name: The command: `serve`.
        arguments: What follows it.
        vital: Without it nothing works; any other is tried again for ever.

    Attributes:
        ready: What it said once it was ready.
    """

    def __init__(self, name: str, arguments: Sequence[str], *, vital: bool) -> None:
        self.name = name
        self._vital = vital
        self.ready: dict[str, Any] = {}
        self._command = [sys.executable, "-m", "icekeel", name, *arguments]
        self._process: subprocess.Popen[str] | None = None
        self._said: queue.Queue[str] = queue.Queue()
        self._started = 0.0
        self._again = 0.0
        self._deaths = 0

    @property
    def pid(self) -> int:
        """Its process; 0 while there is none."""
        return self._process.pid if self._process else 0

    def start(self) -> None:
        """Start it; the terminal's Ctrl-C reaches it through `stop` only."""
        environment = {"OMP_NUM_THREADS": "1", **os.environ}
        self._process = subprocess.Popen(
            self._command, stdout=subprocess.PIPE, text=True, env=environment, start_new_session=True
        )
        self._started = time.monotonic()
        if self._process.stdout is not None:
            reader = threading.Thread(target=_forward, args=(self._process.stdout, self._said), daemon=True)
            reader.start()

    def wait_ready(self, stop: threading.Event) -> None:
        """Wait for its first line, as long as it lives: a keeper may have much to make again.

        Raises:
            StateError: it ended before.
        """
        while not stop.is_set() and not self.ready:
            with suppress(queue.Empty):
                self.ready = json.loads(self._said.get(timeout=_POLL_S))
                continue
            if self._ended() is not None and self._said.empty():
                what = f"`icekeel {self.name}` did not start"
                raise StateError(Fault("not_started", what, got=f"exit status {self._ended()}"))

    def revive(self) -> None:
        """Start it again where it died: after 1, 2, 4 ... seconds, at most a minute.

        Raises:
            StateError: it is vital and died too often in short succession.
        """
        status, now = self._ended(), time.monotonic()
        if status is None:
            return
        if not self._again:
            self._deaths = 1 if now - self._started > STEADY_S else self._deaths + 1
            if self._vital and self._deaths > MOST_DEATHS:
                what = f"`icekeel {self.name}` died {self._deaths} times in short succession"
                raise StateError(Fault("keeps_dying", what, got=f"exit status {status}"))
            pause = min(2 ** (self._deaths - 1), LONGEST_PAUSE_S)
            goes_on = "" if self._vital else ", the rest goes on"
            say(f"{self.name} ended with exit status {status}{goes_on}; starting it again in {pause} s")
            self._again = now + pause
        elif now >= self._again:
            self._again = 0.0
            self.start()
            say(f"{self.name} runs again as process {self.pid}")

    def stop(self) -> None:
        """Ask it to finish what it has begun, and wait until it has."""
        if self._process is None or self._ended() is not None:
            return
        self._process.terminate()
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            say(f"{self.name} does not stop; ending it")
            self._process.kill()
            self._process.wait()

    def _ended(self) -> int | None:
        return None if self._process is None else self._process.poll()


def _forward(stream: IO[str], said: queue.Queue[str]) -> None:
    with stream:
        for line in stream:
            said.put(line)


def run_together(folder: Path, *, port: int | None, shift: int, as_json: bool) -> None:
    """Run the server and the keeper until Ctrl-C or SIGTERM.

    Args:
        folder: The project.
        port: Where to listen; the setting's by default.
        shift: Microseconds that both add to the machine's time.
        as_json: Say where it listens as one line of JSON.

    Raises:
        StateError: one of them does not start, or the server does not stay alive; the other is stopped. Without the
            keeper the server answers on, from what was known when it died.
    """
    settings = load_settings(folder, {"port": port})
    models = load_project(folder.resolve()).models
    common = ["--project", str(folder), "--shift", str(shift)]
    keeper = Child("keep", common, vital=False)
    server = Child("serve", [*common, "--port", str(settings.port)], vital=True)
    with _signalled() as stop:
        try:
            for child in (keeper, server):  # the server reads what the keeper makes
                say(f"starting {child.name}")
                child.start()
                child.wait_ready(stop)
            if not stop.is_set():
                address = f"http://{settings.host}:{server.ready['listening']}"
                _announce(address, keeper, server, as_json=as_json)
                if not as_json:
                    _explain(address, folder, next(iter(models.values())), auth=settings.auth)
            while not stop.wait(_POLL_S):
                keeper.revive()
                server.revive()
        finally:
            server.stop()
            keeper.stop()
    say("stopped")


@contextmanager
def _signalled() -> Iterator[threading.Event]:
    """An event that Ctrl-C and SIGTERM set; afterwards they mean what they meant before."""
    stop = threading.Event()

    def ask(number: int, frame: FrameType | None) -> None:
        del number, frame
        stop.set()

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _announce(address: str, keeper: Child, server: Child, *, as_json: bool) -> None:
    if as_json:
        print_line({"address": address, "serve": server.pid, "keep": keeper.pid})
    else:
        print(f"{address}  (server: process {server.pid}, keeper: process {keeper.pid}; Ctrl-C stops both)")


def _explain(address: str, folder: Path, model: Model, *, auth: bool) -> None:
    """The next commands, ready to be copied."""
    header = ' -H "Content-Type: application/json"' + (' -H "Authorization: Bearer $TOKEN"' if auth else "")
    here = "" if folder == Path(".") else f" --project {folder}"
    if auth:
        print(f"TOKEN=...  # from icekeel init; icekeel token NAME --scope admin{here} makes another")
    print(f"curl -s {address}/v1/predict/{model.name}{header} -d '{example_request(model)}'", flush=True)
    try:
        with urllib.request.urlopen(f"{address}/readyz", timeout=10):
            pass
    except urllib.error.HTTPError:
        say(f"no version serves {model.name} yet: icekeel train {model.name}{here}")
    except OSError as error:
        say(f"the server does not answer: {error}")


def example_request(model: Model) -> str:
    """A request that passes the declared limits, as JSON; the categories are made up where none are declared."""
    fields = model.request.icekeel_fields.values()
    return json.dumps({field.name: _example(field) for field in fields if not field.limits.optional})


def _example(field: Field) -> Any:
    limits = field.limits
    if field.kind == "num":
        return limits.low if limits.low is not None else limits.high if limits.high is not None else 1
    if field.kind == "flag":
        return True
    if field.kind == "time":
        return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    return limits.allowed[0] if limits.allowed else f"{field.name}-1"
