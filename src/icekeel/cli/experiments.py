"""`icekeel experiment`: what is tested, what a test would need, its report, and deciding by hand."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from icekeel.core.time import format_second

from .options import HERE, AsJson, By, ProjectFolder, Reason, check_folder, open_app, user
from .output import print_json, print_rows, print_text, say
from .versions import ModelName, OneModel, mirror_soon, registry_of

if TYPE_CHECKING:
    from icekeel.app import App
    from icekeel.operations.trials.desk import TrialDesk
    from icekeel.operations.trials.report import TrialReport
    from icekeel.registry import Decision

Version = Annotated[str, typer.Option(help="Of this challenger (default: the latest).")]
Share = Annotated[float | None, typer.Option(help="Of all units (default: the next step's).")]
Out = Annotated[Path | None, typer.Option(help="The page (default: among the project's pages).")]


def list_(model: OneModel = None, project: ProjectFolder = HERE, as_json: AsJson = False) -> None:
    """List experiments, the latest first."""
    app = open_app(project)
    with desk_of(app) as desk:
        found = desk.trials([app.model(model)] if model else list(app.project.models.values()))
    rows = [
        {
            "model": one.model,
            "challenger": one.version,
            "champion": one.champion,
            "since": format_second(one.since),
            "shares": [share for _, share in one.steps],
            "ended": None if one.ended is None else format_second(one.ended),
            "why": one.why,
        }
        for one in found
    ]
    print_rows(rows, as_json=as_json, empty="no experiment yet")


def show(
    model: ModelName, version: Version = "", project: ProjectFolder = HERE, as_json: AsJson = False
) -> None:
    """Say how an experiment stands."""
    app = open_app(project)
    with desk_of(app) as desk:
        found = desk.report(app.model(model), version)
    _show(found, as_json=as_json)


def power(
    model: ModelName,
    effect: Annotated[list[float] | None, typer.Option(help="Improvement to be found, as 0.05.")] = None,
    project: ProjectFolder = HERE,
    as_json: AsJson = False,
) -> None:
    """Say how many units and days a test would need, from the project's own past, before it starts."""
    from icekeel.operations.trials.desk import EFFECTS

    app = open_app(project)
    definition = app.model(model)
    with desk_of(app) as desk:
        found = desk.power(definition, desk.past(definition, app.folder, app.vault), effect or EFFECTS)
    if as_json:
        print_json(found)
        return
    for one in found:
        print_text(f"{one.metric}: {one.mean:.4g} a unit, {one.units_per_day:,.0f} units a day take part")
        for sentence in one.sentences:
            print_text(f"  {sentence}")


def start(
    version: Annotated[str, typer.Argument(metavar="VERSION")],
    reason: Reason,
    share: Share = None,
    by: By = "",
    project: ProjectFolder = HERE,
    as_json: AsJson = False,
) -> None:
    """Let a version answer its first units."""
    from icekeel.operations.trials.desk import start_by_hand

    app = open_app(project)
    with registry_of(app) as registry, app.journal("experiment") as journal:
        model = app.model(registry.version(version).model)
        decision = start_by_hand(registry, journal, model, version, share=share, **_why(app, reason, by))
    _decided(app, decision, as_json=as_json)


def step(
    model: ModelName,
    reason: Reason,
    share: Share = None,
    by: By = "",
    project: ProjectFolder = HERE,
    as_json: AsJson = False,
) -> None:
    """Give the challenger its next share."""
    from icekeel.operations.trials.desk import step_by_hand

    app = open_app(project)
    with registry_of(app, model) as registry, app.journal("experiment") as journal:
        decision = step_by_hand(registry, journal, app.model(model), share=share, **_why(app, reason, by))
    _decided(app, decision, as_json=as_json)


def stop(
    model: ModelName, reason: Reason, by: By = "", project: ProjectFolder = HERE, as_json: AsJson = False
) -> None:
    """End an experiment: the champion answers everybody."""
    from icekeel.operations.trials.desk import stop_by_hand

    app = open_app(project)
    with registry_of(app, model) as registry, app.journal("experiment") as journal:
        decision = stop_by_hand(registry, journal, app.model(model), **_why(app, reason, by))
    _decided(app, decision, as_json=as_json)


