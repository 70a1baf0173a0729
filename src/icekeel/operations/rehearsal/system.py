"""The real processes of a project, started for a replay and stopped by their own process ids."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path
from types import TracebackType

from icekeel.core.errors import Fault, StateError

STOP_S = 15
KEEP, SERVE = "keep", "serve"


class System:
    """A server and a keeper in rehearsal over one project folder.

    Attributes:
        port: Where the server listens, once entered; the same after it was started again.
        revived: Processes that had died and were started again, as `icekeel up` does.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._running: dict[str, subprocess.Popen[str]] = {}
        self.port = 0
        self.revived: list[str] = []

    def __enter__(self) -> System:
        self._start(KEEP)
        self._start(SERVE)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._running.values():
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for name in list(self._running):
            self._wait(name)

    def _wait(self, name: str) -> None:
        process = self._running.pop(name)
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()

    def alive(self) -> None:
        """Raises `StateError` if one of the processes has ended."""
        for name, process in self._running.items():
            if process.poll() is not None:
                log = self.folder / f"{name}.log"
                tail = log.read_text(errors="replace")[-1500:]
                raise StateError(
                    Fault("process_ended", f"{name} ended with {process.returncode}", str(log), tail)
                )

    def kill(self, name: str) -> None:
        """End a process at once, in the middle of whatever it does."""
        self._running[name].kill()
        self._running[name].wait()

    def revive(self) -> None:
        """Start again what has died."""
        for name, process in list(self._running.items()):
            if process.poll() is not None:
                self._wait(name)
                self._start(name)
                self.revived.append(name)

    def limit(self, name: str, size: int | None) -> None:
        """Let no file grow beyond `size` bytes by what a process writes, as on a full disk; None: let it again."""
        soft = resource.RLIM_INFINITY if size is None else size
        resource.prlimit(self._running[name].pid, resource.RLIMIT_FSIZE, (soft, resource.RLIM_INFINITY))

    def cpu_seconds(self, name: str) -> float:
        """User and system CPU of a running process so far."""
        fields = Path(f"/proc/{self._running[name].pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def _start(self, name: str) -> None:
        line = [sys.executable, "-m", "icekeel", name, "--project", str(self.folder), "--rehearsal"]
        line += ["--port", str(self.port)] if name == SERVE else []
        with (self.folder / f"{name}.log").open("a") as log:
            self._running[name] = subprocess.Popen(
                line,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )
        said = self._first_line(name)
        if name == SERVE:
            self.port = int(str(said["listening"]))

    def _first_line(self, name: str) -> dict[str, object]:
        """What a process says on stdout when it is ready: one JSON document."""
        process = self._running[name]
        text = ""
        for line in process.stdout or ():
            text += line
            try:
                found: dict[str, object] = json.loads(text)
                return found
            except json.JSONDecodeError:
                continue
        self.alive()
        raise StateError(Fault("process_ended", f"{name} ended before it was ready", "", text))
