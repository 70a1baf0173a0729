"""Reading a project file: every definition in it, or every fault at once."""

from __future__ import annotations

import ast
import sys
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from icekeel.core.errors import Fault, ProjectError
from icekeel.core.kinds import Kind

from .experiments import layer_faults
from .expressions import Expression, Unfinished, invalid
from .features import FeaturesMeta
from .model import Model
from .names import EARLY, early_names, unknown_words
from .nodes import broken, walk
from .privacy import private_faults
from .tables import EventsMeta, EventTable, RequestMeta

PROJECT_FILE = "project.py"


@dataclass(frozen=True, slots=True)
class Project:
    """The definitions of a project.

    Attributes:
        folder: Where the project file lies; sources are relative to it.
        tables: Event tables by name.
        models: Models by name.
        feature_sets: Every class of features by name, those that no model uses included.
    """

    folder: Path
    tables: Mapping[str, EventTable]
    models: Mapping[str, Model]
    feature_sets: Mapping[str, FeaturesMeta]


def load_project(folder: Path) -> Project:
    """Read `folder/project.py`. Nothing is opened, started or computed.

    Raises:
        ProjectError: with every fault found, each with its line.
    """
    path = folder / PROJECT_FILE
    if not path.is_file():
        raise ProjectError(
            Fault("no_project", "there is no project file", str(path), hint="icekeel init FOLDER writes one")
        )
    try:
        module = _execute(path)
    except ProjectError as error:
        if isinstance(error.__cause__, NameError):
            raise ProjectError(*_faults_with_names(path, error.faults)) from error.__cause__
        if isinstance(error.__cause__, AttributeError) and (words := unknown_words(path)):
            raise ProjectError(*words) from error.__cause__
        raise
    return read_project(module, folder, _lines(path))


def _faults_with_names(path: Path, stopped: Sequence[Fault]) -> Sequence[Fault]:
    """All faults of a file that stopped at a name: those of its names, and what else is wrong."""
    early = early_names(ast.parse(path.read_text(encoding="utf-8")), path.name)
    if not early:
        return stopped
    rest: Sequence[Fault] = ()
    try:
        module = _execute(path, {name: invalid(Kind.NUM, fault) for name, fault in early.items()})
        read_project(module, path.parent, _lines(path))
    except ProjectError as error:
        rest = [fault for fault in error.faults if fault.code not in (*EARLY, "broken_project")]
    return [*dict.fromkeys(early.values()), *rest]


def _execute(path: Path, names: Mapping[str, object] | None = None) -> ModuleType:
    name = f"icekeel_project_{abs(hash(path.resolve()))}"
    module = ModuleType(name)
    module.__file__ = str(path)
    sys.modules[name] = module
    vars(module).update(names or {})
    try:
        # Not by an import, which takes a cached file for the same where size and second are.
        exec(compile(path.read_bytes(), str(path), "exec", dont_inherit=True), vars(module))
    except Exception as error:  # a process boundary: the user's own code runs here
        where = path.name
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
        line = frames[-1].lineno if frames else getattr(error, "lineno", None)
        if line:
            where += f":{line}"
        del sys.modules[name]
        if isinstance(error, ProjectError):
            raise ProjectError(*(fault.at(where) for fault in error.faults)) from error
        raise ProjectError(Fault("broken_project", f"{type(error).__name__}: {error}", where)) from error
    return module


