"""The online store over any map of bytes to bytes: what is written where, without saying how.

Names of records begin with what they are:

    h, view, key            head of a key
    c, view, key, number    chunk
    e, table, id            what is remembered of an event
    m                       what the state was made for
    n, table                the newest start that the table has seen, and the words that its longest id takes
"""

from __future__ import annotations

import struct
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from hashlib import blake2b
from typing import Generic, NamedTuple, TypeVar

import numpy as np

from icekeel.core.errors import Fault, StateError
from icekeel.core.time import DAY

from ..aggregates import View
from .chunks import FORMAT, VALUES, Buffer, Editor, Ending, Layout, append, describe, ids_of, is_due, lengthen
from .extent import REBUILD
from .scan import Scanner
from .versions import Applied, Batch, Changes, EventVersion, admit, changes, is_forgotten, key_name

GRACE = DAY
"""How long before the newest start questions are still answered exactly."""

Txn = TypeVar("Txn")

MADE_FOR = b"m"
_PLACE, _NUMBER, _SEEN = struct.Struct(">H"), struct.Struct(">I"), struct.Struct("<2q")


class _View(NamedTuple):
    """How a view is kept; `place` is its number, packed."""

    place: bytes
    layout: Layout
    scanner: Scanner


class _Table(NamedTuple):
    """How a table is kept."""

    place: bytes
    views: list[_View]


