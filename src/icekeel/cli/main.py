"""The command `icekeel`."""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path
from typing import Annotated, Any

import typer

from icekeel.core.errors import IcekeelError
from icekeel.core.time import format_time, parse_time, wall_clock

from .output import fail, log_as_json, print_json, print_table, say

cli = typer.Typer(
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None
)

ProjectFolder = Annotated[Path, typer.Option("--project", help="Folder with project.py.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
HERE = Path(".")


def main() -> None:
    """Run the command line; errors of Icekeel's own are printed, not traced."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    try:
        cli()
    except IcekeelError as error:
        fail(error, as_json="--json" in sys.argv)


@cli.command()
def init(folder: Path) -> None:
    """Write a new project that runs and tests itself as it is."""
    from icekeel.cli.scaffold import scaffold

    scaffold(folder, say)


@cli.command()
def check(project: ProjectFolder = HERE, as_json: AsJson = False) -> None:
    """Read the project file and report every fault in it."""
    app = _app(project)
    summary = {
        name: {"features": len(plan.features), "windows": len(plan.slots), "views": len(plan.lookups)}
        for name, plan in app.plans.items()
    }
    if as_json:
        print_json({"tables": list(app.project.tables), "models": summary})
        return
    rows = [[name, *values.values()] for name, values in summary.items()]
    print_table("models", ["model", "features", "windows", "views"], rows)


@cli.command()
def ingest(
    tables: Annotated[
        list[str] | None, typer.Argument(help="Event tables; all with a source by default.")
    ] = None,
    project: ProjectFolder = HERE,
    as_json: AsJson = False,
) -> None:
    """Take the declared files into history; rows that break their contract go to quarantine."""
    app = _app(project)
    results = app.ingest(tables or [])
    if as_json:
        print_json(
            [
                {
                    "table": one.table,
                    "source": one.source.name,
                    "kept": one.kept,
                    "quarantined": one.quarantined,
                    "skipped": one.skipped,
                    "reasons": dict(one.reasons),
                }
                for one in results
            ]
        )
        return
    rows = [
        [
            one.table,
            one.source.name,
            "known already" if one.skipped else f"{one.kept:,}",
            "" if one.skipped else f"{one.quarantined:,}",
            "; ".join(f"{why} ({n:,})" for why, n in one.reasons.items()),
        ]
        for one in results
    ]
    print_table("ingested", ["table", "file", "kept", "quarantined", "reasons"], rows)


@cli.command()
def train(
    model: str,
    baseline: Annotated[bool, typer.Option(help="Train on the baseline's features.")] = False,
    rung: Annotated[str, typer.Option(help="Fit this rung only: group, linear, lightgbm.")] = "",
    now: Annotated[str, typer.Option(help="Time up to which anything is known (default: now).")] = "",
    reason: Annotated[str, typer.Option(help="Why, for the record.")] = "asked for",
    project: ProjectFolder = HERE,
    as_json: AsJson = False,
) -> None:
    """Train a model, put it through its gates, register it and decide what becomes of it."""
    from icekeel.operations.workshop import Order, admit

    app = _app(project)
    at = parse_time(now) if now else wall_clock()
    registry = app.registry()
    with app.journal("train") as journal:
        version, trained = app.workshop(registry).train(Order(model, at, baseline, rung, reason), say)
        decision = admit(registry, journal, app.model(model), version, at=at, by="train")
    say(f"{decision.kind}: {decision.reason}")
    if as_json:
        errors = trained.metrics["errors"]
        print_json(
            {"version": version.name, "decision": decision.kind, "reason": decision.reason, "errors": errors}
        )
        return
    steps = [
        [step.rung, f"{step.error:.4f}", f"{step.fit_seconds:.1f} s", f"{step.predict_us:.0f} us"]
        for step in trained.ladder.steps
    ]
    print_table(version.name, ["rung", app.model(model).error, "fit", "one row"], steps)


@cli.command()
def models(
    model: Annotated[str | None, typer.Argument()] = None,
    project: ProjectFolder = HERE,
    as_json: AsJson = False,
) -> None:
    """List versions and what serves."""
    app = _app(project)
    registry = app.registry()
    rows = []
    for version in registry.versions(model):
        aliases = [
            name for name, alias in registry.aliases(version.model).items() if alias.version == version.name
        ]
        rows.append(
            [
                version.name,
                ", ".join(aliases),
                version.features,
                version.ladder.get("winner"),
                format_time(version.at),
                ", ".join(version.failed),
            ]
        )
    names = ["version", "serves as", "features", "rung", "registered", "failed gates"]
    if as_json:
        print_json([dict(zip(names, row, strict=True)) for row in rows])
        return
    print_table("versions", names, rows)


@cli.command()
def promote(
    version: str,
    reason: Annotated[str, typer.Option(help="Why, for the record.")],
    override: Annotated[str, typer.Option(help="Why failed gates are passed over; kept for ever.")] = "",
    project: ProjectFolder = HERE,
) -> None:
    """Make a version champion by hand."""
    from icekeel.operations.workshop import decide

    app = _app(project)
    registry = app.registry()
    model = registry.version(version).model
    with app.journal("promote") as journal:
        at = wall_clock()
        registry.set_alias(model, "champion", version, reason=reason, by="hand", override=override, at=at)
        decide(registry, journal, model, "promote", version, reason=f"by hand: {reason}", at=at)
    say(f"{version} is champion")


@cli.command()
def rollback(
    model: str,
    reason: Annotated[str, typer.Option(help="Why, for the record.")],
    project: ProjectFolder = HERE,
) -> None:
    """Go back to the champion before this one."""
    from icekeel.operations.workshop import decide

    app = _app(project)
    registry = app.registry()
    with app.journal("rollback") as journal:
        at = wall_clock()
        version = registry.rollback(model, reason=reason, by="hand", at=at)
        decide(registry, journal, model, "rollback", version.name, reason=f"by hand: {reason}", at=at)
    say(f"{version.name} is champion again")


@cli.command()
def token(
    name: str,
    scope: Annotated[list[str], typer.Option(help="predict, ingest, outcome, read, admin.")],
    project: ProjectFolder = HERE,
) -> None:
    """Make an access token; it is shown this once."""
    typer.echo(_app(project).access().create(name, tuple(scope)))


@cli.command()
def config(project: ProjectFolder = HERE, as_json: AsJson = False) -> None:
    """Each setting, its value and where that comes from."""
    from icekeel.settings import read_settings

    found = read_settings(project)
    if as_json:
        print_json({one.name: {"value": one.value, "source": one.source} for one in found})
        return
    print_table(
        "settings", ["setting", "value", "from"], [[one.name, one.value, one.source] for one in found]
    )


@cli.command()
def serve(
    project: ProjectFolder = HERE,
    port: int | None = None,
    rehearsal: Annotated[bool, typer.Option(help="Callers set the clock: only to replay history.")] = False,
) -> None:
    """Answer requests over HTTP; the keeper must run beside it (`icekeel up` starts both)."""
    from icekeel.http import serve as run

    app = _app(project, port=port, rehearsal=rehearsal or None)
    log_as_json()
    run(app, ready=lambda listening: print_json({"listening": listening}))


@cli.command()
def keep(
    project: ProjectFolder = HERE,
    rehearsal: Annotated[bool, typer.Option(help="Take the time from the journal.")] = False,
) -> None:
    """Make the projections of the journal and run the schedule."""
    app = _app(project, rehearsal=rehearsal or None)
    log_as_json()
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    with app.journal("keep") as journal:
        keeper = app.keeper(app.registry(), journal)
        print_json({"keeping": str(app.places.state)})
        keeper.run(stop)


@cli.command()
def up(
    system: Annotated[str, typer.Argument(help="A demo's name, or empty for the project here.")] = "",
    project: ProjectFolder = HERE,
    port: int | None = None,
) -> None:
    """Start the server and the keeper, and stop both together."""
    from icekeel.cli.processes import run_together

    run_together(project, system=system, port=port, say=say)


@cli.command()
def demo(
    system: Annotated[str, typer.Argument(help="flights or quotes")] = "flights",
    folder: Annotated[Path | None, typer.Option(help="Where to work (default: icekeel-demo/SYSTEM).")] = None,
    fresh: Annotated[bool, typer.Option(help="Forget an earlier run.")] = False,
) -> None:
    """Run a whole system on real or simulated history, and write its report."""
    from icekeel.cli.demos import run_demo

    run_demo(system, folder, fresh=fresh, say=say)


def _app(project: Path, **flags: Any) -> Any:
    from icekeel.app import App
    from icekeel.settings import load_settings

    return App(project.resolve(), load_settings(project, flags))
