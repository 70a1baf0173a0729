"""The events that a question met in each of its windows: how many, and the newest of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from icekeel.compile import compile_event
from icekeel.core.time import format_time
from icekeel.define import EventTable
from icekeel.define.reading import window_text
from icekeel.features.plan import Lookup, Plan
from icekeel.operations.projections.seen import KNOWN, Moment, meets, rows_in_reach
from icekeel.operations.workspace import Workspace


@dataclass(frozen=True, slots=True)
class WindowRows:
    """What one window held when a question was asked.

    Attributes:
        window: In words: `Orders by customer, last 30d: count`.
        key: Column -> value of the request; a null value meets no event.
        events: How many counted.
        newest: Id of the latest of them, when it happened and when it became known; None where there is none.
    """

    window: str
    table: str
    key: dict[str, Any]
    events: int
    newest: dict[str, str] | None


def key_conditions(plan: Plan, request: Mapping[str, Any]) -> dict[str, str]:
    """Table -> SQL condition on the events that any window of a request can meet."""
    found: dict[str, list[str]] = {}
    for lookup in plan.lookups:
        found.setdefault(lookup.view.table, []).append(meets(_key(lookup, request)))
    return {table: f"({' OR '.join(parts)})" for table, parts in found.items()}


def _key(lookup: Lookup, request: Mapping[str, Any]) -> dict[str, Any]:
    """Column of a view's table -> value of the request."""
    return {
        column: request.get(name) for column, name in zip(lookup.view.keys, lookup.key_fields, strict=True)
    }


def window_rows(
    workspace: Workspace, plan: Plan, request: Mapping[str, Any], moment: Moment, files: Mapping[str, Path]
) -> dict[str, WindowRows]:
    """What each window of a plan held, by its words.

    Args:
        files: Of `SeenEvents`: event versions as the moment saw them.
    """
    found = {}
    for lookup in plan.lookups:
        view = lookup.view
        table = workspace.project.tables[view.table]
        key = _key(lookup, request)
        rows = rows_in_reach(files[view.table], table, view, moment.asked_at, meets(key))
        compute = compile_event(tuple(table.fields.values()), lookup.values)
        values = [compute([row[name] for name in table.fields]) for row in rows]
        for window in plan.windows_of(lookup):
            where = window.keyed.where
            place = None if where is None else lookup.values.index(where)
            counted = [
                row
                for row, computed in zip(rows, values, strict=True)
                if window.low <= moment.asked_at - row[table.time] <= window.high
                and (place is None or computed[place] == 1.0)
            ]
            text = window_text(window)
            found[text] = WindowRows(text, table.name, key, len(counted), _newest(table, counted))
    return found


def _newest(table: EventTable, rows: list[dict[str, Any]]) -> dict[str, str] | None:
    if not rows:
        return None
    row = max(rows, key=lambda one: (one[table.time], one[table.id]))
    return {"id": row[table.id], "at": format_time(row[table.time]), "known_from": format_time(row[KNOWN])}
