"""Why a feature was served other than it is recomputed: what the rows, the windows and the compilations say."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import lmdb
import numpy as np

from icekeel.compile import compile_event, literal, quote
from icekeel.core.errors import StateError
from icekeel.core.frames import Frame
from icekeel.core.time import format_time
from icekeel.data.history import OFFSET, SEGMENT
from icekeel.data.relations import connect
from icekeel.define import EventTable
from icekeel.define.features import Feature
from icekeel.define.nodes import Windowed, walk
from icekeel.features.live import LiveFeatures, StateCell, encode_key
from icekeel.features.online import GRACE, LmdbWindows, TextCodes
from icekeel.features.plan import Lookup, make_plan
from icekeel.operations.projections.reach import Reach
from icekeel.operations.projections.seen import (
    KNOWN,
    SOURCE,
    Moment,
    SeenEvents,
    as_answered,
    reaches,
    recompute,
    rows_in_reach,
)
from icekeel.operations.workspace import Workspace

MOST_NAMED = 3
"""Rows that a sentence names."""
MOST_TRIED = 30
"""Rows of which it is tried what the feature would be without them: the newest."""
Same = Callable[[Any, Any], bool]


@dataclass(frozen=True, slots=True)
class Cause:
    """The probable cause of a difference.

    Attributes:
        kind: `expression`, `code`, `rows`, `history`, `windows` or `unknown`.
        sentence: With its evidence.
        todo: The first thing to do.
    """

    kind: str
    sentence: str
    todo: str


@dataclass(frozen=True, slots=True)
class Asked:
    """One answer, of which a feature differs.

    Attributes:
        row: One row: the request's fields.
        moment: When it was asked, and how far the store was.
    """

    feature: str
    row: Frame
    moment: Moment
    served: Any
    recomputed: Any


class _Row(NamedTuple):
    """A version of an event that counts: its values are those of the view's columns, texts as codes."""

    id: str
    time: int
    values: tuple[float, ...]
    words: str


_TODO = {
    "expression": "Do not train on it; report the feature and the request as a defect of Icekeel.",
    "code": "Start the servers again: one of them computes by other code than is installed here.",
    "rows": "Run `icekeel rebuild`, which makes the windows anew from the journal; do not train on these answers.",
    "history": "Run `icekeel ingest`, then `icekeel audit` again: training would not see these rows.",
    "windows": "Do not train on these answers; report the rows named as a defect of Icekeel.",
    "unknown": "Do not train on these answers; run `icekeel audit` and look at the features named first.",
}


