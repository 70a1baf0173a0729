"""One answer and all that stands behind it: what gave it, from which values, on which data, and what came of it.

What cannot be known any more is said so, never guessed.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lmdb
import numpy as np

from icekeel.core.errors import BundleError, RegistryError
from icekeel.core.frames import Frame
from icekeel.core.kinds import Column, Kind
from icekeel.core.time import format_time
from icekeel.data import Manifest
from icekeel.data.answers import FEATURE, as_dict
from icekeel.data.relations import array_of
from icekeel.define.formula import formula
from icekeel.define.reading import kind_of, reads_of, window_text, windows_of
from icekeel.features.plan import Plan
from icekeel.journal import Predicted
from icekeel.operations.projections.outcome import OutcomeTrace, plain, trace_outcome
from icekeel.operations.projections.reach import Reach, Reached
from icekeel.operations.projections.seen import Moment, SeenEvents, reaches, recompute
from icekeel.operations.skew.skew import OTHER, UNKNOWN, Comparison, comparable
from icekeel.operations.workspace import Workspace
from icekeel.registry import Change, Registry

from .dossier import Dossier, dossier
from .explain import Explanation, explain
from .window_rows import WindowRows, key_conditions, window_rows

Value = float | int | str | bool | None


@dataclass(frozen=True, slots=True)
class Standing:
    """How far the projections were that an answer was read from; `reached` is None where that is not known any more.

    Attributes:
        bulk: Bulk file -> serial at which it was projected.
    """

    reached: Reached | None = None
    bulk: Mapping[str, int] | None = None

    @classmethod
    def of(cls, online: lmdb.Environment | None, serial: int) -> Standing:
        """What the projections remember."""
        if online is None:
            return cls()
        reach = Reach(online)
        return cls(reach.at([serial]).get(serial), {file: at for file, (at, _) in reach.files().items()})


@dataclass(frozen=True, slots=True)
class Gate:
    """A check that the version passed or not, and what was found."""

    name: str
    passed: bool
    why: str


@dataclass(frozen=True, slots=True)
class Step:
    """A change of what serves: who made it, when and why."""

    at: str
    alias: str
    action: str
    version: str
    share: float
    by: str
    reason: str
    override: str


@dataclass(frozen=True, slots=True)
class VersionTrace:
    """The version that answered.

    Attributes:
        rung, rows: What was fitted, and on how many rows; None where the bundle is gone or damaged.
        steps: All that happened to it, oldest first; those up to the answer are `before` of them.
        serving: What gave it its role when it answered; None where the registry does not say.
    """

    name: str
    registered_at: str
    reason: str
    feature_set: str
    rung: str | None
    rows: int | None
    trained_from: str
    trained_to: str
    snapshot: str
    bundle: str
    gates: list[Gate]
    serving: Step | None
    steps: list[Step]


@dataclass(frozen=True, slots=True)
class FeatureTrace:
    """One value that the answer was made from.

    Attributes:
        definition: As the project has it; None where it has another one now, or none.
        kind: See `define.reading.kind_of`.
        used: Whether the version reads it; None where that is not known.
        request: Field -> value, of those it reads.
        windows: What each of its windows held.
        recomputed: From the events as they were seen; None unless `audited`.
        audited: `equal`, `differs`, or empty where it was not compared.
    """

    name: str
    value: Value
    definition: str | None
    kind: str
    used: bool | None
    request: dict[str, Value]
    windows: list[WindowRows]
    recomputed: Value
    audited: str


@dataclass(frozen=True, slots=True)
class Trace:
    """An answer and what stands behind it.

    Attributes:
        answer: As the journal has it.
        version: None where the registry does not know it.
        audit: In a sentence: equal, what differs, or why it was not compared.
        notes: What is not known any more, and what does not fit together.
        why: The answer explained; None where its version can no longer be read.
    """

    answer: Predicted
    version: VersionTrace | None
    features: list[FeatureTrace]
    outcome: OutcomeTrace | None
    audit: str
    notes: list[str]
    why: Explanation | None = None

    def as_dict(self) -> dict[str, Any]:
        """For JSON; times of the answer itself are microseconds UTC."""
        return {**{name: getattr(self, name) for name in self.__slots__}, "answer": as_dict(self.answer)}


def trace(
    workspace: Workspace, registry: Registry, record: Predicted, standing: Standing, *, now: int
) -> Trace:
    """All that stands behind an answer.

    Args:
        record: The answer.
        standing: How far the projections were that it was read from.
        now: Up to when outcomes are known, microseconds UTC.
    """
    notes: list[str] = []
    known = _dossier(workspace, registry, record, notes)
    version = None if known is None else _version(known, registry, record, notes)
    plan = workspace.plans.get(record.model)
    if plan is None:
        notes.append(f'the project has no model "{record.model}" any more: its definitions are not known')
        features = [_bare(name, value) for name, value in record.features.items()]
        return Trace(record, version, features, None, f"not compared: {OTHER}", notes)
    with workspace.view() as manifest, tempfile.TemporaryDirectory(prefix="icekeel-trace-") as folder:
        behind = _Behind(workspace, plan, record, standing, manifest, Path(folder))
        features, audit = behind.features(known.contents.definitions if known and known.contents else None)
        notes += behind.notes
        outcome = trace_outcome(workspace, manifest, record, Path(folder), now=now)
    return Trace(record, version, features, outcome, audit, notes, _why(workspace, registry, record))


def _why(workspace: Workspace, registry: Registry, record: Predicted) -> Explanation | None:
    try:
        return explain(record, workspace.project.models[record.model], registry, workspace.bundles)
    except (BundleError, RegistryError):  # of which the notes on the version tell
        return None


def _dossier(workspace: Workspace, registry: Registry, record: Predicted, notes: list[str]) -> Dossier | None:
    try:
        found = dossier(workspace, registry, record.version)
    except RegistryError:
        notes.append(f"the registry does not know {record.version}")
        return None
    if found.damage:
        notes.append(f"{record.version}: {found.damage}")
    return found


def _version(found: Dossier, registry: Registry, record: Predicted, notes: list[str]) -> VersionTrace:
    version = found.version
    serving = _serving(registry.history(record.model), record)
    if serving is None or serving.version != version.name:
        what = "nothing" if serving is None else serving.version
        notes.append(
            f"by the registry {what} was {record.arm} at that time; a server takes a change over within a second"
        )
        serving = None
    return VersionTrace(
        name=version.name,
        registered_at=format_time(version.at),
        reason=version.reason,
        feature_set=version.features,
        rung=found.contents.rung if found.contents else None,
        rows=found.contents.rows if found.contents else None,
        trained_from=format_time(version.trained_from),
        trained_to=format_time(version.trained_to),
        snapshot=version.snapshot,
        bundle=version.digest,
        gates=[
            Gate(str(gate.get("name")), bool(gate.get("passed")), str(gate.get("why", "")))
            for gate in version.gates
        ],
        serving=None if serving is None else _step(serving),
        steps=[_step(change) for change in found.history],
    )


def _serving(changes: Sequence[Change], record: Predicted) -> Change | None:
    """The change by which the answer's arm was what it was."""
    found = [change for change in changes if change.alias == record.arm and change.at <= record.at]
    return found[-1] if found and found[-1].action != "drop" else None


