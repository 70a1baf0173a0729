"""All rows of a file at once, as the contract reads them: to count a batch before any of it is taken, or without taking it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb

from icekeel.compile import literal
from icekeel.define.fields import Field

from .parts import Part, form_of, parts_of
from .readings import hidden, load, refuse_misread, typed
from .relations import one_row, parquet
from .vault import HideMany


@dataclass(frozen=True, slots=True)
class Whole:
    """The rows of a file.

    Attributes:
        relation: Of the declared columns in their types, and `_wrong`.
        held: Column -> SQL type as it came; of a text that the column is there.
    """

    relation: str
    held: dict[str, str]


def whole_file(
    connection: duckdb.DuckDBPyConnection,
    path: Path,
    name: str,
    fields: Sequence[Field],
    spool: Path,
    hide: HideMany | None,
    parts: Iterable[Part] = (),
) -> Whole:
    """Read a file: Parquet where it lies, a text part by part into Parquet files in `spool`.

    Args:
        parts: Rows of a query instead, which says the types of its columns itself.

    Raises:
        SourceError: it cannot be read, or its columns are not the fields.
    """
    form = "" if parts else form_of(path)
    if form == "parquet":
        rows = one_row(connection, f"SELECT count(*) FROM {parquet([path])}")[0]
        parts = [Part(form, b"", "", rows=(0, rows))]
    elif form:
        parts = parts_of(path, name, fields)
    held: dict[str, str] = {}
    files: list[Path] = []
    for part in parts:
        reading = hidden(connection, load(connection, part, path, spool / "part", fields), fields, hide)
        if form and not files:
            held = refuse_misread(connection, reading, fields, name)
        relation = typed(reading, fields)
        if form == "parquet":
            return Whole(relation, held)
        files.append(spool / f"whole-{len(files)}.parquet")
        connection.execute(f"COPY (SELECT * FROM {relation}) TO {literal(str(files[-1]))} (FORMAT parquet)")
    return Whole(parquet(files), held)
