"""Snapshots that training runs have pinned: which there are, what changed between two, and which may go."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import duckdb
import numpy as np

from icekeel.compile import quote
from icekeel.core.binning import Binning, distance
from icekeel.core.errors import Fault, RequestError, nearest, shorten
from icekeel.core.frames import NO_TIME, Array
from icekeel.core.kinds import Column, Kind
from icekeel.core.time import DAY, SECOND, format_time
from icekeel.data import History, Snapshot
from icekeel.data.answers import ANSWERS
from icekeel.data.relations import SQL_TYPES, columns_of, connect, fetch, parquet
from icekeel.data.standing import OWN, standing
from icekeel.define import EventTable
from icekeel.features.events import MEMORY
from icekeel.monitoring import psi
from icekeel.registry import Registry, Run, Version

NOW = "now"
"""The name of what a training would see at this moment."""
MOST_READ = 200_000
"""Rows of a table whose distribution is looked at; of more, every n-th by the hash of its id."""
TOP = 5
MOST_NAMES = 1_000
"""Different texts of a column up to which it counts as a category."""
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
TRAINING = "training"
"""Kind of the runs that pin a snapshot."""


@dataclass(frozen=True, slots=True)
class Pinned:
    """A snapshot that is kept.

    Attributes:
        rows, bytes: Of all its files; it shares them with history and with other snapshots.
        alone: Bytes of files that nothing else lists.
        versions: Registered versions that learnt from it: while there is one, it stays.
        runs: Runs that saw it.
    """

    digest: str
    model: str
    now: str
    tables: int
    rows: int
    bytes: int
    alone: int
    versions: list[str]
    runs: list[str]


@dataclass(frozen=True, slots=True)
class ColumnChange:
    """One column before and after.

    Attributes:
        before, after: `nulls` (share), and `mean` and quantiles of numbers, `distinct` and `top` shares of texts.
        distance: Kolmogorov-Smirnov on the cells of the former for numbers, total variation for categories, 0 to 1.
        psi: Population stability index on the same cells; both are None for identifiers and texts.
    """

    column: str
    before: Mapping[str, object]
    after: Mapping[str, object]
    distance: float | None
    psi: float | None


@dataclass(frozen=True, slots=True)
class TableChange:
    """One table before and after: of events by their ids, each in its newest version known at the time.

    Attributes:
        before, after: Rows that held.
        added, removed, corrected: Rows that hold now alone, no more, or otherwise in columns that both have.
        columns_added, columns_removed, columns_retyped: By name; those retyped with both types.
        columns: Those that both have, the most changed first; those that begin with `_` are Icekeel's own and left out.
    """

    table: str
    before: int
    after: int
    added: int
    removed: int
    corrected: int
    columns_added: list[str]
    columns_removed: list[str]
    columns_retyped: dict[str, str]
    columns: list[ColumnChange]


class Pruned(NamedTuple):
    """Snapshots that are kept no longer, and how many bytes of files that freed."""

    snapshots: list[Snapshot]
    freed: int


class Snapshots:
    """The pinned snapshots of one project.

    Args:
        history: Where they are kept.
        registry: Knows which versions learnt from which.
        tables: Event tables by name.
        current: What a training of a model would see now.
    """

    def __init__(
        self,
        history: History,
        registry: Registry,
        tables: Mapping[str, EventTable],
        current: Callable[[str], Snapshot],
    ) -> None:
        self._history = history
        self._registry = registry
        self._tables = tables
        self._current = current

    def listed(self) -> list[Pinned]:
        """Every pinned snapshot, the oldest first."""
        snapshots = self._history.snapshots()
        uses: dict[tuple[str, str], int] = {}
        for files in [one.tables for one in snapshots] + [self._history.manifest().tables]:
            for table, listed in files.items():
                for file in listed:
                    uses[table, file.name] = uses.get((table, file.name), 0) + 1
        runs, versions = self._registry.runs(TRAINING), self._registry.versions()
        return [self._pinned(one, uses, runs, versions) for one in snapshots]

    def _pinned(
        self,
        snapshot: Snapshot,
        uses: Mapping[tuple[str, str], int],
        runs: Sequence[Run],
        versions: Sequence[Version],
    ) -> Pinned:
        identifier = snapshot.digest
        files = [(table, file) for table, listed in snapshot.tables.items() for file in listed]
        sizes = {
            (table, file.name): (self._history.folder / table / file.name).stat().st_size
            for table, file in files
        }
        return Pinned(
            identifier,
            snapshot.model,
            format_time(snapshot.now),
            sum(bool(listed) for listed in snapshot.tables.values()),
            sum(file.rows for _, file in files),
            sum(sizes.values()),
            sum(size for place, size in sizes.items() if uses[place] == 1),
            [one.name for one in versions if one.snapshot == identifier],
            [one.id for one in runs if one.details.get("snapshot") == identifier],
        )

    def find(self, name: str, model: str = "") -> Snapshot:
        """The snapshot that a digest's beginning, or the name of a version, names.

        Args:
            model: Of which model it must be; any by default.

        Raises:
            RequestError: `no_snapshot`: the version is from before snapshots were kept; `other_model`.
            StateError: there is no such snapshot, or it is damaged.
        """
        versions = {one.name: one for one in self._registry.versions()}
        version = versions.get(name)
        if version is None and not set(name) <= set("0123456789abcdef"):
            hint = nearest(name, [*versions, NOW])
            allowed = "a version, the beginning of a digest, or now"
            raise RequestError(
                Fault("unknown_snapshot", "no such snapshot", "snapshot", shorten(name), allowed, hint)
            )
        if version is not None and not self._history.pinned(version.snapshot).exists():
            what, hint = f"the snapshot of {name} is not kept", "train again: from then on it is"
            raise RequestError(Fault("no_snapshot", what, "snapshot", version.snapshot[:12], hint=hint))
        found = self._history.snapshot(name if version is None else version.snapshot)
        if model not in ("", found.model):
            raise RequestError(
                Fault("other_model", "a snapshot of another model", "snapshot", found.model, model)
            )
        return found

    def diff(self, before: str, after: str) -> list[TableChange]:
        """What changed from one snapshot to another, each named as in `find`, or `now`.

        Raises:
            RequestError, StateError: as `find`; both are `now`.
        """
        if before == after == NOW:
            raise RequestError(Fault("unknown_snapshot", "one of the two is a snapshot", "snapshot", NOW))
        found = {name: self.find(name) for name in (before, after) if name != NOW}
        if NOW in (before, after):
            (known,) = found.values()
            found[NOW] = self._current(known.model)
        pair = found[before], found[after]
        names = dict.fromkeys([*pair[0].tables, *pair[1].tables])
        return [change for name in names if (change := self._change(name, *pair)) is not None]

    def _change(self, table: str, before: Snapshot, after: Snapshot) -> TableChange | None:
        paths = [self._history.paths(one.manifest, table) for one in (before, after)]
        if not any(paths):
            return None
        with connect(
            threads=2,
            reads=[*paths[0], *paths[1]],
            folder=self._history.folder,
            memory_limit=MEMORY,
        ) as connection:
            sides = [
                _Side(self._relation(table, one, files, held), held)
                for one, files in zip((before, after), paths, strict=True)
                if files and (held := _own_columns(connection, files))
            ]
            if len(sides) < 2:  # one of them has no files of this table
                (there,) = sides
                none = _Side(f"(SELECT * FROM {there.relation} WHERE false)", there.columns)
                sides.insert(0 if not paths[0] else 1, none)
            return _compare(connection, table, self._id(table), *sides)

    def _relation(
        self, table: str, snapshot: Snapshot, files: Sequence[Path], columns: Collection[str]
    ) -> str:
        """The rows that held."""
        if table in self._tables:
            return standing(files, self._tables[table].id, list(columns), snapshot.now)
        return f"(SELECT * FROM {parquet(files, union=True)} WHERE _asked_at <= {snapshot.now})"

    def _id(self, table: str) -> str:
        """The column by which a row is the same row; none for questions, which are compared as they are."""
        if table in self._tables:
            return self._tables[table].id
        return "_id" if table.startswith(f"{ANSWERS}/") else ""

    def prune(self, keep: int, now: int) -> Pruned:
        """Keep no longer what no registered version learnt from and what is older than `keep`, microseconds."""
        with self._history.adding() as manifest:
            gone = spare(self._history, self._registry, keep, now)
            for one in gone:
                self._history.unpin(one.digest)
            return Pruned(gone, self._history.sweep(manifest) if gone else 0)


def spare(history: History, registry: Registry, keep: int, now: int) -> list[Snapshot]:
    """Pinned snapshots that no registered version learnt from and that are older than `keep`, microseconds.

    A day after they were pinned at the earliest: the training that did may still be at work.
    """
    needed = {one.snapshot for one in registry.versions()}
    yesterday = time.time() - DAY / SECOND
    return [
        one
        for one in history.snapshots()
        if one.digest not in needed
        and one.now < now - keep
        and history.pinned(one.digest).stat().st_mtime < yesterday
    ]


class _Side(NamedTuple):
    """The rows of a table that held, as a relation, and its columns with their types."""

    relation: str
    columns: Mapping[str, str]


def _own_columns(connection: duckdb.DuckDBPyConnection, files: Sequence[Path]) -> dict[str, str]:
    held = columns_of(connection, parquet(files, union=True))
    return {name: kind for name, kind in held.items() if name not in OWN}


def _compare(
    connection: duckdb.DuckDBPyConnection, table: str, key: str, before: _Side, after: _Side
) -> TableChange:
    a, b = before.columns, after.columns
    own, other = ([name for name in side if not name.startswith("_")] for side in (a, b))
    shared = [name for name in a if b.get(name) == a[name]]
    content = f"hash({', '.join(map(quote, shared))})"
    # Questions have no id: equal ones are told apart by their number.
    identity = quote(key) if key else f"hash({content}, row_number() OVER (PARTITION BY {content}))"
    for name, side in (("_before", before), ("_after", after)):
        connection.execute(
            f"CREATE TEMP TABLE {name} AS SELECT {identity} AS id, {content} AS content FROM {side.relation}"
        )
    (counts,) = connection.execute(
        "SELECT count(a.id), count(b.id), count(*) FILTER (a.id IS NULL), count(*) FILTER (b.id IS NULL), "
        "count(*) FILTER (a.content <> b.content) FROM _before a FULL JOIN _after b USING (id)"
    ).fetchall()
    columns = [
        Column(name, _KINDS[a[name]]) for name in shared if name in own and name != key and a[name] in _KINDS
    ]
    every = max(counts[:2]) // MOST_READ + 1
    some = f"WHERE hash({quote(key) if key else content}) % {every} = 0"
    listed = ", ".join(quote(column.name) for column in columns) or "1"
    frames = [
        fetch(connection, f"SELECT {listed} FROM {side.relation} {some}", columns) for side in (before, after)
    ]
    changes = [_column_change(one, *(frame[one.name] for frame in frames)) for one in columns]
    return TableChange(
        table,
        before=counts[0],
        after=counts[1],
        added=counts[2],
        removed=counts[3],
        corrected=counts[4],
        columns_added=[name for name in other if name not in a],
        columns_removed=[name for name in own if name not in b],
        columns_retyped={name: f"{a[name]} to {b[name]}" for name in own if name in b and a[name] != b[name]},
        columns=sorted(changes, key=lambda one: -(one.distance or 0)),
    )


_KINDS = {SQL_TYPES[kind]: kind for kind in (Kind.NUM, Kind.TIME, Kind.CAT)}


def _column_change(column: Column, before: Array, after: Array) -> ColumnChange:
    sides = _summary(column, before), _summary(column, after)
    texts = column.kind is Kind.CAT
    if column.kind is Kind.TIME or (texts and max(int(str(one["distinct"])) for one in sides) > MOST_NAMES):
        return ColumnChange(column.name, *sides, None, None)
    binning = Binning.of_categories(before) if texts else Binning.of_numbers(before)
    counts = binning.count(before), binning.count(after)
    apart = bool(len(before) and len(after))
    return ColumnChange(
        column.name,
        *sides,
        round(distance(binning, *counts), 4) if apart else None,
        round(psi(*counts), 4) if apart else None,
    )


def _summary(column: Column, values: Array) -> dict[str, object]:
    if column.kind is Kind.CAT:
        counts = Counter(value for value in values.tolist() if value is not None)
        known, total = sum(counts.values()), len(values)
        ranked = sorted(counts, key=lambda name: (-counts[name], name))[:TOP]
        nulls = 1 - known / total if total else 0.0
        top = {name: round(counts[name] / total, 4) for name in ranked} if len(counts) <= MOST_NAMES else {}
        return {"nulls": round(nulls, 4), "distinct": len(counts), "top": top}
    time = column.kind is Kind.TIME
    null = values == NO_TIME if time else np.isnan(values)
    known_values = values[~null]
    found: dict[str, object] = {"nulls": round(float(null.mean()), 4) if len(values) else 0.0}
    if not len(known_values):
        return found
    if not time:
        found["mean"] = float(known_values.mean())
    quantiles = np.quantile(known_values, QUANTILES, method="inverted_cdf").tolist()
    for share, value in zip(QUANTILES, quantiles, strict=True):
        found[f"p{share:.0%}".rstrip("%")] = format_time(int(value) // SECOND * SECOND) if time else value
    return found
