"""What a `source=` names, found and fetched: local files, objects of object storage, rows of a database.

Objects and rows pass through a spool folder beside history, so that everything is read from local files in the end.
"""

from __future__ import annotations

import glob
import os
import shutil
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
import sqlalchemy

from icekeel.core.errors import Fault, SourceError, without_passwords
from icekeel.core.ids import digest
from icekeel.core.kinds import Kind
from icekeel.core.time import parse_duration
from icekeel.define.fields import Field
from icekeel.define.sources import ENVIRONMENT, Source, Sql

from .checks import NOTHING, column_faults

FETCH = 10_000
"""Rows that are asked of a database at a time."""
_BLOCK = 8 << 20
Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Stored:
    """An object of object storage, as it is now.

    Attributes:
        token: Of this content: another one where it was written again.
        size: Bytes; -1 where the storage does not say.
        system, path: How fsspec reaches it.
    """

    url: str
    token: str
    size: int
    system: Any  # fsspec has no types
    path: str

    def __str__(self) -> str:
        return self.url

    @property
    def suffixes(self) -> str:
        """The ending that tells how it is read: `.csv.gz`."""
        return "".join(Path(self.path).suffixes[-2:])

    def fetch(self, folder: Path) -> Path:
        """A copy in a folder, whole; one that was begun before goes on.

        Raises:
            SourceError: it cannot be read, or has changed since it was found.
        """
        folder.mkdir(parents=True, exist_ok=True)
        target = folder / f"{self.token}{self.suffixes}"
        if target.exists():
            return target
        begun = target.with_name(f"{self.token}.begun")
        with _reached(self.url):
            with begun.open("ab") as copy, self.system.open(self.path, "rb") as source:
                if copy.tell():
                    source.seek(copy.tell())
                shutil.copyfileobj(source, copy, _BLOCK)
            changed = _token(self.system, self.path) != self.token
        if changed or (self.size >= 0 and begun.stat().st_size != self.size):
            begun.unlink()
            raise SourceError(Fault("source_changed", "the object changed while it was read", self.url))
        os.replace(begun, target)
        return target


@dataclass(frozen=True, slots=True)
class Query:
    """A declared query, and the folder that its relative paths start from."""

    sql: Sql
    folder: Path

    def __str__(self) -> str:
        return str(self.sql)

    @property
    def key(self) -> str:
        """Under which the state of reading is kept: another query begins anew."""
        return f"sql {digest(msgspec.json.encode([self.sql.query, self.sql.url, self.sql.watermark]))[:16]}"

    def rows(self, fields: Collection[Field], state: str) -> Iterator[list[Row]]:
        """Rows by the thousand, ordered by the watermark, from the one of `state` less the look-back on.

        Raises:
            SourceError: the database cannot be reached or read, from there on.
        """
        flags = [field.name for field in fields if field.kind is Kind.FLAG]
        engine = self._engine()
        try:
            with engine.connect().execution_options(stream_results=True, yield_per=FETCH) as connection:
                statement, given = self._statement(engine, state)
                found = connection.execute(statement, given).mappings()
                columns = list(found.keys())
                if missing := column_faults(fields, str(self), dict.fromkeys(columns, NOTHING)):
                    raise SourceError(*missing)
                for some in found.partitions():
                    yield [_plain_row(row, flags) for row in some]
        except sqlalchemy.exc.SQLAlchemyError as error:
            cause = getattr(error, "orig", None) or error
            what = without_passwords(str(cause).splitlines()[0] if str(cause) else type(cause).__name__)
            raise SourceError(Fault("unreadable", what, str(self))) from None  # the cause may show the URL
        finally:
            engine.dispose()

    def _engine(self) -> sqlalchemy.Engine:
        given = self.sql.url
        if given.startswith(ENVIRONMENT):
            name = given.removeprefix(ENVIRONMENT)
            given = os.environ.get(name, "")
            if not given:
                hint = f"export {name}=postgresql+psycopg://user:password@host/database"
                what = f"{name} is not set in the environment"
                raise SourceError(Fault("no_database", what, str(self), hint=hint))
        try:
            url = sqlalchemy.make_url(given)
            file = url.database or ""
            if url.get_backend_name() == "sqlite" and file not in ("", ":memory:"):
                path = self.folder / file
                if not path.exists():
                    raise SourceError(Fault("no_database", "no such database file", str(self), str(path)))
                url = url.set(database=str(path))
            return sqlalchemy.create_engine(url)
        except ModuleNotFoundError as error:
            hint = f"pip install {error.name}"
            fault = Fault("no_driver", "the database needs a driver", str(self), hint=hint)
            raise SourceError(fault) from None
        except sqlalchemy.exc.ArgumentError:
            allowed = "a SQLAlchemy URL: postgresql+psycopg://user:password@host/database"
            fault = Fault("no_database", "the URL is not understood", str(self), "", allowed)
            raise SourceError(fault) from None

    def _statement(self, engine: sqlalchemy.Engine, state: str) -> tuple[sqlalchemy.TextClause, Row]:
        named = engine.dialect.identifier_preparer.quote
        query = self.sql.query.strip().rstrip("; \n")
        if len(query.split()) == 1:
            rows = ".".join(map(named, query.split(".")))
        else:
            rows = f"({query}\n) rows_of_source"  # its last line may be a comment
        text, given = f"SELECT * FROM {rows}".replace(":", "\\:"), {}
        if self.sql.watermark:
            column = named(self.sql.watermark)
            if state:
                given = {"low": lowered(state, self.sql.look_back)}
                text += f" WHERE {column} >= :low OR {column} IS NULL"
            text += f" ORDER BY {column}"
        return sqlalchemy.text(text), given


Input = Path | Stored | Query


