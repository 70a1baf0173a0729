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
from .checks import column_faults, time_checks
from .drafting import Draft, draft
from .history import History
from .ingest import held_columns, hidden, read_source
from .relations import connect
from .vault import HideMany


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
    texts = [field.name for field in table.fields.values() if field.kind.is_text]
    known = known_of(history, history.manifest(), table, source.suffix.lower())
    stored = [path for paths in known.files.values() for path in paths]
    with _opened(source, stored, texts) as (connection, relation):
        held = held_columns(connection, relation, table)
        if wrong := column_faults(table.fields.values(), str(source), held):
            raise SourceError(*wrong)
        seen = hidden(connection, table, relation, seek)
        limits = time_checks(table, now, ahead=ahead)
        return count(connection, table, seen, limits, known, held=held, examples=examples)


def draft_file(file: Path, name: str, *, now: int, identifier: str, time: str, source: str) -> Draft:
    """A contract drafted from a file; see `draft`."""
    with _opened(file) as (connection, relation):
        return draft(connection, relation, name, source, now=now, identifier=identifier, time=time)


@contextmanager
def _opened(
    source: Path, others: Sequence[Path] = (), texts: Sequence[str] = ()
) -> Iterator[tuple[duckdb.DuckDBPyConnection, str]]:
    if not source.is_file():
        raise SourceError(Fault("no_source", "no such file", str(source)))
    with (
        tempfile.TemporaryDirectory(prefix="icekeel-trial-") as spill,
        connect(threads=2, reads=[source, *others], folder=Path(spill)) as connection,
    ):
        try:
            yield connection, read_source(connection, source, texts)
        except duckdb.Error as error:
            raise SourceError(Fault("unreadable", str(error).splitlines()[0], str(source))) from error
