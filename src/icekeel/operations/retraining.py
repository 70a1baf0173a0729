"""Training in a process of its own: at most one at a time, each written down, none able to stop the keeper."""

from __future__ import annotations

import fcntl
import logging
import os
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from icekeel.core.time import DAY, parse_duration, to_datetime
from icekeel.registry import Registry

KIND = "train"
STOP_S = 10.0
_MOST_WORDS = 2000
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Job:
    """What to train: the model, one rung (empty: the whole ladder), the time up to which all is known, and why."""

    model: str
    rung: str
    at: int
    reason: str


class Retraining:
    """Starts trainings and follows them.

    The child holds a lock for as long as it lives, so that a keeper that was killed and started again does not
    start a second one beside it.

    Args:
        registry: Its ledger of runs says what was tried.
        lock: The file that is locked.
        command: The command line of a job.
        environment: Added to the child's environment.
        wait: Wait for each training to end, as virtual time demands.
    """

    def __init__(
        self,
        registry: Registry,
        lock: Path,
        command: Callable[[Job], Sequence[str]],
        *,
        environment: Mapping[str, str] | None = None,
        wait: bool,
    ) -> None:
        self._registry = registry
        self._lock = lock
        self._command = command
        self._environment = {**os.environ, **(environment or {})}
        self._wait = wait
        self._child: subprocess.Popen[bytes] | None = None
        self._output: IO[bytes] | None = None
        self._run = ""
        self._orphaned = True
        self._ended = False
        self.poll()

    def last(self, model: str, now: int) -> int:
        """When the last training was begun that counts as one: a failed one may be tried again after a day."""
        return max(
            (
                run.started_at
                for run in self._registry.runs(KIND)
                if run.details.get("model") == model
                and (
                    run.status in ("running", "done")
                    or (run.status == "failed" and now - run.started_at < DAY)
                )
            ),
            default=0,
        )

    def busy(self) -> bool:
        """Whether a training is under way, be it one that an earlier keeper began."""
        held = self._take_lock()
        if held is not None:
            held.close()
        return held is None

    def begin(self, job: Job) -> bool:
        """Start a training; False, and nothing done, while another is under way."""
        held = self._take_lock()
        if held is None:
            return False
        self._run = self._registry.start_run(KIND, details=asdict(job), at=job.at)
        self._output = tempfile.TemporaryFile()  # noqa: SIM115  (closed when the child has ended)
        with held:
            self._child = subprocess.Popen(
                self._command(job),
                stdin=subprocess.DEVNULL,
                stdout=self._output,
                stderr=subprocess.STDOUT,
                env=self._environment,
                pass_fds=[held.fileno()],
            )
        if self._wait:
            self._child.wait()
            self._finish(self._child, job.at)
        return True

    def poll(self) -> bool:
        """Note the end of a training, if it has ended; gives whether one has ended since the last time."""
        if self._child is not None and self._child.poll() is not None:
            self._finish(self._child, None)
        if self._orphaned and not self.busy():
            self._orphaned = False
            self._note_orphans()
        ended, self._ended = self._ended, False
        return ended

    def stop(self) -> None:
        """End a training that is under way; it left no trace but its entry in the ledger."""
        if self._child is None:
            return
        self._child.terminate()
        try:
            self._child.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
        self._words()
        self._registry.finish_run(self._run, "interrupted")

    def _note_orphans(self) -> None:
        """What became of trainings that outlived their keeper, or died with it."""
        for run in self._registry.runs(KIND):
            if run.status == "running":
                made = {version.at for version in self._registry.versions(run.details.get("model"))}
                status = "done" if run.started_at in made else "interrupted"
                self._registry.finish_run(run.id, status, at=run.started_at)

    def _finish(self, child: subprocess.Popen[bytes], at: int | None) -> None:
        status = "failed" if child.returncode else "done"
        words = self._words()
        details = next(run.details for run in self._registry.runs(KIND) if run.id == self._run)
        self._registry.finish_run(self._run, status, details={**details, "output": words}, at=at)
        self._ended = True
        log.log(
            logging.ERROR if status == "failed" else logging.INFO, f"training_{status}", extra=dict(details)
        )

    def _words(self) -> str:
        """The last words of the child that has ended."""
        self._child = None
        if self._output is None:
            return ""
        with self._output as output:
            output.seek(0)
            return output.read().decode(errors="replace").strip()[-_MOST_WORDS:]

    def _take_lock(self) -> IO[str] | None:
        self._lock.parent.mkdir(parents=True, exist_ok=True)
        file = self._lock.open("a")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            return None
        return file


def scheduled(every: str, newest: int, now: int) -> bool:
    """Whether a retrain is due at `now`, the last training being from `newest`.

    A month begins on its first day and a week on Monday, at midnight UTC. What was missed is due until it is made up
    for, once; a training of the last days before the beginning (a week, or three days) counts for it.
    """
    if every == "month":
        return newest <= now - now % DAY - (to_datetime(now).day - 1) * DAY - 7 * DAY
    if every == "week":
        return newest <= now - now % DAY - to_datetime(now).weekday() * DAY - 3 * DAY
    return now - newest >= parse_duration(every)