class Evidence:
    """Looks for the cause of single differences, the cheapest evidence first.

    Args:
        workspace, model: The definitions.
        seen: Gives event versions as they were seen.
        online, reach: The projections as they are now, and how far they were.
    """

    def __init__(
        self,
        workspace: Workspace,
        model: str,
        seen: SeenEvents,
        online: lmdb.Environment,
        reach: Reach,
    ) -> None:
        self._workspace = workspace
        self._plan = workspace.plans[model]
        self._seen = seen
        self._online = online
        self._reach = reach

    def cause(self, asked: Asked, same: Same) -> Cause:
        """The probable cause of one difference."""
        feature = next(one for one in self._plan.features if one.name == asked.feature)
        windows = [node for node in walk(feature.node) if isinstance(node, Windowed)]
        lookups = [one for one in self._plan.lookups if {*self._plan.windows_of(one)} & {*windows}]
        files = self._seen.write([asked.moment], reaches(lookups))
        closure = self._closure(feature, list(dict.fromkeys(windows)), asked, files)
        if not same(closure, asked.recomputed):
            said = f"from the same rows its two compilations give {closure} (server) and {asked.recomputed} (history)"
            return _cause("expression", said)
        if not windows:
            return _cause(
                "code", "it reads the request alone, and both compilations here give what history gives"
            )
        return (
            self._compared(asked, lookups, same)
            or self._without_one(asked, feature, lookups, files, same)
            or _cause(
                "unknown", f"windows over {_tables(lookups)} differ, by no single row that is known here"
            )
        )

    def _closure(
        self, feature: Feature, windows: Sequence[Windowed], asked: Asked, files: Mapping[str, Path]
    ) -> Any:
        """The feature as the server compiles it, from windows as history computes them."""
        plan = make_plan(self._plan.fields, [feature])
        slots: list[Any] = [math.nan] * len(plan.slots)
        if windows:
            alone = make_plan(self._plan.fields, [Feature(f"w{at}", node) for at, node in enumerate(windows)])
            times = np.array([asked.moment.asked_at])
            computed = recompute(self._workspace, alone, asked.row, times, files)
            for at, node in enumerate(windows):
                slots[plan.slots[node]] = computed[f"w{at}"][0]
        return plan.compile()(list(self._request(asked).values()), asked.moment.asked_at, slots)[0]

    def _request(self, asked: Asked) -> dict[str, Any]:
        (values,) = as_answered(self._plan.inputs, asked.row)
        return dict(zip((column.name for column in self._plan.inputs), values, strict=True))

    def _compared(self, asked: Asked, lookups: Sequence[Lookup], same: Same) -> Cause | None:
        """By what the windows hold now, where they still hold what the question met."""
        try:
            state, now = self._now()
            if asked.moment.asked_at <= state.known_until - GRACE:
                return None
            moment = Moment(asked.moment.asked_at, state.serial, now)
            files = self._seen.write([moment], reaches(lookups))
            for lookup in lookups:
                stored = self._stored(files[lookup.view.table], lookup, asked)
                if found := _rows_differ(lookup, stored, self._held(lookup, asked)):
                    return found
            again = self._read_again(asked)
        except (lmdb.Error, StateError):
            return None
        if same(again, asked.served):
            said = f"history and the online store hold the same rows of {_tables(lookups)}, and give different values"
            return _cause("windows", said)
        return None

    def _now(self) -> tuple[Any, Mapping[str, int]]:
        with self._online.begin() as txn:
            state = StateCell(self._online).read(txn)
        reached = self._reach.at([state.serial]).get(state.serial)
        return state, {} if reached is None else reached.offsets

    def _read_again(self, asked: Asked) -> Any:
        """The feature as the online store gives it now for the same question."""
        views = [lookup.view for lookup in self._workspace.lookups]
        request = list(self._request(asked).values())
        read = LiveFeatures(self._online, self._plan, views).read(request, asked.moment.asked_at)
        names = [feature.name for feature in self._plan.features]
        return read.values[names.index(asked.feature)]

    def _held(self, lookup: Lookup, asked: Asked) -> dict[str, _Row]:
        """Rows under the question's key that the online store holds, by id."""
        windows = LmdbWindows(self._online, [one.view for one in self._workspace.lookups])
        request = self._request(asked)
        key = encode_key([request[name] for name in lookup.key_fields])
        if key is None:
            return {}
        with self._online.begin() as txn:
            held = windows.held(txn, lookup.view, key, asked.moment.asked_at)
        words = f"{{id}} ({self._workspace.project.tables[lookup.view.table].time} {{time}})"
        return {
            name: _Row(name, time, values, words.format(id=name, time=format_time(time)))
            for name, (time, values) in held.items()
        }

    def _stored(self, file: Path, lookup: Lookup, asked: Asked) -> dict[str, _Row]:
        """Rows that history has under the question's key in the reach of its windows, by id."""
        view = lookup.view
        table = self._workspace.project.tables[view.table]
        request = self._request(asked)
        asks = {column: request[name] for column, name in zip(view.keys, lookup.key_fields, strict=True)}
        compute = compile_event(tuple(table.fields.values()), lookup.values)
        filters = {one.where for one in view.aggregates}
        found = {}
        for record in rows_in_reach(file, table, view, asked.moment.asked_at):
            values = compute([record[name] for name in table.fields])
            counts = -1 in filters or any(values[place] == 1.0 for place in filters)
            if counts and all(record[column] == value for column, value in asks.items()):
                identifier = str(record[table.id])
                time = int(record[table.time])
                found[identifier] = _Row(identifier, time, self._coded(values), self._words(table, record))
        return found

    def _coded(self, values: Sequence[Any]) -> tuple[float, ...]:
        codes = TextCodes(self._online)
        with self._online.begin() as txn:
            return tuple(
                math.nan
                if value is None
                else codes.find(txn, value)
                if isinstance(value, str)
                else float(value)
                for value in values
            )

    def _words(self, table: EventTable, record: Mapping[str, Any]) -> str:
        """A row for people: its id, when it happened, became known and was projected."""
        said = f"{record[table.id]} ({table.time} {format_time(record[table.time])}, known from {format_time(record[KNOWN])}"
        if record[SEGMENT] is not None:
            when = self._reach.when(record[SEGMENT], record[OFFSET])
        else:
            when = self._reach.files().get(record[SOURCE], (0, 0))[1]
            said += f", from the file {record[SOURCE][:12]}"
        return said + (f", projected {format_time(when)})" if when else ")")

    def _without_one(
        self, asked: Asked, feature: Feature, lookups: Sequence[Lookup], files: Mapping[str, Path], same: Same
    ) -> Cause | None:
        """A row without which the feature is what was served."""
        plan, at = make_plan(self._plan.fields, [feature]), np.array([asked.moment.asked_at])
        for lookup in lookups:
            name = lookup.view.table
            table, rows = self._workspace.project.tables[name], self._stored(files[name], lookup, asked)
            newest = sorted(rows.values(), key=lambda row: row.time, reverse=True)[:MOST_TRIED]
            for row in newest:
                kept = files[name].with_suffix(".kept.parquet")
                with connect(folder=kept.parent) as connection:
                    ids = ", ".join(literal(other) for other in rows if other != row.id) or "''"
                    connection.execute(
                        f"COPY (SELECT * FROM read_parquet({literal(str(files[name]))}) WHERE "
                        f"{quote(table.id)} IN ({ids})) TO {literal(str(kept))} (FORMAT parquet)"
                    )
                value = recompute(self._workspace, plan, asked.row, at, {**files, name: kept})[feature.name][
                    0
                ]
                if same(value, asked.served):
                    return _cause("rows", f"the online windows lacked {name} {row.words} when it was read")
        return None


