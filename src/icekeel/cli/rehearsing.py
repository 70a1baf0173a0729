"""The command that replays history through the real processes with faults in it."""

from __future__ import annotations

import signal
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from icekeel.core.errors import Fault, SettingsError, nearest
from icekeel.define.rehearsed import MECHANISMS

from .options import HERE, AsJson, ProjectFolder, check_folder, open_app
from .output import print_json, print_rows, print_text, say

if TYPE_CHECKING:
    from icekeel.operations.rehearsal.result import Rehearsed

Mechanisms = Annotated[
    list[str] | None,
    typer.Option(help="Also replay without this, to tell its worth: retraining, guard, canary, freshness."),
]


def rehearse(
    system: Annotated[str, typer.Argument(help="quotes or flights; nothing for the project here.")] = "",
    project: ProjectFolder = HERE,
    *,
    model: Annotated[str, typer.Option(help="Which model (default: the first).")] = "",
    faults: Annotated[Path | None, typer.Option(help="A plan in TOML (default: every fault once).")] = None,
    days: Annotated[
        int | None, typer.Option(min=1, help="Days of history to replay (default: as the plan needs).")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of all randomness: the same seed, the same result.")] = 0,
    without: Mechanisms = None,
    rung: Annotated[str, typer.Option(help="Train this rung for it (default: the whole ladder).")] = "",
    out: Annotated[Path, typer.Option(help="The page.")] = Path("rehearsal.html"),
    folder: Annotated[
        Path | None, typer.Option(help="Where to work, and keep what was made (default: nowhere).")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Replay the end of history through a copy of the whole system, with faults in it, and say what was found."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that server and keeper end with it
    check_folder(out)
    unknown = [name for name in without or () if name not in MECHANISMS]
    if unknown:
        allowed, hint = ", ".join(MECHANISMS), nearest(unknown[0], MECHANISMS)
        raise SettingsError(
            Fault("unknown_mechanism", "no such mechanism", "--without", unknown[0], allowed, hint)
        )
    # Loaded where it is used, as in `open_app`.
    from icekeel.console.rehearsal import rehearsal_page
    from icekeel.console.report import render
    from icekeel.operations.rehearsal.past import past_of
    from icekeel.operations.rehearsal.plan import Wishes, read_plan
    from icekeel.operations.rehearsal.rehearsal import Asked
    from icekeel.operations.rehearsal.rehearsal import rehearse as play

    wishes = read_plan(faults) if faults is not None else Wishes()
    asked = Asked(wishes, days, seed, tuple(without or ()), rung)
    with tempfile.TemporaryDirectory(prefix="icekeel-rehearsal-") as scratch:
        place = (folder or Path(scratch)).resolve()
        if system:
            from .worlds import world

            project, asked = world(system, place / "world", asked, say)
        app = open_app(project)
        chosen = app.model(model or next(iter(app.project.models)))
        with past_of(app.workspace, chosen, app.vault, now=app.clock()) as past:
            found = play(past, place, asked, say)
    out.write_text(render(rehearsal_page(found)), encoding="utf-8")
    if as_json:
        print_json(found.as_dict())
        return
    _print(found)
    say(f"page: {out}")


def _print(found: Rehearsed) -> None:
    from icekeel.console.rehearsal import lead

    rows = [
        {
            "fault": one.kind,
            "where": one.where,
            "became": one.status,
            "minutes": one.minutes,
            "called": one.called,
            "right": "" if one.right is None else "yes" if one.right else f"no: {one.expected[0]}",
            "cost": round(one.cost, 2),
        }
        for one in found.outcomes
    ]
    print_rows(rows, as_json=False)
    print_text(lead(found))
