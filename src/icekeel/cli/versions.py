"""Commands about versions: train, list, promote, roll back, and what was decided and reported."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from icekeel.core.errors import BundleError
from icekeel.core.time import SECOND, format_time, parse_time

from .options import HERE, AsJson, ProjectFolder, Reason, open_app
from .output import print_json, print_rows, say

if TYPE_CHECKING:
    from icekeel.app import App
    from icekeel.registry import Registry, Version

ModelName = Annotated[str, typer.Argument(metavar="MODEL")]
OneModel = Annotated[str | None, typer.Argument(metavar="MODEL", help="One model; all by default.")]


def train(
    model: ModelName,
    baseline: Annotated[bool, typer.Option(help="Train on the baseline's features.")] = False,
    rung: Annotated[str, typer.Option(help="Fit this rung only, such as linear or lightgbm.")] = "",
    now: Annotated[str, typer.Option(help="Time up to which anything is known (default: now).")] = "",
    reason: Reason = "asked for",
    project: ProjectFolder = HERE,
    as_json: AsJson = False,
) -> None:
    """Train a model, put it through its gates, register it and decide what becomes of it."""
    from icekeel.operations.workshop import Order, admit

    app = open_app(project)
    definition = app.model(model)
    at = parse_time(now) if now else app.clock()
    with registry_of(app) as registry, app.journal("train") as journal:
        version, trained = app.workshop(registry).train(Order(model, at, baseline, rung, reason), say)
        decision = admit(registry, journal, definition, version, at=at, by="train")
    say(f"{decision.kind}: {decision.reason}")
    if as_json:
        errors = trained.metrics["errors"]
        print_json(
            {"version": version.name, "decision": decision.kind, "reason": decision.reason, "errors": errors}
        )
        return
    steps = [
        {
            "rung": step.rung,
            definition.error: step.error,
            "fit_s": step.fit_seconds,
            "row_us": step.predict_us,
        }
        for step in trained.ladder.steps
    ]
    print_rows(steps, as_json=False)


def models(model: OneModel = None, project: ProjectFolder = HERE, as_json: AsJson = False) -> None:
    """List versions, oldest first, and what serves."""
    app = open_app(project)
    rows = []
    with registry_of(app, model) as registry:
        for version in registry.versions(model):
            aliases = registry.aliases(version.model).items()
            rows.append(
                {
                    "version": version.name,
                    "serves_as": [name for name, alias in aliases if alias.version == version.name],
                    "features": version.features,
                    "rung": _rung(app, version),
                    "registered_at": _shown(version.at),
                    "failed_gates": version.failed,
                }
            )
    print_rows(rows, as_json=as_json, empty="no versions yet: icekeel train MODEL")


def promote(
    version: str,
    reason: Reason,
    override: Annotated[str, typer.Option(help="Why failed gates are passed over; kept for ever.")] = "",
    project: ProjectFolder = HERE,
    as_json: AsJson = False,
) -> None:
    """Make a version champion by hand."""
    from icekeel.operations.workshop import crown, decide

    app = open_app(project)
    with registry_of(app) as registry, app.journal("promote") as journal:
        at, model = app.clock(), registry.version(version).model

        def change() -> None:
            crown(registry, model, version, reason=reason, by="hand", override=override, at=at)

        why = f"by hand: {reason}"
        decide(registry, journal, model, "promote", version, reason=why, at=at, change=change)
    _show_champion(model, version, as_json=as_json)


def rollback(
    model: ModelName, reason: Reason, project: ProjectFolder = HERE, as_json: AsJson = False
) -> None:
    """Go back to the champion before this one."""
    from icekeel.operations.workshop import roll_back

    app = open_app(project)
    with registry_of(app, model) as registry, app.journal("rollback") as journal:
        version = roll_back(registry, journal, model, reason=reason, by="hand", at=app.clock()).name
    _show_champion(model, version, as_json=as_json)


def decisions(model: OneModel = None, project: ProjectFolder = HERE, as_json: AsJson = False) -> None:
    """List what was decided and why, oldest first."""
    with registry_of(open_app(project), model) as registry:
        rows = [
            {
                "at": _shown(one.at),
                "model": one.model,
                "decision": one.kind,
                "version": one.version,
                "reason": one.reason,
                **({"id": one.id, "evidence": one.evidence} if as_json else {}),
            }
            for one in registry.decisions(model)
        ]
    print_rows(rows, as_json=as_json, empty="nothing was decided yet")


def alerts(
    model: OneModel = None,
    open_only: Annotated[bool, typer.Option("--open", help="Those not yet resolved.")] = False,
    project: ProjectFolder = HERE,
    as_json: AsJson = False,
) -> None:
    """List alerts, oldest first: one cause each, and the first thing to do."""
    with registry_of(open_app(project), model) as registry:
        rows: list[dict[str, Any]] = [
            {
                "at": _shown(one.at),
                "model": one.model,
                "cause": one.cause,
                "cost": one.cost,
                "todo": one.todo,
                "resolved_at": None if one.resolved_at is None else _shown(one.resolved_at),
                **({"id": one.id, "evidence": one.evidence} if as_json else {}),
            }
            for one in registry.alerts(model, open_only=open_only)
        ]
    print_rows(rows, as_json=as_json, empty="no alerts")


@contextmanager
def registry_of(app: App, model: str | None = None) -> Iterator[Registry]:
    """The project's registry; refuses a model that the project does not have."""
    if model:
        app.model(model)
    registry = app.registry()
    try:
        yield registry
    finally:
        registry.close()


def _rung(app: App, version: Version) -> str | None:
    """What was fitted, which may be another than the ladder's winner; None where the bundle is damaged."""
    from icekeel.registry import read

    try:
        return str(read(app.places.bundles, version.digest).meta["rung"])
    except BundleError:
        return None


def _shown(at: int) -> str:
    return format_time(at // SECOND * SECOND)


def _show_champion(model: str, version: str, *, as_json: bool) -> None:
    if as_json:
        print_json({"model": model, "champion": version})
    else:
        say(f"{version} is champion")