def find_sources(folder: Path, source: Source) -> Sequence[Input]:
    """What a `source=` names, sorted.

    Raises:
        SourceError: there is nothing of that name, or the storage cannot be reached.
    """
    if isinstance(source, Sql):
        return [Query(source, folder)]
    remote = "://" in source
    local = (folder / one for one in sorted(glob.glob(source, root_dir=folder)))
    found: list[Input] = [*(_objects(source) if remote else local)]
    if not found:
        where = source if remote else str(folder / source)
        hint = "" if remote else "is source= relative to the project?"
        raise SourceError(Fault("no_source", "no such file", where, hint=hint))
    return found


def _objects(url: str) -> Iterator[Stored]:
    with _reached(url):
        # Optional: files beside the project need none of it.
        import fsspec

        system, path = fsspec.core.url_to_fs(url)
        for one in sorted(system.glob(path)) if glob.has_magic(path) else [path] * system.exists(path):
            size = system.info(one).get("size")
            yield Stored(
                system.unstrip_protocol(one), _token(system, one), -1 if size is None else size, system, one
            )


def _token(system: Any, path: str) -> str:
    about = system.info(path)  # over HTTP the key is the address alone
    told = [about.get(name) for name in ("size", "ETag", "Last-Modified")]
    return digest(f"{system.unstrip_protocol(path)} {system.ukey(path)} {told}".encode())[:32]


@contextmanager
def _reached(url: str) -> Iterator[None]:
    """What object storage may raise, as a `SourceError`."""
    try:
        yield
    except ImportError as error:
        hint = f"pip install {_PACKAGES.get(urlsplit(url).scheme, error.name or 'fsspec')}"
        raise SourceError(
            Fault("no_driver", "this storage needs a package", without_passwords(url), hint=hint)
        ) from error
    except SourceError:
        raise
    except Exception as error:  # a process boundary: every storage has errors of its own
        what = without_passwords(str(error).splitlines()[0] if str(error) else type(error).__name__)
        raise SourceError(Fault("unreadable", what, without_passwords(url))) from error


_PACKAGES = {"s3": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "az": "adlfs", "abfs": "adlfs"}


def _plain_row(row: Mapping[Any, Any], flags: Sequence[str]) -> Row:
    """A row as JSON can hold it: a database without flags has 0 and 1."""
    plain = {str(name): value for name, value in row.items()}
    for name in flags:
        if type(value := plain.get(name)) is int and value in (0, 1):
            plain[name] = value == 1
    return plain


def fetched(source: Input, fields: Collection[Field], spool: Path) -> Path:
    """A file of all that a source holds now: itself, a copy, or the rows of a query as JSON lines.

    Raises:
        SourceError: as `Stored.fetch` and `Query.rows`.
    """
    if isinstance(source, Stored):
        return source.fetch(spool)
    if isinstance(source, Path):
        return source
    rows = spool / "rows.jsonl"
    with rows.open("wb") as file:
        file.writelines(map(as_lines, source.rows(fields, "")))
    return rows


def as_lines(rows: Sequence[Row]) -> bytes:
    """Rows as JSON lines; a value that JSON has no word for is its text."""
    return _ENCODER.encode_lines(rows)


_ENCODER = msgspec.json.Encoder(decimal_format="number", enc_hook=str)


def note_types(rows: Sequence[Row], counts: dict[str, Counter[str]]) -> None:
    """Count of what type the values of each column are, as the driver gives them: numbers, but for decimals, alike."""
    for name in rows[0] if rows else ():
        kinds = Counter(type(row[name]) for row in rows[:_LOOKED_AT])
        for kind, count in kinds.items():
            counts.setdefault(name, Counter())[_TYPES.get(kind, kind.__name__)] += count


_LOOKED_AT = 1_000
_TYPES: Mapping[type, str] = {
    type(None): NOTHING,
    bool: "BOOLEAN",
    int: "DOUBLE",
    float: "DOUBLE",
    Decimal: "DECIMAL",
    str: "VARCHAR",
    datetime: "TIMESTAMP",
    date: "DATE",
}


def types_of(counts: Mapping[str, Counter[str]]) -> dict[str, str]:
    """Column -> the type of most of its values."""
    found = {
        name: Counter({kind: n for kind, n in kinds.items() if kind != NOTHING})
        for name, kinds in counts.items()
    }
    return {name: kinds.most_common(1)[0][0] if kinds else NOTHING for name, kinds in found.items()}


def watermark_of(rows: Sequence[Row], column: str) -> str:
    """The highest watermark of ordered rows as `lowered` takes it; empty where none has one."""
    for row in reversed(rows):
        if (value := row[column]) is not None:
            kind = type(value).__name__ if isinstance(value, datetime | date | Decimal) else ""
            return msgspec.json.encode([kind, value]).decode()
    return ""


def lowered(state: str, look_back: str) -> Any:
    """The watermark from which a run reads, as the database spells it: never above the one asked for."""
    kind, value = msgspec.json.decode(state)
    back = timedelta(microseconds=parse_duration(look_back)) if look_back else timedelta(0)
    if kind == "Decimal":
        return Decimal(value)
    if kind == "datetime":
        return datetime.fromisoformat(value) - back
    if kind == "date":
        return date.fromisoformat(value) - back - timedelta(days=1 if back % timedelta(days=1) else 0)
    if isinstance(value, str) and back:
        moment = (datetime.fromisoformat(value) - back).replace(microsecond=0, tzinfo=None)
        return (
            moment.isoformat(sep="T" if value[10:11] == "T" else " ")
            if len(value) > 10
            else str(moment.date())
        )
    return value - back // timedelta(microseconds=1) if back and isinstance(value, int) else value
