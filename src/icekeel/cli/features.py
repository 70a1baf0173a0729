"""Commands about features: what each is worth, and what a new one would gain."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from icekeel.core.errors import Fault, ProjectError

from .options import HERE, AsJson, ProjectFolder, check_folder, open_app
from .output import print_json, print_rows, say
from .versions import registry_of

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
