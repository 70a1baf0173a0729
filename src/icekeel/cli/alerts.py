"""The command about alerts: what is open and why, what people make of it, and who is told."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from icekeel.core.errors import Fault, SettingsError
from icekeel.core.time import format_second, parse_duration, parse_time

from .options import HERE, AsJson, By, ProjectFolder, Reason, check_action, open_app, user
from .output import print_json, print_parts, print_rows, print_text
from .versions import registry_of

if TYPE_CHECKING:
    from icekeel.app import App
    from icekeel.registry import Alert, Registry

STATES = {"ack": "acknowledged", "mute": "muted", "resolve": "resolved"}
ACTIONS = ("list", "show", *STATES, "test", "tell", "export")


def alerts(
    action: Annotated[str, typer.Argument(help=f"{', '.join(ACTIONS)}; a model's name lists its.")] = "list",
    which: Annotated[
        str, typer.Argument(metavar="ALERT", help="Its id or how it begins; for list a model.")
    ] = "",
    *,
    open_only: Annotated[bool, typer.Option("--open", help="Those not yet resolved.")] = False,
    until: Annotated[str, typer.Option(help="With mute: for how long, 4h, or until when.")] = "",
    out: Annotated[Path | None, typer.Option(help="With export: the folder to write.")] = None,
    reason: Reason = "",
    by: By = "",
    project: ProjectFolder = HERE,
    as_json: AsJson = False,
) -> None:
    """List alerts, one cause each; show, acknowledge, mute or resolve one; test the channels; export Prometheus rules."""
    app = open_app(project)
    if action in app.project.models and not which:
        action, which = "list", action
    check_action(action, ACTIONS)
    if (action in ("show", *STATES)) is not bool(which) and action != "list":
        what = f"{action} takes {'one alert' if not which else 'no alert'}"
        raise SettingsError(Fault("missing_option", what, "ALERT", hint="icekeel alerts list"))
    if action == "export":
        _export(out, as_json=as_json)
        return
    with registry_of(app, which if action == "list" else None) as registry:
        now = app.clock()
        if action == "list":
            rows = [_row(one, now, as_json) for one in registry.alerts(which or None, open_only=open_only)]
            print_rows(rows, as_json=as_json, empty="no alerts")
        elif action in ("test", "tell"):
            _tell(app, registry, test=action == "test", as_json=as_json)
        else:
            if action in STATES:
                _change(registry, registry.alert(which), action, until, reason, by or user(), now)
            _show(registry, registry.alert(which), now, as_json=as_json)


def _row(one: Alert, now: int, as_json: bool) -> dict[str, Any]:
    more = {"todo": one.todo} if not as_json else {}
    row = {
        "id": one.id,
        "at": format_second(one.at),
        "model": one.model,
        "cause": one.cause,
        "state": one.state(now),
        "diagnosis": one.diagnosis,
        "usd_per_day": one.cost,
        **more,
    }
    return row if not as_json else row | _detail(one)


def _detail(one: Alert) -> dict[str, Any]:
    return {
        "todo": one.todo,
        "resolved_at": None if one.resolved_at is None else format_second(one.resolved_at),
        "evidence": one.evidence,
        "history": [
            {
                "at": format_second(change.at),
                "state": change.state,
                "by": change.by,
                "reason": change.reason,
                "until": None if change.until is None else format_second(change.until),
            }
            for change in one.changes
        ],
    }


def _change(registry: Registry, one: Alert, action: str, until: str, reason: str, by: str, now: int) -> None:
    from icekeel.registry import AlertChange

    if (action == "mute") is not bool(until):
        raise SettingsError(
            Fault("missing_option", "mute, and it alone, takes a time", "--until", hint="--until 4h")
        )
    end = None
    if until:
        end = (
            now + parse_duration(until) if until[-1] in "smhd" and until[:-1].isdigit() else parse_time(until)
        )
    state: Any = STATES[action]
    registry.change_alert(AlertChange(alert=one.id, state=state, by=by, reason=reason, at=now, until=end))


def _show(registry: Registry, one: Alert, now: int, *, as_json: bool) -> None:
    told = [
        {
            "at": format_second(line.at),
            "channel": line.channel,
            "event": line.event,
            "status": line.status,
            "note": line.note,
        }
        for line in registry.deliveries()
        if one.id in line.alerts
    ]
    if as_json:
        print_json({**_row(one, now, True), "deliveries": told})
        return
    evidence = one.evidence
    lines = [
        *map(str, evidence.get("sentences", ())),
        str(evidence.get("reckoning", "What it costs is not known.")),
        f"Diagnosis: {one.diagnosis or 'none'}.",
        f"Do first: {one.todo}",
    ]
    if examples := evidence.get("examples"):
        lines.append(
            f"Answers that show it: icekeel trace {examples[0]}; also {', '.join(examples[1:]) or 'none'}"
        )
    history = [
        {"at": format_second(one.at), "state": "open", "by": "keeper", "reason": one.cause, "until": None},
        *_detail(one)["history"],
    ]
    print_parts(
        [
            (f"{one.model}: {one.title} ({one.state(now)})", lines, ()),
            ("History", (), history),
            *([("Told", (), told)] if told else []),
        ]
    )


def _tell(app: App, registry: Registry, *, test: bool, as_json: bool) -> None:
    if test:
        rows = [
            {"channel": channel.shown, "took_it": not why, "why": why}
            for channel, why in app.teller(registry).test()
        ]
        if not rows:
            hint = 'name one in icekeel.toml: notify = ["https://..."], and try again'
            raise SettingsError(Fault("no_channels", "no channels: nobody is told of alerts", hint=hint))
    else:
        rows = [
            {"channel": line.channel, "event": line.event, "status": line.status, "why": line.note}
            for line in app.teller(registry).tell()
        ]
    print_rows(rows, as_json=as_json, empty="nothing is due")
    if test and not all(row["took_it"] for row in rows):
        raise typer.Exit(1)


def _export(out: Path | None, *, as_json: bool) -> None:
    from icekeel.operations.alerts.prometheus import FILES, write_files

    if out is None:
        hint = "--out monitoring"
        raise SettingsError(Fault("missing_option", f"a folder for {', '.join(FILES)}", "--out", hint=hint))
    written = [str(path) for path in write_files(out)]
    if as_json:
        print_json({"written": written})
    else:
        print_text("\n".join(written))
