"""Event versions as the online store had them when questions were answered, written for the offline engine.

A version was seen by a question if it was known at the time asked and had been projected at the position that the
answer recorded. Along answers whose times and positions both rise, "projected at its position" begins at some
answer and holds from there on, like "known": so it becomes part of the time from which the version counts, and one
pass of the ordinary point-in-time join recomputes all of them exactly, whichever positions they were read at.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

from icekeel.compile import literal, quote
from icekeel.core.frames import NO_TIME, Frame, Ints
from icekeel.core.kinds import Column
from icekeel.core.time import FOREVER
from icekeel.data import AVAILABLE, DELETED, SEQUENCE, Manifest
from icekeel.data.history import OFFSET, ORIGIN, SEGMENT
from icekeel.data.relations import SQL_TYPES, connect, parquet
from icekeel.define import EventTable
from icekeel.engines import rows_of
from icekeel.features.aggregates import View
from icekeel.features.offline import EventStore, historical_features
from icekeel.features.plan import Lookup, Plan
from icekeel.journal.segments import segment_sizes
from icekeel.operations.workspace import Workspace

KNOWN, SOURCE = "_known", "filename"
"""Further columns of the files written: when a version became known, and the name of the stored file in which it came."""


@dataclass(frozen=True, slots=True)
class Moment:
    """When something was asked, and how far the store was that it was read from.

    Attributes:
        asked_at: Microseconds UTC.
        serial: Of the projection.
        offsets: Segment -> how far the journal had been projected.
    """

    asked_at: int
    serial: int
    offsets: Mapping[str, int]


def chains(moments: Sequence[Moment]) -> list[list[int]]:
    """The places of moments, in few groups, in each of which serials rise with the times asked.

    One group unless servers asked at nearly the same time read different commits. Each is appended to the first
    group it fits behind, which needs as few groups as there can be (Dilworth 1950).
    """
    groups: list[list[int]] = []
    for place in sorted(range(len(moments)), key=lambda at: (moments[at].asked_at, moments[at].serial)):
        one = moments[place]
        for group in groups:
            last = moments[group[-1]]
            if last.serial == one.serial or (last.serial < one.serial and last.asked_at < one.asked_at):
                group.append(place)
                break
        else:
            groups.append([place])
    return groups


class SeenEvents:
    """Writes the event versions that a chain of moments saw.

    Args:
        workspace, manifest: The events.
        bulk: Bulk file -> serial at which it was projected.
        folder: Where files are written.
        met: Table -> SQL condition on the events that any of the questions can meet; all of a table by default.
    """

    def __init__(
        self,
        workspace: Workspace,
        manifest: Manifest,
        bulk: Mapping[str, int],
        folder: Path,
        met: Mapping[str, str] | None = None,
    ) -> None:
        self._workspace = workspace
        self._manifest = manifest
        self._bulk = bulk
        self._folder = folder
        self._met = met or {}
        self._written = 0

    def write(self, moments: Sequence[Moment], reaches: Mapping[str, tuple[int, int]]) -> dict[str, Path]:
        """A Parquet file of each table for an `EventStore`: what each moment of a chain saw.

        Args:
            moments: Times and serials both rise; without serials (0), everything that was known by then.
            reaches: Table -> how far windows reach back and ahead: other events are left out.
        """
        first, last = moments[0].asked_at, moments[-1].asked_at
        found = {}
        for name, (back, ahead) in reaches.items():
            self._written += 1
            target = self._folder / f"{self._written}.parquet"
            files = self._workspace.history.paths(self._manifest, name)
            with connect(reads=files, folder=self._folder) as connection:
                self._load(connection, self._workspace.project.tables[name], first - back, last + ahead)
                self._place(connection, name, moments)
                connection.execute(
                    f"COPY ({_versions(self._workspace.project.tables[name])}) TO {literal(str(target))} (FORMAT parquet)"
                )
            found[name] = target
        return found

    def _load(
        self, connection: duckdb.DuckDBPyConnection, table: EventTable, oldest: int, newest: int
    ) -> None:
        """All versions of the events of which one lies in the stretch of time."""
        columns = {name: SQL_TYPES[field.kind] for name, field in table.fields.items()}
        columns |= {AVAILABLE: "BIGINT", DELETED: "DOUBLE", SEQUENCE: "BIGINT"}
        columns |= {SEGMENT: "VARCHAR", OFFSET: "BIGINT", SOURCE: "VARCHAR", ORIGIN: "VARCHAR"}
        files = self._workspace.history.paths(self._manifest, table.name)
        source = every_row(columns, files, ", filename = true")
        origin = f"coalesce({ORIGIN}, parse_filename({SOURCE})) AS {SOURCE}"
        listed, identifier = ", ".join(map(quote, columns)), quote(table.id)
        connection.execute(
            f"CREATE TEMP TABLE every AS SELECT {listed} FROM (SELECT * REPLACE ({origin}) FROM ({source})) WHERE {identifier} IN (SELECT "
            f"{identifier} FROM ({source}) WHERE {quote(table.time)} BETWEEN {oldest} AND {newest} "
            f"AND {self._met.get(table.name, 'true')})"
        )

    def _place(self, connection: duckdb.DuckDBPyConnection, name: str, moments: Sequence[Moment]) -> None:
        """Tables of when each stretch of the journal and each bulk file was first seen."""
        reached: dict[tuple[str, int], int] = {}
        removed = self._removed()
        for moment in moments:
            # A segment is removed when all of it is projected, and its position is forgotten: a moment that does not
            # name it, though it names younger ones, had seen all of it.
            newest = max(moment.offsets, default="")
            spent = [(name, end) for name, end in removed.items() if name < newest]
            for segment, offset in (*spent, *moment.offsets.items()):
                reached.setdefault((segment, offset), moment.asked_at)
        connection.execute("CREATE TEMP TABLE reached (segment VARCHAR, reach BIGINT, seen BIGINT)")
        if reached:
            rows = [[segment, offset, seen] for (segment, offset), seen in reached.items()]
            connection.executemany("INSERT INTO reached VALUES (?, ?, ?)", rows)
        connection.execute("CREATE TEMP TABLE files (name VARCHAR, seen BIGINT)")
        for file in self._manifest.origins(name):
            seen = self._seen(file.name, moments) if file.source and moments[0].serial else 0
            connection.execute("INSERT INTO files VALUES (?, ?)", [Path(file.name).name, seen])
        if not moments[0].serial:
            connection.execute(f"UPDATE every SET {SEGMENT} = NULL")

    def _removed(self) -> dict[str, int]:
        """Segments that were moved into history and are gone, each with its end."""
        there = segment_sizes(self._workspace.journal)
        return {name: end for name, end in self._manifest.journal.items() if name not in there}

    def _seen(self, file: str, moments: Sequence[Moment]) -> int:
        serial = self._bulk.get(file)
        if serial is None:
            return FOREVER
        return next((moment.asked_at for moment in moments if moment.serial >= serial), FOREVER)


def _versions(table: EventTable) -> str:
    """Versions with the time from which they were seen; those that never were the newest seen one left out."""
    fields = ", ".join(quote(name) for name in table.fields)
    pushed = f"FROM every ASOF LEFT JOIN reached ON {SEGMENT} = segment AND {OFFSET} < reach"
    seen = f"CASE WHEN {SEGMENT} IS NULL THEN files.seen ELSE coalesce(pushed.seen, {FOREVER}) END"
    started = (
        f"SELECT pushed.* EXCLUDE (segment, reach, seen), greatest({AVAILABLE}, {seen}) AS start "
        f"FROM (SELECT * {pushed}) AS pushed LEFT JOIN files ON {SOURCE} = files.name"
    )
    after = (
        f"min(start) OVER (PARTITION BY {quote(table.id)} ORDER BY {AVAILABLE}, {SEQUENCE} "
        "ROWS BETWEEN 1 FOLLOWING AND UNBOUNDED FOLLOWING)"
    )
    return (
        f"SELECT {fields}, start AS {AVAILABLE}, {DELETED}, {SEQUENCE}, {AVAILABLE} AS {KNOWN}, {SEGMENT}, {OFFSET}, "
        f"{SOURCE} FROM (SELECT *, {after} AS after FROM ({started}) WHERE start < {FOREVER}) "
        "WHERE after IS NULL OR start < after"
    )


def every_row(columns: Mapping[str, str], files: Sequence[Path], options: str = "") -> str:
    """SQL of the rows of stored files, with these columns whichever of them the files have."""
    none = ", ".join(f"CAST(NULL AS {kind}) AS {quote(name)}" for name, kind in columns.items())
    every = parquet(files, union=True).removesuffix(")") + f"{options})" if files else ""
    return f"SELECT {none} WHERE false" + (f" UNION ALL BY NAME FROM {every}" if files else "")


def meets(key: Mapping[str, Any]) -> str:
    """SQL condition on rows with these values; a null one meets no row."""
    if any(value is None for value in key.values()):
        return "false"
    return (
        " AND ".join(
            f"{quote(column)} = {value if isinstance(value, int) else literal(value)}"
            for column, value in key.items()
        )
        or "true"
    )


def rows_in_reach(
    file: Path, table: EventTable, view: View, at: int, where: str = "true"
) -> list[dict[str, Any]]:
    """The events in the reach of a view at a time, each as it was known then, of a file that `SeenEvents` wrote."""
    names = [*table.fields, KNOWN, SEGMENT, OFFSET, SOURCE]
    with connect(reads=[file]) as connection:
        rows = connection.execute(
            f"SELECT {', '.join(map(quote, names))} FROM (SELECT * FROM {parquet([file])} WHERE {AVAILABLE} <= {at} "
            f"QUALIFY row_number() OVER (PARTITION BY {quote(table.id)} ORDER BY {AVAILABLE} DESC) = 1) "
            f"WHERE {DELETED} = 0 AND {quote(table.time)} BETWEEN {at - view.back} AND {at + view.ahead} AND {where}"
        ).fetchall()
    return [dict(zip(names, row, strict=True)) for row in rows]


def reaches(lookups: Iterable[Lookup]) -> dict[str, tuple[int, int]]:
    """Table -> how far some windows over it reach back and ahead of a question, microseconds."""
    found: dict[str, tuple[int, int]] = {}
    for lookup in lookups:
        back, ahead = found.get(lookup.view.table, (0, 0))
        found[lookup.view.table] = max(back, lookup.view.back), max(ahead, lookup.view.ahead)
    return found


def as_answered(columns: Sequence[Column], requests: Frame) -> list[list[float | int | str | None]]:
    """Requests of a frame as they are answered: values in the order of the columns, None for null."""
    return [[None if value == NO_TIME else value for value in row] for row in rows_of(columns, requests)]


def recompute(
    workspace: Workspace, plan: Plan, requests: Frame, asked_at: Ints, files: Mapping[str, Path]
) -> Frame:
    """The features of some requests from event versions that `SeenEvents` wrote."""
    tables = workspace.project.tables
    with closing(EventStore(tables, {name: [file] for name, file in files.items()}, threads=1)) as store:
        return historical_features(plan, requests.select([c.name for c in plan.inputs]), asked_at, store)