class OnlineStore(ABC, Generic[Txn]):
    """Windows by key, on the five operations below.

    The transaction is the caller's, so that other state commits together with it.

    Args:
        views: All views. State made for other views cannot be read: rebuild it from the journal elsewhere.
    """

    def __init__(self, views: Sequence[View]) -> None:
        self._views: dict[str, _View] = {}
        self._tables: dict[str, _Table] = {}
        for number, view in enumerate(views):
            layout = Layout(view)
            kept = self._views[view.name] = _View(_PLACE.pack(number), layout, Scanner(view, layout))
            table = self._tables.setdefault(view.table, _Table(_PLACE.pack(len(self._tables)), []))
            table.views.append(kept)
        self.made_for = blake2b(repr((FORMAT, *views)).encode(), digest_size=16).digest()

    @abstractmethod
    def get(self, txn: Txn, name: bytes) -> bytes | None:
        """A record; None where there is none."""

    def peek(self, txn: Txn, name: bytes) -> Buffer | None:
        """The same, for as long as the transaction is open, not copied where it need not be."""
        return self.get(txn, name)

    @abstractmethod
    def get_many(self, txn: Txn, names: Sequence[bytes]) -> Mapping[bytes, bytes]:
        """The records there are of some names, best given sorted."""

    @abstractmethod
    def put_many(self, txn: Txn, records: Iterable[tuple[bytes, bytes]]) -> None:
        """Put records, best given sorted."""

    @abstractmethod
    def delete(self, txn: Txn, name: bytes) -> None:
        """Delete a record."""

    @abstractmethod
    def scan(self, txn: Txn, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Records whose names begin with `prefix`; the one given last may be changed or deleted meanwhile."""

    def read(
        self, txn: Txn, view: View, key: bytes | None, at: int, params: Sequence[float] = ()
    ) -> list[float]:
        """One number per aggregate of the view, NaN for null, as known at time `at`.

        Exact for every `at` later than `GRACE` before the newest `start` applied to the view's table.

        Args:
            view: One that the store was made for.
            key: Encoded; None for a key with a null, which no event has.
            params: The question's parameters (`Aggregate.of`), NaN for null.

        Raises:
            StateError: What is stored cannot be read.
        """
        place, _, scanner = self._views[view.name]
        if key is None:
            return list(scanner.empty)
        name = place + key_name(key)
        head = self.get(txn, b"h" + name)
        if head is None:
            return list(scanner.empty)
        try:
            return scanner.answer(head, self._chunks(txn, name), at, params)
        except (struct.error, ValueError) as error:
            raise damaged(str(error), f"windows {view.name}") from error

    def read_many(
        self, txn: Txn, view: View, asked: Sequence[tuple[bytes | None, Sequence[float]]], at: int
    ) -> list[list[float]]:
        """What `read` gives for each of several keys with their parameters, in fewer steps.

        Raises:
            StateError: What is stored cannot be read.
        """
        place, _, scanner = self._views[view.name]
        names = [None if key is None else place + key_name(key) for key, _ in asked]
        heads = self.get_many(txn, sorted({b"h" + name for name in names if name is not None}))
        stored = [
            (row, name, head)
            for row, name in enumerate(names)
            if name is not None and (head := heads.get(b"h" + name)) is not None
        ]
        found = [list(scanner.empty) for _ in asked]
        try:
            answers = scanner.answer_many(
                [(head, self._chunks(txn, name)) for _, name, head in stored],
                at,
                [asked[row][1] for row, _, _ in stored],
            )
        except (struct.error, ValueError) as error:
            raise damaged(str(error), f"windows {view.name}") from error
        for (row, _, _), answer in zip(stored, answers, strict=True):
            found[row] = answer
        return found

    def apply(self, txn: Txn, table: str, batch: Batch | Sequence[EventVersion]) -> Applied:
        """What the batch did; versions may be late, corrected, deleted, repeated or out of order.

        The newest `start` moves the time from which questions are exact: one in the future must not get here.
        A table without views is left aside.
        """
        if table not in self._tables or not len(batch):
            return Applied()
        if not isinstance(batch, Batch):
            batch = Batch.of(batch)
        place, views = self._tables[table]
        newest, words = self._advance(txn, place, batch)
        horizon = newest - GRACE
        prefix = b"e" + place
        stored = self.get_many(txn, sorted([prefix + one for one in set(batch.ids)]))
        admitted = admit(batch, {name[len(prefix) :]: record for name, record in stored.items()}, horizon)
        self.put_many(txn, sorted([(prefix + one, record) for one, record in admitted.remembered.items()]))
        layouts = [view.layout for view in views]
        per_view = changes(batch, admitted, layouts, horizon, words)
        for view, change, endings in zip(views, per_view, admitted.endings, strict=True):
            self._change(txn, view, change, endings, horizon)
        return admitted.applied

    def newest(self, txn: Txn, table: str) -> int:
        """The newest `start` that a table has seen, microseconds UTC; 0 before any."""
        stored = self.get(txn, b"n" + self._tables[table].place)
        return 0 if stored is None else int(_SEEN.unpack(stored)[0])

    def held(self, txn: Txn, view: View, key: bytes, at: int) -> dict[str, tuple[int, tuple[float, ...]]]:
        """What a key's windows hold at a time: id -> event time and values. For audits, not fast."""
        kept = self._views[view.name]
        name = kept.place + key_name(key)
        head = self.get(txn, b"h" + name)
        found: dict[str, tuple[int, tuple[float, ...]]] = {}
        for rows in Editor(head, kept.layout, self._chunks(txn, name)).rows():
            values = np.ascontiguousarray(rows[:, VALUES : kept.layout.ids]).view(np.float64)
            parts = zip(ids_of(rows, kept.layout), rows[:, :VALUES].tolist(), values.tolist(), strict=True)
            for row_id, (time, start, end), row in parts:
                if start <= at < end and at - view.back <= time <= at + view.ahead:
                    found[bytes(row_id).decode()] = (time, tuple(row))
        return found

    def prune(self, txn: Txn, now: int) -> int:
        """Rows dropped that no question later than `GRACE` before `now` can meet; forgets their events."""
        horizon = now - GRACE
        dropped = 0
        for place, views in self._tables.values():
            for view in views:
                for name, head in self.scan(txn, b"h" + view.place):
                    if is_due(head, view.layout, horizon):
                        editor = Editor(head, view.layout, self._chunks(txn, name[1:]))
                        editor.prune(horizon)
                        self._store(txn, name[1:], editor.encode(), editor.chunks)
                        dropped += editor.dropped
            oldest = horizon - max(view.layout.back for view in views)
            for name, record in self.scan(txn, b"e" + place):
                if is_forgotten(record, len(views), horizon, oldest):
                    self.delete(txn, name)
        return dropped

    def _advance(self, txn: Txn, place: bytes, batch: Batch) -> tuple[int, int]:
        """The newest start that the table has seen and the words of its longest id, this batch included."""
        newest, words = int(batch.start.max()), -(-max(map(len, batch.ids)) // 8) or 1
        stored = self.get(txn, b"n" + place)
        if stored is not None:
            seen = _SEEN.unpack(stored)
            newest, words = max(newest, seen[0]), max(words, seen[1])
        self.put_many(txn, [(b"n" + place, _SEEN.pack(newest, words))])
        return newest, words

    def _change(
        self, txn: Txn, view: _View, change: Changes, endings: Mapping[bytes, list[Ending]], horizon: int
    ) -> None:
        """Adds rows to the keys of one view and ends stored ones."""
        prefix, layout = b"h" + view.place, view.layout
        bounds, rows, raw, size = change.bounds, change.rows, change.rows.tobytes(), change.rows.strides[0]
        keys = change.keys if not endings else sorted({*change.keys, *endings})
        heads = self.get_many(txn, [prefix + key for key in keys])
        places = {key: place for place, key in enumerate(change.keys)} if endings else {}
        infos = describe(rows, np.array(bounds[:-1], np.int64), layout)
        longer: list[tuple[bytes, bytes]] = []
        for place, key in enumerate(keys):
            name, ended = prefix + key, endings.get(key)
            at = places.get(key, -1) if endings else place
            begin, end = (bounds[at], bounds[at + 1]) if at >= 0 else (0, 0)
            head = heads.get(name)
            try:
                if not ended:
                    new = append(head, infos[at], raw[begin * size : end * size], layout)
                    if new is not None:
                        longer.append((name, new))
                        continue
                fetch = self._chunks(txn, name[1:])
                if head is not None and not ended:
                    grown = lengthen(head, infos[at], raw[begin * size : end * size], layout, horizon, fetch)
                    if grown is not None:
                        self._store(txn, name[1:], *grown)
                        continue
                editor = Editor(head, layout, fetch)
                editor.change(rows[begin:end], sorted(ended or ()), horizon)
            except (struct.error, ValueError) as error:
                raise damaged(str(error), name.hex()) from error
            self._store(txn, name[1:], editor.encode(), editor.chunks)
        self.put_many(txn, longer)

    def _store(self, txn: Txn, name: bytes, head: bytes | None, chunks: Mapping[int, bytes | None]) -> None:
        """Puts what became of a key, or deletes it."""
        records = {b"c" + name + _NUMBER.pack(number): chunk for number, chunk in chunks.items()}
        for one, record in {b"h" + name: head, **records}.items():
            if record is None:
                self.delete(txn, one)
            else:
                self.put_many(txn, [(one, record)])

    def _chunks(self, txn: Txn, name: bytes) -> Callable[[int], Buffer]:
        """What gives a chunk of a key by number."""
        prefix = b"c" + name

        def fetch(number: int) -> Buffer:
            chunk = self.peek(txn, prefix + _NUMBER.pack(number))
            if chunk is None:
                raise damaged("a chunk is missing", name.hex())
            return chunk

        return fetch


def damaged(what: str, where: str) -> StateError:
    """The error for stored state that cannot be read."""
    return StateError(Fault("state_damaged", "the online state is damaged", where, what, hint=REBUILD))
