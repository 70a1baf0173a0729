"""Commands about rows of events: take files in, see what was set aside and why."""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from icekeel.core.errors import Fault, ProjectError, nearest

from .options import HERE, AsJson, ProjectFolder, open_app
from .output import print_json, print_rows, say

if TYPE_CHECKING:
    from icekeel.app import App

UNPLACED = "outcomes"
"""Outcomes of which it cannot be said which table they are of."""
_PUSHED = re.compile(r"(?P<what>.*?) @ (?:rows|delete)\[\d+\](?:\.(?P<field>[^,;]*))?(?:[,;].*)?", re.DOTALL)
"""The fault of a row that was pushed, as text: `out of range @ rows[3].items, got 40; allowed: 1 to 30`."""
Tables = Annotated[list[str] | None, typer.Argument(help="Event tables; all of them by default.")]


def ingest(tables: Tables = None, project: ProjectFolder = HERE, as_json: AsJson = False) -> None:
    """Take what is new of the declared sources into history; rows that break their contract go to quarantine."""
    quiet = as_json or not sys.stderr.isatty()
    found = open_app(project).ingest(tables or [], (lambda line: None) if quiet else say)
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
        }
        for one in found
    ]
    print_rows(rows, as_json=as_json, empty="no table has a source")
    if not as_json and all(one.known for one in found):
        say("everything had been taken in before")


def quarantine(
    tables: Tables = None,
    examples: Annotated[int, typer.Option(min=0, help="Rows to show of each table.")] = 3,
    project: ProjectFolder = HERE,
    as_json: AsJson = False,
) -> None:
    """Show which rows were set aside, how many for which reason, and some of them."""
    app = open_app(project)
    found = [_described(table, _set_aside(app, table), examples) for table in _named(app, tables or [])]
    found = [one for one in found if one["rows"] or one["table"] in app.project.tables]
    if as_json:
        print_json(found)
        return
    reasons = [
        {"table": one["table"], "reason": why, "rows": rows}
        for one in found
        for why, rows in one["reasons"].items()
    ]
    print_rows(reasons, as_json=False, empty="nothing is in quarantine")
    shown = [
        {"table": one["table"], "row": json.dumps(example["row"]), "faults": example["faults"]}
        for one in found
        for example in one["examples"]
    ]
    if shown:
        print_rows(shown, as_json=False)


def _described(table: str, rows: Iterator[tuple[Any, list[str]]], examples: int) -> dict[str, Any]:
    reasons = Counter[str]()
    shown: list[dict[str, Any]] = []
    count = 0
    for row, faults in rows:
        count += 1
        reasons.update(map(_reason, faults))
        if count <= examples:
            shown.append({"row": row, "faults": faults})
    return {"table": table, "rows": count, "reasons": dict(reasons.most_common()), "examples": shown}


def _reason(fault: str) -> str:
    """What is wrong with which field, without the row's place and value: `items: out of range`."""
    pushed = _PUSHED.fullmatch(fault)
    return fault if pushed is None else ": ".join(part for part in (pushed["field"], pushed["what"]) if part)


def _named(app: App, names: list[str]) -> list[str]:
    known = [*app.project.tables, UNPLACED]
    faults = [
        Fault("unknown_table", f'no event table "{name}"', "", "", ", ".join(known), nearest(name, known))
        for name in names
        if name not in known
    ]
    if faults:
        raise ProjectError(*faults)
    return names or known


def _set_aside(app: App, table: str) -> Iterator[tuple[Any, list[str]]]:
    """Rows in quarantine and their faults: those from files and, behind them, those pushed since."""
    from icekeel.data.relations import connect, parquet
    from icekeel.journal import Positions, Quarantined, scan

    history = app.history()
    manifest = history.manifest()
    for file in history.paths(manifest, f"quarantine/{table}"):
        with connect(reads=[file]) as connection:
            found = connection.execute(f"SELECT row, faults FROM {parquet([file])}").fetchall()
        for row, faults in found:
            yield _decoded(row), faults if isinstance(faults, list) else faults.split("\n")
    for record in scan(app.places.journal, kinds=Quarantined, since=Positions(manifest.journal)):
        if record.table == table:
            yield from ((kept.row, kept.faults) for kept in record.rows)


def _decoded(row: str) -> Any:
    try:
        return json.loads(row)
    except ValueError:
        return row
