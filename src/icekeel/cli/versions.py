"""Commands that make versions and decide which of them serve: train, promote, roll back; what was decided and reported."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from icekeel.core.errors import Fault, SettingsError, StateError
from icekeel.core.time import format_second, parse_time

from .options import HERE, AsJson, By, ProjectFolder, Reason, open_app, user
from .output import print_json, print_rows, say
from .running import only_keeper

if TYPE_CHECKING:
    from icekeel.app import App
    from icekeel.registry import Registry

ModelName = Annotated[str, typer.Argument(metavar="MODEL")]
KEEPER = "keeper"
OneModel = Annotated[str | None, typer.Argument(metavar="MODEL", help="One model; all by default.")]


def train(
    model: ModelName,
    *,
    baseline: Annotated[bool, typer.Option(help="Train on the baseline's features.")] = False,
    rung: Annotated[str, typer.Option(help="Fit this rung only, such as linear or lightgbm.")] = "",
    now: Annotated[str, typer.Option(help="Time up to which anything is known (default: now).")] = "",
    reason: Reason = "asked for",
    override: Annotated[
        str, typer.Option(help="Why to train although an alert says that data are wrong.")
    ] = "",
    by: By = "",
    project: ProjectFolder = HERE,
    as_json: AsJson = False,
) -> None:
    """Train a model, put it through its gates, register it and decide what becomes of it."""
    from icekeel.operations.workshop.workshop import Order, admit, allow_training

    app = open_app(project)
    definition = app.model(model)
    at = parse_time(now) if now else app.clock()
    if at > app.clock() and by != KEEPER:  # whose clock may be another
        what = "nobody knows yet what will have happened by then"
        raise SettingsError(Fault("future", what, "--now", now, f"at most {format_second(app.clock())}"))
    with registry_of(app) as registry, app.journal("train") as journal:
        allow_training(registry, journal, model, override=override, by=by or user(), at=at)
        version, trained = app.workshop(registry).train(
            Order(model, at, baseline, rung, reason, by or user()), say
        )
        decision = admit(registry, journal, definition, version, at=at, by="train")
    mirror_soon(app)
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
            "gain": None if step.over_simpler is None else step.over_simpler.gain,
            "fit_s": step.fit_seconds,
            "row_us": step.predict_us,
            "stopped": step.stopped or None,
        }
        for step in trained.ladder.steps
    ]
    print_rows(steps, as_json=False)


def promote(
    version: str,
    reason: Reason,
    override: Annotated[str, typer.Option(help="Why failed gates are passed over; kept for ever.")] = "",
    by: By = "",
    project: ProjectFolder = HERE,
    as_json: AsJson = False,
) -> None:
    """Make a version champion by hand."""
    from icekeel.operations.workshop.workshop import crown, decide

    app = open_app(project)
    with registry_of(app) as registry, app.journal("promote") as journal:
        at, who, found = app.clock(), by or user(), registry.version(version)
        model, failed = found.model, found.failed

        def change() -> None:
            crown(registry, model, version, reason=reason, by=who, override=override, at=at)

        over = f", although {', '.join(failed)} failed: {override}" if failed else ""
        why = f"by {who}: {reason}{over}"
        decide(registry, journal, model, "promote", version, reason=why, at=at, change=change)
    _show_champion(app, model, version, as_json=as_json)


def rollback(
    model: ModelName,
    reason: Reason,
    expect: Annotated[
        str, typer.Option(help="The version that is to go (default: the one that serves now).")
    ] = "",
    by: By = "",
    project: ProjectFolder = HERE,
    as_json: AsJson = False,
) -> None:
    """Go back to the champion before this one; refused where another came to serve meanwhile."""
    from icekeel.operations.workshop.workshop import roll_back

    app = open_app(project)
    with registry_of(app, model) as registry, app.journal("rollback") as journal:
        gone = expect or registry.champion(model).name
        version = roll_back(
            registry, journal, model, expected=gone, reason=reason, by=by or user(), at=app.clock()
        ).name
    _show_champion(app, model, version, as_json=as_json)


def decisions(model: OneModel = None, project: ProjectFolder = HERE, as_json: AsJson = False) -> None:
    """List what was decided and why, oldest first."""
    with registry_of(open_app(project), model) as registry:
        rows = [
            {
                "at": format_second(one.at),
                "model": one.model,
                "decision": one.kind,
                "version": one.version,
                "reason": one.reason,
                **({"id": one.id, "evidence": one.evidence} if as_json else {}),
            }
            for one in registry.decisions(model)
        ]
    print_rows(rows, as_json=as_json, empty="nothing was decided yet")


@contextmanager
def registry_of(app: App, model: str | None = None) -> Iterator[Registry]:
    """The project's registry; refuses a model that the project does not have."""
    if model:
        app.model(model)
    with closing(app.registry()) as registry:
        yield registry


def mirror_soon(app: App) -> None:
    """Have MLflow follow, where it is to, by a process that outlives this command; a keeper that runs does it itself."""
    if not app.settings.mlflow or app.settings.rehearsal:
        return
    try:
        with only_keeper(app.places.state):
            pass
    except StateError:
        return
    from icekeel.operations.accounts.mirror import mirror_command

    command = mirror_command(app.folder)
    log = (
        os.POSIX_SPAWN_OPEN,
        1,
        str(app.places.state / "mirror.log"),
        os.O_WRONLY | os.O_CREAT | os.O_TRUNC,
        0o600,
    )
    actions = [log, (os.POSIX_SPAWN_DUP2, 1, 2)]
    os.posix_spawn(command[0], command, os.environ, file_actions=actions, setsid=True)


def _show_champion(app: App, model: str, version: str, *, as_json: bool) -> None:
    mirror_soon(app)
    if as_json:
        print_json({"model": model, "champion": version})
    else:
        say(f"{version} is champion")
