"""What outcomes need to know at once: which answer an id stands for, and what is known of an event already."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import lmdb
import msgspec

from icekeel.core.ids import id_range, time_of
from icekeel.data import DELETED
from icekeel.define import EventTable, Model
from icekeel.features.online.lmdb import open_database
from icekeel.features.online.versions import digest
from icekeel.journal import Predicted, Value

_ANSWER, _EVENT = b"a", b"e"
_pack = msgspec.msgpack.Encoder().encode


class Asked(NamedTuple):
    """An answer's model, and what it says about the columns by which its outcome is found."""

    model: str
    key: Sequence[Value]

    @classmethod
    def of(cls, record: Predicted, model: Model) -> Asked:
        """What an answer in the journal says."""
        return cls(record.model, [record.request.get(field.name) for _, field in model.outcome.keyed.keys])


def content_of(table: EventTable, row: Mapping[str, Any]) -> bytes:
    """Digest of what a stored row says, whenever that was known; rows of the same say the same."""
    names = [name for name in table.fields if name != table.available or name == table.time]
    return digest(_pack([bool(row.get(DELETED)), *(row.get(name) for name in names)]))


class AskedIndex:
    """Answers whose outcome may still come, and the newest content of events that decided some.

    Made by the keeper, read by servers. The database `asked` holds

        a + id of the answer                        its `Asked`
        e + digest of the table + of the event's id   the content of the newest version

    Args:
        environment: The projections.
    """

    def __init__(self, environment: lmdb.Environment) -> None:
        self._environment = environment
        self._database = open_database(environment, b"asked")

    def answered(self, txn: lmdb.Transaction, identifier: str, asked: Asked) -> None:
        """Keep an answer."""
        txn.put(_ANSWER + identifier.encode(), _pack(asked), db=self._database)

    def happened(self, txn: lmdb.Transaction, table: str, identifier: str, content: bytes) -> None:
        """Keep the content of an event."""
        txn.put(_event(table, identifier), content, db=self._database)

    def forget(self, txn: lmdb.Transaction, before: int) -> None:
        """Drop answers asked before a time: no outcome decides them any more."""
        last = _ANSWER + id_range(before, before)[0].encode()
        cursor = txn.cursor(self._database)
        found = cursor.set_range(_ANSWER)
        while found and bytes(cursor.key()) < last:
            found = cursor.delete()

    def forget_event(self, txn: lmdb.Transaction, table: str, identifier: str) -> None:
        """Drop an event."""
        txn.delete(_event(table, identifier), db=self._database)

    def find(self, identifiers: Iterable[str]) -> dict[str, Asked]:
        """The answers there are of some ids."""
        with self._environment.begin() as txn:
            stored = {
                one: txn.get(_ANSWER + one.encode(), db=self._database)
                for one in identifiers
                if time_of(one) is not None
            }
        return {
            one: Asked(*msgspec.msgpack.decode(value)) for one, value in stored.items() if value is not None
        }

    def content(self, table: str, identifier: str) -> bytes | None:
        """What is known of an event; None where nothing is."""
        with self._environment.begin() as txn:
            stored = txn.get(_event(table, identifier), db=self._database)
        return None if stored is None else bytes(stored)


def _event(table: str, identifier: str) -> bytes:
    return _EVENT + digest(table.encode())[:8] + digest(identifier.encode())
