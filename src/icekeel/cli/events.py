"""The command that takes files into history."""

from __future__ import annotations

from typing import Annotated

import typer

from .options import HERE, AsJson, ProjectFolder, open_app
from .output import print_rows, say

Tables = Annotated[list[str] | None, typer.Argument(help="Event tables; all of them by default.")]


def ingest(tables: Tables = None, project: ProjectFolder = HERE, as_json: AsJson = False) -> None:
    """Take the declared files into history; rows that break their contract go to quarantine."""
    rows = [
        {
            "table": one.table,
            "source": one.source.name,
            "kept": one.kept,
            "quarantined": one.quarantined,
            "skipped": one.skipped,
            "reasons": dict(one.reasons),
            "warned": dict(one.warned),
            "notes": list(one.notes),
        }
        for one in open_app(project).ingest(tables or [])
    ]
    print_rows(rows, as_json=as_json, empty="no table has a source")
    if not as_json and all(row["skipped"] for row in rows):
        say("every file had been taken in before")
