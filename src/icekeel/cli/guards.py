"""Commands about the guard: what it flags and cannot see, and the flagged requests that wait for a person."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from icekeel.core.errors import Fault, SettingsError
from icekeel.core.time import format_second, parse_duration

from .options import HERE, AsJson, By, ProjectFolder, Reason, check_action, open_app, user
from .output import print_json, print_rows, say
from .versions import OneModel, registry_of

if TYPE_CHECKING:
    from icekeel.operations.accounts.guard_report import Guarding
    from icekeel.operations.loop.reviews import Case


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
        _show_guarding(one)


def _show_guarding(found: Guarding) -> None:
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


DECISIONS = {"accept": "accepted", "reject": "rejected"}
ACTIONS = ("list", "show", *DECISIONS, "taught")


def review(
    action: Annotated[str, typer.Argument(help="list, show, accept, reject or taught.")] = "list",
    prediction_id: Annotated[str, typer.Argument(help="The answer, for show, accept and reject.")] = "",
    model: Annotated[str, typer.Option(help="One model; all by default.")] = "",
    by: By = "",
    reason: Reason = "",
    answer: Annotated[float | None, typer.Option(help="With reject: what is answered instead.")] = None,
    project: ProjectFolder = HERE,
    as_json: AsJson = False,
) -> None:
    """Decide about flagged requests: accept the model's answer or reject it; see what two people have taught."""
    check_action(action, ACTIONS)
    if (action in ("list", "taught")) is bool(prediction_id):
        raise SettingsError(
            Fault("missing_option", "show, accept and reject take one prediction", "PREDICTION_ID")
        )
    app = open_app(project)
    with registry_of(app, model) as registry:
        reviews = app.reviews(registry)
        if action == "list":
            _list(reviews.waiting(model or None), as_json=as_json)
        elif action == "taught":
            names = [model] if model else list(app.project.models)
            lessons = [(name, lesson) for name in names for lesson in reviews.lessons(name)]
            rows = [{"model": name, **lesson.as_dict()} for name, lesson in lessons]
            print_rows(rows, as_json=as_json, empty="nobody has taught anything that still holds")
        elif action == "show":
            _show_case(reviews.case(prediction_id), as_json=as_json)
        else:
            with app.journal("review") as journal:
                case = reviews.decide(
                    journal,
                    prediction_id,
                    DECISIONS[action],
                    by=by or user(),
                    reason=reason,
                    answer=answer,
                )
            _show_case(case, as_json=as_json)


def _list(cases: list[Case], *, as_json: bool) -> None:
    from icekeel.operations.loop.reviews import MOST_LISTED

    if as_json:
        print_json([case.as_dict() for case in cases[:MOST_LISTED]])
        return
    rows = [
        {
            "prediction_id": case.record.id,
            "asked_at": format_second(case.record.at),
            "model": case.record.model,
            "answer": case.record.answer,
            "refused": case.record.verdict == "refused",
            "reasons": list(case.record.reasons),
        }
        for case in cases[:MOST_LISTED]
    ]
    print_rows(rows, as_json=False, empty="nothing waits for a person")
    if len(cases) > MOST_LISTED:
        say(f"and {len(cases) - MOST_LISTED:,} more")


def _show_case(case: Case, *, as_json: bool) -> None:
    found: dict[str, Any] = case.as_dict()
    if as_json:
        print_json(found)
        return
    for reason in case.record.reasons:
        say(reason)
    shown = {name: value for name, value in found.items() if name not in ("reasons", "decisions")}
    print_rows([{"": name.replace("_", " "), "value": value} for name, value in shown.items()], as_json=False)
    print_rows(found["decisions"], as_json=False, empty="no person has decided yet")
