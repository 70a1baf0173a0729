"""What outcomes need to know at once: which answer an id stands for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import lmdb
import msgspec

from icekeel.core.ids import id_range, time_of
from icekeel.define import Model
from icekeel.features.online.lmdb import open_database
from icekeel.journal import Predicted, Value

_ANSWER = b"a"
_pack = msgspec.msgpack.Encoder().encode


class Asked(NamedTuple):
    """An answer's model, and what it says about the columns by which its outcome is found."""

    model: str
    key: Sequence[Value]

    @classmethod
    def of(cls, record: Predicted, model: Model) -> Asked:
        """What an answer in the journal says."""
        return cls(record.model, [record.request.get(field.name) for _, field in model.outcome.keyed.keys])


class AskedIndex:
    """Answers whose outcome may still come. Made by the keeper, read by servers.

    The database `asked` holds for `a` and the id of an answer its `Asked`.

    Args:
        environment: The projections.
    """

    def __init__(self, environment: lmdb.Environment) -> None:
        self._environment = environment
        self._database = open_database(environment, b"asked")

    def answered(self, txn: lmdb.Transaction, identifier: str, asked: Asked) -> None:
        """Keep an answer."""
        txn.put(_ANSWER + identifier.encode(), _pack(asked), db=self._database)

    def forget(self, txn: lmdb.Transaction, before: int) -> None:
        """Drop answers asked before a time: no outcome decides them any more."""
        last = _ANSWER + id_range(before, before)[0].encode()
        cursor = txn.cursor(self._database)
        found = cursor.set_range(_ANSWER)
        while found and bytes(cursor.key()) < last:
            found = cursor.delete()

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
