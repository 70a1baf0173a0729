"""How far the projections were at each commit of the keeper: what the serial in an answer stands for.

Serials begin at the machine's time (microseconds) whenever a keeper starts, and grow by one with each commit: no two
commits share one, even where a power cut lost some or all projections were made anew. The database `reach` holds

    s + serial    how far the journal was read up to here, until the next entry
    b + serial    the offset of every segment then, of which entries under s state only what changed
    f + file      when a bulk file was projected

so that a commit costs some 30 bytes however many segments there are. Commits without a new event have no entry.
"""

from __future__ import annotations

import logging
import struct
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import lmdb
import msgspec

from icekeel.features.live import State, StateCell
from icekeel.journal import Positions

REMEMBERED = 2_000_000
"""Entries that are kept: a day of 20 a second, and more."""
_SERIAL = struct.Struct(">Q")
_STEP, _BASE, _FILE = b"s", b"b", b"f"
log = logging.getLogger(__name__)
_pack = msgspec.msgpack.Encoder().encode


class Reached(msgspec.Struct, frozen=True):
    """How far the projections were at some serial.

    Attributes:
        at: The machine's time of that commit, microseconds UTC.
        known_until: Availability of the newest event projected.
        offsets: Segment -> how far it had been read.
    """

    at: int
    known_until: int
    offsets: Mapping[str, int]


class _Step(msgspec.Struct, frozen=True, array_like=True):
    """An entry; without `base` it is not known how far: between the last commit that lasted and the next start."""

    base: int = 0
    at: int = 0
    known_until: int = 0
    changed: dict[int, int] = {}


@dataclass(frozen=True, slots=True)
class _Base:
    serial: int
    places: Mapping[str, int]
    offsets: tuple[int, ...]


