"""The command about the age of data."""

from __future__ import annotations

from typing import Annotated

import typer

from icekeel.core.time import SECOND, format_time, roughly

from .options import HERE, AsJson, ProjectFolder, open_app
from .output import print_json, print_rows


def freshness(
    tables: Annotated[list[str] | None, typer.Argument(help="Event tables (default: all).")] = None,
    project: ProjectFolder = HERE,
    as_json: AsJson = False,
) -> None:
    """How old the newest row of each table and of each of its keys is, and whether `fresh=` allows that."""
    app = open_app(project)
    found = app.freshness(tables or ())
    rows = [
        {
            "table": one.table,
            "state": one.state,
            "newest": None if one.newest is None else format_time(one.newest),
            "age_s": None if one.age is None else one.age / SECOND,
            "warn": app.project.tables[one.table].fresh.warn,
            "error": app.project.tables[one.table].fresh.error,
            "by": list(app.project.tables[one.table].fresh.keys),
            "keys": one.keys,
            "keys_past_warn": one.warn,
            "keys_past_error": one.error,
            "oldest_keys": [{"key": key, "age_s": age / SECOND} for key, age in one.worst],
        }
        for one in found
    ]
    if as_json:
        print_json(rows)
        return
    shown = [
        row
        | {
            "newest": "" if one.age is None else f"{roughly(one.age)} ago",
            "oldest_keys": [f"{key} ({roughly(age)})" for key, age in one.worst],
        }
        for row, one in zip(rows, found, strict=True)
    ]
    for row in shown:
        del row["age_s"]
    print_rows(shown, as_json=False, empty="the project has no event tables")
