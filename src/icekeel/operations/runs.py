"""Commands in processes of their own: one of a kind at a time, each written down, none able to stop or delay the keeper.

A child holds the lock of its kind for as long as it lives, says its result as one JSON document on standard output, and
ends itself when its time is over. So a keeper that was killed finds out what became of its children, starts no second
one beside one that goes on, and none can hold a lock for ever.
"""

from __future__ import annotations

import fcntl
import logging
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import msgspec

from icekeel.core.errors import IcekeelError
from icekeel.core.time import SECOND, Clock, format_duration
from icekeel.registry import Registry, Run
from icekeel.registry.records import Json

TRAIN, INGEST, AUDIT, BACKUP = "train", "ingest", "audit", "backup"
COMPACT, MIRROR, TELL = "compact", "mirror", "tell"
KINDS = (TRAIN, INGEST, AUDIT, BACKUP, COMPACT, MIRROR, TELL)
LIMIT = "ICEKEEL_LIMIT_S"
"""Variable of a child's environment: after so many seconds it ends itself, whether or not anybody watches it."""
STOP_S = 10.0
GRACE_S = 30.0
"""A child that is still there so long after its time is killed."""
_MOST_WORDS = 2_000
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Ended:
    """A run that has ended.

    Attributes:
        status: `done`; `failed`; `interrupted`, it was ended with the keeper and may be done again at once.
        result: What it said as JSON; None where it did not come to that.
        words: Its last words to people, and why it was ended.
        at: When it is noted, microseconds UTC.
    """

    run: str
    kind: str
    details: Json
    started_at: int
    status: str
    result: Any  # JSON of any command
    words: str
    at: int


Note = Callable[[Ended], Json]
"""What is done about a run that has ended, and what the ledger keeps of it; done again where a crash comes after it."""


@dataclass(slots=True)
class _Child:
    process: subprocess.Popen[bytes]
    run: Run
    limit_s: float
    began: float


