"""The command about the guard: what it flags, what it cannot see, what the data lack."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from icekeel.core.time import parse_duration

from .options import HERE, AsJson, ProjectFolder, open_app
from .output import print_json, print_rows, say
from .versions import OneModel, registry_of

if TYPE_CHECKING:
    from icekeel.operations.accounts.guard_report import Guarding


def guard(
    model: OneModel = None,
    since: Annotated[str, typer.Option(help="How far back answers are looked at: 30d.")] = "30d",
    project: ProjectFolder = HERE,
    as_json: AsJson = False,
) -> None:
    """Show what the guard flags and cannot see, what the training data lack, and what more of them would buy."""
    from icekeel.operations.accounts.guard_report import guarding

    app = open_app(project)
    now = app.clock()
    with registry_of(app, model) as registry:
        names = [model] if model else [name for name, one in app.project.models.items() if one.guard]
        start = now - parse_duration(since)
        found = [
            guarding(app.model(name), registry, app.answers(), since=start, until=now + 1) for name in names
        ]
    if as_json:
        print_json(found)
        return
    for one in found:
        _show(one)


def _show(found: Guarding) -> None:
    what = f"answers since {found.since}" if found.source == "journal" else "later training rows"
    say(
        f"{found.model} ({found.version}): {found.flagged:.2%} of {found.answers:,} {what} flagged; "
        f"the budget is {found.budget:.2%} of ordinary ones"
    )
    kinds = [
        {
            "finding": one.kind,
            "rate": f"{one.rate:.3%}",
            "for example": one.examples[0] if one.examples else "",
        }
        for one in found.kinds
    ]
    print_rows(kinds, as_json=False)
    weeks = [
        {
            "week": one.since[:10],
            "answers": one.answers,
            "flagged": f"{one.flagged:.2%}",
            **{kind: f"{rate:.2%}" for kind, rate in one.kinds.items()},
        }
        for one in found.weeks
    ]
    if weeks:
        print_rows(weeks, as_json=False)
    for spot in found.blind_spots:
        say(f"blind to {spot}")
    gaps = [
        {
            "never seen together": one.together,
            "expected a year": round(one.a_year),
            "typical answer": one.typical,
            "error": one.error,
            "usd a year": round(one.usd_per_year),
            "found as": one.flagged_as or "blind spot",
        }
        for one in found.missing
    ]
    print_rows(gaps, as_json=False, empty="no combination of common values is missing")
    growth = [
        {"training rows": rows, "later requests with something unseen": f"{share:.2%}"}
        for rows, share in found.growth.items()
    ]
    print_rows(growth, as_json=False)
