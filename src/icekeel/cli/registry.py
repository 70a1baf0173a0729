"""Commands about versions that there are: `icekeel models ...`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from icekeel.core.errors import Fault, RegistryError, SettingsError
from icekeel.core.time import format_second

from .options import HERE, AsJson, ProjectFolder, open_app
from .output import print_json, print_parts, print_rows, print_text, say
from .versions import OneModel, promote, registry_of, rollback

VersionName = Annotated[str, typer.Argument(metavar="VERSION")]


def list_(model: OneModel = None, project: ProjectFolder = HERE, as_json: AsJson = False) -> None:
    """List versions, oldest first, and what serves."""
    rows = []
    with registry_of(open_app(project), model) as registry:
        overrides = registry.overrides()
        for version in registry.versions(model):
            aliases = registry.aliases(version.model).items()
            rows.append(
                {
                    "version": version.name,
                    "serves_as": [name for name, alias in aliases if alias.version == version.name],
                    "features": version.features,
                    "rung": version.rung or None,
                    "registered_at": format_second(version.at),
                    "by": version.by,
                    "failed_gates": version.failed,
                    "overrides": [change.override for change in overrides.get(version.name, ())],
                }
            )
    print_rows(rows, as_json=as_json, empty="no versions yet: icekeel train MODEL")


def show(version: VersionName, project: ProjectFolder = HERE, as_json: AsJson = False) -> None:
    """Show all that is kept of a version: gates, ladder, features, what it was made from, what became of it."""
    from icekeel.operations.accounts.dossier import dossier

    app = open_app(project)
    with registry_of(app) as registry:
        found = dossier(app.workspace, registry, version)
    if as_json:
        print_json(found.as_dict())
    else:
        print_parts(found.told())


def diff(a: VersionName, b: VersionName, project: ProjectFolder = HERE, as_json: AsJson = False) -> None:
    """Show what differs between two versions: settings, features, errors, gates, what they were made from, sizes."""
    from icekeel.operations.accounts.dossier import differences, dossier

    app = open_app(project)
    with registry_of(app) as registry:
        found = differences(*(dossier(app.workspace, registry, name) for name in (a, b)))
    if as_json:
        print_json({"a": a, "b": b, **found})
        return
    print_parts(
        (part.replace("_", " "), () if rows else ("no difference",), rows) for part, rows in found.items()
    )
    if any(row["what"] == "snapshot" for row in found["made_from"]):
        say(f"\nhow the data differ: icekeel snapshots diff {a} {b}")


def verify(version: VersionName, project: ProjectFolder = HERE, as_json: AsJson = False) -> None:
    """Check that a version is whole and could be made again; exit status 1 where something of it is lost."""
    from icekeel.operations.accounts.dossier import LOST, verified

    app = open_app(project)
    with registry_of(app) as registry:
        rows = verified(app.workspace, registry, version)
    print_rows(rows, as_json=as_json)
    lost = [row for row in rows if row["verdict"] in LOST]
    if lost:
        raise RegistryError(
            *(Fault(row["verdict"], row["found"], f"{version}, {row['check']}") for row in lost)
        )


def export(
    version: VersionName,
    out: Annotated[Path, typer.Option(help="The folder to write; it must not hold anything.")],
    project: ProjectFolder = HERE,
    as_json: AsJson = False,
) -> None:
    """Write a version as a folder that predicts elsewhere, under one digest."""
    from icekeel.operations.accounts.dossier import project_as_then
    from icekeel.registry import read
    from icekeel.registry.exported import export as write

    app = open_app(project)
    with registry_of(app) as registry:
        found = registry.version(version)
    digest = write(found, read(app.places.bundles, found.digest), out, project_as_then(app.workspace, found))
    if as_json:
        print_json({"version": version, "out": str(out), "digest": digest})
    else:
        print_text(f"{out}: {version}, digest {digest}")


def mirror(
    to: Annotated[str, typer.Option(help="Address of MLflow (default: the setting `mlflow`).")] = "",
    project: ProjectFolder = HERE,
    as_json: AsJson = False,
) -> None:
    """Have MLflow show what the registry holds: runs, versions, aliases, and models that predict."""
    from icekeel.operations.accounts.mirror import mirror as copy

    app = open_app(project, mlflow=to or None)
    if not app.settings.mlflow:
        hint = "--to http://127.0.0.1:5000, or the setting `mlflow`"
        raise SettingsError(Fault("missing_option", "expected an address of MLflow", "--to", hint=hint))
    with registry_of(app) as registry:
        rows = copy(app.workspace, registry, app.settings.mlflow, app.places.state, say)
    print_rows(rows, as_json=as_json, empty="no versions yet: icekeel train MODEL")


MODELS: tuple[Callable[..., None], ...] = (list_, show, diff, promote, rollback, verify, export, mirror)
"""`promote` and `rollback` are the very commands of the same name."""