def read_project(module: ModuleType, folder: Path, lines: Mapping[str, int] | None = None) -> Project:
    """The definitions found in a module.

    Raises:
        ProjectError: with every fault found.
    """
    lines = lines or {}
    values = list({id(value): value for value in vars(module).values()}.values())
    events = [value for value in values if isinstance(value, EventsMeta) and "icekeel_table" in vars(value)]
    requests = [
        value for value in values if isinstance(value, RequestMeta) and "icekeel_fields" in vars(value)
    ]
    features = [value for value in values if isinstance(value, FeaturesMeta)]
    models = [value for value in values if isinstance(value, Model)]
    tables: list[RequestMeta | EventsMeta] = [*requests, *events]
    faults = [fault for table in tables for fault in table.icekeel_faults]
    faults += _told_once(
        [*_broken_values(module), *(pair for owner in features for pair in owner.icekeel_faults)]
    )
    for model in models:
        faults += model.faults()
    if not faults:
        faults = private_faults(requests, events, features, models)
    if not faults:
        faults = [
            *layer_faults({one.name: one.rollout for one in models if one.rollout}),
            *_unread(models, events),
        ]
    names = [model.name for model in models]
    faults += [
        Fault("twice", "two models have one name", name) for name in {n for n in names if names.count(n) > 1}
    ]
    if not models:
        faults.append(
            Fault("no_model", "the project has no model", module.__name__, hint="name = ik.Model(...)")
        )
    if faults:
        raise ProjectError(*(_with_line(fault, lines) for fault in dict.fromkeys(faults)))
    owned = {owner.icekeel_table.name: owner.icekeel_table for owner in events}
    sets = {one.__name__: one for one in features if one.icekeel_features}
    return Project(folder, owned, {model.name: model for model in models}, sets)


def _unread(models: Iterable[Model], events: Iterable[EventsMeta]) -> Iterator[Fault]:
    """Metrics of tables that are not in the project file."""
    tables = {owner.icekeel_table.name for owner in events}
    for model in models:
        for metric in model.rollout.metrics if model.rollout else ():
            if (table := metric.outcome.keyed.table) not in tables:
                where = f'Model "{model.name}", rollout, metric {metric.called}'
                what = "a metric is of an event table of this file"
                yield Fault("unknown_table", what, where, table, ", ".join(sorted(tables)))


def _broken_values(module: ModuleType) -> Iterator[tuple[str, Fault]]:
    """What stands outside of classes and cannot hold, with its name."""
    for name, value in vars(module).items():
        if isinstance(value, Unfinished):
            yield from ((name, fault) for fault in getattr(value, "_faults", ()))
        if isinstance(value, Expression):
            yield from ((name, fault) for fault in broken(walk(value.node)))


def _told_once(found: Iterable[tuple[str, Fault]]) -> list[Fault]:
    """Each fault where it shows first: expressions made of a broken one carry the same object."""
    first: dict[int, Fault] = {}
    for place, fault in found:
        first.setdefault(id(fault), fault.inside(place))
    return list(first.values())


def _lines(path: Path) -> dict[str, int]:
    """Line of each class, of each name in a class body and of each model: `Features.load` -> 41."""
    lines: dict[str, int] = {}
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef):
            lines[node.name] = lines[f"class {node.name}"] = node.lineno
            for inner in node.body:
                for name in _names(inner):
                    lines[f"{node.name}.{name}"] = inner.lineno
        elif isinstance(node, ast.Assign):
            lines |= dict.fromkeys(_names(node), node.lineno)
            arguments = node.value.args if isinstance(node.value, ast.Call) else []
            if arguments and isinstance(arguments[0], ast.Constant):
                lines[f'Model "{arguments[0].value!s}"'] = node.lineno
    return lines


def _names(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.FunctionDef):
        return [node.name]
    targets: list[ast.expr] = []
    if isinstance(node, ast.AnnAssign):
        targets = [node.target]
    elif isinstance(node, ast.Assign):
        targets = [name for target in node.targets for name in getattr(target, "elts", [target])]
    return [target.id for target in targets if isinstance(target, ast.Name)]


def _with_line(fault: Fault, lines: Mapping[str, int]) -> Fault:
    place = fault.where.split(":")[0].split(",")[0].strip()
    while place and place not in lines and "." in place:
        place = place.rpartition(".")[0]
    if place not in lines:
        return fault
    return fault.at(f"{PROJECT_FILE}:{lines[place]} {fault.where}")
