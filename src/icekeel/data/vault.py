"""Who is behind a pseudonym: the only place where a private value and what stands for it meet.

    vault.db    HMAC-SHA256(key, entity and value) -> pseudonym, and the receipts of what was forgotten
    vault.key   the key of the HMAC, unless the setting `vault_key` gives it

No value is in either. With both files and a value in hand one finds its pseudonym, and with that its rows and
answers; without the row of the vault nobody does, in no back-up of the rest either. Pseudonyms are random, so
nothing of a value is in them.
"""

from __future__ import annotations

import hmac
import logging
import os
import secrets
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from time import monotonic

import msgspec

from icekeel.core.errors import Fault, StateError
from icekeel.core.files import sync

Hide = Callable[[str, str], str]
"""Gives the pseudonym of a value of an entity: `Vault.hide`, or `Vault.seek`."""

HideMany = Callable[[str, Iterable[str]], Mapping[str, str]]
"""The same of many values: `Vault.hide_many`, or `Vault.seek_many`."""

REMEMBERED = 100_000
"""Pseudonyms that a process keeps at hand."""
FOLLOW_S = 0.2
"""Seconds after which every process has noticed that an entity was forgotten."""
SHORTEST_KEY = 32
_SYNC_S = 0.05
_BUSY_S = 10.0
_MANY = 5_000
"""New values in one transaction: other writers wait no longer than that takes."""
log = logging.getLogger(__name__)
_SCHEMA = """
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS entities (mac BLOB PRIMARY KEY, pseudonym TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS receipts (id TEXT PRIMARY KEY, content BLOB NOT NULL, finished INTEGER NOT NULL) WITHOUT ROWID;
"""


class Receipt(msgspec.Struct, frozen=True):
    """What was forgotten, and what is left of it. No value is in it, so it may be kept.

    Attributes:
        pseudonym: What stood for the value, and stands for nobody now.
        at: When the knowledge was destroyed, microseconds UTC.
        found: Where the pseudonym still stands -> how often: rows of tables, answers, places in the journal.
        not_held: What Icekeel does not hold, or not alone, and its owner must clean.
        digest: SHA-256 of all the rest; empty until the receipt is finished.
    """

    id: str
    entity: str
    pseudonym: str
    at: int
    by: str
    reason: str
    found: dict[str, int] = {}
    not_held: list[str] = []
    digest: str = ""