def _rows_differ(lookup: Lookup, stored: Mapping[str, _Row], held: Mapping[str, _Row]) -> Cause | None:
    """What is in one and not in the other, or differs."""
    lacked = [stored[name] for name in stored.keys() - held.keys()]
    extra = [held[name] for name in held.keys() - stored.keys()]
    other = [stored[name] for name in stored.keys() & held.keys() if not _alike(stored[name], held[name])]
    parts = [
        (f"the online windows lack {_listed(lookup, lacked)}", lacked),
        (f"the online windows hold another version of {_listed(lookup, other)}", other),
        (f"history lacks {_listed(lookup, extra)}, which the online windows hold", extra),
    ]
    said = [sentence for sentence, rows in parts if rows]
    kind = "history" if extra and not lacked and not other else "rows"
    return _cause(kind, "; ".join(said)) if said else None


def _listed(lookup: Lookup, rows: Sequence[_Row]) -> str:
    ordered = sorted(rows, key=lambda row: (row.time, row.id), reverse=True)
    more = f" and {len(rows) - MOST_NAMED:,} more" if len(rows) > MOST_NAMED else ""
    return f"{lookup.view.table} {', '.join(row.words for row in ordered[:MOST_NAMED])}{more}"


def _alike(one: _Row, other: _Row) -> bool:
    return one.time == other.time and np.array_equal(one.values, other.values, equal_nan=True)


def _cause(kind: str, sentence: str) -> Cause:
    return Cause(kind, sentence, _TODO[kind])


def _tables(lookups: Sequence[Lookup]) -> str:
    return " and ".join(dict.fromkeys(lookup.view.table for lookup in lookups))
