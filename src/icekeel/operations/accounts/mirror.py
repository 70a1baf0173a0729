"""A copy of the registry in MLflow, for people who look there: runs, versions, aliases, and models that predict.

The registry never reads it. What is there already is left as it is, so that a mirroring that was broken off is simply
done again. MLflow keeps no history of aliases; the description of each version has ours.
"""

from __future__ import annotations

import os
import platform
import re
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

import icekeel.registry
from icekeel.core.errors import Fault, StateError, without_passwords
from icekeel.core.files import locked
from icekeel.core.time import format_second
from icekeel.operations.workspace import Workspace
from icekeel.registry import Bundle, Change, Registry
from icekeel.registry.exported import export

from .dossier import Dossier, dossier

LOADER = "icekeel.registry.exported"
NEEDED = ("core", "define", "engines", "registry")
"""Rooms that loading and predicting need; their source travels with each model, so that it predicts without us."""
REQUIRED = ("numpy", "msgspec", "sqlalchemy", "lightgbm")
QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}
"""MLflow tells nobody of its use, and leaves standard output to us."""
BATCH = 100
"""Most parameters that MLflow takes at a time."""
VERSION = "icekeel.version"
_REST = b"\n__path__ = __import__('pkgutil').extend_path(__path__, __name__)\n"
"""Where Icekeel is installed too, its other rooms are found beside those that travel with the model."""
Say = Callable[[str], None]


def mirror(workspace: Workspace, registry: Registry, uri: str, state: Path, say: Say) -> list[dict[str, Any]]:
    """Make MLflow at this URI show what the registry holds; one row for each version.

    Raises:
        StateError: `no_mlflow`, it is not installed; `mlflow`, MLflow refused, or cannot be reached; what was done
            before stays.
    """
    os.environ.update(QUIET)
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    try:
        from mlflow import MlflowClient  # an extra, and half a second
        from mlflow.exceptions import MlflowException
    except ImportError as error:
        fault = Fault("no_mlflow", "MLflow is not installed", hint="pip install 'icekeel[mlflow]'")
        raise StateError(fault) from error
    with locked(state / "mirror.lock"):  # what changed meanwhile is for the next
        try:
            client = MlflowClient(tracking_uri=uri, registry_uri=uri)
            return list(_Copy(workspace, registry, client, uri, say).all())
        except (MlflowException, OSError) as error:
            where, got = without_passwords(uri), without_passwords(str(error))[:500]
            raise StateError(Fault("mlflow", "MLflow did not take it", where, got)) from error


def mirror_command(folder: Path) -> list[str]:
    """The command line that mirrors the registry of a project."""
    return [sys.executable, "-m", "icekeel", "models", "mirror", "--project", str(folder)]


