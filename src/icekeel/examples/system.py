"""The real processes of a project, started for a replay and stopped by their own process ids."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import TracebackType

from icekeel.core.errors import Fault, StateError

STOP_S = 15


class System:
    """A server and a keeper in rehearsal over one project folder.

    Attributes:
        port: Where the server listens, once entered.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._running: dict[str, subprocess.Popen[str]] = {}
        self.port = 0

    def __enter__(self) -> System:
        self._start("keep")
        self._start("serve", "--port", "0")
        self.port = int(str(self._first_line("serve")["listening"]))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._running.values():
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in self._running.values():
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
                log = self._folder / f"{name}.log"
                tail = log.read_text(errors="replace")[-1500:]
                raise StateError(
                    Fault("process_ended", f"{name} ended with {process.returncode}", str(log), tail)
                )

    def cpu_seconds(self, name: str) -> float:
        """User and system CPU of a running process so far."""
        fields = Path(f"/proc/{self._running[name].pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def _start(self, command: str, *more: str) -> None:
        line = [
            sys.executable,
            "-m",
            "icekeel",
            command,
            "--project",
            str(self._folder),
            "--rehearsal",
            *more,
        ]
        with (self._folder / f"{command}.log").open("w") as log:
            self._running[command] = subprocess.Popen(
                line,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )
        if command == "keep":
            self._first_line(command)

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
