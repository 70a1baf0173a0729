"""What came of one answer, every version of it."""

from __future__ import annotations

import math
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from icekeel.compile import literal, quote
from icekeel.core.frames import Frame
from icekeel.core.kinds import Column, Kind
from icekeel.core.time import format_time
from icekeel.data import AVAILABLE, DELETED, SEQUENCE, Manifest
from icekeel.data.relations import SQL_TYPES, array_of, connect, parquet
from icekeel.define import EventTable
from icekeel.features.events import EventStore
from icekeel.features.outcomes import Status, historical_outcomes
from icekeel.journal import Predicted
from icekeel.operations.workspace import Workspace

from .seen import every_row, meets


@dataclass(frozen=True, slots=True)
class Told:
    """One version of an event that decides an outcome; `fields` is None where it was deleted."""

    id: str
    known_from: str
    fields: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class OutcomeTrace:
    """What came of an answer.

    Attributes:
        status: `known`, `absent` or `pending`.
        target: What the model was to predict, None unless known.
        known_at: When it became known; of one that is pending, when it will be settled at the latest.
        table, key: Where it is looked for.
        versions: All that was told, the first first; those after the first of an id are its corrections.
    """

    status: str
    target: float | None
    known_at: str
    table: str
    key: dict[str, Any]
    versions: list[Told]


def trace_outcome(
    workspace: Workspace, manifest: Manifest, record: Predicted, folder: Path, *, now: int
) -> OutcomeTrace:
    """What is known at `now` of what came of an answer, as training would see it."""
    model = workspace.project.models[record.model]
    outcome = model.outcome
    table = workspace.project.tables[outcome.keyed.table]
    key = {column: record.request.get(field.name) for column, field in outcome.keyed.keys}
    columns = {name: SQL_TYPES[field.kind] for name, field in table.fields.items()}
    columns |= {AVAILABLE: "BIGINT", DELETED: "DOUBLE", SEQUENCE: "BIGINT"}
    target = folder / "outcome.parquet"
    files = workspace.history.paths(manifest, table.name)
    with connect(reads=files, folder=folder) as connection:
        source = every_row(columns, files)
        listed, identifier = ", ".join(map(quote, columns)), quote(table.id)
        connection.execute(
            f"COPY (SELECT {listed} FROM ({source}) WHERE {AVAILABLE} <= {now} AND {identifier} IN "
            f"(SELECT {identifier} FROM ({source}) WHERE {meets(key)})) TO {literal(str(target))} (FORMAT parquet)"
        )
        rows = connection.execute(
            f"SELECT {listed} FROM {parquet([target])} ORDER BY {AVAILABLE}, {SEQUENCE}"
        ).fetchall()
    versions = _changes(table, [dict(zip(columns, row, strict=True)) for row in rows])
    requests = Frame(
        {
            field.name: array_of([record.request], Column(field.name, field.kind))
            for _, field in outcome.keyed.keys
        }
    )
    asked_at = array_of([{"at": record.at}], Column("at", Kind.TIME))
    with closing(EventStore(workspace.project.tables, {table.name: [target]}, threads=1)) as store:
        found = historical_outcomes(model.target, outcome, requests, asked_at, store, now=now)
    value = float(found.target[0])
    return OutcomeTrace(
        status=Status(int(found.status[0])).name.lower(),
        target=None if math.isnan(value) else value,
        known_at=format_time(int(found.known_at[0])),
        table=table.name,
        key={column: plain(key[column], field.kind) for column, field in outcome.keyed.keys},
        versions=versions,
    )


def _changes(table: EventTable, rows: list[dict[str, Any]]) -> list[Told]:
    """Versions that say something else than the one before of the same event."""
    found: list[Told] = []
    newest: dict[str, dict[str, Any] | None] = {}
    for row in rows:
        said = (
            None
            if row[DELETED]
            else {name: plain(row[name], field.kind) for name, field in table.fields.items()}
        )
        if newest.get(row[table.id], {}) != said:
            found.append(Told(row[table.id], format_time(row[AVAILABLE]), said))
            newest[row[table.id]] = said
    return found


def plain(value: Any, kind: Kind) -> Any:
    """A value for JSON and people: a time as text, a flag as such, NaN as null."""
    if value is None or isinstance(value, str):
        return value
    if kind is Kind.TIME:
        return format_time(value)
    if math.isnan(value):
        return None
    return value == 1.0 if kind is Kind.FLAG else float(value)
