"""The status page: what serves, what is wrong and what to do first, what was decided and why."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from icekeel.operations.alerts.alerting import severity
from icekeel.operations.ledger import as_known, told
from icekeel.registry import CHAMPION, Alert, Change, Decision, Registry, Run, Version

from .pages import age, moment, page, words
from .report import Callout, Moment, Table, Tile, Tiles, Timeline, Tone

LATEST = 20
TONES: Mapping[str, Tone] = {"promote": "good", "block": "bad", "rollback": "bad"}
Status = Mapping[str, Any]
"""What `GET /v1/status` gives: JSON, read here leniently so that a page is shown whatever is missing."""


def status_page(status: Status, registry: Registry, locks: Path) -> str:
    """The page as HTML, which renews itself every ten seconds.

    Args:
        status: What this process serves: `models` (name -> `champion`, `challenger`), `problems` (sentences),
            `keeper` (`now`, `seen`, `pushed`) and, for the keeper's age, `now`: this process's time where it has one
            that can be compared with the keeper's.
        registry: What should serve, and what was decided.
        locks: Folder of the locks by which trainings are known to live.
    """
    alerts = registry.alerts(open_only=True)
    versions = registry.versions()
    overrides = registry.overrides()
    decisions = registry.decisions()
    models: Mapping[str, Any] = status.get("models", {})
    problems: list[str] = status.get("problems", [])
    figures = [
        Tile("Open alerts", str(len(alerts)), tone="bad" if alerts else "good"),
        Tile("Versions", str(len(versions)), f"{len(decisions)} decisions"),
        *_keeper(status.get("keeper", {}), status.get("now")),
    ]
    return page(
        "status.html",
        headline=_headline(models, len(alerts), len(problems)),
        tiles=Tiles(figures),
        problems=[
            *(Callout(problem, tone="bad") for problem in problems),
            *_passed_over(models, registry, overrides),
        ],
        alerts=[_alert(alert, status.get("now") or 0) for alert in reversed(alerts)],
        serving=_serving(models, registry, versions),
        decisions=Timeline([_decision(decision) for decision in reversed(decisions[-LATEST:])]),
        versions=_versions(versions, overrides),
        runs=_runs(as_known(registry.runs(latest=LATEST), locks)),
    )


def _headline(models: Mapping[str, Any], alerts: int, problems: int) -> str:
    """The worst that is to be said."""
    idle = [name for name, model in models.items() if not model.get("champion")]
    if idle:
        return f"No version serves {', '.join(idle)}"
    for count, what in ((problems, "problem"), (alerts, "open alert")):
        if count:
            return f"{count} {what}{'s' if count > 1 else ''}"
    return "All is well"


def _keeper(keeper: Mapping[str, Any], clock: int | None) -> list[Tile]:
    """How far the keeper is."""
    now = keeper.get("now")
    pushed = Tile("Events pushed", f"{keeper.get('pushed', 0):,}")
    if not now:
        return [Tile("Keeper", "not begun", tone="warn"), pushed]
    if clock is None:
        return [Tile("Keeper", moment(now)[:10], f"known until {moment(now)}"), pushed]
    seen = keeper.get("seen") or now
    return [Tile("Keeper", f"{age(clock - seen)} behind", f"known until {moment(seen)}"), pushed]


def _alert(alert: Alert, now: int) -> Callout:
    evidence, state = alert.evidence, alert.state(now)
    found = "; ".join(str(sentence) for sentence in evidence.get("sentences", ()))
    since = f"Since {moment(alert.at)}, {alert.model}, cause: {alert.cause}; {state}, {severity(alert)}."
    parts = [f"First thing to do: {alert.todo}", found, since]
    return Callout(
        alert.title, "\n\n".join(part for part in parts if part), "bad" if state == "open" else "warn"
    )


def _serving(models: Mapping[str, Any], registry: Registry, versions: Sequence[Version]) -> Table:
    """One row for each role, the champion first; its share is what the others leave."""
    known = {version.name: version for version in versions}
    rows = []
    for name, model in models.items():
        aliases = registry.aliases(name)
        left = 1.0 - sum(alias.share for role, alias in aliases.items() if role != CHAMPION)
        for role, alias in sorted(aliases.items(), key=lambda pair: (pair[0] != CHAMPION, pair[0])):
            version = known[alias.version]
            made = (version.name, version.features, version.rung)
            share = f"{left if role == CHAMPION else alias.share:.0%}"
            rows.append((name, role, *made, share, moment(alias.since), _served(model, role, version.name)))
    return Table(("model", "role", "version", "features", "rung", "share", "since", "this process"), rows)


def _passed_over(
    models: Mapping[str, Any], registry: Registry, overrides: Mapping[str, Sequence[Change]]
) -> Iterator[Callout]:
    """What serves although it had failed gates."""
    for name in models:
        for role, alias in registry.aliases(name).items():
            for change in overrides.get(alias.version, ()):
                yield Callout(
                    f"{alias.version} is {role} of {name} although gates had failed",
                    _override(change),
                    "warn",
                )


def _override(change: Change) -> str:
    return f"Overridden by {change.by}, {moment(change.at)}: {change.override}"


def _served(model: Mapping[str, Any], role: str, version: str) -> str:
    """What this process answers with in that role, where the registry says `version`."""
    if role not in model:
        return "–"
    return "serves it" if model[role] == version else f"serves {model[role] or 'none'}"


def _decision(decision: Decision) -> Moment:
    return Moment(
        decision.at,
        decision.kind,
        ": ".join(part for part in (decision.model, decision.version) if part),
        decision.reason,
        TONES.get(decision.kind, "plain"),
    )


def _runs(runs: Sequence[Run]) -> Table:
    """The newest, the latest first."""
    rows = [
        (
            one.kind,
            str(one.details.get("of") or one.details.get("model") or ""),
            moment(one.started_at),
            one.status,
            told(one),
        )
        for one in reversed(runs)
    ]
    return Table(("run", "of", "begun", "status", "did"), rows)


def _versions(versions: Sequence[Version], overrides: Mapping[str, Sequence[Change]]) -> Table:
    """The newest, and every one that gates were ever passed over for."""
    newest = sorted(versions, key=lambda version: (version.at, version.number), reverse=True)
    rows = [
        (
            version.name,
            version.features,
            moment(version.at),
            version.reason,
            ". ".join([_gates(version), *map(_override, overrides.get(version.name, ()))]),
        )
        for at, version in enumerate(newest)
        if at < LATEST or version.name in overrides
    ]
    return Table(("version", "features", "registered", "why", "gates"), rows)


def _gates(version: Version) -> str:
    failed = {
        str(gate.get("name")): str(gate.get("why", "")) for gate in version.gates if not gate.get("passed")
    }
    if not version.gates:
        return "never checked"
    if not failed:
        return f"all {len(version.gates)} passed"
    return "; ".join(f"{words(name)} failed: {why}" for name, why in failed.items())
