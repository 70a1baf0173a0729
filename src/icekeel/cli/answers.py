"""Commands about answers that were given: find them, and walk back from one to all that stands behind it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from icekeel.core.ids import time_of
from icekeel.core.time import format_second

from .options import HERE, AsJson, ProjectFolder, open_app
from .output import print_json, print_parts, print_rows, print_text, say

if TYPE_CHECKING:
    from icekeel.app import App

Text = Annotated[str | None, typer.Option()]


def answers(
    *,
    model: Text = None,
    key: Annotated[str | None, typer.Option(help="By which it meets its outcome.")] = None,
    unit: Annotated[str | None, typer.Option(help="That was assigned to an arm.")] = None,
    since: Annotated[str | None, typer.Option(help="Asked then or later: 2025-03-01T12:00:00Z.")] = None,
    until: Annotated[str | None, typer.Option(help="Asked before.")] = None,
    verdict: Annotated[str | None, typer.Option(help="flagged, refused, or a kind of finding.")] = None,
    before: Annotated[str | None, typer.Option(help="The next page: the last id of the one before.")] = None,
    limit: Annotated[int, typer.Option(help="At most so many.")] = 100,
    project: ProjectFolder = HERE,
    as_json: AsJson = False,
) -> None:
    """List answers, the newest first, wherever they are."""
    from icekeel.data.answers import as_dict, wanted

    given = {
        "model": model,
        "key": key,
        "unit": unit,
        "since": since,
        "until": until,
        "verdict": verdict,
        "before": before,
        "limit": str(limit),
    }
    found = open_app(project).find_answers(
        wanted({name: text for name, text in given.items() if text is not None})
    )
    if as_json:
        print_json([as_dict(one) for one in found])
        return
    rows = [
        {
            "asked_at": format_second(one.at),
            "id": one.id,
            "model": one.model,
            "version": one.version,
            "arm": one.arm,
            "key": one.key,
            "answer": one.answer,
            "verdict": one.verdict,
            "source": one.source,
            "degraded": one.degraded,
        }
        for one in found
    ]
    print_rows(rows, as_json=False, empty="no such answers")


def explain(
    what: Annotated[str, typer.Argument(metavar="MODEL|VERSION|PREDICTION_ID")],
    out: Annotated[Path | None, typer.Option(help="Folder for the pages (default: in the state).")] = None,
    project: ProjectFolder = HERE,
    as_json: AsJson = False,
) -> None:
    """Explain a model on one page, with its model card; or an answer, in a sentence and with the cases most like it."""
    app = open_app(project)
    if time_of(what) is None:
        _explain_model(app, what, out, as_json=as_json)
        return
    found = app.explain(what)
    if as_json:
        print_json(found)
        return
    print_text(found.sentence)
    print_rows(found.rows(), as_json=False)


def _explain_model(app: App, name: str, out: Path | None, *, as_json: bool) -> None:
    from icekeel.console.briefing import briefing_page, model_card
    from icekeel.console.report import render

    about = app.briefing(name)
    folder = out or app.places.pages
    folder.mkdir(parents=True, exist_ok=True)
    pages = {"page": briefing_page(about), "card": model_card(about)}
    places = {kind: folder / f"{about.version.name}-{kind}.html" for kind in pages}
    for kind, report in pages.items():
        places[kind].write_text(render(report), encoding="utf-8")
    shown = {kind: str(place) for kind, place in places.items()}
    if as_json:
        print_json({**about.as_dict(), **shown})
    else:
        print_text(pages["page"].lead)
        print_rows([{"what": kind, "where": place} for kind, place in shown.items()], as_json=False)


def ready(
    name: Annotated[
        str | None, typer.Argument(metavar="MODEL|VERSION", help="The one model by default.")
    ] = None,
    project: ProjectFolder = HERE,
    as_json: AsJson = False,
) -> None:
    """Answer the five questions before a model is trusted, with evidence; exit status 1 where one is a no."""
    from icekeel.console.briefing import briefing_page, text_of

    app = open_app(project)
    about = app.briefing(name or next(iter(app.project.models)))
    found = app.readiness(about, words=len(text_of(briefing_page(about)).split()))
    if as_json:
        print_json(found)
    for one in () if as_json else found:
        print_text(f"{one.verdict:6} {one.question}")
        for point in one.points:
            todo = f"  -> {point.todo}" if point.todo and not point.holds else ""
            print_text(f"       {'+' if point.holds else '-'} {point.what}{todo}")
    if any(one.verdict == "no" for one in found):
        raise typer.Exit(1)


def trace(
    prediction_id: Annotated[str, typer.Argument(metavar="PREDICTION_ID")],
    project: ProjectFolder = HERE,
    as_json: AsJson = False,
) -> None:
    """Walk back from an answer to its version, gates, arm, features and data, and on to what came of it."""
    found = open_app(project).trace(prediction_id)
    if as_json:
        print_json(found.as_dict())
        return
    from icekeel.operations.accounts.trace_words import told

    print_parts(told(found))
    if found.notes:
        say("\n" + "\n".join(f"note: {note}" for note in found.notes))
