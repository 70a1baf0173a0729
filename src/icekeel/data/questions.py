"""Past questions from the source that a model declares, whatever it is, in the types of its request."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import duckdb

from icekeel.compile import quote
from icekeel.core.errors import Fault, SourceError, shorten
from icekeel.core.files import locked
from icekeel.core.frames import Frame
from icekeel.core.kinds import Column
from icekeel.define.fields import Field
from icekeel.define.sources import Source

from .checks import stored
from .history import SPOOL, History
from .parts import parts_of
from .readings import WRONG, load, refuse_misread, typed
from .relations import columns_of, connect, fetch, one_row
from .sources import fetched, find_sources


def read_questions(history: History, source: Source, folder: Path, fields: Sequence[Field]) -> Frame:
    """All rows of a source; optional columns that it lacks are null.

    Args:
        history: Beside which copies of objects are kept while they are read.
        source: As declared, relative to `folder`.

    Raises:
        SourceError: it cannot be read, its columns are not these, or a value does not read as declared: questions
            have no quarantine.
    """
    history.make()
    columns = [Column(field.name, field.kind) for field in fields]
    frames = []
    with locked(history.folder / "questions.lock"):
        spool = history.folder / SPOOL / "questions"
        spool.mkdir(parents=True, exist_ok=True)
        for one in find_sources(folder, source):
            name, path = str(one), fetched(one, fields, spool)
            with closing(connect(threads=2, reads=[path], folder=history.folder)) as connection:
                try:
                    connection.execute("SET TimeZone = 'UTC'")
                    for place, part in enumerate(parts_of(path, name, fields)):
                        reading = load(connection, part, path, spool / "part", fields)
                        if not place:
                            refuse_misread(connection, reading, fields, name)
                        rows = typed(reading, fields)
                        _refuse_wrong(connection, rows, reading.raw, reading.relation, name)
                        held = columns_of(connection, rows)
                        listed = ", ".join(
                            f"{stored(field, held)} AS {quote(field.name)}" for field in fields
                        )
                        frames.append(fetch(connection, f"SELECT {listed} FROM {rows}", columns))
                except duckdb.Error as error:
                    raise SourceError(Fault("unreadable", str(error).splitlines()[0], name)) from error
        shutil.rmtree(spool, ignore_errors=True)
    return Frame.stack(frames)


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
