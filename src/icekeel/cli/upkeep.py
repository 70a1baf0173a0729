"""Commands that look after the online windows: audit what was served from them, make them anew."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from icekeel.core.errors import StateError
from icekeel.core.time import format_time

from .options import HERE, AsJson, ProjectFolder, open_app
from .output import print_json, print_rows, say
from .running import only_keeper
from .versions import ModelName

if TYPE_CHECKING:
    from icekeel.app import App
    from icekeel.operations.audit import AuditResult

MOST_NAMED = 20
_POLL_S = 0.2


def audit(
    model: ModelName,
    sample: Annotated[int, typer.Option(min=1, help="Answers to recompute.")] = 200,
    project: ProjectFolder = HERE,
    as_json: AsJson = False,
) -> None:
    """Recompute a sample of served answers, and name each feature that differs, its rows and the probable cause."""
    result = open_app(project).audit(model, sample)
    rows = _differing(result)
    if as_json:
        print_json(
            {
                "model": model,
                "rows": result.rows,
                "features": result.features,
                "late": result.late,
                "left_out": dict(result.left_out),
                "differences": rows,
            }
        )
        return
    say(f"{result.rows:,} answers of {result.features} features recomputed as far as the store was for each")
    if result.late:
        say(f"{result.late:,} of them would have others with all that came in, or was projected, later")
    for why, count in result.left_out.items():
        say(f"{count:,} could not be compared: {why}")
    shown = [
        {name: row[name] for name in ("feature", "answers", "served", "recomputed", "evidence", "todo")}
        for row in rows
    ]
    print_rows(shown, as_json=False, empty="no difference" if result.rows else "no answer was compared")


def compact(project: ProjectFolder = HERE, as_json: AsJson = False) -> None:
    """Move what is in the journal alone into history; the keeper does it by itself."""
    app = open_app(project)
    before = app.history().manifest()
    after = app.workspace.compact()
    rows = [
        {"table": name, "rows": after.rows(name) - before.rows(name)}
        for name in after.tables
        if after.rows(name) != before.rows(name)
    ]
    print_rows(rows, as_json=as_json, empty="all of the journal is in history")


def rebuild(project: ProjectFolder = HERE, as_json: AsJson = False) -> None:
    """Make the online windows anew from journal and history, beside the old ones; servers go over by themselves.

    A keeper that runs does it, once no version is trained; without one this command does.
    """
    app = open_app(project)
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
    registry = app.registry()
    try:
        with app.journal("rebuild") as journal:
            app.keeper(registry, journal).close()
    finally:
        registry.close()
    return True


def _differing(result: AuditResult) -> list[dict[str, Any]]:
    """Each feature that differs, the most frequent first."""
    rows = []
    for name, count in result.counts.items():
        found, cause = result.of(name), result.causes.get(name)
        rows.append(
            {
                "feature": name,
                "answers": count,
                "prediction_ids": [one.prediction_id for one in found[:MOST_NAMED]],
                "asked_at": format_time(found[0].asked_at),
                "served": _plain(found[0].served),
                "recomputed": _plain(found[0].recomputed),
                "cause": cause.kind if cause else "",
                "evidence": cause.sentence if cause else "",
                "todo": cause.todo if cause else "",
            }
        )
    return rows


def _plain(value: Any) -> Any:
    """A value as JSON has it: no NaN, no NumPy."""
    if value is None or isinstance(value, str):
        return value
    return None if value != value else float(value)  # noqa: PLR0124
