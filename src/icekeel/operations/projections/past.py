"""What history holds, as the records it was made of: for projections that are made anew."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from icekeel.compile import quote
from icekeel.core.time import FOREVER
from icekeel.data import AVAILABLE, DELETED, SEQUENCE, Manifest
from icekeel.data.answers import ANSWERS, answers_in
from icekeel.data.compaction import recorded
from icekeel.data.relations import connect, parquet
from icekeel.define import EventTable
from icekeel.journal import Ingested, Predicted, Pushed, Value
from icekeel.operations.workspace import Workspace


class Past:
    """History as far as some projections still need it.

    Args:
        workspace, manifest: What there is.
        since: When the projections of before were last, microseconds UTC; 0 where that is not known.

    Attributes:
        pushed: Rows that came from the journal.
    """

    def __init__(self, workspace: Workspace, manifest: Manifest, *, since: int) -> None:
        self._workspace = workspace
        self._manifest = manifest
        self._since = since
        self._back: dict[str, int] = {}
        self._first: dict[str, int] = {}
        self._taken = {one.file: one.at for one in recorded(workspace.history, manifest, Ingested)}
        files = [file for name in workspace.project.tables for file in manifest.origins(name)]
        self.pushed = sum(file.rows for file in files if not file.source)

    def first_asked(self, model: str) -> int:
        """When the oldest answer of a model was asked; `FOREVER` where there is none."""
        files = self._manifest.tables.get(f"{ANSWERS}/{model}", ())
        return min((file.known_from for file in files), default=FOREVER)

    def reads(self, table: str, back: int, first: int) -> None:
        """Say that a projection reads a table: so far back from `since`, and all that happened since `first`."""
        self._back[table] = max(back, self._back.get(table, 0))
        self._first[table] = min(first, self._first.get(table, FOREVER))

    def events(self) -> Iterator[Pushed]:
        """Versions of events, table by table in the order in which they were taken in."""
        for name, back in self._back.items():
            table = self._workspace.project.tables[name]
            for file in self._manifest.tables.get(name, ()):
                taken = min(
                    self._taken.get(one.name, self._since) if one.source else self._since
                    for one in file.origins
                )
                now = min(taken, self._since) if self._since else taken
                since = min(now - back, self._first[name])
                path = self._workspace.history.folder / name / file.name
                for rows in stored_rows(path, table, since=since):
                    yield Pushed(at=0, table=name, rows=rows)

    def answers(self, model: str) -> Iterator[list[Predicted]]:
        """The answers of a model in batches."""
        for file in self._workspace.history.paths(self._manifest, f"{ANSWERS}/{model}"):
            yield from answers_in(model, file)


def stored_rows(
    file: Path, table: EventTable, *, since: int, condition: str = "true", batch: int = 20_000
) -> Iterator[list[dict[str, Value]]]:
    """The rows of a stored file in batches, as pushed rows look.

    Args:
        condition: SQL of which rows.
        since: Rows that happened and became known before are left out; one that became known later may be the new
            version of an event that still counts, moved out of every window, or its deletion, which has no time.
    """
    names = [*table.fields, AVAILABLE, DELETED]
    listed = ", ".join(quote(name) for name in names)
    with connect(reads=[file]) as connection:
        result = connection.execute(
            f"SELECT {listed} FROM {parquet([file])} WHERE ({quote(table.time)} >= {since} OR {AVAILABLE} >= {since}) AND {condition} "
            f"ORDER BY {SEQUENCE}"
        )
        while rows := result.fetchmany(batch):
            yield [dict(zip(names, row, strict=True)) for row in rows]
