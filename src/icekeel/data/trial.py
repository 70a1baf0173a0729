"""Files held against a contract and left alone: what `icekeel contract` prints."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import duckdb

from icekeel.core.errors import Fault, SourceError
from icekeel.define.tables import EventTable

from .batches import Counted, count, known_of
from .checks import time_checks
from .drafting import Draft, draft
from .history import History
from .parts import form_of
from .relations import connect
from .spines import read_source
from .vault import HideMany
from .whole import whole_file


def try_file(
    history: History,
    table: EventTable,
    source: Path,
    *,
    now: int,
    ahead: bool,
    examples: int = 3,
    seek: HideMany | None = None,
) -> Counted:
    """What a table's contract finds in a file, held against what history has; nothing is taken or written.

    Args:
        now, ahead: As for `ingest`.
        examples: Rows to find of each rule that is broken.
        seek: `Vault.seek_many`; needed where a column is private.

    Raises:
        SourceError: the file cannot be read, or its columns are not the table's.
    """
    known = known_of(history, history.manifest(), table, form_of(source))
    stored = [path for paths in known.files.values() for path in paths]
    with _opened(source, stored) as (connection, spool):
        whole = whole_file(connection, source, str(source), list(table.fields.values()), spool, seek)
        limits = time_checks(table, now, ahead=ahead)
        return count(connection, table, whole.relation, limits, known, held=whole.held, examples=examples)


def draft_file(file: Path, name: str, *, now: int, identifier: str, time: str, source: str) -> Draft:
    """A contract drafted from a file; see `draft`. Of a text, types are what its values look like."""
    with _opened(file) as (connection, _):
        relation = read_source(connection, file)
        return draft(connection, relation, name, source, now=now, identifier=identifier, time=time)


@contextmanager
def _opened(source: Path, others: Sequence[Path] = ()) -> Iterator[tuple[duckdb.DuckDBPyConnection, Path]]:
    if not source.is_file():
        raise SourceError(Fault("no_source", "no such file", str(source)))
    with (
        tempfile.TemporaryDirectory(prefix="icekeel-trial-") as spool,
        connect(threads=2, reads=[source, *others], folder=Path(spool)) as connection,
    ):
        try:
            connection.execute("SET TimeZone = 'UTC'")
            yield connection, Path(spool)
        except duckdb.Error as error:
            raise SourceError(Fault("unreadable", str(error).splitlines()[0], str(source))) from error
