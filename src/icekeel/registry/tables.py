"""The registry's tables, and the one place that knows which database holds them."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import sqlalchemy as sql
from sqlalchemy.schema import CreateTable

from icekeel.core.errors import Fault, StateError

FORMAT = 2
BUSY_TIMEOUT_S = 30.0


class Document(sql.TypeDecorator[Any]):
    """JSON kept as text, written the same way for every database."""

    impl = sql.Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: sql.Dialect) -> str:
        """Text of a value; NumPy scalars, which metrics are full of, become numbers."""
        return msgspec.json.encode(value, enc_hook=_number, order="deterministic").decode()

    def process_result_value(self, value: Any, dialect: sql.Dialect) -> Any:
        """The value of a text."""
        return msgspec.json.decode(value)


def _number(value: Any) -> Any:
    if hasattr(value, "item"):
        return value.item()
    raise TypeError(f"not a JSON value: {type(value).__name__}")


def _text(name: str, *, key: bool = False) -> sql.Column[str]:
    return sql.Column(name, sql.Text, primary_key=key, nullable=False)


def _time(name: str, *, nullable: bool = False) -> sql.Column[int]:
    return sql.Column(name, sql.BigInteger, nullable=nullable)


def _document(name: str) -> sql.Column[Any]:
    return sql.Column(name, Document, nullable=False)


_metadata = sql.MetaData()

state = sql.Table(
    "registry",
    _metadata,
    sql.Column("format", sql.Integer, primary_key=True, autoincrement=False),
    sql.Column("revision", sql.BigInteger, nullable=False),
)

versions = sql.Table(
    "versions",
    _metadata,
    _text("name", key=True),
    _text("model"),
    sql.Column("number", sql.Integer, nullable=False),
    *map(_text, ("digest", "snapshot", "code", "features")),
    *map(_document, ("metrics", "gates", "ladder")),
    _time("trained_from"),
    _time("trained_to"),
    _text("reason"),
    _time("at"),
    _text("by"),
    *map(_document, ("lineage", "definitions")),
    sql.UniqueConstraint("model", "number"),
    sql.UniqueConstraint("model", "digest"),
)

changes = sql.Table(
    "alias_changes",
    _metadata,
    sql.Column("position", sql.Integer, primary_key=True),
    *map(_text, ("model", "alias", "action")),
    sql.Column("version", sql.Text, sql.ForeignKey("versions.name"), nullable=False),
    sql.Column("share", sql.Double, nullable=False),
    *map(_text, ("salt", "reason", "by")),
    _document("evidence"),
    _text("override"),
    _time("at"),
)

decisions = sql.Table(
    "decisions",
    _metadata,
    _text("id", key=True),
    _time("at"),
    *map(_text, ("model", "kind", "version", "reason")),
    _document("evidence"),
)

alerts = sql.Table(
    "alerts",
    _metadata,
    _text("id", key=True),
    _time("at"),
    *map(_text, ("model", "cause", "todo")),
    sql.Column("cost", sql.Double),
    _document("evidence"),
    _time("resolved_at", nullable=True),
    _text("resolution"),
)

alert_changes = sql.Table(
    "alert_changes",
    _metadata,
    sql.Column("position", sql.Integer, primary_key=True),
    sql.Column("alert", sql.Text, sql.ForeignKey("alerts.id"), nullable=False),
    *map(_text, ("state", "by", "reason")),
    _time("at"),
    _time("until", nullable=True),
)

deliveries = sql.Table(
    "deliveries",
    _metadata,
    sql.Column("position", sql.Integer, primary_key=True),
    *map(_text, ("message", "channel", "event", "status", "note")),
    _document("alerts"),
    _time("at"),
)

reviews = sql.Table(
    "reviews",
    _metadata,
    _text("id", key=True),
    _time("at"),
    *map(_text, ("prediction", "model", "decision", "by", "reason")),
    sql.Column("answer", sql.Double),
    _document("findings"),
    _time("until"),
)

runs = sql.Table(
    "runs",
    _metadata,
    _text("id", key=True),
    _text("kind"),
    _time("started_at"),
    _time("finished_at", nullable=True),
    _text("status"),
    _document("details"),
)


class Database:
    """The registry's database: opened when it is first asked for, and again once another file lies in its place.

    Args:
        place: A URL, or the path of a SQLite file. Tables are made where they are absent; a file that is taken away
            from under a running process is not made anew, so that nobody writes into an empty one.
    """

    def __init__(self, place: str | Path) -> None:
        self._place = place
        self._file = Path(place) if isinstance(place, Path) or "://" not in place else None
        self._engine: sql.Engine | None = None
        self._inode = 0
        self._lock = threading.Lock()

    @contextmanager
    def connect(self, *, write: bool = False) -> Iterator[sql.Connection]:
        """A connection; with `write` what is done with it is one transaction.

        Raises:
            StateError: it is locked, damaged or gone (`registry_unreadable`), or of another format (`bad_format`).
        """
        try:
            engine = self._opened()
            with engine.begin() if write else engine.connect() as connection:
                yield connection
        except sql.exc.DatabaseError as error:
            if type(error) not in (sql.exc.DatabaseError, sql.exc.OperationalError):  # a fault of ours
                raise
            self.close()
            raise self._unreadable(str(error.orig)) from error

    def close(self) -> None:
        """Close all connections; the next one opens the database again."""
        with self._lock:
            if self._engine is not None:
                self._engine.dispose()
            self._engine = None

    def _opened(self) -> sql.Engine:
        with self._lock:
            if self._inode:
                inode = self._look()
                if not inode:
                    raise self._unreadable("it is gone")
                if inode != self._inode and self._engine is not None:
                    self._engine.dispose()
                    self._engine = None
            if self._engine is None:
                self._engine = _open(self._place, self._file)
                self._inode = self._look()
            return self._engine

    def _look(self) -> int:
        """Which file there is; 0 for none, or for a database that is no file."""
        try:
            return self._file.stat().st_ino if self._file is not None else 0
        except FileNotFoundError:
            return 0

    def _unreadable(self, why: str) -> StateError:
        hint = "what serves goes on serving; put the database back, or free it"
        what = "the registry cannot be read or written"
        return StateError(Fault("registry_unreadable", what, str(self._place), why, hint=hint))


def _open(place: str | Path, file: Path | None) -> sql.Engine:
    """The database, with its tables.

    Raises:
        StateError: the tables are of another format.
    """
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        engine = sql.create_engine(f"sqlite:///{file}", connect_args={"timeout": BUSY_TIMEOUT_S})
    else:
        engine = sql.create_engine(str(place))
    if engine.dialect.name == "sqlite":
        sql.event.listen(engine, "connect", _write_ahead)
    if not _metadata.tables.keys() <= set(sql.inspect(engine).get_table_names()):  # to look needs no lock
        with engine.begin() as connection:
            if connection.dialect.name == "sqlite":  # where tables alone begin no transaction
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            for table in _metadata.sorted_tables:
                connection.execute(CreateTable(table, if_not_exists=True))
            _only_added_to(connection)
            absent = ~sql.exists(sql.select(state.c.format))
            first = sql.select(sql.literal(FORMAT), sql.literal(0)).where(absent)
            connection.execute(sql.insert(state).from_select(["format", "revision"], first))
    with engine.connect() as connection:
        found = connection.scalar(sql.select(state.c.format))
    if found == 1:
        found = _from_first(engine)
    if found != FORMAT:
        engine.dispose()
        raise StateError(
            Fault("bad_format", "a registry of another format", str(place), str(found), str(FORMAT))
        )
    return engine


def _from_first(engine: sql.Engine) -> int:
    """Brings tables of format 1, which knew neither who registered a version nor its lineage, to format 2."""
    with engine.begin() as connection:
        # Comes first: of processes that find the old format together the first changes it, the others wait for it.
        first = sql.update(state).where(state.c.format == 1)
        if connection.execute(first.values(format=2, revision=state.c.revision + 1)).rowcount:
            for name, value in (("by", ""), ("lineage", "{}"), ("definitions", "{}")):
                added = f"ALTER TABLE versions ADD COLUMN \"{name}\" TEXT NOT NULL DEFAULT '{value}'"
                connection.execute(sql.text(added))
            _only_added_to(connection)
    return 2


def _only_added_to(connection: sql.Connection) -> None:
    """SQLite itself refuses to change or remove what was registered, decided and told, and which alias stood for what."""
    if connection.dialect.name != "sqlite":
        return
    for table in (versions, changes, decisions, alert_changes, deliveries):
        for what in ("UPDATE", "DELETE"):
            refused = f"SELECT RAISE(ABORT, '{table.name} is only ever added to')"
            name = f"no_{what.lower()}_of_{table.name}"
            trigger = (
                f"CREATE TRIGGER IF NOT EXISTS {name} BEFORE {what} ON {table.name} BEGIN {refused}; END"
            )
            connection.execute(sql.text(trigger))


def _write_ahead(raw: sqlite3.Connection, _: object) -> None:
    """Lets readers go on while one process writes, as other databases do anyhow."""
    deadline = time.monotonic() + BUSY_TIMEOUT_S
    while True:
        try:
            raw.execute("PRAGMA journal_mode = WAL").close()
            return
        except sqlite3.OperationalError:
            # Of processes that make one file together, SQLite refuses some at once, whatever its timeout.
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)
