"""Past questions from the source that a model declares, whatever it is, in the types of its request."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import closing
from itertools import chain
from pathlib import Path

import duckdb

from icekeel.compile import quote
from icekeel.core.errors import Fault, SourceError, shorten
from icekeel.core.frames import Frame
from icekeel.core.kinds import Column
from icekeel.define.fields import Field
from icekeel.define.sources import Source

from .checks import columns_of, stored
from .history import History, locked
from .parts import Part, parts_of
from .readings import WRONG, load, refuse_misread, typed
from .relations import connect, fetch, one_row
from .sources import Input, Query, Stored, as_lines, find_sources


def read_questions(history: History, source: Source, folder: Path, fields: Sequence[Field]) -> Frame:
    """All rows of a source; optional columns that it lacks are null.

    Args:
        history: Beside which copies of objects are kept while they are read.
        source: As declared, relative to `folder`.
        fields: What is read.

    Raises:
        SourceError: it cannot be read, its columns are not these, or a value does not read as declared: questions
            have no quarantine.
    """
    history.folder.mkdir(parents=True, exist_ok=True)
    columns = [Column(field.name, field.kind) for field in fields]
    frames = []
    with locked(history.folder / "questions.lock"):
        spool = history.folder / "spool" / "questions"
        spool.mkdir(parents=True, exist_ok=True)
        for name, part, path, first in _parts(find_sources(folder, source), fields, spool):
            with closing(
                connect(threads=2, reads=[path] if path else [], folder=history.folder)
            ) as connection:
                try:
                    connection.execute("SET TimeZone = 'UTC'")
                    reading = load(connection, part, path, spool / "part", fields)
                    if first:
                        refuse_misread(connection, reading, fields, name)
                    rows = typed(reading, fields)
                    _refuse_wrong(connection, rows, reading.raw, reading.relation, name)
                    held = columns_of(connection, rows)
                    listed = ", ".join(f"{stored(field, held)} AS {quote(field.name)}" for field in fields)
                    frames.append(fetch(connection, f"SELECT {listed} FROM {rows}", columns))
                except duckdb.Error as error:
                    raise SourceError(Fault("unreadable", str(error).splitlines()[0], name)) from error
        shutil.rmtree(spool, ignore_errors=True)
    return Frame.stack(frames)


def _parts(
    inputs: Sequence[Input], fields: Sequence[Field], spool: Path
) -> Iterator[tuple[str, Part, Path | None, bool]]:
    """Name, rows, the file of Parquet ones, and whether they are the first of their source."""
    for one in inputs:
        if isinstance(one, Query):
            for some in chain(one.rows(fields, ""), [None]):
                if some:
                    yield one.name, Part("json", as_lines(some), ""), None, False
            continue
        path, name = (one.fetch(spool), one.url) if isinstance(one, Stored) else (one, str(one))
        first = True
        for part in parts_of(path, name, fields):
            yield name, part, path, first
            first = False


def _refuse_wrong(
    connection: duckdb.DuckDBPyConnection, rows: str, raw: str, relation: str, name: str
) -> None:
    count, why = one_row(connection, f"SELECT count(*), first({WRONG}[1]) FROM {rows} WHERE len({WRONG}) > 0")
    if count:
        place = f"SELECT place FROM (SELECT {WRONG}, row_number() OVER () AS place FROM {rows}) WHERE len({WRONG}) > 0 LIMIT 1"
        shown = f"SELECT row FROM (SELECT {raw} AS row, row_number() OVER () AS place FROM {relation}) WHERE place = ({place})"
        (row,) = one_row(connection, shown)
        raise SourceError(
            Fault("unreadable_rows", f"{count:,} rows cannot be read; {why}", name, shorten(row))
        )
