"""The command that lists what was done by itself, and what became of it."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from icekeel.core.errors import Fault, SettingsError, nearest
from icekeel.core.time import format_second

from .options import HERE, AsJson, ProjectFolder, open_app
from .output import print_rows
from .versions import registry_of

Kind = Annotated[
    str, typer.Argument(help="train, ingest, audit, backup, compact, mirror, daily; all by default.")
]


def runs(
    kind: Kind = "",
    latest: Annotated[int, typer.Option(min=1, help="So many of the latest.")] = 50,
    project: ProjectFolder = HERE,
    as_json: AsJson = False,
) -> None:
    """List what was begun, by the schedule or by hand, and what became of it, oldest first."""
    from icekeel.operations.ledger import LISTED, note_killed, told

    if kind and kind not in LISTED:
        hint, allowed = nearest(kind, LISTED), ", ".join(LISTED)
        raise SettingsError(Fault("unknown_kind", f'no kind of run "{kind}"', "KIND", kind, allowed, hint))
    app = open_app(project)
    with registry_of(app) as registry:
        note_killed(registry, app.places.runs, app.clock())
        rows: list[dict[str, Any]] = [
            {
                "started": format_second(one.started_at),
                "ended": None if one.finished_at is None else format_second(one.finished_at),
                "kind": one.kind,
                "of": str(one.details.get("of") or one.details.get("model") or ""),
                "status": one.status,
                "did": told(one),
                **({"id": one.id, "details": one.details} if as_json else {}),
            }
            for one in registry.runs(kind or None, latest=latest)
        ]
    print_rows(rows, as_json=as_json, empty="nothing was run yet")