def _step(change: Change) -> Step:
    return Step(
        format_time(change.at), change.alias, change.action, change.version, change.share, change.by,
        change.reason, change.override,
    )  # fmt: skip


def _bare(name: str, value: Value) -> FeatureTrace:
    return FeatureTrace(name, plain(value, Kind.NUM), None, "", None, {}, [], None, "")


class _Behind:
    """The features of one answer: their definitions, the rows they were computed from, and the same computed again."""

    def __init__(
        self,
        workspace: Workspace,
        plan: Plan,
        record: Predicted,
        standing: Standing,
        manifest: Manifest,
        folder: Path,
    ) -> None:
        self._workspace, self._plan, self._record = workspace, plan, record
        self._manifest = manifest
        self.notes: list[str] = []
        self._same = record.definitions == plan.digest
        self._sample = _as_frame(plan, record)
        self._why, self._moment = self._read_at(standing)
        bulk = standing.bulk or {}
        self._seen = SeenEvents(workspace, manifest, bulk, folder, key_conditions(plan, record.request))

    def _read_at(self, standing: Standing) -> tuple[str, Moment]:
        """Why its features cannot be compared, if so, and the moment that its windows are looked at."""
        record, reached = self._record, standing.reached
        known = {} if reached is None else {record.position: reached}
        _, moments, why = comparable(self._sample, self._manifest, known)
        reason = next(iter(why), "") if self._same else OTHER
        if moments:
            return reason, moments[0]
        self.notes.append(f"windows are shown as all was known when it was asked: {next(iter(why), UNKNOWN)}")
        return reason, Moment(record.at, 0, {})

    def features(self, read: Mapping[str, str] | None) -> tuple[list[FeatureTrace], str]:
        """Each feature, and what comparing them says."""
        plan, record = self._plan, self._record
        files = self._seen.write([self._moment], reaches(plan.lookups))
        rows = window_rows(self._workspace, plan, record.request, self._moment, files)
        differing: set[str] = set()
        again: Frame | None = None
        if not self._why:
            times = np.array([record.at], dtype=np.int64)
            again = recompute(self._workspace, plan, self._sample, times, files)
            differing = {one.feature for one in Comparison(plan, self._sample).differences(again)}
        known = {feature.name: feature for feature in plan.features}
        found = []
        for name, value in record.features.items():
            feature = known.get(name)
            changed = read is not None and name in read and plan.definitions.get(name) != read[name]
            if feature is None or changed or not (self._same or (read is not None and name in read)):
                found.append(_bare(name, value))
                continue
            found.append(
                FeatureTrace(
                    name=name,
                    value=plain(value, feature.column.kind),
                    definition=formula(feature.node),
                    kind=kind_of(feature.node),
                    used=None if read is None else name in read,
                    request=self._request(reads_of(feature.node)["request"]),
                    windows=[rows[window_text(one)] for one in windows_of(feature.node)],
                    recomputed=None if again is None else plain(again[name][0], feature.column.kind),
                    audited="" if again is None else "differs" if name in differing else "equal",
                )
            )
        return found, self._audit(differing)

    def _request(self, fields: Sequence[str]) -> dict[str, Value]:
        request = {**self._record.request, "asked_at": self._record.at}
        kinds = {"asked_at": Kind.TIME, **{column.name: column.kind for column in self._plan.inputs}}
        return {name: plain(request.get(name), kinds[name]) for name in fields}

    def _audit(self, differing: set[str]) -> str:
        if self._why:
            return f"not compared: {self._why}"
        count = len(self._plan.features)
        if not differing:
            return f"all {count} features are equal, recomputed from the events that it was read from"
        listed = ", ".join(sorted(differing))
        return f"{len(differing)} of {count} features were served other than recomputed: {listed}"


def _as_frame(plan: Plan, record: Predicted) -> Frame:
    """The answer as a row of a sample, as the audit reads it."""
    own = [Column("_id", Kind.ID), Column("_asked_at", Kind.TIME), Column("_position", Kind.TIME)]
    logged = [Column(FEATURE + column.name, column.kind) for column in plan.columns]
    row = {"_id": record.id, "_asked_at": record.at, "_position": record.position, **record.request}
    row |= {FEATURE + name: value for name, value in record.features.items()}
    return Frame({column.name: array_of([row], column) for column in (*plan.inputs, *own, *logged)})
