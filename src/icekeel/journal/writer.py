"""Appends records to segments of its own process."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import re
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType

from icekeel.core.errors import Fault, JournalError, shorten
from icekeel.core.files import sync
from icekeel.core.time import Clock

from .records import Record, encode
from .segments import LARGEST, MAGIC, frame, segment_name, segment_sizes, started_at

log = logging.getLogger(__name__)


class Writer:
    """The one writer of a process; its methods may be called from any thread.

    Each writer begins a segment of its own and none is ever appended to by another process. A record is
    handed to the operating system before `append` returns, so it survives any end of the process; another
    thread syncs it to disk within `sync_every_s`, so at most that is lost with the power. Make the writer
    in the process that uses it, after any fork.

    Args:
        folder: Where the segments are; made if missing.
        process: Name of the process for people: letters, digits, `_`, `.`, `-`.
        clock: Names the segments; where it steps back, names still sort in order of opening.
        sync_every_s: Longest time in seconds between a write and its sync.
        roll_bytes: A segment that has reached this size is followed by a new one,
        roll_s: as is one of this age in seconds, so that what is kept for a month is gone after a month and a day.

    Raises:
        JournalError: `folder` cannot be written, or `process` is no such name.
    """

    def __init__(
        self,
        folder: Path,
        process: str,
        *,
        clock: Clock,
        sync_every_s: float = 0.1,
        roll_bytes: int = 64 << 20,
        roll_s: float = 86_400.0,
    ) -> None:
        if not re.fullmatch(r"[\w.-]+", process):
            allowed = "letters, digits, _, . and -"
            raise JournalError(
                Fault("bad_process", "expected the name of a process", got=shorten(process), allowed=allowed)
            )
        self._folder, self._process, self._clock = folder, process, clock
        self._sync_every_s, self._roll_bytes, self._roll_s = sync_every_s, roll_bytes, roll_s
        self._roll_at = 0.0
        self._lock = threading.Lock()
        self._fd, self._path, self._size = -1, folder, 0
        self._failure: OSError | None = None
        self._refused = False
        self._told = folder  # the last segment whose failure was raised: nothing more is said of it
        self._dirty, self._stop = threading.Event(), threading.Event()
        self._syncer = threading.Thread(target=self._sync_until_closed, name="journal-sync", daemon=True)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _unwritable(folder, error) from error
        self._open_segment()
        self._syncer.start()

    def append(self, record: Record) -> None:
        """Write one record; it is in the journal when this returns.

        Raises:
            JournalError: it cannot be encoded or written, an earlier sync failed, or the writer is closed.
                The record is then not in the journal.
        """
        self._write([_framed(record)])

    def append_many(self, records: Iterable[Record]) -> None:
        """Write records in order, with one system call.

        Raises:
            JournalError: as `append`. Where the disk fills up midway, the records that were whole by then
                stay, since a reader may have seen them, and the error says how many.
        """
        frames = [_framed(record) for record in records]
        if frames:
            self._write(frames)

    def check(self) -> None:
        """Raise what the next `append` would raise: the last write or sync failed, or the segment is gone.

        After a write that failed a new segment is begun, so that one who only looks finds out when there is room again.

        Raises:
            JournalError: the journal cannot be written.
        """
        with self._lock:
            self._ready()
            if self._refused:
                self._roll()
                self._refused = False

    def close(self) -> None:
        """Sync what was written and end the segment. A second call does nothing.

        Raises:
            JournalError: what was written last could not be synced.
        """
        with self._lock:
            if self._fd < 0:
                return
            self._note(self._path, _sync(self._fd))
            self._fd = -1
        self._stop.set()
        self._dirty.set()
        self._syncer.join()
        if self._failure is not None:
            raise _unwritable(self._path, self._failure) from self._failure

    def __enter__(self) -> Writer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _write(self, frames: list[bytes]) -> None:
        data = frames[0] if len(frames) == 1 else b"".join(frames)
        with self._lock:
            self._refused = True  # until it is written
            self._ready()
            written = 0
            try:
                while written < len(data):  # a second turn only where the disk is full: it says why
                    written += os.write(self._fd, data[written:] if written else data)
            except OSError as error:
                raise self._cut(frames, written, error) from error
            self._size += written
            self._refused = False
            if not self._dirty.is_set():
                self._dirty.set()

    def _ready(self) -> None:
        if self._fd < 0:
            raise JournalError(Fault("journal_closed", "the journal is closed", where=str(self._path)))
        if self._failure is not None:
            failure, self._failure, self._told = self._failure, None, self._path
            self._size = self._roll_bytes  # what a failed sync left of this segment on disk is unknown
            raise _unwritable(self._path, failure, "records of the last sync may be lost") from failure
        if self._size >= self._roll_bytes or time.monotonic() >= self._roll_at:
            self._roll()

    def _roll(self) -> None:
        fd, path = self._fd, self._path
        self._open_segment()
        self._note(path, _sync(fd))

    def _cut(self, frames: list[bytes], written: int, error: OSError) -> JournalError:
        """Take back a torn frame, and no whole one; gives the error to raise."""
        whole = kept = 0
        while whole + len(frames[kept]) <= written:
            whole += len(frames[kept])
            kept += 1
        self._size += whole
        try:
            os.ftruncate(self._fd, self._size)
        except OSError:
            self._size = self._roll_bytes  # the torn frame stays the last of its segment
        if kept:
            self._dirty.set()
        return _unwritable(self._path, error, f"{kept} of {len(frames)} records were written")

    def _open_segment(self) -> None:
        """Begin a segment whose name sorts behind all there are. The former stays in use if that fails."""
        path = self._folder
        try:
            newest = max((started_at(name) for name in segment_sizes(self._folder)), default=-1)
            start = max(self._clock(), newest + 1)
            path = self._folder / segment_name(start, self._process, os.getpid())
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o640)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX)  # for as long as it may be appended to: see `is_free`
                if os.write(fd, MAGIC) < len(MAGIC):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                os.fsync(fd)
                sync(self._folder)
            except OSError:
                os.close(fd)
                path.unlink(missing_ok=True)
                raise
        except OSError as error:
            raise _unwritable(path, error) from error
        self._fd, self._path, self._size = fd, path, len(MAGIC)
        self._roll_at = time.monotonic() + self._roll_s

    def _note(self, path: Path, error: OSError | None) -> None:
        if error is not None and path != self._told:
            log.error("journal_not_synced", extra={"path": str(path), "why": str(error)})
            self._failure = error

    def _sync_until_closed(self) -> None:
        while not self._stop.is_set():
            self._dirty.wait()
            self._stop.wait(self._sync_every_s)
            error: OSError | None
            try:
                with self._lock:
                    if self._fd < 0:
                        return
                    self._dirty.clear()
                    path = self._path
                    fd = os.dup(self._fd)  # the segment may end while it is synced without the lock
                error = _sync(fd)
            except OSError as failure:  # too many open files
                error = failure
            with self._lock:
                self._note(path, error)


def _sync(fd: int) -> OSError | None:
    """Make what was written durable and close; gives what went wrong."""
    try:
        os.fdatasync(fd)
        if not os.fstat(fd).st_nlink:
            raise FileNotFoundError(errno.ENOENT, "the segment was deleted while in use")
    except OSError as error:
        return error
    finally:
        os.close(fd)
    return None


def _framed(record: Record) -> bytes:
    try:
        payload = encode(record)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        kind = type(record).__name__
        what = "a record holds a value that cannot be stored"
        raise JournalError(Fault("not_encodable", what, kind, got=str(error))) from error
    if len(payload) > LARGEST:
        what, got, allowed = "a record is too large", f"{len(payload)} bytes", f"{LARGEST} bytes"
        raise JournalError(Fault("too_large", what, type(record).__name__, got=got, allowed=allowed))
    return frame(payload)


def is_free(path: Path) -> bool:
    """Whether no writer has a segment open; nobody appends to it ever again then."""
    fd = os.open(path, os.O_RDWR)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(fd)
    return True


def remove(folder: Path, names: Iterable[str]) -> None:
    """Delete segments that are free."""
    for name in names:
        (folder / name).unlink(missing_ok=True)
    sync(folder)


def _unwritable(path: Path, error: OSError, hint: str = "") -> JournalError:
    got = error.strerror or str(error)
    return JournalError(
        Fault("journal_unwritable", "the journal cannot be written", str(path), got, hint=hint)
    )
