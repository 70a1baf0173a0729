"""What happened in the window that is replayed, and the project as it stood before it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from icekeel.compile import literal, quote
from icekeel.core.errors import Fault, StateError
from icekeel.core.frames import Frame
from icekeel.core.kinds import Column, Kind
from icekeel.core.time import DAY, MINUTE, format_time
from icekeel.data import AVAILABLE, DELETED, SEQUENCE, Manifest, Vault
from icekeel.data.relations import connect, create_table, parquet
from icekeel.define import EventTable, Model
from icekeel.define.rehearsed import ASKED_AT, events_file, questions_file
from icekeel.features.live import outcome_key
from icekeel.features.outcomes import target_function
from icekeel.operations.projections.projections import OutcomeRows
from icekeel.operations.projections.seen import as_answered
from icekeel.operations.workspace import Workspace
from icekeel.training.dataset import declared_questions, past_questions

Row = dict[str, Any]


@contextmanager
def past_of(workspace: Workspace, model: Model, vault: Vault | None, *, now: int) -> Iterator[Past]:
    """The history of a model of a project, what is in the journal alone included.

    Raises:
        SourceError, TrainingError: the past questions cannot be read, or there are none.
    """
    plan, history = workspace.plans[model.name], workspace.history
    declared = declared_questions(model, plan, workspace.project.folder, history, vault)
    with workspace.view() as manifest:
        asked = past_questions(model, plan, declared, history, manifest, now=now)
        yield Past(workspace, manifest, model, asked.requests.with_columns({ASKED_AT: asked.asked_at}))


class Past:
    """The history of a project, read as a live system would have met it. Nothing of the project is written.

    Args:
        workspace: The project.
        manifest: Its events.
        model: Whose questions are asked again.
        asked: Its past questions: the fields of the request, and `asked_at`.
    """

    def __init__(self, workspace: Workspace, manifest: Manifest, model: Model, asked: Frame) -> None:
        self._workspace = workspace
        self._manifest = manifest
        self.model = model
        self.tables: Mapping[str, EventTable] = workspace.project.tables
        self.plan = workspace.plans[model.name]
        self.asked = asked.take(np.argsort(asked[ASKED_AT], kind="stable"))

    @property
    def folder(self) -> Path:
        """Where the project lies."""
        return self._workspace.project.folder

    @property
    def content(self) -> str:
        """Names what there is: the files of events, and how many questions."""
        files = [file.name for name in self.tables for file in self._manifest.tables.get(name, ())]
        return f"{len(self.asked)} {' '.join(files)}"

    def end(self) -> int:
        """The minute after the last past question.

        Raises:
            StateError: there is none.
        """
        if not len(self.asked):
            raise StateError(Fault("no_history", "there are no past questions to replay", self.model.name))
        return (int(self.asked[ASKED_AT][-1]) // MINUTE + 1) * MINUTE

    def per_day(self, until: int) -> float:
        """Questions a day in the week before a time."""
        low, high = np.searchsorted(self.asked[ASKED_AT], [until - 7 * DAY, until])
        return float(high - low) / 7

    def questions(self, since: int, until: int) -> list[tuple[int, Row]]:
        """When each question in `(since, until]` was asked, and its request as JSON has it."""
        low, high = np.searchsorted(self.asked[ASKED_AT], [since, until], side="right")
        part = self.asked.take(np.arange(low, high))
        columns = self.plan.inputs
        asked = [
            {
                column.name: bool(value) if column.kind is Kind.FLAG and value is not None else value
                for column, value in zip(columns, row, strict=True)
            }
            for row in as_answered(columns, part)
        ]
        return list(zip(part[ASKED_AT].tolist(), asked, strict=True))

    def rows(self, table: str, since: int, until: int) -> list[Row]:
        """The versions of events that became known in `(since, until]`, in that order, each with `AVAILABLE`."""
        files = self._workspace.history.paths(self._manifest, table)
        if not files:
            return []
        fields = list(self.tables[table].fields.values())
        listed = ", ".join(_stored(field.name, field.kind) for field in fields)
        where = f"{AVAILABLE} > {since} AND {AVAILABLE} <= {until} AND {DELETED} IS DISTINCT FROM 1"
        with connect(reads=files) as connection:
            found = connection.execute(
                f"SELECT {listed}, {AVAILABLE} FROM {parquet(files)} WHERE {where} ORDER BY {AVAILABLE}, {SEQUENCE}"
            ).fetchall()
        names = [*(field.name for field in fields), AVAILABLE]
        return [dict(zip(names, row, strict=True)) for row in found]

    def lay_out(self, folder: Path, at: int) -> None:
        """Write as the sources of a project what was known at a time.

        Raises:
            StateError: no question had been asked by then.
        """
        high = int(np.searchsorted(self.asked[ASKED_AT], at, side="right"))
        if not high:
            what = "there are no questions before the window that is replayed"
            raise StateError(Fault("no_history", what, self.model.name, format_time(at)))
        columns = [
            *(Column(field.name, field.kind) for field in self.plan.fields),
            Column(ASKED_AT, Kind.TIME),
        ]
        with connect(folder=folder) as connection:
            create_table(connection, "asked", columns, self.asked.take(np.arange(high)))
            listed = ", ".join(_stored(one.name, one.kind) for one in columns)
            target = literal(str(folder / questions_file(self.model.name)))
            connection.execute(f"COPY (SELECT {listed} FROM asked) TO {target} (FORMAT parquet)")
        for name, table in self.tables.items():
            self._copy(table, folder / events_file(name), at)

    def _copy(self, table: EventTable, target: Path, at: int) -> None:
        files = self._workspace.history.paths(self._manifest, table.name)
        if not files:
            return
        listed = ", ".join(_stored(field.name, field.kind) for field in table.fields.values())
        where = f"{AVAILABLE} <= {at} AND {DELETED} IS DISTINCT FROM 1"
        with connect(reads=files, folder=target.parent) as connection:
            connection.execute(
                f"COPY (SELECT {listed} FROM {parquet(files)} WHERE {where} ORDER BY {AVAILABLE}, {SEQUENCE}) "
                f"TO {literal(str(target))} (FORMAT parquet)"
            )


def _stored(name: str, kind: Kind) -> str:
    """A column as a file or a caller has it: flags are stored as numbers."""
    return f"{quote(name)}::BOOLEAN AS {quote(name)}" if kind is Kind.FLAG else quote(name)


class Truth:
    """What came of questions, from the rows that decide it.

    A target is that of the newest event in time under the key of a question; windows and corrections are the keeper's
    business, here it is only asked what an answer was worth.
    """

    def __init__(self, model: Model, tables: Mapping[str, EventTable]) -> None:
        outcome = model.outcome
        table = tables[outcome.keyed.table]
        self.table = table.name
        self._fields = [field.name for _, field in outcome.keyed.keys]
        self._rows = OutcomeRows(outcome, table)
        self._target = target_function(model.target)
        self.targets: dict[str, float] = {}

    def happened(self, row: Row) -> None:
        """Take in a row of the outcome's table."""
        key, value = self._rows.key(row), self._rows.value(row)
        target = None if value is None else self._target(value)
        if key and target is not None:
            self.targets[key] = float(target)

    def key(self, request: Row) -> str:
        """The key of a question."""
        return outcome_key([request.get(name) for name in self._fields])
