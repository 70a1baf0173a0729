"""Commands that the keeper has run beside it, each in a process that can neither stop nor delay it."""

from __future__ import annotations

import logging
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence

LOOK_S, FIRST_PAUSE_S, LONGEST_PAUSE_S = 10.0, 60.0, 3_600.0
log = logging.getLogger(__name__)


class Errand:
    """A command that is run whenever there is something new for it to do, once at a time.

    Args:
        name: For the log.
        command: The command line.
        state: A number that is another when there is more to do than was done; None where there is nothing.
        environment: Of the process.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        state: Callable[[], int | None],
        environment: Mapping[str, str],
    ) -> None:
        self._name, self._command, self._state, self._environment = name, command, state, environment
        self._child: subprocess.Popen[bytes] | None = None
        self._next, self._pause = 0.0, FIRST_PAUSE_S
        self._done: int | None = None
        self._trying: int | None = None

    def poll(self) -> None:
        """Start where there is something new; where it failed, again after a pause that doubles up to an hour."""
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + LOOK_S
        if self._child is not None:
            status = self._child.poll()
            if status is None:
                return
            self._child = None
            if status:
                log.error(
                    "errand_failed", extra={"errand": self._name, "status": status, "again_s": self._pause}
                )
                self._next = time.monotonic() + self._pause
                self._pause = min(2 * self._pause, LONGEST_PAUSE_S)
                return
            self._done, self._pause = self._trying, FIRST_PAUSE_S
        self._trying = self._state()
        if self._trying not in (None, self._done):
            self._child = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                env=dict(self._environment),
            )

    def stop(self) -> None:
        """End what is under way: it is done as far as it is done, and goes on from there the next time."""
        if self._child is not None:
            self._child.kill()
            self._child.wait()
