"""Which versions of events exist, from when to when each is the newest, and what a batch changes: no I/O.

An event's versions are kept by `start`. Each ends where the next one starts, so a version that arrives
late only shortens the one before it and is itself ended by the one after it.

What is remembered of an event are its versions in that order, each in little-endian words of 8 bytes: start, time,
a digest of the content, and per view the name of the key, 16 bytes, zero where no row is stored.
"""

from __future__ import annotations

import struct
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import pairwise
from typing import NamedTuple, TypeVar

import numpy as np

from icekeel.core.frames import Array, Bools, Floats, Ints
from icekeel.core.time import FOREVER

from .chunks import END, START, TIME, VALUES, Buffer, Ending, Layout

_DIGEST = 16
_LENGTHS = [bytes((length + 1,)) for length in range(_DIGEST)]
_NO_KEY = bytes(_DIGEST)
_HEAD = 24
_GOLDEN, _SHIFT = np.uint64(0x9E3779B97F4A7C15), np.uint64(33)
_FACTORS = (np.uint64(0xFF51AFD7ED558CCD), np.uint64(0xC4CEB9FE1A85EC53))
_WHEN = struct.Struct("<2q")

Keyed = TypeVar("Keyed", bound=Hashable)


@dataclass(frozen=True, slots=True)
class EventVersion:
    """One version of one event, its contract already checked.

    Attributes:
        start: Available from this time on (inclusive), until the event's next version starts.
        deleted: A deletion counts nowhere and ends the version before it.
        keys: Per view of the table, in the order of the views: encoded key; None (a null key) is not stored.
        values: Per view: its value columns, NaN for null.
    """

    id: str
    time: int
    start: int
    deleted: bool
    keys: tuple[bytes | None, ...]
    values: tuple[tuple[float, ...], ...]


class Keys(NamedTuple):
    """Keys of a batch in one view: `of` gives for each version a place in `names`, which are sorted; -1 for none."""

    of: Ints
    names: Sequence[bytes]

    @classmethod
    def by(cls, values: Sequence[Keyed], encode: Callable[[Keyed], bytes | None]) -> Keys:
        """The keys that `encode` makes of these values; it is called once for each different one."""
        keys = {value: encode(value) for value in set(values)}
        found = {value: None if key is None else key_name(key) for value, key in keys.items()}
        names = sorted({name for name in found.values() if name is not None})
        places: dict[bytes | None, int] = {name: place for place, name in enumerate(names)}
        places[None] = -1
        return cls(np.array([places[found[value]] for value in values], np.int64), names)


@dataclass(frozen=True, slots=True)
class Batch:
    """Versions in the order they arrived, as columns; the fields mean what those of `EventVersion` do.

    Attributes:
        ids: In UTF-8, which sorts as the text does; the contract keeps them below 256 bytes and free of NUL.
        values: Per view, shape (n, columns).
    """

    ids: Sequence[bytes]
    time: Ints
    start: Ints
    deleted: Bools
    keys: Sequence[Keys]
    values: Sequence[Floats]

    def __len__(self) -> int:
        return len(self.ids)

    @classmethod
    def of(cls, versions: Sequence[EventVersion]) -> Batch:
        """These versions (at least one) as a batch."""
        keys = zip(*(one.keys for one in versions), strict=True)
        values = zip(*(one.values for one in versions), strict=True)
        return cls(
            [one.id.encode() for one in versions],
            np.array([one.time for one in versions], np.int64),
            np.array([one.start for one in versions], np.int64),
            np.array([one.deleted for one in versions], np.bool_),
            [Keys.by(column, lambda key: key) for column in keys],
            [np.array(column, np.float64).reshape(len(versions), -1) for column in values],
        )


@dataclass(frozen=True, slots=True)
class Applied:
    """What a batch did: events never seen before, further versions of known ones, repeats ignored."""

    new: int = 0
    replaced: int = 0
    duplicates: int = 0


def digest(key: bytes) -> bytes:
    """16 bytes that stand for others; two share them with probability 2**-128."""
    return blake2b(key, digest_size=_DIGEST).digest()


