"""Commands about what goes on by itself: what is watched, what was run, and what became of it."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from icekeel.core.errors import Fault, SettingsError, nearest
from icekeel.core.time import format_second, roughly

from .options import HERE, AsJson, ProjectFolder, open_app
from .output import print_json, print_rows, print_text
from .versions import registry_of

SHOWN = 15


def monitor(
    model: Annotated[str, typer.Argument(help="One model (default: all).")] = "",
    every: Annotated[
        bool, typer.Option("--all", help="Every series, instead of those nearest to their bar.")
    ] = False,
    project: ProjectFolder = HERE,
    as_json: AsJson = False,
) -> None:
    """What is watched, minute by minute: expected, evidence against its bar, share of the budget, and blind spots."""
    from icekeel.operations.monitors.monitor import monitor as look

    app = open_app(project)
    names = [app.model(model).name] if model else list(app.project.models)
    with registry_of(app) as registry, app.online(readonly=True) as online:
        found = [look(app.workspace, registry, name, online, app.clock()) for name in names]
    if as_json:
        print_json(found)
        return
    for one in found:
        _show(one, every=every)


def _show(found: dict[str, Any], *, every: bool) -> None:
    budget, error = found["budget"], found["error"]
    watched = [row for row in found["series"] if not row["blind"]]
    blind = [row for row in found["series"] if row["blind"]]
    print_text(
        f"{found['version']}: {len(watched)} series share {budget['minutes']:g} false alarms a year, daily shapes "
        f"{budget['shapes']:g}, silences {budget['silences']:g}; looked at until {format_second(found['looked_until'])}"
    )
    rows = [
        {
            "about": _about(row),
            "change": row["change"],
            "expected": row["expected"],
            "harmless": row["tolerance"],
            "evidence": f"{row['evidence']:.1f} of {row['bar']:.1f}",
        }
        for row in (watched if every else watched[:SHOWN])
    ]
    print_rows(rows, as_json=False, empty="no series is watched")
    silences = [
        {
            "source": row["source"],
            "last": f"{roughly(round(row['silent_minutes'] * 60e6))} ago",
            "missed": f"{row['missed']:.1f} of {row['limit']:.1f} deliveries"
            if not row["blind"]
            else row["blind"],
        }
        for row in found["sources"]
    ]
    print_rows(silences, as_json=False, empty="no source is watched")
    if error["estimated"] is not None:
        print_text(
            f"{error['estimated_is']}: {error['estimated']:.4g}, was {error['estimated_usual']:.4g}; {error['assumes']}"
        )
    if error["realised"] is not None:
        print_text(
            f"realised {error['realised_is']}: {error['realised']:.4g}, was {error['realised_usual']:.4g}, "
            f"{error['realised_rows']:,} outcomes of {error['days']} days"
        )
    for row in blind:
        print_text(f"not watched: {_about(row)}, {row['change']}: {row['blind']}")


def _about(row: dict[str, Any]) -> str:
    parts = (f"{row['subject']} {row['name']}", row["label"], row["segment"])
    return ", ".join(part for part in parts if part)


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
    from icekeel.operations.ledger import LISTED, as_known, told

    if kind and kind not in LISTED:
        hint, allowed = nearest(kind, LISTED), ", ".join(LISTED)
        raise SettingsError(Fault("unknown_kind", f'no kind of run "{kind}"', "KIND", kind, allowed, hint))
    app = open_app(project)
    with registry_of(app) as registry:
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
            for one in as_known(registry.runs(kind or None, latest=latest), app.places.runs)
        ]
    print_rows(rows, as_json=as_json, empty="nothing was run yet")