class _Copy:
    """One mirroring."""

    def __init__(
        self, workspace: Workspace, registry: Registry, client: Any, uri: str, say: Say
    ) -> None:  # the client is MLflow's, which has no types
        self._workspace, self._registry, self._client = workspace, registry, client
        self._uri, self._say = uri, say
        self._project = workspace.project.folder.name

    def all(self) -> Iterator[dict[str, Any]]:
        """Every version of every model, and then what the aliases of each model stand for."""
        models = dict.fromkeys(version.model for version in self._registry.versions())
        for model in models:
            experiment = self._experiment(model)
            known = self._registered(model)
            for version in self._registry.versions(model):
                found = dossier(self._workspace, self._registry, version.name)
                if version.name not in known and found.bundle is not None and not found.damage:
                    run = self._run(experiment, found, found.bundle)
                    known[version.name] = self._client.create_model_version(
                        model, f"{run.info.artifact_uri}/model", run.info.run_id, tags={VERSION: version.name}
                    )
                    self._say(f"{version.name} is mirrored")
                there = known.get(version.name)
                if there is not None:
                    self._describe(model, there, found)
                row = {"version": version.name, "model_version": there and int(there.version)}
                yield {**row, "run": there and there.run_id, "why_not": found.damage}
            self._alias(model, known)

    def _experiment(self, model: str) -> str:
        name = f"{self._project}/{model}"
        found = self._client.get_experiment_by_name(name)
        if found is not None:
            return str(found.experiment_id)
        place = None
        if self._uri.startswith("sqlite:///"):  # else it would be wherever this process was started
            place = (
                Path(self._uri.removeprefix("sqlite:///")).resolve().parent / "mlartifacts" / name
            ).as_uri()
        return str(self._client.create_experiment(name, artifact_location=place))

    def _registered(self, model: str) -> dict[str, Any]:
        """Our versions that are there already.

        Raises:
            StateError: `other_project`, the name is taken.
        """
        tag, quoted = "icekeel.project", model.replace("'", "")
        found = self._client.search_registered_models(f"name = '{quoted}'")
        if not found:
            self._client.create_registered_model(model, {tag: self._project}, f"{model} of {self._project}")
        elif found[0].tags.get(tag) != self._project:
            got = found[0].tags.get(tag, "nobody Icekeel knows")
            what = "a registered model of that name belongs to another project"
            raise StateError(Fault("other_project", what, model, got, self._project))
        there = self._client.search_model_versions(f"name = '{quoted}'", max_results=10_000)
        return {one.tags[VERSION]: one for one in there if VERSION in one.tags}

    def _run(self, experiment: str, found: Dossier, bundle: Bundle) -> Any:
        """A finished run that shows how the version was made; one that was broken off is made anew."""
        from mlflow.entities import Metric, Param  # an extra

        client, version = self._client, found.version
        for left in client.search_runs([experiment], f"tags.`{VERSION}` = '{version.name}'"):
            if left.info.status == "FINISHED":
                return left
            client.delete_run(left.info.run_id)
        at = version.at // 1000
        run = client.create_run(experiment, at, tags=_tags(found), run_name=version.name)
        identifier = run.info.run_id
        params = [Param(name, text[:6_000]) for name, text in _params(found).items()]
        metrics = [Metric(name, float(value), at, step) for name, value, step in _metrics(found)]
        for start in range(0, max(len(params), len(metrics)), BATCH):
            part = slice(start, start + BATCH)
            client.log_batch(identifier, metrics[part], params[part])
        client.log_dict(identifier, dict(version.ladder), "ladder.json")
        client.log_dict(identifier, {"gates": version.gates}, "gates.json")
        client.log_dict(identifier, found.as_dict(), "version.json")
        with tempfile.TemporaryDirectory(prefix="icekeel-mirror-") as folder:
            write_model(found, bundle, Path(folder), identifier)
            client.log_artifacts(identifier, folder, "model")
        client.set_terminated(identifier, "FINISHED", at)
        return run

    def _describe(self, model: str, there: Any, found: Dossier) -> None:
        """Tell what became of a version; what changes after it was registered is told anew."""
        told = "\n".join([found.version.reason, "", *map(_told, found.history)]).strip()
        if there.description != told:
            self._client.update_model_version(model, there.version, told)
        for change in found.overrides:
            if there.tags.get("icekeel.override") != change.override:
                self._client.set_model_version_tag(model, there.version, "icekeel.override", change.override)

    def _alias(self, model: str, known: Mapping[str, Any]) -> None:
        """Ours are set, and those that were ours and stand for nothing now are removed; others are left alone."""
        there = dict(self._client.get_registered_model(model).aliases)
        ours = self._registry.aliases(model)
        for alias in dict.fromkeys(change.alias for change in self._registry.history(model)):
            name = re.sub(r"[^A-Za-z0-9_-]", "-", alias)
            version = known.get(ours[alias].version) if alias in ours else None
            if version is None and name in there:
                self._client.delete_registered_model_alias(model, name)
            elif version is not None and str(there.get(name)) != str(version.version):
                self._client.set_registered_model_alias(model, name, version.version)