class Runs:
    """Starts commands and follows them.

    Args:
        registry: Its ledger says what was begun and what became of it.
        folder: Holds the locks, and what the children say while they live.
        environment: Added to that of the children.
        clock: When a run has ended.
    """

    def __init__(
        self, registry: Registry, folder: Path, environment: Mapping[str, str], *, clock: Clock
    ) -> None:
        self._registry = registry
        self._folder = folder
        self._environment = environment
        self._clock = clock
        self._children: dict[str, _Child] = {}
        self._orphaned = set(KINDS)
        self._over: list[Ended] = []

    def busy(self, kind: str) -> bool:
        """Whether one of a kind is under way, be it one that an earlier keeper began."""
        held = self._take_lock(kind)
        if held is not None:
            held.close()
        return held is None

    def mine(self, kind: str) -> bool:
        """Whether one of a kind is under way that was begun here."""
        return kind in self._children

    def begin(
        self,
        kind: str,
        command: Sequence[str],
        details: Json,
        *,
        limit_s: float,
        at: int | None = None,
        wait: bool = False,
    ) -> bool:
        """Start a command; False, and nothing done, while another of its kind is under way or not yet noted.

        Args:
            at: When it counts as begun; now by default.
            wait: Wait for its end, as virtual time demands; it has then ended at `at`.
        """
        held = None if kind in self._children or kind in self._orphaned else self._take_lock(kind)
        if held is None:
            return False
        with held:
            began = self._clock() if at is None else at
            name = self._registry.start_run(kind, details=details, at=began)
            run = Run(
                id=name, kind=kind, started_at=began, finished_at=None, status="running", details=details
            )
            try:
                process = self._start(run, command, limit_s, held)
            except OSError as error:  # no memory, no room on the disk, no more processes
                self._over.append(Ended(name, kind, details, began, "failed", None, str(error), began))
                return True
        child = _Child(process, run, limit_s, time.monotonic())
        if wait:
            process.wait()
            self._over.append(self._ended(child, at))
        else:
            self._children[kind] = child
        return True

    def _start(
        self, run: Run, command: Sequence[str], limit_s: float, held: IO[str]
    ) -> subprocess.Popen[bytes]:
        environment = {**os.environ, **self._environment, LIMIT: str(max(1, int(limit_s)))}
        with self._file(run, "out").open("wb") as out, self._file(run, "err").open("wb") as err:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env=environment,
                pass_fds=[held.fileno()],
            )

    def poll(self, note: Note) -> list[Ended]:
        """Those that have ended since the last time, children of an earlier keeper included; they are in the ledger then."""
        ended = [one for kind in tuple(self._orphaned) for one in self._note_orphans(kind, note)]
        for child in tuple(self._children.values()):
            if child.process.poll() is not None:
                self._over.append(self._ended(child))
                del self._children[child.run.kind]
            elif time.monotonic() > child.began + child.limit_s + GRACE_S:
                child.process.kill()
        while self._over:
            found = self._over[0]
            self._write_down(found, note(found))
            ended.append(self._over.pop(0))
        return ended

    def stop(self) -> None:
        """End what is under way: each is done as far as it is done, and goes on from there the next time."""
        for child in self._children.values():
            child.process.terminate()
        deadline = time.monotonic() + STOP_S
        for child in tuple(self._children.values()):
            try:
                child.process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                child.process.kill()
                child.process.wait()
            try:
                ended = self._ended(child)
                # What ended by itself just now is for the next keeper to note.
                if ended.result is None:
                    self._write_down(ended, {}, "interrupted")
            except IcekeelError as error:  # without the registry the next keeper notes it
                log.error("run_not_noted", extra={"kind": child.run.kind, "why": str(error)})
        self._children.clear()

    def _note_orphans(self, kind: str, note: Note) -> list[Ended]:
        """What became of those that outlived their keeper, or died with it, once none of them lives."""
        held, found = self._take_lock(kind), list[Ended]()
        if held is None:
            return found
        with held:
            for run in self._registry.runs(kind):
                if run.status == "running":
                    ended = self._read(run, None)
                    self._write_down(ended, note(ended) if ended.status == "done" else {})
                    found.append(ended)
        self._orphaned.discard(kind)
        return found

    def _ended(self, child: _Child, at: int | None = None) -> Ended:
        status = child.process.returncode
        late = status in (-signal.SIGALRM, -signal.SIGKILL) and time.monotonic() > child.began + child.limit_s
        limit = format_duration(int(child.limit_s) * SECOND)
        return self._read(child.run, status, f"it took longer than {limit} and was ended" if late else "", at)

    def _read(self, run: Run, status: int | None, why: str = "", at: int | None = None) -> Ended:
        """What a child has said; `status` None where nobody knows how it ended."""
        try:
            result = msgspec.json.decode(self._file(run, "out").read_bytes())
        except (OSError, msgspec.DecodeError):
            result = None
        try:
            words = self._file(run, "err").read_bytes().decode(errors="replace").strip()[-_MOST_WORDS:]
        except OSError:
            words = ""
        known = "interrupted" if status is None else "failed" if status else "done"
        became = "done" if result is not None else known
        if became == "failed" and not why and status and status < 0:
            why = f"it was ended by {signal.Signals(-status).name}"
        told = "\n".join(part for part in (why, words) if part)
        now = self._clock() if at is None else at
        return Ended(run.id, run.kind, run.details, run.started_at, became, result, told, now)

    def _write_down(self, ended: Ended, also: Json, status: str = "") -> None:
        """Into the ledger, from where on the child's files are needed no longer."""
        became = status or ended.status
        details = {**ended.details, **({"output": ended.words} if ended.words else {}), **also}
        self._registry.finish_run(ended.run, became, details=details, at=ended.at)
        for name in ("out", "err"):
            (self._folder / f"{ended.run}.{name}").unlink(missing_ok=True)
        level = logging.ERROR if became == "failed" else logging.INFO
        log.log(level, f"{ended.kind}_{became}", extra=dict(details))

    def _file(self, run: Run, name: str) -> Path:
        return self._folder / f"{run.id}.{name}"

    def _take_lock(self, kind: str) -> IO[str] | None:
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        file = (self._folder / f"{kind}.lock").open("a")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            return None
        return file
