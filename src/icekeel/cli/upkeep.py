"""Commands that look after what the rest stands on: audits, the journal in history, the online windows."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from icekeel.core.errors import StateError
from icekeel.core.time import parse_time

from .options import HERE, AsJson, ProjectFolder, Shift, open_app
from .output import print_json, print_rows, say
from .running import only_keeper
from .versions import ModelName, registry_of

if TYPE_CHECKING:
    from icekeel.app import App

_POLL_S = 0.2


def audit(
    model: ModelName,
    only: Annotated[str, typer.Option(help="These audits only, with commas between.")] = "",
    sample: Annotated[int, typer.Option(min=1, help="Answers to recompute.")] = 200,
    now: Annotated[str, typer.Option(help="Time up to which anything is known (default: now).")] = "",
    project: ProjectFolder = HERE,
    as_json: AsJson = False,
) -> None:
    """Look for what is wrong with a model's training set and with what it answered; exit status 1 if anything blocks."""
    app = open_app(project)
    at = parse_time(now) if now else app.clock()
    names = [name.strip() for name in only.split(",") if name.strip()]
    with registry_of(app, model) as registry:
        audited = app.audit_all(registry, model, names, sample=sample, now=at, say=say)
    rows: list[dict[str, Any]] = [
        {
            "audit": one.audit,
            "verdict": one.verdict,
            "what": one.what,
            "usd_per_year": one.cost,
            "todo": one.todo,
            **({"evidence": one.evidence} if as_json else {}),
        }
        for one in audited.findings
    ]
    if as_json:
        print_json({"model": model, "version": audited.version, "blocked": audited.blocked, "audits": rows})
    else:
        print_rows(rows, as_json=False, empty="the project turns every audit off")
    if audited.blocked:
        raise typer.Exit(1)


def compact(project: ProjectFolder = HERE, as_json: AsJson = False) -> None:
    """Move what is in the journal alone into history, and merge small files; the keeper does both by itself."""
    from icekeel.data.merging import merge

    app = open_app(project)
    before = app.history().manifest()
    after = app.workspace.compact()
    fewer = merge(app.history())
    rows = [
        {"table": name, "rows": after.rows(name) - before.rows(name), "files_fewer": fewer.get(name, 0)}
        for name in after.tables
        if after.rows(name) != before.rows(name) or name in fewer
    ]
    print_rows(
        rows, as_json=as_json, empty="all of the journal is in history, and no files are small and many"
    )


def rebuild(project: ProjectFolder = HERE, shift: Shift = 0, as_json: AsJson = False) -> None:
    """Make the online windows anew from journal and history, beside the old ones; servers go over by themselves.

    A keeper that runs does it, once no version is trained; without one this command does.
    """
    app = open_app(project, shift=shift)
    began = time.monotonic()
    app.ask_anew()
    by = ""
    while not by:
        try:
            with only_keeper(app.places.state):
                by = "rebuild" if _rebuild(app) else "keeper"
        except StateError as error:
            if error.code != "keeper_runs":
                raise
            if not app.places.rebuild.exists():
                by = "keeper"
            time.sleep(_POLL_S)
    seconds = round(time.monotonic() - began, 1)
    if as_json:
        print_json({"online": str(app.places.online), "by": by, "seconds": seconds})
    else:
        say(f"the online windows were made anew by the {by} in {seconds} s")


def _rebuild(app: App) -> bool:
    """Whether they had still to be made."""
    if not app.places.rebuild.exists():
        return False
    with registry_of(app) as registry, app.journal("rebuild") as journal:
        app.keeper(registry, journal).close()
    return True
