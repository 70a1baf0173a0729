"""Sources held against a contract and left alone: what `icekeel contract` prints."""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import duckdb

from icekeel.core.errors import Fault, SourceError
from icekeel.define.fields import Field
from icekeel.define.sources import Source
from icekeel.define.tables import EventTable

from .batches import Counted, count, known_of
from .checks import time_checks
from .drafting import Draft, draft
from .history import History
from .parts import form_of, parts_of
from .relations import connect
from .sources import Input, Query, fetched
from .spines import read_source
from .vault import HideMany
from .whole import whole_file


def try_source(
    history: History,
    table: EventTable,
    source: Input,
    *,
    now: int,
    ahead: bool,
    examples: int = 3,
    seek: HideMany | None = None,
) -> Counted:
    """What a table's contract finds in a source, held against what history has; nothing is taken or written.

    Args:
        source: Of a query all rows are read, which are no batch, so how many there are is not judged.
        now, ahead: As for `ingest`.
        examples: Rows to find of each rule that is broken.
        seek: `Vault.seek_many`; needed where a column is private.

    Raises:
        SourceError: the source cannot be read, or its columns are not the table's.
    """
    if isinstance(source, Query):
        anyhow = replace(table.contract, rows=(None, None), change=(None, None))
        table = replace(table, contract=anyhow)
    fields = list(table.fields.values())
    with _local(source, fields) as (path, spool):
        known = known_of(history, history.manifest(), table, form_of(path))
        stored = [one for paths in known.files.values() for one in paths]
        with connect(threads=2, reads=[path, *stored], folder=spool) as connection:
            connection.execute("SET TimeZone = 'UTC'")
            whole = whole_file(connection, path, str(source), fields, spool, seek)
            limits = time_checks(table, now, ahead=ahead)
            return count(connection, table, whole.relation, limits, known, held=whole.held, examples=examples)


def draft_source(source: Input, name: str, *, now: int, identifier: str, time: str, said: Source) -> Draft:
    """A contract drafted from a source; see `draft`. Of a text, types are what its values look like."""
    with _local(source, ()) as (path, spool), connect(threads=2, reads=[path], folder=spool) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        names = next(parts_of(path, str(source), ())).names
        if twice := sorted({one for one in names if names.count(one) > 1}):
            what = 'two columns are called "{}"'
            raise SourceError(*(Fault("twice", what.format(one), f"{source}, line 1") for one in twice))
        relation = read_source(connection, path)
        return draft(connection, relation, name, said, now=now, identifier=identifier, time=time)


@contextmanager
def _local(source: Input, fields: Collection[Field]) -> Iterator[tuple[Path, Path]]:
    """A file of a source, and a folder to work in."""
    if isinstance(source, Path) and not source.is_file():
        raise SourceError(Fault("no_source", "no such file", str(source)))
    with tempfile.TemporaryDirectory(prefix="icekeel-trial-") as spool:
        path = fetched(source, fields, Path(spool))
        try:
            yield path, Path(spool)
        except duckdb.Error as error:
            raise SourceError(Fault("unreadable", str(error).splitlines()[0], str(source))) from error
