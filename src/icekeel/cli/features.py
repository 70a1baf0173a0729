"""Commands about features and rungs: what each is worth, and what a new one would gain."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from icekeel.core.errors import Fault, ProjectError, StateError
from icekeel.core.time import SECOND, format_time

from .options import HERE, AsJson, ProjectFolder, check_folder, open_app
from .output import print_json, print_rows, print_table, print_text, say
from .versions import ModelName, registry_of

if TYPE_CHECKING:
    from icekeel.app import App

OnlyModel = Annotated[str | None, typer.Argument(metavar="MODEL", help="May be left out where there is one.")]


def features(
    model: OnlyModel = None,
    out: Annotated[
        Path | None, typer.Option(help="The page (default: features-MODEL.html; none with --json).")
    ] = None,
    project: ProjectFolder = HERE,
    as_json: AsJson = False,
) -> None:
    """Measure what each feature is worth on later rows, what it costs, and which can go; write a page of it."""
    app = open_app(project)
    name = _model(app, model)
    check_folder(out)
    with registry_of(app, name) as registry:
        report = app.study(registry).report(name, say)
    if out is None and not as_json:
        out = Path(f"features-{name}.html")
    if out is not None:
        from icekeel.console.features import features_page

        out.write_text(features_page(report), encoding="utf-8")
        say(f"wrote {out}")
    if as_json:
        print_json(report)
        return
    rows = [
        {
            "feature": one.name,
            "kind": one.kind,
            "share": f"{one.share:.1%}",
            "dropped": one.dropped.gain,
            "from": one.dropped.low,
            "to": one.dropped.high,
            "usd_per_year": round(one.dropped.usd_per_year),
            "nulls": f"{one.nulls:.1%}",
            "read_us": one.cost_us,
            "delete": one.delete,
            "warnings": one.warnings,
        }
        for one in report.features
    ]
    print_rows(rows, as_json=False)
    say(report.carriers)
    say(report.advice + (f"; delete {', '.join(report.deletable)}" if report.deletable else ""))


def try_(
    feature: Annotated[str, typer.Argument(metavar="FEATURE", help="load, or Ideas.load.")],
    model: OnlyModel = None,
    project: ProjectFolder = HERE,
    as_json: AsJson = False,
) -> None:
    """Say what one feature gains on later rows: the model learnt with it against the model learnt without it."""
    app = open_app(project)
    name = _model(app, model)
    with registry_of(app, name) as registry:
        tried = app.study(registry).attempt(name, feature, say)
    if as_json:
        print_json(tried)
        return
    windows = [
        {"from": one.start[:10], "to": one.end[:10], "rows": one.rows, "gain": gain}
        for one, gain in zip(tried.later, tried.gains, strict=True)
    ]
    print_rows(windows, as_json=False)
    known: dict[str, Any] = {
        "nulls": f"{tried.nulls:.1%}",
        "read_us": "not kept online" if tried.cost_us is None else tried.cost_us,
        "same_as": tried.same_as or "none",
    }
    print_rows([known], as_json=False)
    say(tried.verdict)


def _model(app: App, name: str | None) -> str:
    if name is None and len(app.project.models) == 1:
        return next(iter(app.project.models))
    if name is None:
        known = ", ".join(app.project.models)
        raise ProjectError(Fault("which_model", "the project has several models: name one", allowed=known))
    return app.model(name).name


def worth(model: ModelName, project: ProjectFolder = HERE, as_json: AsJson = False) -> None:
    """Say what each rung of the latest ladder earns and costs in a year, and what features earn beside it."""
    with registry_of(open_app(project), model) as registry:
        climbed = [version for version in registry.versions(model) if version.metrics.get("worth")]
    if not climbed:
        what, hint = "the whole ladder was never climbed", f"icekeel train {model}"
        raise StateError(Fault("no_ladder", what, model, hint=hint))
    version = climbed[-1]
    found: dict[str, Any] = version.metrics["worth"]
    at, steps = format_time(version.at // SECOND * SECOND), version.ladder["steps"]
    if as_json:
        print_json({"model": model, "version": version.name, "at": at, "ladder": steps, **found})
        return
    print_text(
        f"{version.name}, {at}: {found['winner']} was chosen. Reckoned with {found['answers_per_year']:,.0f} answers and "
        f"{found['retrains_per_year']:g} retrains a year, ${found['error_point']:,.0f} for 0.01 of error, "
        f"${found['core_hour']:g} for a core hour."
    )
    print_table(
        ["rung", "over", "earns a year", "95 % interval", "machine", "kB", "in upkeep", "stopped"],
        [_row(one, steps) for one in found["rungs"]],
    )
    following, features, stack = found["next"], found["features"], found["stack"]
    if following is not None:
        print_text(f"The next rung: {following['told']}.")
    if features is not None:
        print_table(
            ["the same algorithm", "raw features", "engineered"],
            [
                [name, _short(pair["raw"]), _short(pair["engineered"])]
                for name, pair in features["errors"].items()
            ],
        )
        print_text(f"Features and algorithms: {features['told']}.")
    if stack is not None:
        print_text(f"Beyond: {stack['told']}.")


def _row(one: dict[str, Any], steps: list[dict[str, Any]]) -> list[object]:
    from icekeel.training.worth import dollars

    costs = one["costs"]
    stopped = next(step["stopped"] for step in steps if step["rung"] == one["rung"])
    return [
        one["rung"],
        one["over"],
        dollars(one["earns"]),
        f"{dollars(one['low'])} to {dollars(one['high'])}",
        dollars(costs["training"] + costs["serving"]),
        f"{costs['bytes'] / 1000:+,.0f}",
        costs["upkeep"],
        stopped or "-",
    ]


def _short(value: float) -> str:
    return f"{value:.4g}"