def key_name(key: bytes) -> bytes:
    """16 bytes that stand for a key: a short one as it is and its length, of others the digest."""
    if len(key) < _DIGEST:
        return key.ljust(_DIGEST - 1, b"\0") + _LENGTHS[len(key)]
    return digest(key)


class Admitted(NamedTuple):
    """What a batch changes in a table.

    Attributes:
        remembered: What is to be remembered from now on, by id.
        rows: Places in the batch of the versions that become rows, any order.
        ends: When each of these ends.
        endings: Per view: name of a key -> stored rows to end.
    """

    applied: Applied
    remembered: dict[bytes, bytes]
    rows: Ints
    ends: Ints
    endings: Sequence[Mapping[bytes, list[Ending]]]


def admit(batch: Batch, stored: Mapping[bytes, Buffer], horizon: int) -> Admitted:
    """Tells news from repeats, by what is `stored` of the events of the batch.

    An event that is new and comes once, as most are, needs no more than its record; others their history.
    """
    records, size = _records(batch), _HEAD + _DIGEST * len(batch.keys)
    repeated = {one for one, n in Counter(batch.ids).items() if n > 1} | stored.keys()
    ends: Ints = np.where(batch.deleted, -FOREVER, FOREVER)
    remembered: dict[bytes, bytes] = {}
    histories: dict[bytes, History] = {}
    new = replaced = 0
    for row, name in enumerate(batch.ids):
        record = records[row * size : row * size + size]
        if name not in repeated:
            remembered[name] = record
            new += 1
            continue
        if name not in histories:
            histories[name] = History(stored.get(name, b""), size)
        history = histories[name]
        known = bool(history.versions)
        ends[row] = -FOREVER
        if history.admit(record, row):
            new, replaced = new + (not known), replaced + known
    endings: list[dict[bytes, list[Ending]]] = [defaultdict(list) for _ in batch.keys]
    for name, history in histories.items():
        remembered[name] = history.kept(horizon)
        for version, end in history.changed():
            if version.row < 0:
                version.end(name, end, endings)
            elif not batch.deleted[version.row]:
                ends[version.row] = end
    rows = np.flatnonzero(ends > horizon)
    applied = Applied(new, replaced, len(batch) - new - replaced)
    return Admitted(applied, remembered, rows, ends[rows], endings)


def _records(batch: Batch) -> bytes:
    """What is to be remembered of each version, one after the other."""
    words = np.zeros((len(batch), 3 + 2 * len(batch.keys)), np.uint64)
    words[:, 1] = batch.time.view(np.uint64)
    for place, (of, names) in enumerate(batch.keys):
        name_words = np.frombuffer(b"".join((*names, _NO_KEY)), np.uint64).reshape(-1, 2)
        words[:, 3 + 2 * place : 5 + 2 * place] = name_words[np.where(batch.deleted, -1, of)]
    values = [(block + 0.0).view(np.uint64) for block in batch.values]  # -0.0 is 0.0
    words[:, 2] = _mixed(np.concatenate((batch.deleted[:, None].astype(np.uint64), words, *values), axis=1))
    words[:, 0] = batch.start.view(np.uint64)
    return words.tobytes()


def _mixed(words: Array) -> Array:
    """A digest of each row, 64 bits: its words, each with its place, through the finalizer of MurmurHash3, added up."""
    mixed = words ^ (np.arange(1, words.shape[1] + 1, dtype=np.uint64) * _GOLDEN)
    for factor in _FACTORS:
        mixed *= factor
        mixed ^= mixed >> _SHIFT
    total: Array = np.add.reduce(mixed, axis=1)
    return total


def is_forgotten(record: Buffer, views: int, horizon: int, oldest: int) -> bool:
    """Whether no version of an event can be met later than `horizon` or has a time from `oldest` on."""
    size = _HEAD + _DIGEST * views
    return all(
        time < oldest and start < horizon
        for start, time in (_WHEN.unpack_from(record, at) for at in range(0, len(record), size))
    )


