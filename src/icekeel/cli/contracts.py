"""The command about contracts: draft one from data, hold a file against one, say what one demands."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from icekeel.core.errors import ContractError, Fault, SettingsError, nearest
from icekeel.core.time import wall_clock

from .options import HERE, AsJson, ProjectFolder, check_action, open_app
from .output import print_json, print_rows, print_text, say

if TYPE_CHECKING:
    from icekeel.app import App
    from icekeel.data.batches import Counted
    from icekeel.data.sources import Input
    from icekeel.define.sources import Source

ACTIONS = ("draft", "check", "show")


def contract(
    action: Annotated[str, typer.Argument(help="draft, check or show.")],
    subject: Annotated[str, typer.Argument(help="An event table; for draft also a file.")] = "",
    file: Annotated[Path | None, typer.Argument(help="With check: a file, instead of the source.")] = None,
    id: Annotated[str, typer.Option(help="With draft: the column that identifies a row.")] = "",
    time: Annotated[str, typer.Option(help="With draft: the column of the event time.")] = "",
    examples: Annotated[int, typer.Option(min=0, help="With check: values to show of each rule.")] = 3,
    project: ProjectFolder = HERE,
    as_json: AsJson = False,
) -> None:
    """Draft a contract from data, check a file or a source without taking it, or show what is demanded."""
    check_action(action, ACTIONS)
    if action == "draft":
        _draft(subject, project, id, time, as_json=as_json)
        return
    app = open_app(project)
    if action == "show":
        rows = [row for name in _tables(app, subject) for row in _demanded(app, name)]
        print_rows(rows, as_json=as_json)
        return
    found = [_described(*one) for one in _checked(app, subject, file, examples)]
    if as_json:
        print_json(found)
    else:
        _print(found)
    blocked = [one for one in found if one["verdict"] == "block"]
    if blocked:
        what = "this batch would be refused as a whole"
        raise ContractError(*(Fault("blocked", what, one["source"]) for one in blocked))


def _draft(subject: str, project: Path, identifier: str, time: str, *, as_json: bool) -> None:
    from icekeel.data.trial import draft_source

    source: Input = Path(subject)
    said: Source = subject
    if Path(subject).is_file():
        name = _class_name(Path(subject).stem)
    else:
        app = open_app(project)
        if subject not in app.project.tables:
            what, known = f'no event table "{subject}", nor a file', list(app.project.tables)
            hint = nearest(subject, known)
            raise SettingsError(Fault("unknown_table", what, "", "", ", ".join(known), hint))
        name, said, source = subject, app.project.tables[subject].source, _sources(app, subject)[0]
    drafted = draft_source(source, name, now=wall_clock(), identifier=identifier, time=time, said=said)
    if not as_json:
        print_text(drafted.text.rstrip("\n"))
        return
    columns = [
        {
            "column": one.name,
            "sql_type": one.sql_type,
            "kind": one.kind,
            "limits": list(one.limits),
            "why_not": one.why,
        }
        for one in drafted.columns
    ]
    print_json({"table": name, "source": str(said), "contract": drafted.text, "columns": columns})


def _class_name(stem: str) -> str:
    name = "".join(word[:1].upper() + word[1:] for word in re.split(r"[^A-Za-z0-9]+", stem))
    return name if name[:1].isalpha() else f"Table{name}"


def _tables(app: App, name: str) -> list[str]:
    return [app.table(name).name] if name else list(app.project.tables)


def _sources(app: App, name: str) -> Sequence[Input]:
    from icekeel.data import find_sources

    table = app.project.tables[name]
    if not table.source:
        hint = f"name one: icekeel contract check {name} FILE"
        raise SettingsError(Fault("no_source", f"{name} has no source: its rows are pushed", hint=hint))
    return find_sources(app.folder, table.source)


def _checked(
    app: App, subject: str, file: Path | None, examples: int
) -> Iterator[tuple[str, Input, Counted]]:
    from icekeel.data.trial import try_source

    names = _tables(app, subject)
    if not subject:
        names = [name for name in names if app.project.tables[name].source]
    for name in names:
        for source in [file] if file is not None else _sources(app, name):
            table = app.project.tables[name]
            ahead, now = name in app.ahead, app.clock()
            seek = app.vault.seek_many if app.vault else None
            yield (
                name,
                source,
                try_source(app.history(), table, source, now=now, ahead=ahead, examples=examples, seek=seek),
            )


def _described(table: str, source: Input, counted: Counted) -> dict[str, Any]:
    rules = [
        {
            "rule": one.check.text or one.check.demand,
            "policy": one.check.breach,
            "rows": one.rows,
            "examples": [{"row": row, "value": value} for row, value in one.examples],
        }
        for one in counted.broken
    ]
    return {
        "table": table,
        "source": str(source),
        "verdict": counted.verdict,
        "rows": counted.rows,
        "set_aside": counted.set_aside,
        "batch": [{"rule": one.text, "policy": one.breach} for one in counted.breaches],
        "rules": rules,
    }


def _print(found: list[dict[str, Any]]) -> None:
    lines = []
    for one in found:
        for broken in one["batch"]:
            lines.append(_line(one["table"], broken, "", ""))
        for broken in one["rules"]:
            if broken["rows"]:
                shown = "; ".join(f"{e['value']!r} in row {e['row']:,}" for e in broken["examples"])
                lines.append(_line(one["table"], broken, broken["rows"], shown))
    print_rows(lines, as_json=False, empty="every rule is kept")
    for one in found:
        counts = f"{one['rows']:,} rows, {len(one['rules'])} rules of a row, {one['set_aside']:,} would be set aside"
        say(f"{one['table']}, {one['source']}: {counts}: {one['verdict']}")


def _line(table: str, broken: dict[str, Any], rows: Any, examples: str) -> dict[str, Any]:
    return {
        "table": table,
        "rule": broken["rule"],
        "policy": broken["policy"],
        "rows": rows,
        "examples": examples,
    }


def _demanded(app: App, name: str) -> Iterator[dict[str, Any]]:
    from icekeel.data.batches import all_checks, batch_demands

    table = app.project.tables[name]
    for check in all_checks(table, ahead=name in app.ahead):
        yield {"table": name, "demand": check.demand, "policy": check.breach}
    for demand, breach in batch_demands(table):
        yield {"table": name, "demand": demand, "policy": breach}
