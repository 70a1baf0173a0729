"""Several processes as one: serving workers and the keeper, started, watched and stopped together."""

from __future__ import annotations

import errno
import json
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import IO, Any

from icekeel.core.errors import Fault, StateError
from icekeel.define import Model, load_project
from icekeel.define.fields import Field
from icekeel.settings import Settings

from .output import print_line, say

STOP_S = 15
PATIENCE_S = 60
"""Seconds after which a worker that has not come up is ended, and tried again."""
STEADY_S = 3
"""What has lived so long is started again at once."""
MOST_DEATHS = 5
LONGEST_PAUSE_S = 60
_POLL_S = 0.1


class Child:
    """A command of Icekeel's in a process of its own.

    Args:
        name: The command: `serve`.
        arguments: What follows it.
        vital: Where it dies again and again and was never ready, nothing works; any other is tried again for ever.
        label: What people call it; its name by default.

    Attributes:
        ready: What it said once it was ready.
    """

    def __init__(self, name: str, arguments: Sequence[str], *, vital: bool, label: str = "") -> None:
        self.name = label or f"icekeel {name}"
        self._vital = vital
        self.ready: dict[str, Any] = {}
        self._command = [sys.executable, "-m", "icekeel", name, *arguments]
        self._process: subprocess.Popen[str] | None = None
        self._said: queue.Queue[str] = queue.Queue()
        self._started = 0.0
        self._again = 0.0
        self._deaths = 0
        self._stood = False

    @property
    def pid(self) -> int:
        """Its process; 0 while there is none."""
        return self._process.pid if self._process else 0

    def start(self) -> None:
        """Start it; the terminal's Ctrl-C reaches it through `stop` only.

        Its standard input is a pipe that nobody writes to and that ends with this process, however that ends.
        """
        environment = {"OMP_NUM_THREADS": "1", **os.environ}
        self._said, self.ready = queue.Queue(), {}
        self._process = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
            start_new_session=True,
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
        while not stop.is_set() and not self._is_ready(_POLL_S):
            if self._ended() is not None and self._said.empty():
                what = f"{self.name} did not start"
                raise StateError(Fault("not_started", what, got=f"exit status {self._ended()}"))

    def _is_ready(self, wait_s: float = 0.0) -> bool:
        if not self.ready:
            with suppress(queue.Empty):
                self.ready = json.loads(self._said.get(wait_s > 0, wait_s))
                self._stood = True
        return bool(self.ready)

    def revive(self) -> None:
        """Start it again where it died: at once if it had lived a while, else after 1, 2, 4 ... seconds, at most a minute.

        One that does not become ready in time is ended first; the keeper, which is not vital, takes what time it needs.

        Raises:
            StateError: it is vital and died too often in short succession, and was never ready since this process began.
        """
        status, now = self._ended(), time.monotonic()
        if status is None:
            if self._vital and not self._is_ready() and now - self._started > PATIENCE_S and self._process:
                say(f"{self.name}, process {self.pid}, is not ready after {PATIENCE_S} s; ending it")
                self._process.kill()
            return
        if not self._again:
            came_up = self._is_ready()
            self._deaths = 0 if came_up and now - self._started > STEADY_S else self._deaths + 1
            if self._vital and not self._stood and self._deaths > MOST_DEATHS:
                what = f"{self.name} died {self._deaths} times in short succession"
                raise StateError(Fault("keeps_dying", what, got=f"exit status {status}"))
            pause = min(2 ** (self._deaths - 1), LONGEST_PAUSE_S) if self._deaths else 0
            say(
                f"{self.name} ended with exit status {status}, the rest goes on; starting it again in {pause} s"
            )
            self._again = now + pause
        if now >= self._again:
            self._again = 0.0
            self.start()
            say(f"{self.name} runs again as process {self.pid}")

    def ask_to_stop(self) -> None:
        """Ask it to finish what it has begun."""
        if self._process is not None and self._ended() is None:
            self._process.terminate()

    def kill(self) -> None:
        """End it at once."""
        if self._process is not None and self._ended() is None:
            self._process.kill()

    def stop(self) -> None:
        """Ask it to finish what it has begun, and wait until it has."""
        self.ask_to_stop()
        if self._process is not None:
            try:
                self._process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                say(f"{self.name} does not stop; ending it")
                self.kill()
                self._process.wait()
            self._ended()

    def _ended(self) -> int | None:
        """Its exit status; None while it lives. The pipe by which it knows that this process lives goes with it."""
        status = None if self._process is None else self._process.poll()
        if status is not None and self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()
        return status


def _forward(stream: IO[str], said: queue.Queue[str]) -> None:
    with stream:
        for line in stream:
            said.put(line)


