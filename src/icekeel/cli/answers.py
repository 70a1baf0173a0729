"""Commands about answers that were given: find them, and walk back from one to all that stands behind it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from icekeel.core.time import SECOND, format_time

from .options import HERE, AsJson, ProjectFolder, open_app
from .output import print_json, print_rows, say

if TYPE_CHECKING:
    from icekeel.operations.trace import Trace

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
            "asked_at": _moment(one.at),
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
    _show(found)


def _show(found: Trace) -> None:
    from icekeel.operations.trace_words import told

    for heading, lines, rows in told(found):
        print(f"\n{heading}")
        for line in lines:
            print(f"  {line}")
        if rows:
            print_rows(rows, as_json=False)
    if found.notes:
        say("\n" + "\n".join(f"note: {note}" for note in found.notes))


def _moment(at: int) -> str:
    return format_time(at // SECOND * SECOND)
