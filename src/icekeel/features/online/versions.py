"""Which versions of an event exist, and from when to when each is the newest: no I/O.

An event's versions are kept by `start`. Each ends where the next one starts, so a version that arrives
late only shortens the one before it and is itself ended by the one after it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b

import msgspec

from icekeel.core.time import FOREVER

_ID_BYTES = 64
_pack = msgspec.msgpack.Encoder().encode


@dataclass(frozen=True, slots=True)
class EventVersion:
    """One version of one event, its contract already checked.

    Attributes:
        id: Identifier of the event in its table.
        time: Event time.
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


@dataclass(frozen=True, slots=True)
class Applied:
    """What a batch did: events never seen before, further versions of known ones, repeats ignored."""

    new: int = 0
    replaced: int = 0
    duplicates: int = 0


class Version(msgspec.Struct, frozen=True, array_like=True):
    """What is remembered of a version; `keys` are digests, None where no row is stored."""

    start: int
    time: int
    content: bytes
    keys: tuple[bytes | None, ...]


def digest(key: bytes) -> bytes:
    """16 bytes that stand for a key; two keys share them with probability 2**-128."""
    return blake2b(key, digest_size=16).digest()


def id_bytes(text: str) -> bytes:
    """UTF-8, which sorts as the text does; of a long id the first 48 bytes and a digest.

    The bytes never end with NUL, because fixed-width NumPy strings drop it.
    """
    raw = text.encode()
    if len(raw) <= _ID_BYTES and not raw.endswith(b"\0"):
        return raw
    return raw[:48] + blake2b(raw, digest_size=8).hexdigest().encode()


def remember(event: EventVersion) -> Version:
    """The version of `event` as it is remembered."""
    content = blake2b(_pack((event.time, event.deleted, event.keys, event.values)), digest_size=8)
    keys = (None,) * len(event.keys) if event.deleted else event.keys
    return Version(
        event.start, event.time, content.digest(), tuple(None if key is None else digest(key) for key in keys)
    )


class History:
    """All versions of one event while a batch is applied: what was stored, and what the batch adds."""

    __slots__ = ("_fresh", "_overruled", "versions")

    def __init__(self, stored: list[Version]) -> None:
        self.versions = stored
        self._fresh: dict[int, EventVersion] = {}
        self._overruled: list[Version] = []

    def admit(self, event: EventVersion) -> bool:
        """Whether the version is news; of two with the same start the one admitted later holds."""
        version = remember(event)
        place = bisect_left(self.versions, event.start, key=_start)
        if place < len(self.versions) and self.versions[place].start == event.start:
            if self.versions[place].content == version.content:
                return False
            if event.start not in self._fresh:
                self._overruled.append(self.versions[place])
            self.versions[place] = version
        else:
            self.versions.insert(place, version)
        self._fresh[event.start] = event
        return True

    def rows(self) -> Iterator[tuple[Version, int, EventVersion | None]]:
        """`(version, end, event)` for each row to store, and with None for each stored one to end anew."""
        for version in self._overruled:
            yield version, version.start, None
        end = FOREVER
        follower_is_fresh = False
        for version in reversed(self.versions):
            event = self._fresh.get(version.start)
            if event is not None or follower_is_fresh:
                yield version, end, event
            follower_is_fresh = event is not None
            end = version.start

    def kept(self, horizon: int) -> list[Version]:
        """Versions that a question at or after `horizon` can still meet, and always the newest."""
        ends = [version.start for version in self.versions[1:]]
        return [v for v, end in zip(self.versions, [*ends, FOREVER], strict=True) if end > horizon]


def _start(version: Version) -> int:
    return version.start