class Version(NamedTuple):
    """A version as it is remembered; `row` is its place in the batch, -1 where it is stored."""

    start: int
    time: int
    record: bytes
    row: int

    def end(self, name: bytes, end: int, endings: Sequence[dict[bytes, list[Ending]]]) -> None:
        """Notes in each view that has a row of it, this version of the event `name`, that it ends."""
        for place, view in enumerate(endings):
            key = self.record[_HEAD + _DIGEST * place : _HEAD + _DIGEST * (place + 1)]
            if key != _NO_KEY:
                view[key].append((self.time, name, self.start, end))


class History:
    """All versions of one event while a batch is applied: what was stored, and what the batch adds."""

    __slots__ = ("_overruled", "versions")

    def __init__(self, stored: Buffer, size: int) -> None:
        self.versions = [_version(bytes(stored[at : at + size]), -1) for at in range(0, len(stored), size)]
        self._overruled: list[Version] = []

    def admit(self, record: bytes, row: int) -> bool:
        """Whether the version is news; of two with the same start the one admitted later holds."""
        version = _version(record, row)
        place = bisect_left(self.versions, version.start, key=_start)
        known = self.versions[place] if place < len(self.versions) else None
        if known is None or known.start != version.start:
            self.versions.insert(place, version)
            return True
        if known.record[:_HEAD] == record[:_HEAD]:
            return False
        if known.row < 0:
            self._overruled.append(known)
        self.versions[place] = version
        return True

    def changed(self) -> Iterator[tuple[Version, int]]:
        """Versions of the batch and when each ends, and stored ones that end anew."""
        for version in self._overruled:
            yield version, version.start
        end, follower_is_fresh = FOREVER, False
        for version in reversed(self.versions):
            if version.row >= 0 or follower_is_fresh:
                yield version, end
            end, follower_is_fresh = version.start, version.row >= 0

    def kept(self, horizon: int) -> bytes:
        """Versions that a question later than `horizon` can still meet, and always the newest."""
        kept = [version.record for version, after in pairwise(self.versions) if after.start > horizon]
        return b"".join((*kept, self.versions[-1].record))


def _version(record: bytes, row: int) -> Version:
    start, time = _WHEN.unpack_from(record)
    return Version(start, time, record, row)


def _start(version: Version) -> int:
    return version.start


class Changes(NamedTuple):
    """Rows to add to one view, those of one key together and sorted, the keys sorted too.

    Attributes:
        bounds: Where the rows of each key begin, and the end of all.
        rows: Shape (n, width).
    """

    keys: Sequence[bytes]
    bounds: list[int]
    rows: Ints


def changes(
    batch: Batch, admitted: Admitted, layouts: Sequence[Layout], horizon: int, words: int
) -> Iterator[Changes]:
    """Changes of each view, without rows that no question later than `horizon` can meet.

    Args:
        words: Words that an id takes, enough for the longest.
    """
    ids = np.array(batch.ids, f"S{8 * words}")
    order = np.argsort(batch.time[admitted.rows], kind="stable")
    time = batch.time[admitted.rows[order]]
    if len(time) > 1 and (time[1:] == time[:-1]).any():
        rows = admitted.rows
        order = np.lexsort((batch.start[rows], ids[rows], batch.time[rows]))
    rows, ends = admitted.rows[order], admitted.ends[order]
    time = batch.time[rows]
    id_words = ids.view(np.int64).reshape(len(batch), words)
    for layout, (of, names), values in zip(layouts, batch.keys, batch.values, strict=True):
        rank = np.where(time >= horizon - layout.back, of[rows], -1)
        if len(names) < 2**15:
            rank = rank.astype(np.int16)  # sorted by radix: several times faster
        by_key = np.argsort(rank, kind="stable")[np.count_nonzero(rank < 0) :]
        rank, source = rank[by_key], rows[by_key]
        out = np.empty((len(source), layout.ids + words), np.int64)
        out[:, TIME], out[:, START], out[:, END] = time[by_key], batch.start[source], ends[by_key]
        out[:, VALUES : layout.ids] = values.view(np.int64)[source]
        out[:, layout.ids :] = id_words[source]
        bounds = [0, *(np.flatnonzero(rank[1:] != rank[:-1]) + 1).tolist(), len(rank)] if len(rank) else [0]
        yield Changes([names[one] for one in rank[bounds[:-1]].tolist()], bounds, out)