class Vault:
    """The pseudonyms of one project; any thread of any process may use it.

    A pseudonym is in the file before `hide` returns it, so it survives any end of the process before the record that
    carries it is written; like the journal it is synced within 0.1 s, which is what a power cut may take.

    Args:
        folder: Where the two files are; made if missing, for their owner alone.
        key: The key, instead of the one in the file.

    Raises:
        StateError: the vault is missing where its key is there, is damaged, or was made with another key.
    """

    def __init__(self, folder: Path, key: str = "") -> None:
        self.path = folder / "vault.db"
        self._key_path = folder / "vault.key"
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock = threading.RLock()
        self._remembered = lru_cache(REMEMBERED)(self._made)
        self._follow_at, self._forgotten = 0.0, -1
        self._dirty, self._stop = threading.Event(), threading.Event()
        with _damage(self.path):
            self._key = self._opened(key)
            self._connection = self._connect()
            self._check_key()
        if self.receipts(finished=False):  # a process died before it could
            self._purge()
        self._syncer = threading.Thread(target=self._sync_until_closed, name="vault-sync", daemon=True)
        self._syncer.start()

    def hide(self, entity: str, value: str) -> str:
        """The pseudonym of a value, a new one where there is none. Costs a microsecond where it was asked for lately.

        Raises:
            StateError: the vault cannot be read or written.
        """
        with self._lock:
            self._follow()
            return self._remembered(entity, value)

    def seek(self, entity: str, value: str) -> str:
        """The pseudonym of a value; where there is none a text that stands nowhere, for reading only.

        Raises:
            StateError: the vault cannot be read.
        """
        mac = self._mac(entity, value)
        return self._read(mac) or f"?{mac.hex()}"

    def find(self, entity: str, value: str) -> str | None:
        """The pseudonym of a value, None where it was never seen or is forgotten."""
        return self._read(self._mac(entity, value))

    def hide_many(self, entity: str, values: Iterable[str]) -> dict[str, str]:
        """The pseudonyms of many values, new ones where there are none: 100,000 in a second or two.

        Raises:
            StateError: as `hide`.
        """
        macs = {value: self._mac(entity, value) for value in dict.fromkeys(values)}
        listed = list(macs.values())
        known: dict[bytes, str] = {}
        for start in range(0, len(listed), _MANY):
            part = listed[start : start + _MANY]
            with self._lock, _damage(self.path):
                known |= {mac: found for mac in part if (found := self._select(mac))}
            if new := [(mac, _pseudonym()) for mac in part if mac not in known]:
                with self._writing() as connection:
                    connection.executemany("INSERT OR IGNORE INTO entities VALUES (?, ?)", new)
                    known |= {mac: self._select(mac) or "" for mac, _ in new}
        return {value: known[mac] for value, mac in macs.items()}

    def seek_many(self, entity: str, values: Iterable[str]) -> dict[str, str]:
        """What `seek` gives for each value."""
        return {value: self.seek(entity, value) for value in values}

    def forget(
        self, entity: str, value: str, *, identifier: str, at: int, by: str, reason: str
    ) -> Receipt | None:
        """Destroy what leads from a value to its pseudonym; gives the unfinished receipt, None if nothing did.

        Once this returns it is in no page and no log of the vault's file. Other processes use what they remember for
        up to `FOLLOW_S`.

        Raises:
            StateError: the vault cannot be written; then nothing is forgotten.
        """
        mac = self._mac(entity, value)
        with self._writing() as connection:
            pseudonym = self._select(mac)
            if pseudonym is None:
                return None
            receipt = Receipt(identifier, entity, pseudonym, at, by, reason)
            connection.execute("DELETE FROM entities WHERE mac = ?", (mac,))
            connection.execute("UPDATE facts SET value = value + 1 WHERE name = 'forgotten'")
            self._store(receipt, finished=False)
        self._follow_at = 0.0
        self._purge()
        return receipt

    def finish(self, receipt: Receipt) -> None:
        """Keep a receipt in its final form, and destroy what a crash may have left of its row in the log."""
        with self._writing():
            self._store(receipt, finished=True)
        self._purge()

    def forget_again(self, receipts: Iterable[Receipt]) -> None:
        """Forget, in a vault of before, whom these receipts are about; it has the receipts then, too.

        Raises:
            StateError: the vault cannot be written; then nobody is forgotten.
        """
        known = {receipt.id for done in (True, False) for receipt in self.receipts(finished=done)}
        with self._writing() as connection:
            for receipt in receipts:
                connection.execute("DELETE FROM entities WHERE pseudonym = ?", (receipt.pseudonym,))
                if receipt.id not in known:
                    self._store(receipt, finished=bool(receipt.digest))
            connection.execute("UPDATE facts SET value = value + 1 WHERE name = 'forgotten'")
        self._purge()

    def receipts(self, *, finished: bool) -> list[Receipt]:
        """The receipts that are finished, or those that a crash left unfinished; oldest first."""
        query = "SELECT content FROM receipts WHERE finished = ? ORDER BY id"
        with self._lock, _damage(self.path):
            rows = self._connection.execute(query, (finished,)).fetchall()
            return [msgspec.json.decode(content, type=Receipt) for (content,) in rows]

    def fact(self, name: str) -> object:
        """What is known under a name, beside the pseudonyms; None for nothing."""
        with self._lock, _damage(self.path):
            row = self._connection.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
        return None if row is None else row[0]

    def state(self, name: str, value: str) -> None:
        """Keep a fact."""
        with self._writing() as connection:
            connection.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (name, value))

    def close(self) -> None:
        """Sync and close; a second call does nothing."""
        with self._lock:
            if self._stop.is_set():
                return
            self._connection.close()
        self._stop.set()
        self._dirty.set()
        self._syncer.join()

    # Inside

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """One transaction: all of it is kept, or none."""
        with self._lock, _damage(self.path):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")
            self._dirty.set()

    def _mac(self, entity: str, value: str) -> bytes:
        return hmac.digest(self._key, f"{entity}\0{value}".encode("utf-8", "surrogatepass"), "sha256")

    def _select(self, mac: bytes) -> str | None:
        row = self._connection.execute("SELECT pseudonym FROM entities WHERE mac = ?", (mac,)).fetchone()
        return None if row is None else str(row[0])

    def _read(self, mac: bytes) -> str | None:
        with self._lock, _damage(self.path):
            return self._select(mac)

    def _made(self, entity: str, value: str) -> str:
        """The pseudonym in the file; of two processes that meet a value at once both get the one that came first."""
        mac = self._mac(entity, value)
        with self._lock, _damage(self.path):
            found = self._select(mac)
            if found is None:
                self._connection.execute("INSERT OR IGNORE INTO entities VALUES (?, ?)", (mac, _pseudonym()))
                self._dirty.set()
                found = self._select(mac)
        if found is None:  # forgotten in between
            raise StateError(Fault("vault_busy", "the entity is being forgotten", hint="try again"))
        return found

    def _follow(self) -> None:
        """Remember nothing that was forgotten meanwhile."""
        now = monotonic()
        if now < self._follow_at:
            return
        forgotten = int(str(self.fact("forgotten")))
        if forgotten != self._forgotten:
            self._remembered.cache_clear()
        self._forgotten, self._follow_at = forgotten, now + FOLLOW_S

    def _store(self, receipt: Receipt, *, finished: bool) -> None:
        row = (receipt.id, msgspec.json.encode(receipt), finished)
        self._connection.execute("INSERT OR REPLACE INTO receipts VALUES (?, ?, ?)", row)

    def _purge(self) -> None:
        """Write the log into the file, which overwrites what was deleted, and empty the log."""
        with self._lock, _damage(self.path):
            busy = self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
        if busy:
            what = "the vault is being read without end"
            raise StateError(Fault("vault_busy", what, str(self.path), hint="try again"))

    def _opened(self, key: str) -> bytes:
        """The key. An empty file stands for the vault before there is a key: a process may die in between."""
        if key:
            if len(key) < SHORTEST_KEY:
                allowed = f"{SHORTEST_KEY} characters or more"
                raise StateError(Fault("bad_vault_key", "the key is too short", "vault_key", allowed=allowed))
            return key.encode()
        made = self.path.exists()
        if self._key_path.exists():
            if not made:
                hint = "restore it from a back-up; to begin anew, everybody forgotten, remove its key too"
                raise StateError(Fault("no_vault", "the vault is missing", str(self.path), hint=hint))
            return self._key_path.read_bytes()
        if made and self.path.stat().st_size:
            hint = "restore it, or give the setting vault_key"
            what = "the vault's key is missing"
            raise StateError(Fault("no_vault_key", what, str(self._key_path), hint=hint))
        _touch(self.path)
        return _write_once(self._key_path, secrets.token_hex(32).encode())

    def _connect(self) -> sqlite3.Connection:
        _touch(self.path)  # SQLite gives its log the same mode
        connection = sqlite3.connect(
            self.path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False
        )
        connection.execute("PRAGMA secure_delete = ON")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.executescript(_SCHEMA)
        return connection

    def _check_key(self) -> None:
        """Refuse another key than the one the vault was made with: every entity would seem new."""
        proof = hmac.digest(self._key, b"icekeel", "sha256").hex()
        self._connection.execute("INSERT OR IGNORE INTO facts VALUES ('key', ?), ('forgotten', 0)", (proof,))
        if self.fact("key") != proof:
            raise StateError(Fault("wrong_vault_key", "the vault was made with another key", str(self.path)))

    def _sync_until_closed(self) -> None:
        while not self._stop.is_set():
            self._dirty.wait()
            self._stop.wait(_SYNC_S)
            self._dirty.clear()
            try:
                sync(self.path.with_name(f"{self.path.name}-wal"))
            except FileNotFoundError:  # all of it is in the file
                continue
            except OSError as error:
                log.error("vault_not_synced", extra={"path": str(self.path), "why": str(error)})


def _touch(path: Path) -> None:
    """Make a file for its owner alone, where there is none."""
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))


def _pseudonym() -> str:
    """128 random bits as text."""
    return secrets.token_urlsafe(16)


def _write_once(path: Path, content: bytes) -> bytes:
    """Write a file for its owner alone unless another process was faster; gives what is in it."""
    draft = path.with_name(f"{path.name}.{os.getpid()}.new")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    try:
        os.link(draft, path)
    except FileExistsError:
        return path.read_bytes()
    finally:
        draft.unlink()
    return content


@contextmanager
def _damage(path: Path) -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        if isinstance(error, StateError):
            raise
        raise StateError(
            Fault("vault_unusable", "the vault cannot be used", str(path), str(error))
        ) from error
