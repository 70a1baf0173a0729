"""Online windows in LMDB: one writer, any number of reading processes that never wait.

Three named databases: `chunks` (view number, digest of the key, first time -> chunk), `events` (table number,
id -> versions; under table number 0 what the state was made for and the newest start per table) and `texts`.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any, TypeAlias

import lmdb
import msgspec

from icekeel.core.errors import Fault, StateError
from icekeel.core.time import DAY

from ..aggregates import View
from .changes import distribute
from .chunks import (
    FORMAT,
    Buffer,
    Ending,
    Layout,
    Rows,
    decode,
    encode,
    end_rows,
    head_of,
    merge,
    retain,
    split,
)
from .scan import Scanner
from .versions import Applied, EventVersion, History, Version, digest, id_bytes

GRACE = DAY
"""How long before the newest start questions are still answered exactly."""

Transaction: TypeAlias = "lmdb.Transaction[Any]"

_NUMBER, _TIME, _CODE = struct.Struct(">H"), struct.Struct(">Q"), struct.Struct(">Q")
_PREFIX = 18
_IN_PAGE = 4096
_MADE_FOR, _NEWEST = _NUMBER.pack(0), _NUMBER.pack(0) + b"newest:"
_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(list[Version]).decode


def open_environment(path: Path, *, readonly: bool = False, map_size: int = 1 << 36) -> lmdb.Environment:
    """An LMDB environment in the folder `path`.

    After a power cut the newest commits may be missing, whole ones each; a process crash loses none.

    Args:
        path: Folder; made when missing, unless `readonly`.
        readonly: For processes that only read.
        map_size: Most bytes it may grow to; costs address space, not disk.

    Raises:
        StateError: The folder is missing or is no environment.
    """
    try:
        if not readonly:
            path.mkdir(parents=True, exist_ok=True)
        environment = lmdb.open(
            str(path), map_size=map_size, readonly=readonly, create=not readonly, max_dbs=16, metasync=False
        )
        environment.reader_check()
    except (lmdb.Error, OSError) as error:
        fault = Fault("state_missing", "cannot open the online state", where=str(path), got=str(error))
        raise StateError(fault) from error
    return environment


class LmdbWindows:
    """Windows of all views of a project.

    Args:
        environment: From `open_environment`; no transaction may be open in this thread.
        views: All views. State made for other views cannot be read: rebuild it from the journal elsewhere.

    Raises:
        StateError: The environment holds no windows (read-only) or was made for other views.
    """

    def __init__(self, environment: lmdb.Environment, views: Sequence[View]) -> None:
        self._chunks = _database(environment, b"chunks")
        self._events = _database(environment, b"events")
        self._scanners: dict[str, tuple[bytes, Scanner]] = {}
        self._tables: dict[str, tuple[bytes, list[tuple[bytes, Layout]]]] = {}
        for number, view in enumerate(views):
            prefix, layout = _NUMBER.pack(number), Layout(view)
            self._scanners[view.name] = (prefix, Scanner(view, layout))
            table = self._tables.setdefault(view.table, (_NUMBER.pack(len(self._tables) + 1), []))
            table[1].append((prefix, layout))
        self._check(environment, blake2b(repr((FORMAT, *views)).encode(), digest_size=16).digest())

    def apply(self, txn: Transaction, table: str, batch: Sequence[EventVersion]) -> Applied:
        """What the batch did; a table without views is left aside.

        Raises:
            StateError: The environment is full.
        """
        if table not in self._tables or not batch:
            return Applied()
        number, views = self._tables[table]
        try:
            horizon = self._advance(txn, table, max(event.start for event in batch)) - GRACE
            histories, applied = self._admit(txn, number, batch)
            changes = distribute(histories.items(), [layout for _, layout in views], horizon)
            for (view, layout), change in zip(views, changes, strict=True):
                for key, rows, ended in change.by_key():
                    self._change(txn, view + key, layout, rows=rows, ended=ended, horizon=horizon)
            for row_id, history in histories.items():
                txn.put(number + row_id, _pack(history.kept(horizon)), db=self._events)
        except lmdb.MapFullError as error:
            fault = Fault("state_full", "the online state is full", hint="open it with a larger map_size")
            raise StateError(fault) from error
        return applied

    def read(self, txn: Transaction, view: View, key: bytes | None, at: int) -> list[float]:
        """One number per aggregate; see `OnlineStore.read`. Fastest in a transaction with `buffers=True`."""
        number, scanner = self._scanners[view.name]
        if key is None:
            return list(scanner.empty)
        prefix = number + digest(key)
        first, last = prefix + _time_bytes(at - scanner.high), prefix + _time_bytes(at - scanner.low)
        cursor = txn.cursor(self._chunks)
        # The chunk that holds the oldest row may begin before it.
        if not cursor.set_range(first):
            cursor.last()
        elif cursor.prev() and bytes(cursor.key()) < prefix:
            cursor.next()
        chunks: list[Buffer] = []
        for name, chunk in cursor.iternext():
            if not prefix <= bytes(name) <= last:
                break
            # Small values lie unaligned in a page, and NumPy is slow on those.
            chunks.append(chunk if len(chunk) > _IN_PAGE else bytes(chunk))
        return scanner.answer(chunks, at)

    def held(
        self, txn: Transaction, view: View, key: bytes, at: int
    ) -> dict[str, tuple[int, tuple[float, ...]]]:
        """What a key's windows hold at a time: id (see `id_bytes`) -> event time and values. For audits, not fast."""
        prefix, layout = self._scanners[view.name][0] + digest(key), Layout(view)
        found = {}
        for _, chunk in _items(txn, self._chunks, prefix):
            rows = decode(bytes(chunk), layout)
            for place, (time, start, end) in enumerate(rows.ints.T.tolist()):
                if start <= at < end and at - view.back <= time <= at + view.ahead:
                    found[rows.ids[place].decode()] = (time, tuple(rows.values[:, place].tolist()))
        return found

    def prune(self, txn: Transaction, now: int) -> int:
        """Rows dropped that no question later than `GRACE` before `now` can meet; forgets their events."""
        horizon = now - GRACE
        dropped = 0
        for number, views in self._tables.values():
            for prefix, layout in views:
                for name, chunk in _items(txn, self._chunks, prefix):
                    head = head_of(chunk)
                    if head.min_end <= horizon or head.first < horizon - layout.back:
                        rows = retain(decode(chunk, layout), horizon, layout.back)
                        dropped += head.rows - len(rows)
                        self._replace(txn, name[:_PREFIX], layout, name=name, parts=split(rows, last=False))
            oldest = horizon - max(layout.back for _, layout in views)
            for name, stored in _items(txn, self._events, number):
                if all(version.time < oldest and version.start < horizon for version in _unpack(stored)):
                    txn.delete(name, db=self._events)
        return dropped

    def _check(self, environment: lmdb.Environment, made_for: bytes) -> None:
        with environment.begin(write=not environment.flags()["readonly"]) as txn:
            stored = txn.get(_MADE_FOR, db=self._events)
            if stored is None and not environment.flags()["readonly"]:
                txn.put(_MADE_FOR, made_for, db=self._events)
            elif stored != made_for:
                fault = Fault(
                    "state_views",
                    "the online state was made for other views or in another format",
                    where=environment.path(),
                    hint="rebuild it from the journal in a new folder",
                )
                raise StateError(fault)

    def _advance(self, txn: Transaction, table: str, start: int) -> int:
        """The newest start that the table has seen, this one included."""
        name = _NEWEST + digest(table.encode())
        stored = txn.get(name, db=self._events)
        newest = start if stored is None else max(start, _of_time_bytes(stored))
        txn.put(name, _time_bytes(newest), db=self._events)
        return newest

    def _admit(
        self, txn: Transaction, number: bytes, batch: Sequence[EventVersion]
    ) -> tuple[dict[bytes, History], Applied]:
        """Histories, by row id, of the events in the batch."""
        histories: dict[bytes, History] = {}
        new = replaced = 0
        for event in batch:
            row_id = id_bytes(event.id)
            history = histories.get(row_id)
            if history is None:
                stored = txn.get(number + row_id, db=self._events)
                history = histories[row_id] = History([] if stored is None else _unpack(stored))
            known = bool(history.versions)
            if history.admit(event):
                new, replaced = new + (not known), replaced + known
        return histories, Applied(new, replaced, len(batch) - new - replaced)

    def _change(
        self,
        txn: Transaction,
        prefix: bytes,
        layout: Layout,
        *,
        rows: Rows,
        ended: list[Ending],
        horizon: int,
    ) -> None:
        """Adds rows to one key and ends stored ones, each chunk touched once; both in the order of time."""
        done = 0
        while len(rows) or done < len(ended):
            nexts = [int(rows.ints[0, 0])] if len(rows) else []
            nexts += [ended[done][0]] if done < len(ended) else []
            name, chunk, following = self._locate(txn, prefix, min(nexts))
            upto = len(rows) if following is None else int(rows.ints[0].searchsorted(following))
            first = done
            while done < len(ended) and (following is None or ended[done][0] < following):
                done += 1
            fresh, rows = rows[:upto], rows[upto:]
            if chunk is not None:
                stored = decode(chunk, layout)
                stored = end_rows(stored, ended[first:done]) if done > first else stored
                fresh = retain(merge(stored, fresh) if upto else stored, horizon, layout.back)
            self._replace(txn, prefix, layout, name=name, parts=split(fresh, last=following is None))

    def _locate(
        self, txn: Transaction, prefix: bytes, time: int
    ) -> tuple[bytes | None, Buffer | None, int | None]:
        """Name and content of the chunk that `time` belongs to, and where the next chunk begins."""
        cursor = txn.cursor(self._chunks)
        after = bytes(cursor.key()) if cursor.set_range(prefix + _time_bytes(time + 1)) else b""
        if (cursor.prev() if after else cursor.last()) and (name := bytes(cursor.key())).startswith(prefix):
            return name, cursor.value(), _of_time_bytes(after[_PREFIX:]) if after.startswith(prefix) else None
        if not after.startswith(prefix):
            return None, None, None
        cursor.set_key(after)
        chunk = cursor.value()
        beyond = bytes(cursor.key()) if cursor.next() else b""
        return after, chunk, _of_time_bytes(beyond[_PREFIX:]) if beyond.startswith(prefix) else None

    def _replace(
        self, txn: Transaction, prefix: bytes, layout: Layout, *, name: bytes | None, parts: Sequence[Rows]
    ) -> None:
        """Puts the parts in the place of the chunk `name`, if there is one."""
        chunks = {prefix + _time_bytes(int(rows.ints[0, 0])): encode(rows, layout) for rows in parts}
        if name is not None and name not in chunks:
            txn.delete(name, db=self._chunks)
        for new_name, chunk in chunks.items():
            txn.put(new_name, chunk, db=self._chunks)


