"""All that is kept of a version, in words; two versions beside each other; and whether one could be made again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from icekeel.core.errors import BundleError, IcekeelError, StateError
from icekeel.core.time import format_second
from icekeel.define.project import PROJECT_FILE
from icekeel.operations.workshop.audits import findings_of
from icekeel.operations.workshop.lineage import Lineage, code_digest, is_commit, lineage_of
from icekeel.operations.workspace import Workspace
from icekeel.registry import Bundle, Change, Contents, Registry, Version, read
from icekeel.serving import load_version

Row = dict[str, Any]
SAME, DIFFERS, GONE, DAMAGED, UNKNOWN = "same", "differs", "gone", "damaged", "unknown"
GATE = ("name", "passed", "measured", "required", "why")
FINDING = ("audit", "verdict", "what", "todo", "cost")
STEP = ("rung", "error", "error_by_fold", "fit_seconds", "predict_us", "bundle_bytes")
CHANGE = ("when", "alias", "action", "share", "by", "reason", "override")
"""What a page shows of each."""
LOST = (GONE, DAMAGED)
"""Verdicts on what cannot be put back."""


class Part(NamedTuple):
    """A heading, lines under it, and rows of which all have the same keys."""

    heading: str
    lines: list[str]
    rows: list[Row]


@dataclass(frozen=True, slots=True)
class Dossier:
    """One version, and everything that is known of it.

    Attributes:
        bundle, contents: Its files and what they say it is; None where they are gone or damaged: `damage` has the reason.
        audits: What was found in training and since, see `findings_of`.
        serves_as: The aliases that stand for it now.
        history: Every change of an alias to or from it, oldest first.
    """

    version: Version
    bundle: Bundle | None
    contents: Contents | None
    damage: str
    audits: Sequence[Mapping[str, Any]]
    serves_as: Sequence[str]
    history: Sequence[Change]

    @property
    def files(self) -> dict[str, int]:
        """Name -> bytes of each file of the bundle."""
        return {} if self.bundle is None else {name: len(data) for name, data in self.bundle.files.items()}

    @property
    def overrides(self) -> list[Change]:
        """The promotions that passed over gates it had failed."""
        return [change for change in self.history if change.override]

    @property
    def lineage(self) -> Lineage:
        """How it came to be; empty for versions registered before that was kept."""
        return msgspec.convert(self.version.lineage, Lineage)

    def as_dict(self) -> Row:
        """For JSON; times are microseconds UTC."""
        return {
            **asdict(self.version),
            "failed_gates": self.version.failed,
            "rung": self.contents.rung if self.contents else None,
            "rows": self.contents.rows if self.contents else None,
            "damage": self.damage,
            "files": self.files,
            "audits": list(self.audits),
            "serves_as": list(self.serves_as),
            "overrides": [asdict(change) for change in self.overrides],
            "history": [asdict(change) for change in self.history],
        }

    def told(self) -> list[Part]:
        """A page of it, part by part."""
        version, ladder = self.version, self.version.ladder
        importance = dict(version.metrics.get("importance", ()))
        features = [
            {"feature": name, "importance": importance.get(name), "expression": one.get("expression", "")}
            for name, one in version.definitions.items()
        ]
        steps = [
            {**step, "error_by_fold": [f"{error:.4g}" for error in step["error_by_fold"]]}
            for step in ladder.get("steps", ())
        ]
        history = [{"when": format_second(change.at), **asdict(change)} for change in self.history]
        settings = [{"setting": name, "value": value} for name, value in self.lineage.settings.items()]
        over = [overridden(one.alias, one.by, one.at, one.override) for one in self.overrides]
        parts = [
            Part(f"Version {version.name}", [*over, *self._facts()], []),
            Part("Gates", [] if version.gates else ["it was never checked"], _only(GATE, version.gates)),
            Part("Audits", [], _only(FINDING, self.audits)),
            Part("Ladder", [str(ladder["reason"])] if "reason" in ladder else [], _only(STEP, steps)),
            Part("Features", [], sorted(features, key=lambda row: -(row["importance"] or 0))),
            Part("Settings", [], settings),
            Part("What became of it", [] if history else ["it never had a role"], _only(CHANGE, history)),
        ]
        return [part for part in parts if part.lines or part.rows]

    def _facts(self) -> Iterator[str]:
        version, lineage = self.version, self.lineage
        fitted = f"{self.contents.rung} on {self.contents.rows:,} rows" if self.contents else self.damage
        yield f"{version.features}, {fitted}; {', '.join(self.serves_as) or 'serves as nothing'}"
        yield f"registered {format_second(version.at)} by {version.by or 'somebody'}: {version.reason}"
        yield f"learnt from questions of {format_second(version.trained_from)} to {format_second(version.trained_to)}"
        yield f"snapshot {version.snapshot[:16]}, code {version.code[:16]}, bundle {version.digest[:16]} ({sum(self.files.values()):,} bytes)"
        if lineage.commit:
            changed = ", with changes that were not committed" if lineage.dirty else ""
            yield f"git commit {lineage.commit[:12]}{changed}"
        if lineage.packages:
            yield ", ".join(f"{name} {number}" for name, number in lineage.packages.items())


def dossier(workspace: Workspace, registry: Registry, name: str) -> Dossier:
    """Everything that is known of a version.

    Raises:
        RegistryError: `unknown_version`.
    """
    version = registry.version(name)
    bundle, contents, damage = None, None, ""
    try:
        bundle = read(workspace.bundles, version.digest)
        contents = msgspec.convert(bundle.meta, Contents)
    except (BundleError, msgspec.ValidationError) as error:
        why = error.faults[0].what if isinstance(error, BundleError) else str(error)
        damage = f"its bundle cannot be read: {why}"
    aliases = registry.aliases(version.model)
    serves = [alias for alias, one in aliases.items() if one.version == version.name]
    history = [change for change in registry.history(version.model) if change.version == version.name]
    return Dossier(version, bundle, contents, damage, findings_of(registry, version), serves, history)


def differences(first: Dossier, second: Dossier) -> dict[str, list[Row]]:
    """What differs between two versions; each part lists rows with the values of `a` and of `b`.

    The parts: `settings`, `features` (added, removed, redefined), `errors` (of both over the days that both were
    tested on), `gates`, `made_from` (snapshot, code, packages) and `sizes`.
    """
    a, b = first.version, second.version
    made = [_made_from(one) for one in (first, second)]
    gates = [{str(gate["name"]): gate for gate in one.gates} for one in (a, b)]
    measured = [
        {name: f"{'passed' if gate.get('passed') else 'FAILED'}, {gate.get('why', '')}" for name, gate in one.items()}
        for one in gates
    ]  # fmt: skip
    return {
        "settings": _changed(first.lineage.settings, second.lineage.settings),
        "features": list(_redefined(a.definitions, b.definitions)),
        "errors": _errors(a, b),
        "gates": _changed(*measured),
        "made_from": _changed(*made),
        "sizes": _changed(_sizes(first), _sizes(second)),
    }


def overridden(alias: str, by: str, at: int, why: str) -> str:
    """A promotion in spite of failed gates, in a sentence."""
    return f"OVERRIDE: made {alias} by {by} on {format_second(at)} although gates had failed: {why}"


def _only(names: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> list[Row]:
    return [{name: row.get(name) for name in names} for row in rows]


def _changed(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[Row]:
    return [
        {"what": name, "a": first.get(name), "b": second.get(name)}
        for name in dict.fromkeys([*first, *second])
        if first.get(name) != second.get(name)
    ]


def _redefined(
    first: Mapping[str, Mapping[str, str]], second: Mapping[str, Mapping[str, str]]
) -> Iterator[Row]:
    for name in dict.fromkeys([*first, *second]):
        before, after = first.get(name, {}), second.get(name, {})
        if before.get("digest") != after.get("digest"):
            change = "redefined" if before and after else "removed" if before else "added"
            yield {
                "what": name,
                "change": change,
                "a": before.get("expression"),
                "b": after.get("expression"),
            }


def _made_from(one: Dossier) -> dict[str, Any]:
    """What a version was made from: each part that it can be told from another by."""
    version, lineage, contents = one.version, one.lineage, one.contents
    return {
        "feature_set": version.features,
        "rung": contents.rung if contents else None,
        "rows": contents.rows if contents else None,
        "trained_from": format_second(version.trained_from),
        "trained_to": format_second(version.trained_to),
        "snapshot": version.snapshot,
        "code": version.code,
        "commit": lineage.commit + (" with changes" if lineage.dirty else ""),
        **lineage.packages,
    }


def _errors(a: Version, b: Version) -> list[Row]:
    """Errors of the backtests, and the mean error of a row over the days that both tested."""
    name = str(a.ladder.get("error", "error"))
    rows = [{"what": f"{name} of {rung}", "a": error, "b": b.metrics.get("errors", {}).get(rung)}
            for rung, error in a.metrics.get("errors", {}).items()]  # fmt: skip
    days = [dict(one.metrics.get("daily_loss", ())) for one in (a, b)]
    both = sorted(days[0].keys() & days[1].keys())
    if both and name == b.ladder.get("error"):
        means = [sum(one[day] for day in both) / len(both) for one in days]
        rows.append(
            {
                "what": f"error of a row, mean of the {len(both)} days both tested",
                "a": means[0],
                "b": means[1],
            }
        )
    return rows


def _sizes(one: Dossier) -> dict[str, Any]:
    rung = one.contents.rung if one.contents else ""
    step: Mapping[str, Any] = next(
        (step for step in one.version.ladder.get("steps", ()) if step["rung"] == rung), {}
    )
    timed = {"fit_s": step.get("fit_seconds"), "row_us": step.get("predict_us")}
    return {"bytes": sum(one.files.values()), "features": len(one.version.definitions), **timed}


def verified(workspace: Workspace, registry: Registry, name: str) -> list[Row]:
    """Whether a version is whole and could be made again: one row for each check, `verdict` and `found` in it.

    Verdicts: `same`; `differs`, which can be put back; `gone`, `damaged`; `unknown`, from before that was kept.

    Raises:
        RegistryError: `unknown_version`.
    """
    version = registry.version(name)
    lineage = msgspec.convert(version.lineage, Lineage)
    project, plan = workspace.project, workspace.plans.get(version.model)
    if plan is None:
        return [_check("code", GONE, f'the project has no model "{version.model}" any more')]
    return [
        _bundle(workspace, version),
        _snapshot(workspace, version),
        _code(version.code, code_digest(project.models[version.model], plan)),
        _features(version, plan.definitions),
        *_made_with(project.folder, lineage, lineage_of(project.folder, project.models[version.model], "")),
    ]


def project_as_then(workspace: Workspace, version: Version) -> dict[str, bytes]:
    """The project file, if its features of today are those that a version was trained with; else nothing."""
    plan = workspace.plans.get(version.model)
    then = {name: one["digest"] for name, one in version.definitions.items()}
    if plan is None or not then or any(plan.definitions.get(name) != one for name, one in then.items()):
        return {}
    return {PROJECT_FILE: (workspace.project.folder / PROJECT_FILE).read_bytes()}


def _check(what: str, verdict: str, found: str) -> Row:
    return {"check": what, "verdict": verdict, "found": found}


def _bundle(workspace: Workspace, version: Version) -> Row:
    try:
        bundle = read(workspace.bundles, version.digest)
    except BundleError as error:
        return _check("bundle", DAMAGED, str(error))
    try:
        load_version(version, workspace.bundles, workspace.plans[version.model])
    except IcekeelError as error:
        return _check("bundle", DIFFERS, f"whole, but it cannot serve today: {error}")
    size = sum(map(len, bundle.files.values()))
    return _check("bundle", SAME, f"{len(bundle.files)} files, {size:,} bytes, golden rows agree")


def _snapshot(workspace: Workspace, version: Version) -> Row:
    history = workspace.history
    try:
        snapshot = history.snapshot(version.snapshot)
    except StateError as error:
        return _check("snapshot", DAMAGED if error.code == "bad_snapshot" else GONE, error.faults[0].what)
    paths = [path for table in snapshot.tables for path in history.paths(snapshot.manifest, table)]
    gone = [path.name for path in paths if not path.exists()]
    found = (
        f"{len(gone)} of its {len(paths)} files are gone: {', '.join(gone[:3])}"
        if gone
        else f"all {len(paths)} files"
    )
    return _check("snapshot", GONE if gone else SAME, found)


def _code(before: str, now: str) -> Row:
    same = before == now
    return _check("code", SAME if same else DIFFERS, f"{before[:16]}{'' if same else f', now {now[:16]}'}")


def _features(version: Version, now: Mapping[str, str]) -> Row:
    if not version.definitions:
        return _check("features", UNKNOWN, "its definitions were not kept")
    others = [name for name, one in version.definitions.items() if now.get(name) != one["digest"]]
    found = f"defined otherwise now: {', '.join(others)}" if others else f"{len(version.definitions)} as then"
    return _check("features", DIFFERS if others else SAME, found)


def _made_with(folder: Path, then: Lineage, now: Lineage) -> Iterator[Row]:
    if not then.packages:
        yield _check("packages", UNKNOWN, "they were not kept")
        return
    others = [f"{row['what']} {row['a']}, now {row['b']}" for row in _changed(then.packages, now.packages)]
    yield _check(
        "packages", DIFFERS if others else SAME, "; ".join(others) or f"{len(then.packages)} as then"
    )
    if then.commit and not is_commit(folder, then.commit):
        yield _check("commit", GONE, f"{then.commit[:12]} is not in the work tree's history")
    elif then.commit:
        lost = ", with changes that were never committed" if then.dirty else " can be checked out"
        yield _check("commit", DIFFERS if then.dirty else SAME, then.commit[:12] + lost)