def run_together(folder: Path, settings: Settings, *, shift: int, keeper: bool, as_json: bool) -> None:
    """Run the workers of a server, and a keeper beside them, until Ctrl-C or SIGTERM; a second one ends all at once.

    Args:
        folder: The project.
        settings: Where to listen, and how many workers.
        shift: Microseconds that all add to the machine's time.
        keeper: Whether to run one too.
        as_json: Say where it listens as one line of JSON.

    Raises:
        StateError: one of them does not start, or a worker does not become ready any more; the others are stopped.
            Without the keeper the workers answer on, from what was known when it died.
    """
    models = load_project(folder.resolve()).models
    sweep(folder / settings.state)
    keepers = [Child("keep", [*_common(folder, shift), "--child"], vital=False)] if keeper else []
    with shared_port(settings.host, settings.port) as port, _signalled() as stop:
        workers = [
            _worker(folder, settings, port, shift, f"{os.getpid()}.{number}")
            for number in range(1, settings.workers + 1)
        ]
        children = [*keepers, *workers]
        try:
            for child in children:
                say(f"starting {child.name}")
                child.start()
                if child in keepers:  # the workers read what the keeper makes
                    child.wait_ready(stop)
            for child in workers:
                child.wait_ready(stop)
            if not stop.is_set():
                address = f"http://{settings.host}:{port}"
                _announce(address, port, keepers, workers, as_json=as_json)
                if keeper and not as_json:
                    _explain(address, folder, next(iter(models.values())), auth=settings.auth)
            while not stop.wait(_POLL_S):
                for child in children:
                    child.revive()
        finally:
            _stop_all(workers, keepers)
            sweep(folder / settings.state, os.getpid())
    say("stopped")


def _common(folder: Path, shift: int) -> list[str]:
    return ["--project", str(folder), "--shift", str(shift)]


def _worker(folder: Path, settings: Settings, port: int, shift: int, name: str) -> Child:
    arguments = [*_common(folder, shift), "--port", str(port), "--workers", str(settings.workers)]
    if settings.rehearsal:
        arguments.append("--rehearsal")
    label = "icekeel serve" if settings.workers == 1 else f"worker {name.partition('.')[2]}"
    return Child("serve", [*arguments, "--worker", name], vital=True, label=label)


def _stop_all(workers: Sequence[Child], keepers: Sequence[Child]) -> None:
    """Stop the workers together, then the keeper; the next signal ends all that is left at once."""
    children = [*workers, *keepers]

    def end(number: int, frame: FrameType | None) -> None:
        del frame
        for child in children:
            child.kill()
        os._exit(128 + number)

    with _handled(end):
        for worker in workers:
            worker.ask_to_stop()
        for child in children:
            child.stop()


@contextmanager
def shared_port(host: str, port: int) -> Iterator[int]:
    """A port that is kept for workers which listen on it together; the kernel spreads connections over them.

    Nobody is kept out by a socket that is only bound; so it is first made sure that no other server has the port.

    Raises:
        StateError: the port cannot be had.
    """
    with listening_socket(host, port, shared=False) as alone:
        port = alone.getsockname()[1]
    with listening_socket(host, port, shared=True):
        yield port


def listening_socket(host: str, port: int, *, shared: bool) -> socket.socket:
    """A socket that is bound and does not listen yet.

    Raises:
        StateError: the address cannot be had.
    """
    made = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        made.bind((host, port))
    except (OSError, OverflowError) as error:  # the latter where no port has such a number
        made.close()
        what, hint = f"cannot listen on {host}, port {port}", "--port 0 takes a free one"
        got = getattr(error, "strerror", None) or str(error)
        raise StateError(Fault("port_unusable", what, got=got, hint=hint)) from error
    return made


def sweep(state: Path, run: int = 0) -> None:
    """Remove what workers of one run told each other, or of all runs whose first process is gone."""
    for file in (state / "workers").glob("*.*"):
        owner = file.name.partition(".")[0]
        if owner == str(run) or (not run and owner.isdigit() and not _lives(int(owner))):
            file.unlink(missing_ok=True)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError as error:
        return error.errno != errno.ESRCH
    return True


def end_with_parent() -> None:
    """Have this process told to stop when the one that started it is gone: its standard input ends then."""

    def wait() -> None:
        with suppress(OSError):
            while os.read(0, 1024):
                pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, name="parent", daemon=True).start()


@contextmanager
def _signalled() -> Iterator[threading.Event]:
    """An event that Ctrl-C and SIGTERM set."""
    stop = threading.Event()
    with _handled(lambda number, frame: stop.set()):
        yield stop


@contextmanager
def _handled(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Ctrl-C and SIGTERM are handled so; afterwards they mean what they meant before."""
    before = {number: signal.signal(number, handler) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, former in before.items():
            signal.signal(number, former)


def _announce(
    address: str, port: int, keepers: Sequence[Child], workers: Sequence[Child], *, as_json: bool
) -> None:
    served, kept = [child.pid for child in workers], [child.pid for child in keepers]
    if not keepers:
        print_line({"listening": port, "workers": served})
    elif as_json:
        print_line({"address": address, "serve": served[0], "keep": kept[0], "workers": served})
    else:
        pids = ", ".join(map(str, served))
        print(f"{address}  (server: process {pids}, keeper: process {kept[0]}; Ctrl-C stops all)")


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
