"""The command about rows that were set aside: see them, hand them out, take them back repaired, dismiss them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from icekeel.core.errors import Fault, ProjectError, SettingsError, nearest

from .options import HERE, AsJson, By, ProjectFolder, Reason, check_action, check_folder, open_app, user
from .output import print_json, print_rows, print_text

if TYPE_CHECKING:
    from icekeel.app import App
    from icekeel.data.quarantine import Desk, Resolution, SetAside

UNPLACED = "outcomes"
"""Outcomes of which it cannot be said which table they are of."""
ACTIONS = ("list", "export", "admit", "dismiss")


def quarantine(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[ACTION] [TABLE ...]",
            help="list [TABLE ...] (the default); export TABLE; admit TABLE FILE; dismiss TABLE FILE or ID ...",
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="With export: the CSV file to write.")] = None,
    examples: Annotated[int, typer.Option(min=0, help="With list: rows to show of each table.")] = 3,
    by: By = "",
    reason: Reason = "",
    project: ProjectFolder = HERE,
    as_json: AsJson = False,
) -> None:
    """Show which rows were set aside and why; hand them out as CSV, take them back repaired, dismiss them."""
    action, *names = words or ["list"]
    app = open_app(project)
    if action not in app.project.tables and nearest(action, ACTIONS):  # a slip of the pen, not a table
        check_action(action, ACTIONS)
    if action in app.project.tables or action not in ACTIONS:
        action, names = "list", words or []
    if action == "list":
        _list(app, names, examples, as_json=as_json)
        return
    if not names:
        raise SettingsError(Fault("missing_option", f"{action} needs a table", "TABLE"))
    table = _named(app, names[0])
    if action == "export":
        _export(app, table, out, as_json=as_json)
        return
    desk = app.desk(by=by or user(), reason=reason)
    if action == "admit":
        done = _admit(app, desk, _defined(app, table), _file(names))
    else:
        if not reason:
            raise SettingsError(Fault("missing_option", "why are they dismissed?", "--reason"))
        done = desk.dismiss(table, _ids(names[1:]))
    _told(app, table, done, "repaired" if action == "admit" else "dismissed", as_json=as_json)


def _list(app: App, names: list[str], examples: int, *, as_json: bool) -> None:
    found = [
        _described(table, _set_aside(app, table), examples)
        for table in [_named(app, name) for name in names] or [*app.project.tables, UNPLACED]
    ]
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
    counts = [
        {name: one[name] for name in ("table", "rows", "open", "repaired", "dismissed")}
        for one in found
        if one["rows"]
    ]
    shown = [
        {
            "table": one["table"],
            "where": example["where"],
            "row": json.dumps(example["row"]),
            "faults": example["faults"],
        }
        for one in found
        for example in one["examples"]
    ]
    for rows in (counts, shown):
        if rows:
            print_rows(rows, as_json=False)


def _described(table: str, rows: Iterable[SetAside], examples: int) -> dict[str, Any]:
    reasons, decisions, shown = Counter[str](), Counter[str](), list[dict[str, Any]]()
    for one in rows:
        decisions[one.decision] += 1
        if not one.decision:
            reasons.update(one.rules)
            if len(shown) < examples:
                found = {"id": one.id, "where": one.where, "row": one.row, "faults": list(one.faults)}
                shown.append(found)
    return {
        "table": table,
        "rows": decisions.total(),
        "open": decisions[""],
        "repaired": decisions["repaired"],
        "dismissed": decisions["dismissed"],
        "reasons": dict(reasons.most_common()),
        "examples": shown,
    }


def _set_aside(app: App, table: str) -> Iterable[SetAside]:
    from icekeel.data.quarantine import set_aside

    return set_aside(app.history(), app.places.journal, table)


def _export(app: App, table: str, out: Path | None, *, as_json: bool) -> None:
    from icekeel.data.quarantine import hand_out

    if out is None:
        raise SettingsError(Fault("missing_option", "where to?", "--out", hint="--out rows.csv"))
    check_folder(out)
    count = hand_out(_set_aside(app, table), app.project.tables[_defined(app, table)], out)
    if as_json:
        print_json({"table": table, "out": str(out), "rows": count})
    else:
        print_text(f"{count:,} rows in {out}; edit them, then: icekeel quarantine admit {table} {out}")


def _admit(app: App, desk: Desk, table: str, file: Path) -> Resolution:
    from icekeel.data.quarantine import read_back

    definition = app.project.tables[table]
    rows = read_back(file, definition)
    with app.journal("admit") as journal:
        return desk.admit(definition, rows, journal, app.vault.hide if app.vault else None)


def _told(app: App, table: str, done: Resolution, what: str, *, as_json: bool) -> None:
    left = sum(not one.decision for one in _set_aside(app, table))
    if as_json:
        found = {what: done.done, "before": done.before, "open": left}
        faults = [{"id": one, "faults": list(faults)} for one, faults in done.faults.items()]
        print_json({"table": table, **found, "faults": faults})
    else:
        print_text(f"{table}: {done.done:,} {what}, {done.before:,} had been resolved before, {left:,} open")
        rows = [{"quarantine_id": one, "faults": list(faults)} for one, faults in done.faults.items()]
        if rows:
            print_rows(rows, as_json=False)
    if done.faults and not done.done:
        raise typer.Exit(1)


def _file(names: Sequence[str]) -> Path:
    if len(names) != 2:
        raise SettingsError(Fault("missing_option", "admit takes a table and a file", "FILE"))
    return Path(names[1])


def _ids(words: Sequence[str]) -> list[str]:
    from icekeel.data.quarantine import read_back

    if not words:
        raise SettingsError(Fault("missing_option", "which rows? Their ids, or a file that holds them", "ID"))
    return [one for word in words for one in (read_back(Path(word)) if Path(word).is_file() else [word])]


def _defined(app: App, table: str) -> str:
    if table not in app.project.tables:
        what = "these rows are of no table: send the outcomes again, and dismiss them here"
        raise ProjectError(Fault("unknown_table", what, "", table))
    return table


def _named(app: App, name: str) -> str:
    return name if name == UNPLACED else app.table(name).name