def write_model(found: Dossier, bundle: Bundle, folder: Path, run: str) -> None:
    """A model as MLflow loads it: what `export` writes, the rooms that read it, and no pickle."""
    from mlflow.models import Model

    version = found.version
    exported = export(version, bundle, folder / "data", {})
    source = Path(icekeel.registry.__file__).parents[1]
    for file in [
        source / "__init__.py",
        *(file for room in NEEDED for file in (source / room).rglob("*.py")),
    ]:
        copy = folder / "code" / "icekeel" / file.relative_to(source)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(file.read_bytes() + (_REST if file.parent == source else b""))
    rung = found.contents.rung if found.contents else ""
    trained = {name: one for name, one in found.lineage.packages.items() if rung and name.startswith(rung)}
    pinned = [
        f"{name}=={one}\n" for name, one in ({name: installed(name) for name in REQUIRED} | trained).items()
    ]
    (folder / "requirements.txt").write_text("".join(pinned))
    (folder / "python_env.yaml").write_text(
        f"python: {platform.python_version()}\ndependencies: [-r requirements.txt]\n"
    )
    model = Model(
        artifact_path="model", run_id=run, metadata={VERSION: version.name, "icekeel.export": exported}
    )
    model.add_flavor(
        "python_function",
        loader_module=LOADER,
        data="data",
        code="code",
        env={"virtualenv": "python_env.yaml"},
        python_version=platform.python_version(),
    )
    model.save(str(folder / "MLmodel"))


def _tags(found: Dossier) -> dict[str, str]:
    version, lineage = found.version, found.lineage
    made = {
        "snapshot": version.snapshot,
        "code": version.code,
        "bundle": version.digest,
        "reason": version.reason,
    }
    told = {f"icekeel.{name}": value[:5_000] for name, value in made.items()}
    git = {"mlflow.source.git.commit": lineage.commit} if lineage.commit else {}
    failed = {"icekeel.failed_gates": ", ".join(version.failed)} if version.failed else {}
    audits = {f"icekeel.audit.{one['audit']}": one["verdict"] for one in version.metrics.get("audits", ())}
    return {VERSION: version.name, "mlflow.user": version.by or "unknown", **told, **git, **failed, **audits}


def _params(found: Dossier) -> dict[str, str]:
    version, contents = found.version, found.contents
    fitted = {"rung": contents.rung, "rows": str(contents.rows)} if contents else {}
    made = {
        **fitted,
        "feature_set": version.features,
        "trained_from": format_second(version.trained_from),
        "trained_to": format_second(version.trained_to),
    }
    settings = {name: value for name, value in found.lineage.settings.items() if value}
    return made | settings | {f"package.{name}": value for name, value in found.lineage.packages.items()}


def _metrics(found: Dossier) -> Iterator[tuple[str, float, int]]:
    """Name, value and step; of an error by fold the step is the fold."""
    version = found.version
    error, rung = version.ladder.get("error", "error"), found.contents.rung if found.contents else ""
    for step in version.ladder.get("steps", ()):
        yield f"{error}.{step['rung']}", step["error"], 0
        for fold, value in enumerate(step["error_by_fold"]):
            yield f"{error}.{step['rung']}.by_fold", value, fold
        if step["rung"] == rung:
            yield error, step["error"], 0
            yield "predict_us", step["predict_us"], 0
    for gate in version.gates:
        yield f"gate.{gate['name']}.passed", float(bool(gate.get("passed"))), 0
        if gate.get("measured") is not None:
            yield f"gate.{gate['name']}", gate["measured"], 0
    for name, share in version.metrics.get("importance", ()):
        yield f"importance.{name}", share, 0
    yield "bundle_bytes", float(sum(found.files.values())), 0


def _told(change: Change) -> str:
    over = f" (failed gates were passed over: {change.override})" if change.override else ""
    return f"{format_second(change.at)} {change.action} {change.alias} by {change.by}: {change.reason}{over}"
