"""The command that takes files into history."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from .options import HERE, AsJson, ProjectFolder, Shift, open_app
from .output import print_rows, say

Tables = Annotated[list[str] | None, typer.Argument(help="Event tables; all of them by default.")]


def ingest(
    tables: Tables = None, project: ProjectFolder = HERE, shift: Shift = 0, as_json: AsJson = False
) -> None:
    """Take what is new of the declared sources into history; rows that break their contract go to quarantine."""
    quiet = as_json or not sys.stderr.isatty()
    found = open_app(project, shift=shift).ingest(tables or [], (lambda line: None) if quiet else say)
    rows = [
        {
            "table": one.table,
            "source": Path(one.source).name if one.source.startswith("/") else one.source,
            "kept": one.kept,
            "changed": one.changed,
            "deleted": one.deleted,
            "quarantined": one.quarantined,
            "skipped": one.skipped,
            "reasons": dict(one.reasons),
            "warned": dict(one.warned),
            "notes": list(one.notes),
        }
        for one in found
    ]
    print_rows(rows, as_json=as_json, empty="no table has a source")
    if not as_json and all(one.known for one in found):
        say("everything had been taken in before")
