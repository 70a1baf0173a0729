"""The pages about alerts: all of them, and one with its evidence and what people may make of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from icekeel.operations.alerts.alerting import severity
from icekeel.registry import Alert, Delivery

from .charts import lines
from .pages import moment, page
from .report import Block, Callout, Moment, Report, Section, Table, Tile, Tiles, Timeline, Tone, render

LATEST = 200
TONES: dict[str, Tone] = {"open": "bad", "acknowledged": "warn", "muted": "plain", "resolved": "good"}


def alerts_page(alerts: Sequence[Alert], now: int) -> str:
    """All alerts, the open ones first, the dearest before the others."""
    ranked = sorted(alerts, key=lambda one: (one.resolved_at is not None, -(one.cost or 0.0), -one.at))
    still = sum(one.resolved_at is None for one in alerts)
    rows = [
        (
            moment(one.at),
            one.model,
            Markup('<a href="/alerts/{}">{}</a>').format(one.id, one.title),
            one.state(now),
            one.diagnosis,
            severity(one),
        )
        for one in ranked[:LATEST]
    ]
    table = Table(("since", "model", "alert", "state", "diagnosis", "cost"), rows)
    lead = f"{still} open, {len(alerts) - still} resolved." if alerts else "None so far."
    return render(Report("Alerts", lead, [Section("All", "", [table])] if rows else [], "icekeel alerts"))


def alert_page(alert: Alert, told: Sequence[Delivery], now: int, *, token: str = "") -> str:
    """One alert.

    Args:
        told: What was told of it, to whom.
        token: Goes back with what is decided on this page, and proves that it was.
    """
    evidence, state = alert.evidence, alert.state(now)
    found = "\n\n".join(map(str, evidence.get("sentences", ())))
    sections = [
        Section("Do first", alert.todo),
        Section("What was found", found, _picture(alert)),
        Section("What it costs", str(evidence.get("reckoning", "What it costs is not known."))),
        Section("Answers that show it", "", _examples(evidence.get("examples", ()))),
        Section("History", "", [_history(alert)]),
        *([Section("Told", "", [_told(told)])] if told else []),
    ]
    tiles = Tiles(
        [
            Tile("State", state, tone=TONES[state]),
            Tile("Cost", severity(alert)),
            Tile("Diagnosis", alert.diagnosis or "none", alert.cause),
            Tile(
                "Seen",
                "once" if evidence.get("times", 1) == 1 else f"{evidence['times']} times",
                f"last {moment(int(evidence.get('last_seen', alert.at)))}",
            ),
        ]
    )
    sections[0] = Section("Do first", alert.todo, [tiles])
    lead = f"{alert.model}: {alert.cause}, since {moment(int(evidence.get('since', alert.at)))}."
    report = Report(alert.title, lead, sections, f"icekeel alerts show {alert.id}")
    return page("alert.html", report=report, alert=alert, state=state, token=token)


def _picture(alert: Alert) -> list[Block]:
    series: dict[str, Any] = alert.evidence.get("series") or {}
    if not series:
        return []
    name = str(series["name"])
    band = (series["low"], series["high"]) if "low" in series else None
    note = f"The band is what {name} usually keeps to. " if band else ""
    began = int(alert.evidence.get("since", alert.at))
    marks = [(began, "seems to begin"), (alert.at, "alert")] if began < alert.at else [(alert.at, "alert")]
    chart = lines(
        f"{name} over time",
        series["at"],
        {name: series["values"]},
        x_title="",
        y_title=f"{note}Mean of {name}",
        marks=marks,
        band=band,
    )
    return [chart]


def _examples(examples: Sequence[str]) -> list[Block]:
    if not examples:
        return [Callout("None", "No single answers are known that show it.")]
    links = [(Markup('<a href="/trace/{}">{}</a>').format(one, one),) for one in examples]
    return [Table(("prediction",), links)]


def _history(alert: Alert) -> Timeline:
    moments = [Moment(alert.at, "opened", alert.cause, tone="bad")]
    for change in alert.changes:
        until = f", until {moment(change.until)}" if change.until is not None else ""
        moments.append(
            Moment(change.at, change.state, f"{change.by}{until}", change.reason, TONES[change.state])
        )
    return Timeline(moments)


def _told(told: Sequence[Delivery]) -> Table:
    rows = [(moment(line.at), line.channel, line.event, line.status, line.note) for line in told]
    return Table(("at", "channel", "event", "status", "what came of it"), rows)