class Reach:
    """Remembers what each serial stands for.

    Args:
        environment: The projections; open for reading it remembers nothing new.
    """

    def __init__(self, environment: lmdb.Environment) -> None:
        self._environment = environment
        readonly = environment.flags()["readonly"]
        self._database: Any = None
        try:
            self._database = environment.open_db(b"reach", create=not readonly)
        except lmdb.NotFoundError:
            log.warning("reach_not_known", extra={"where": environment.path()})
        self._base: _Base | None = None

    def begin(self, txn: lmdb.Transaction[Any], state: State) -> State:
        """The state with the first serial of a keeper that starts; what lies between is not known."""
        fresh = msgspec.structs.replace(state, serial=max(state.serial + 2, time.time_ns() // 1000))
        self._put(txn, _STEP, state.serial + 1, _Step())
        self.note(txn, fresh)
        return fresh

    def note(self, txn: lmdb.Transaction[Any], state: State, files: Iterable[str] = ()) -> None:
        """Remember how far a commit came, and which bulk files it took in."""
        now = time.time_ns() // 1000
        offsets = Positions.decode(state.positions).offsets if state.positions else {}
        base = self._base
        if base is None or base.places.keys() != offsets.keys():
            places = {name: place for place, name in enumerate(offsets)}
            base = self._base = _Base(state.serial, places, tuple(offsets.values()))
            self._put(txn, _BASE, state.serial, list(offsets.items()))
        changed = {
            place: offsets[name]
            for name, place in base.places.items()
            if offsets[name] != base.offsets[place]
        }
        self._put(txn, _STEP, state.serial, _Step(base.serial, now, state.known_until, changed))
        for file in files:
            txn.put(_FILE + file.encode(), _pack((state.serial, now)), db=self._database, overwrite=False)

    def forget(self, txn: lmdb.Transaction[Any], remembered: int = REMEMBERED) -> None:
        """Keep the newest entries, and what they build on."""
        extra = int(txn.stat(self._database)["entries"]) - remembered
        cursor = txn.cursor(self._database)
        found = cursor.set_range(_STEP)
        while found and extra > 0 and bytes(cursor.key()).startswith(_STEP):
            found, extra = cursor.delete(), extra - 1
        if not (found and bytes(cursor.key()).startswith(_STEP)):
            return
        oldest = msgspec.msgpack.decode(cursor.value(), type=_Step).base
        found = cursor.set_range(_BASE)
        while found and bytes(cursor.key()) < _BASE + _SERIAL.pack(oldest):
            found = cursor.delete()

    def at(self, serials: Iterable[int]) -> dict[int, Reached]:
        """Serial -> how far the projections were; those of which it is not known are missing."""
        found: dict[int, Reached] = {}
        bases: dict[int, list[tuple[str, int]]] = {}
        if self._database is None:
            return found
        with self._environment.begin() as txn:
            for serial in serials:
                reached = self._at(txn, serial, bases)
                if reached is not None:
                    found[serial] = reached
        return found

    def files(self) -> dict[str, tuple[int, int]]:
        """Bulk file -> the serial and the machine's time at which it was projected."""
        found: dict[str, tuple[int, int]] = {}
        if self._database is None:
            return found
        with self._environment.begin() as txn:
            cursor = txn.cursor(self._database)
            there = cursor.set_range(_FILE)
            while there and (key := bytes(cursor.key())).startswith(_FILE):
                found[key[1:].decode()] = msgspec.msgpack.decode(cursor.value(), type=tuple[int, int])
                there = cursor.next()
        return found

    def when(self, segment: str, offset: int) -> int:
        """The machine's time at which a record was projected; 0 if not known.

        What was read grows with the serials, so this halves their range until one is left.
        """
        if self._database is None:
            return 0
        found, bases = 0, dict[int, list[tuple[str, int]]]()
        with self._environment.begin() as txn:
            low, high = self._range(txn)
            while low <= high:
                middle = (low + high) // 2
                reached = self._at(txn, middle, bases)
                if reached is not None and reached.offsets.get(segment, 0) > offset:
                    high, found = middle - 1, reached.at
                else:
                    low = middle + 1
        return found

    def _range(self, txn: lmdb.Transaction[Any]) -> tuple[int, int]:
        """The first and the last serial with an entry."""
        cursor = txn.cursor(self._database)
        if not cursor.set_range(_STEP):
            return 1, 0
        first = _SERIAL.unpack(bytes(cursor.key())[1:])[0]
        cursor.last()
        return first, _SERIAL.unpack(bytes(cursor.key())[1:])[0]

    def _at(
        self, txn: lmdb.Transaction[Any], serial: int, bases: dict[int, list[tuple[str, int]]]
    ) -> Reached | None:
        cursor = txn.cursor(self._database)
        after = cursor.set_range(_STEP + _SERIAL.pack(serial + 1))
        there = cursor.prev() if after else cursor.last()
        if not there or not bytes(cursor.key()).startswith(_STEP):
            return None
        step = msgspec.msgpack.decode(cursor.value(), type=_Step)
        if not step.base:
            return None
        if step.base not in bases:
            raw = txn.get(_BASE + _SERIAL.pack(step.base), db=self._database)
            bases[step.base] = msgspec.msgpack.decode(raw or b"\x90", type=list[tuple[str, int]])
        base = bases[step.base]
        return Reached(
            step.at,
            step.known_until,
            {name: step.changed.get(place, offset) for place, (name, offset) in enumerate(base)},
        )

    def _put(self, txn: lmdb.Transaction[Any], kind: bytes, serial: int, value: Any) -> None:
        txn.put(kind + _SERIAL.pack(serial), _pack(value), db=self._database)


def carry(old: lmdb.Environment, fresh: lmdb.Environment) -> None:
    """What serials stood for, and the keeper's time, into projections that are made anew.

    So answers of before can still be audited, and the new ones do not look as if no keeper had run.
    """
    database, made = old.open_db(b"reach"), fresh.open_db(b"reach")
    with old.begin() as source, fresh.begin(write=True) as target:
        for key, value in source.cursor(database):
            target.put(bytes(key), bytes(value), db=made)
    cells = StateCell(old), StateCell(fresh)
    with old.begin() as source, fresh.begin(write=True) as target:
        state = cells[0].read(source)
        cells[1].write(target, State(serial=state.serial, now=state.now))
