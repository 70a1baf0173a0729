"""Reads the segments of all processes: as they grow, all at once, or to check them."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, TypeVar, overload

import msgspec

from icekeel.core.errors import Fault, JournalError, StateError, shorten

from .records import KINDS, Entry, Record, decode, tag_of, tags_of
from .segments import FRAME, MAGIC, frame_size, holds_a_frame, segment_sizes, split

Kind = TypeVar("Kind", bound=Entry)

_ALL = tags_of(KINDS)
_STRETCH_BYTES = 4 << 20
_POSITIONS_VERSION = 1


@dataclass(frozen=True, slots=True)
class Positions:
    """How far each segment was read: name -> offset of the next frame in bytes."""

    offsets: Mapping[str, int] = field(default_factory=dict)

    def encode(self) -> bytes:
        """As bytes, to be stored with the state that was derived up to here, in one transaction."""
        return msgspec.msgpack.encode((_POSITIONS_VERSION, self.offsets))

    @classmethod
    def decode(cls, data: bytes) -> Positions:
        """The positions that `encode` made bytes of.

        Raises:
            StateError: the bytes are none of those, or of another format.
        """
        try:
            version, offsets = msgspec.msgpack.decode(data, type=tuple[int, dict[str, int]])
        except msgspec.DecodeError as error:
            raise _bad_positions(shorten(data)) from error
        if version != _POSITIONS_VERSION:
            raise _bad_positions(f"format {version}")
        return cls(offsets)


class Tail:
    """Follows the journal; sees each record once, also across restarts from saved positions.

    Args:
        folder: Where the segments are; it may not exist yet.
        positions: Where to go on.

    Attributes:
        positions: Behind the last record that `read` gave.
        places: Where each record that the last `read` gave begins: its segment, and the offset there.
        stopped: Segment -> its size when the last `read` found no whole frame where it stands. A writer
            that is at work, or the torn tail of one that was killed; where it lasts while the segment
            grows, damage: see `verify`.
    """

    def __init__(self, folder: Path, positions: Positions) -> None:
        self.positions = positions
        self.places: list[tuple[str, int]] = []
        self.stopped: dict[str, int] = {}
        self._folder = folder

    def read(self, max_bytes: int = 4 << 20) -> list[Record]:
        """The next records, in order of segment name, then of writing; none when all are read.

        Takes about `max_bytes` and always at least one record where there is one. Records of several
        processes are not ordered by time; one busy process delays the others by one segment at most.

        Raises:
            JournalError: a segment cannot be read or is of another format. Positions stay as they were.
        """
        records: list[Record] = []
        places: list[tuple[str, int]] = []
        offsets, stopped, left = dict(self.positions.offsets), dict[str, int](), max_bytes
        for name, size in segment_sizes(self._folder).items():
            offset = offsets.get(name, 0)
            if records and left <= 0:
                break
            if size <= offset:
                continue
            for stretch in _stretches(self._folder / name, offset, max(left, 1)):
                for start, record in _decoded(stretch, name, _ALL):
                    records.append(record)
                    places.append((name, start))
                left -= stretch.end - stretch.start
                offsets[name] = stretch.end
                if records:
                    break
            if stretch.stopped:
                stopped[name] = stretch.size
            if stretch.more:
                break
        self.positions, self.places, self.stopped = Positions(offsets), places, stopped
        return records

    def forget(self, names: Collection[str]) -> None:
        """Hold no position in segments that are gone for good."""
        kept = {name: offset for name, offset in self.positions.offsets.items() if name not in names}
        self.positions = Positions(kept)

    def behind(self) -> int:
        """Bytes not yet read, without those that the last `read` found to be no whole frame."""
        offsets = self.positions.offsets
        return sum(
            max(0, size - max(offsets.get(name, 0), self.stopped.get(name, 0)))
            for name, size in segment_sizes(self._folder).items()
        )


@overload
def scan(folder: Path, *, since: Positions | None = None) -> Iterator[Record]: ...
@overload
def scan(
    folder: Path,
    *,
    kinds: type[Kind] | tuple[type[Kind], ...],
    since: Positions | None = None,
    holding: Collection[bytes] = (),
) -> Iterator[Kind]: ...
def scan(
    folder: Path,
    *,
    kinds: type[Entry] | tuple[type[Entry], ...] = KINDS,
    since: Positions | None = None,
    holding: Collection[bytes] = (),
) -> Iterator[Entry]:
    """Every record of these kinds behind `since`, in order of segment name, then of writing.

    Other kinds are passed over without being decoded, and so are records in which none of the texts in `holding` stands,
    where there are any: an id is found so, without reading what else there is. A segment is read up to the first frame that is
    torn or damaged.

    Raises:
        JournalError: a segment cannot be read or is of another format.
    """
    tags = tags_of(kinds if isinstance(kinds, tuple) else (kinds,))
    offsets = since.offsets if since else {}
    for name in segment_sizes(folder):
        for stretch in _stretches(folder / name, offsets.get(name, 0), _STRETCH_BYTES):
            yield from (record for _, record in _decoded(stretch, name, tags, holding))


def verify(folder: Path) -> int:
    """The number of records in the journal, if it is undamaged.

    A torn tail, which the death of a writer leaves, is no damage.

    Raises:
        JournalError: one fault for each segment with a damaged frame before whole ones, with bytes that
            are no record, or of another format; `where` is `segment@offset`.
    """
    faults: list[Fault] = []
    count = 0
    for name in segment_sizes(folder):
        try:
            for stretch in _stretches(folder / name, 0, _STRETCH_BYTES):
                count += sum(1 for _ in _decoded(stretch, name, _ALL))
                if stretch.stopped and _followed(folder / name, stretch.end):
                    faults.append(_damaged("damaged_frame", f"{name}@{stretch.end}"))
        except JournalError as error:
            faults.extend(error.faults)
    if faults:
        raise JournalError(*faults)
    return count


class _Stretch(NamedTuple):
    """Whole frames of a segment from `start` to `end`, read when it had `size` bytes."""

    payloads: list[bytes]
    start: int
    end: int
    size: int
    stopped: bool

    @property
    def more(self) -> bool:
        return self.end < self.size and not self.stopped


def _stretches(path: Path, offset: int, max_bytes: int) -> Iterator[_Stretch]:
    more = True
    while more:
        stretch = _read_stretch(path, offset, max_bytes)
        yield stretch
        offset, more = stretch.end, stretch.more


def _read_stretch(path: Path, offset: int, max_bytes: int) -> _Stretch:
    """About `max_bytes` of a segment from `offset`, and at least one frame where one is whole."""
    try:
        fd = os.open(path, os.O_RDONLY)
        try:
            size = os.fstat(fd).st_size
            start = max(offset, len(MAGIC))
            if not offset and not _has_begun(os.pread(fd, len(MAGIC), 0), path):
                return _Stretch([], 0, 0, size, stopped=True)
            data = os.pread(fd, min(max(max_bytes, FRAME.size), max(0, size - start)), start)
            needed = frame_size(data)
            if len(data) < needed <= size - start:
                data = os.pread(fd, needed, start)
        finally:
            os.close(fd)
    except JournalError:
        raise
    except OSError as error:
        got = error.strerror or str(error)
        raise JournalError(
            Fault("journal_unreadable", "the journal cannot be read", str(path), got)
        ) from error
    payloads, used, damaged = split(data)
    end = start + used
    stopped = end < size and (damaged or not used or start + len(data) == size)
    return _Stretch(payloads, start, end, size, stopped)


def _has_begun(head: bytes, path: Path) -> bool:
    """Whether a segment's first bytes are there; not while it is made, or after power failed just then."""
    if head == MAGIC:
        return True
    if len(head) < len(MAGIC) or not any(head):
        return False
    what, hint = "expected a journal segment", "it is damaged or of another version of Icekeel"
    raise JournalError(Fault("bad_segment", what, f"{path.name}@0", repr(head), repr(MAGIC), hint))


