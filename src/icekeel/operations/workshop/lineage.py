"""What a version is made with, kept beside it: the model's settings, the commit of the project, the packages."""

from __future__ import annotations

import dataclasses
import os
import platform
import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import msgspec

from icekeel.core.ids import digest, file_digest
from icekeel.core.time import format_duration
from icekeel.define import Model
from icekeel.define.expressions import Expression
from icekeel.define.features import Feature
from icekeel.define.formula import formula
from icekeel.define.nodes import Node
from icekeel.define.project import PROJECT_FILE
from icekeel.features.plan import Plan

PACKAGES = ("icekeel", "numpy", "scipy", "scikit-learn", "lightgbm", "xgboost-cpu", "xgboost")
GIT_S = 10.0


class Lineage(msgspec.Struct, frozen=True, kw_only=True):
    """How a version came to be, as far as data and features do not say it.

    Attributes:
        process: What trained: the name of a command.
        project: SHA-256 of the project file.
        commit: Git commit of the project's folder; empty where it is in no work tree.
        dirty: Whether files of that folder differed from the commit.
        packages: Package -> version, Python and Icekeel among them.
        settings: Setting of the model -> its value as text.
    """

    process: str = ""
    project: str = ""
    commit: str = ""
    dirty: bool = False
    packages: dict[str, str] = {}
    settings: dict[str, str] = {}


def lineage_of(folder: Path, model: Model, process: str) -> Lineage:
    """How a version of this model would come to be now, made by this process."""
    commit = _git(folder, "rev-parse", "HEAD")
    file = folder / PROJECT_FILE
    return Lineage(
        process=process,
        project=file_digest(file) if file.is_file() else "",
        commit=commit,
        dirty=bool(commit and _git(folder, "status", "--porcelain", "--", ".")),
        packages=_packages(),
        settings=settings_of(model),
    )


def code_digest(model: Model, plan: Plan) -> str:
    """Digest of all that the project says of a model: its settings and the features of its plan."""
    return digest(msgspec.json.encode([settings_of(model, repr), plan.definitions], order="sorted"))


def definitions_of(features: Sequence[Feature]) -> dict[str, dict[str, str]]:
    """Feature -> its kind, the digest of its definition, and the definition as text."""
    return {
        one.name: {"kind": one.node.kind.value, "digest": one.digest, "expression": formula(one.node)}
        for one in features
    }


def settings_of(model: Model, text: Callable[[Node], str] = formula) -> dict[str, str]:
    """Every setting of a model as text; what features are made of is not among them."""
    fields = model.request.icekeel_fields.values()
    return {
        **{
            name: _said(value, text) for name, value in vars(model).items() if name not in ("name", "request")
        },
        "within": format_duration(model.outcome.within),
        **{
            f"{model.request.__name__}.{one.name}": f"{one.kind} {_said(one.limits, text)}".removesuffix(
                " Limits()"
            )
            for one in fields
        },
    }


def is_commit(folder: Path, commit: str) -> bool:
    """Whether the history of the folder's work tree has this commit."""
    return _git(folder, "cat-file", "-t", commit) == "commit"


def _default(field: dataclasses.Field[Any]) -> object:
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()


def _said(value: object, text: Callable[[Node], str]) -> str:
    """A value of the language as text that is the same in every process; what is as by default is left out."""
    if isinstance(value, Expression):
        return text(value.node)
    if isinstance(value, type):
        return value.__name__
    if isinstance(value, Node):
        return text(value)
    if dataclasses.is_dataclass(value):
        told = [
            f"{one.name}={_said(getattr(value, one.name), text)}"
            for one in dataclasses.fields(value)
            if repr(getattr(value, one.name)) != repr(_default(one))
        ]
        return f"{type(value).__name__}({', '.join(told)})"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{name}: {_said(one, text)}" for name, one in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "(" + ", ".join(_said(one, text) for one in value) + ")"
    return str(value)


def _packages() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def _git(folder: Path, *arguments: str) -> str:
    """What git says; nothing where there is no git, no work tree, or no answer in time."""
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}
    with suppress(OSError, subprocess.SubprocessError):
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            capture_output=True,
            text=True,
            timeout=GIT_S,
            check=True,
            env=environment,
        )
        return done.stdout.strip()
    return ""