class TextCodes:
    """Numbers that stand for texts in float64 value columns: 0, 1, 2 in the order of first sight."""

    def __init__(self, environment: lmdb.Environment) -> None:
        self._texts = _database(environment, b"texts")

    def encode(self, txn: Transaction, text: str) -> float:
        """The code of a text; a new one for a text not seen before."""
        known = self.find(txn, text)
        if known >= 0:
            return known
        code = txn.stat(self._texts)["entries"] // 2
        txn.put(b"t" + digest(text.encode()), _CODE.pack(code), db=self._texts)
        txn.put(b"c" + _CODE.pack(code), text.encode(), db=self._texts)
        return float(code)

    def find(self, txn: Transaction, text: str) -> float:
        """The code of a text, -1.0 when it has none."""
        stored = txn.get(b"t" + digest(text.encode()), db=self._texts)
        return -1.0 if stored is None else float(_CODE.unpack(stored)[0])

    def decode(self, txn: Transaction, code: float) -> str:
        """The text of a code.

        Raises:
            StateError: No text has this code.
        """
        known = math.isfinite(code) and code >= 0 and code == int(code)
        stored = txn.get(b"c" + _CODE.pack(int(code)), db=self._texts) if known else None
        if stored is None:
            raise StateError(Fault("unknown_code", "no text has this code", got=str(code)))
        return bytes(stored).decode()


def _database(environment: lmdb.Environment, name: bytes) -> Any:
    try:
        return environment.open_db(name, create=not environment.flags()["readonly"])
    except lmdb.Error as error:
        fault = Fault("state_missing", f"no {name.decode()} in the online state", where=environment.path())
        raise StateError(fault) from error


def _items(txn: Transaction, database: Any, prefix: bytes) -> Iterator[tuple[bytes, Buffer]]:
    """Entries under a prefix; the one given last may be changed or deleted meanwhile."""
    cursor = txn.cursor(database)
    found = cursor.set_range(prefix)
    while found and (name := bytes(cursor.key())).startswith(prefix):
        yield name, cursor.value()
        found = cursor.set_range(name + b"\0")


def _time_bytes(time: int) -> bytes:
    """Eight bytes that sort as the time does, negative ones included."""
    return _TIME.pack(time + (1 << 63))


def _of_time_bytes(raw: Buffer) -> int:
    return int(_TIME.unpack(raw)[0]) - (1 << 63)
