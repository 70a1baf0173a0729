"""Online windows in LMDB: one writer, any number of reading processes that never wait."""

from __future__ import annotations

import errno
import math
import os
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import lmdb

from icekeel.core.errors import Fault, StateError

from ..aggregates import View
from .chunks import Buffer
from .extent import REBUILD, Extent
from .store import MADE_FOR, OnlineStore, damaged
from .versions import digest

Transaction: TypeAlias = "lmdb.Transaction[Any]"

_CODE = struct.Struct(">Q")
DAMAGE = (
    *(lmdb.InvalidError, lmdb.CorruptedError, lmdb.PageNotFoundError, lmdb.VersionMismatchError),
    *(lmdb.BadTxnError, lmdb.ProblemError),
)
"""What LMDB says of a file whose pages are not what they were; of the first one it met, or of what came after."""


def open_environment(path: Path, *, readonly: bool = False, map_size: int = 1 << 36) -> lmdb.Environment:
    """An LMDB environment in the folder `path`.

    After a power cut the newest commits may be missing, whole ones each; a process crash loses none.

    Args:
        path: Folder; made when missing, unless `readonly`.
        readonly: For processes that only read.
        map_size: Most bytes it may grow to; costs address space, not disk.

    Raises:
        StateError: The folder is missing (`state_missing`), or what is there is no whole environment
            (`state_damaged`).
    """
    Extent(path).check()  # LMDB maps the file, and a process that touches what is not there dies
    try:
        if not readonly:
            path.mkdir(parents=True, exist_ok=True)
        environment = lmdb.open(
            str(path), map_size=map_size, readonly=readonly, create=not readonly, max_dbs=32, metasync=False
        )
        environment.reader_check()
    except DAMAGE as error:
        raise damaged(str(error), str(path)) from error
    except (lmdb.Error, OSError) as error:
        fault = Fault("state_missing", "cannot open the online state", where=str(path), got=str(error))
        raise StateError(fault) from error
    return environment


@contextmanager
def reporting(environment: lmdb.Environment) -> Iterator[None]:
    """Makes errors of LMDB to `StateError`s: `state_full`, `state_damaged`."""
    try:
        yield
    except lmdb.Error as error:
        if isinstance(error, DAMAGE):
            raise damaged(str(error), environment.path()) from error
        if not isinstance(error, lmdb.MapFullError) and not is_disk(error):
            raise
        hint = "make room on the disk, or open it with a larger map_size"
        fault = Fault("state_full", "the online state is full", environment.path(), str(error), hint=hint)
        raise StateError(fault) from error


def is_disk(error: BaseException | None) -> bool:
    """Whether the disk took no more: LMDB takes a write that was cut short for an input/output error."""
    texts = (os.strerror(number) for number in (errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EFBIG))
    return isinstance(error, lmdb.DiskError) or any(text in str(error) for text in texts)


@contextmanager
def writing(environment: lmdb.Environment) -> Iterator[Transaction]:
    """A write transaction, committed when it is left without an error.

    Raises:
        StateError: The environment is full or damaged; nothing of the transaction is kept.
    """
    with reporting(environment), environment.begin(write=True) as txn:
        yield txn


class LmdbWindows(OnlineStore[Transaction]):
    """Windows of all views of a project.

    Args:
        environment: From `open_environment`; no transaction may be open in this thread.

    Raises:
        StateError: The environment holds no windows (`state_missing`, read-only) or was made for other
            views (`state_views`).
    """

    def __init__(self, environment: lmdb.Environment, views: Sequence[View]) -> None:
        super().__init__(views)
        self._environment = environment
        self._records = open_database(environment, b"windows")
        readonly = environment.flags()["readonly"]
        with reporting(environment), environment.begin(write=not readonly) as txn:
            stored = self.get(txn, MADE_FOR)
            if stored is None and not readonly:
                self.put_many(txn, [(MADE_FOR, self.made_for)])
            elif stored != self.made_for:
                what = "the online state was made for other views or in another format"
                raise StateError(Fault("state_views", what, environment.path(), hint=REBUILD))

    def get(self, txn: Transaction, name: bytes) -> bytes | None:
        """A record; None where there is none."""
        value = self.peek(txn, name)
        # Copied where it is a view of the page: small values lie unaligned there, and NumPy is slow on those.
        return value if value is None else bytes(value)

    def peek(self, txn: Transaction, name: bytes) -> Buffer | None:
        """A view of the page where the transaction gives buffers; None where there is no such record."""
        try:
            found: Buffer | None = txn.get(name, db=self._records)
        except DAMAGE as error:
            raise damaged(str(error), self._environment.path()) from error
        return found

    def get_many(self, txn: Transaction, names: Sequence[bytes]) -> Mapping[bytes, bytes]:
        """The records there are of some names."""
        found = txn.cursor(self._records).getmulti(names)
        return {bytes(name): bytes(value) for name, value in found}

    def put_many(self, txn: Transaction, records: Iterable[tuple[bytes, bytes]]) -> None:
        """Put records.

        Raises:
            StateError: The environment is full.
        """
        with reporting(self._environment):
            txn.cursor(self._records).putmulti(records)

    def delete(self, txn: Transaction, name: bytes) -> None:
        """Delete a record."""
        txn.delete(name, db=self._records)

    def scan(self, txn: Transaction, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Records whose names begin with `prefix`; the one given last may be changed or deleted meanwhile."""
        cursor = txn.cursor(self._records)
        found = cursor.set_range(prefix)
        while found and (name := bytes(cursor.key())).startswith(prefix):
            yield name, bytes(cursor.value())
            found = cursor.set_range(name + b"\0")


class TextCodes:
    """Numbers that stand for texts in float64 value columns: 0, 1, 2 in the order of first sight."""

    def __init__(self, environment: lmdb.Environment) -> None:
        self._texts = open_database(environment, b"texts")

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


def open_database(environment: lmdb.Environment, name: bytes) -> Any:
    """A named database; made when missing, unless the environment is read-only.

    Raises:
        StateError: It is missing (`state_missing`) or damaged (`state_damaged`).
    """
    try:
        return environment.open_db(name, create=not environment.flags()["readonly"])
    except (lmdb.NotFoundError, lmdb.ReadonlyError) as error:
        fault = Fault("state_missing", f"no {name.decode()} in the online state", where=environment.path())
        raise StateError(fault) from error
    except DAMAGE as error:
        raise damaged(str(error), environment.path()) from error