def report(
    model: ModelName,
    version: Version = "",
    out: Out = None,
    project: ProjectFolder = HERE,
    as_json: AsJson = False,
) -> None:
    """Write the page of an experiment."""
    check_folder(out)
    app = open_app(project)
    with desk_of(app) as desk:
        found = desk.report(app.model(model), version)
    _write(found, out or app.places.pages / f"experiment-{model}.html", as_json=as_json)


def analyse(
    table: Annotated[Path, typer.Argument(metavar="TABLE", help="CSV or Parquet, a row for each answer.")],
    *,
    value: Annotated[str, typer.Option(help="Column of the metric.")],
    unit: Annotated[str, typer.Option(help="Column of the unit.")] = "unit",
    arm: Annotated[str, typer.Option(help="Column of the arm.")] = "arm",
    challenger: Annotated[str, typer.Option(help="Its arm, where that is not clear.")] = "",
    time: Annotated[str, typer.Option(help="Column of the time.")] = "",
    segment: Annotated[str, typer.Option(help="Column of a group.")] = "",
    phase: Annotated[str, typer.Option(help="Column of the phase, where shares changed.")] = "",
    covariate: Annotated[str, typer.Option(help="Column of what the unit was worth before.")] = "",
    kind: Annotated[
        str, typer.Option(help="conversion, mean or ratio; of `--cap` and `--level`: that.")
    ] = "mean",
    cap: Annotated[float | None, typer.Option(help="The most that a unit counts for.")] = None,
    level: Annotated[float | None, typer.Option(help="A quantile of past data.")] = None,
    lower: Annotated[bool, typer.Option("--lower", help="Less is better.")] = False,
    margin: Annotated[float, typer.Option(help="Loss that is tolerated, as a share.")] = 0.0,
    share: Annotated[float, typer.Option(help="Of the challenger, as it was declared.")] = 0.5,
    alpha: Annotated[float, typer.Option(help="Error rate over all looks.")] = 0.05,
    out: Out = None,
    as_json: AsJson = False,
) -> None:
    """Analyse an experiment that was served elsewhere."""
    from icekeel.experiments import Metric
    from icekeel.operations.trials.report import analyse as analysed

    check_folder(out)
    given = {"unit": unit, "arm": arm, "value": value, "time": time, "segment": segment}
    columns = {role: name for role, name in {**given, "phase": phase, "covariate": covariate}.items() if name}
    chosen: Any = "capped" if cap is not None else "quantile" if level is not None else kind
    metric = Metric(value, chosen, lower, margin, cap, level)
    found = analysed(table, columns, metric, share, alpha, challenger)
    if out is None:
        _show(found, as_json=as_json)
    else:
        _write(found, out, as_json=as_json)


EXPERIMENTS = (list_, show, power, start, step, stop, report, analyse)


@contextmanager
def desk_of(app: App) -> Iterator[TrialDesk]:
    """The experiments of a project, with what the keeper has projected where there is any."""
    from icekeel.operations.trials.desk import TrialDesk

    with registry_of(app) as registry, app.projected() as online:
        yield TrialDesk(app.workspace, registry, online, app.clock())


def _why(app: App, reason: str, by: str) -> dict[str, Any]:
    return {"reason": reason, "by": by or user(), "at": app.clock()}


def _decided(app: App, decision: Decision, *, as_json: bool) -> None:
    mirror_soon(app)
    if as_json:
        print_json({"decision": decision.kind, "version": decision.version, "reason": decision.reason})
    else:
        say(f"{decision.kind}: {decision.reason}")


def _show(found: TrialReport, *, as_json: bool) -> None:
    if as_json:
        print_json(found.as_dict())
        return
    print_text(f"{found.title}.")
    print_text(found.sentence)
    from icekeel.experiments import describe

    for name, one in found.evidence.items():
        print_text(f"  {describe(name, one)}.")
    for what, count in found.left_out.items():
        if count:
            print_text(f"  Left out: {count:,} {what}.")
    print_text(found.naive)


def _write(found: TrialReport, out: Path, *, as_json: bool) -> None:
    from icekeel.console.experiments import experiment_page
    from icekeel.console.report import render

    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(render(experiment_page(found)), encoding="utf-8")
    if as_json:
        print_json({**found.as_dict(), "page": str(out)})
    else:
        print_text(found.sentence)
        say(f"the page: {out}")
