"""Commands about a project as such: make one, read it, see what it computes, its settings and tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from icekeel.core.errors import Fault, SettingsError, SourceError, TrainingError

from .options import HERE, AsJson, ProjectFolder, open_app
from .output import print_json, print_rows, say

if TYPE_CHECKING:
    from icekeel.app import App
    from icekeel.define.features import Feature


def init(
    folder: Annotated[Path, typer.Argument(help="A new or empty folder.")], as_json: AsJson = False
) -> None:
    """Write a new project that runs and tests itself as it is."""
    from .scaffold import scaffold

    token = scaffold(folder, say)
    if as_json:
        print_json({"folder": str(folder), "token": token})
    else:
        say("the admin token, shown this once:")
        print(token)


def check(project: ProjectFolder = HERE, as_json: AsJson = False) -> None:
    """Read the project file and report every fault in it."""
    app = open_app(project)
    models = {
        name: {"features": len(plan.features), "windows": len(plan.slots), "views": len(plan.lookups)}
        for name, plan in app.plans.items()
    }
    if as_json:
        print_json({"tables": list(app.project.tables), "models": models})
    else:
        say(f"tables: {', '.join(app.project.tables)}")
        print_rows([{"model": name, **counts} for name, counts in models.items()], as_json=False)


def plan(
    model: Annotated[str | None, typer.Argument(help="One model; all by default.")] = None,
    project: ProjectFolder = HERE,
    as_json: AsJson = False,
) -> None:
    """Show what each feature reads, and of how many past questions training would compute it again, and why."""
    from icekeel.define.reading import reads_of

    app = open_app(project)
    names = [app.model(model).name] if model else list(app.plans)
    rows = []
    for name in names:
        features = app.plans[name].features
        for feature, work in zip(features, _work(app, name, features), strict=True):
            reads = {"kind": feature.node.kind, **reads_of(feature.node)}
            rows.append({"model": name, "feature": feature.name, **reads, **work})
    print_rows(rows, as_json=as_json)


def _work(app: App, model: str, features: Sequence[Feature]) -> list[Mapping[str, Any]]:
    """Of each feature why and for how many past questions it is to be computed, and for how many it is kept."""
    try:
        cache = app.feature_cache(model)
    except (SourceError, TrainingError) as error:
        return [{"why": [error.faults[0].what], "compute": 0, "kept": 0} for _ in features]
    works = [cache.work(feature) for feature in features]
    return [{"why": list(work.why), "compute": work.compute, "kept": work.kept} for work in works]


def token(
    name: Annotated[str, typer.Argument(help="Whose it is; a token of that name is replaced.")] = "",
    scope: Annotated[
        list[str] | None, typer.Option(help="predict, ingest, outcome, read, review, admin.")
    ] = None,
    revoke: Annotated[bool, typer.Option("--revoke", help="Let it open nothing any more.")] = False,
    project: ProjectFolder = HERE,
    as_json: AsJson = False,
) -> None:
    """Make an access token, which is shown this once; without a name, list those that there are."""
    access = open_app(project).access()
    if not name:
        rows = [{"name": one, "scopes": scopes} for one, scopes in access.named().items()]
        print_rows(rows, as_json=as_json, empty="there are no tokens")
    elif revoke:
        access.revoke(name)
        if as_json:
            print_json({"name": name, "revoked": True})
    elif not scope:
        raise SettingsError(Fault("missing_option", "what may it do?", "--scope", hint="--scope predict"))
    else:
        made = access.create(name, tuple(scope))
        if as_json:
            print_json({"name": name, "scopes": scope, "token": made})
        else:
            print(made)


def config(project: ProjectFolder = HERE, as_json: AsJson = False) -> None:
    """Show each setting, its value and where that comes from."""
    from icekeel.settings import read_settings

    found = read_settings(project)
    if as_json:
        print_json({one.name: {"value": one.shown, "source": one.source} for one in found})
    else:
        rows = [{"setting": one.name, "value": _written(one.shown), "from": one.source} for one in found]
        print_rows(rows, as_json=False)


def _written(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