def _decoded(
    stretch: _Stretch, name: str, tags: frozenset[bytes], holding: Collection[bytes] = ()
) -> Iterator[tuple[int, Record]]:
    """Offset and content of each record of these kinds."""
    offset = stretch.start
    for payload in stretch.payloads:
        if tag_of(payload) in tags and (not holding or any(text in payload for text in holding)):
            try:
                yield offset, decode(payload)
            except msgspec.DecodeError as error:
                raise JournalError(_damaged("bad_record", f"{name}@{offset}", str(error))) from error
        offset += FRAME.size + len(payload)


def ends_at(path: Path, offset: int) -> bool:
    """Whether a segment holds no record at or behind an offset: all that may follow is a torn tail."""
    if path.stat().st_size <= offset:
        return True
    with path.open("rb") as file:
        file.seek(offset)
        rest = file.read()
    return not split(rest).used and not holds_a_frame(rest)


def _followed(path: Path, offset: int) -> bool:
    """Whether whole frames follow the bytes at `offset`, which are none themselves."""
    with path.open("rb") as file:
        file.seek(offset)
        rest = file.read()
    return not split(rest).used and holds_a_frame(rest)


def _damaged(code: str, where: str, got: str = "") -> Fault:
    hint = "what follows it in this segment is not read; restore the segment from a backup"
    return Fault(code, "a damaged record in the journal", where, got, hint=hint)


def _bad_positions(got: str) -> StateError:
    return StateError(Fault("bad_positions", "expected positions in the journal", got=got))
