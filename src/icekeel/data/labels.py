"""What people who reviewed labels said: versions, kept and pinned like events, in a table for each model."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from icekeel.compile import quote
from icekeel.core.frames import Frame, Ints
from icekeel.core.ids import digest
from icekeel.core.kinds import Kind
from icekeel.define.fields import Field
from icekeel.define.tables import EventTable

from .history import AVAILABLE, SEQUENCE
from .relations import connect, parquet

_COLUMNS = {
    **{"question": Kind.ID, "label": Kind.NUM, "given": Kind.NUM, "known_at": Kind.TIME},
    **{"by": Kind.CAT, "reason": Kind.TEXT, "reviewed_at": Kind.TIME},
}


@dataclass(frozen=True, slots=True)
class Label:
    """What a person said about the outcome of one question.

    Attributes:
        label: The outcome's value as it ought to be; flags are 1.0 and 0.0.
        given: What it was when it was reviewed.
        known_at: When that had become known, microseconds UTC: a review makes no outcome younger.
    """

    question: str
    label: float
    given: float
    known_at: int
    by: str
    reason: str
    reviewed_at: int


def label_table(model: str) -> EventTable:
    """The table of a model's reviewed labels."""
    fields = {name: Field(name, kind) for name, kind in _COLUMNS.items()}
    return EventTable(f"labels/{model}", fields, "reviewed_at", "reviewed_at", "question", "", ())


def label_tables(models: Collection[str]) -> dict[str, EventTable]:
    """The tables of all models, by their names."""
    return {table.name: table for table in map(label_table, models)}


def question_ids(requests: Frame, asked_at: Ints, keys: Sequence[str]) -> Iterator[str]:
    """What names each question: a digest of its outcome's key and when it was asked."""
    for *key, at in zip(*(requests[name] for name in keys), asked_at.tolist(), strict=True):
        yield digest(repr((*map(str, key), at)).encode())[:20]


def read_labels(files: Sequence[Path], now: int) -> dict[str, Label]:
    """The newest of each question that was known at `now`.

    Args:
        files: Of the table in a manifest.
    """
    if not files:
        return {}
    listed = ", ".join(map(quote, _COLUMNS))
    with closing(connect(reads=files)) as connection:
        rows = connection.execute(
            f"SELECT {listed} FROM {parquet(files, union=True)} WHERE {AVAILABLE} <= {now} ORDER BY {AVAILABLE}, {SEQUENCE}"
        ).fetchall()
    return {row[0]: Label(*row) for row in rows}
