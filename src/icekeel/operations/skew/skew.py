"""The skew audit: features that were served, recomputed from history, and every difference named.

Each answer records the serial of the projection that its features were read at. `Reach` knows how far the journal
was then, history knows where in the journal each pushed version came from, so an answer is compared with what
exactly those versions give: a late file or a keeper that lags makes no difference, and every difference is a fault.
"""

from __future__ import annotations

import math
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import lmdb
import numpy as np

from icekeel.core.frames import Frame, Ints
from icekeel.core.kinds import Column, Kind
from icekeel.core.time import FOREVER, format_time
from icekeel.data import Manifest
from icekeel.data.answers import ANSWERS, FEATURE
from icekeel.data.relations import SQL_TYPES, connect, fetch, one_row, parquet, selected
from icekeel.define.nodes import Windowed, walk
from icekeel.features.aggregates import Function
from icekeel.features.online import GRACE
from icekeel.features.plan import Plan
from icekeel.operations.projections.reach import Reach, Reached
from icekeel.operations.projections.seen import Moment, SeenEvents, chains, reaches, recompute
from icekeel.operations.workspace import Workspace

from .evidence import Asked, Cause, Evidence

SKEW_AUDIT = "skew"
SAMPLE = 200
TOLERANCE = 1e-9
"""Of features that sum, relative to the largest value of the feature in the sample: another order of adding."""
EXPLAINED = 5
"""Features of which the cause is looked for; those that differ most often."""
_SUMMING = {Function.SUM, Function.MEAN, Function.STD, Function.LAST_MEAN}
UNKNOWN = "it is not known how far the store was (it was made anew, or unreadable)"
GONE = "segments of the journal that they had seen are gone"
OLD = "they were asked more than a day behind the newest event, where the store is not exact"
OTHER = "features were defined otherwise"


@dataclass(frozen=True, slots=True)
class Difference:
    """A feature of one answer that was served other than it is recomputed."""

    prediction_id: str
    asked_at: int
    feature: str
    served: object
    recomputed: object


@dataclass(frozen=True, slots=True)
class AuditResult:
    """What an audit found.

    Attributes:
        rows: Answers that were compared.
        features: Features of each.
        differences: Every feature of every answer that differs.
        late: Answers of `rows` whose features would be others with all that by now is known to have been available
            at their time: it came in, or was projected, later.
        left_out: Why answers could not be compared -> how many.
        causes: Feature -> the probable cause, for those that differ most often.
    """

    rows: int = 0
    features: int = 0
    differences: tuple[Difference, ...] = ()
    late: int = 0
    left_out: Mapping[str, int] = field(default_factory=dict)
    causes: Mapping[str, Cause] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """One line."""
        answers = len({difference.prediction_id for difference in self.differences})
        return f"{len(self.counts)} features of {answers} of {self.rows} answers were served other than recomputed"

    @property
    def counts(self) -> dict[str, int]:
        """Feature -> answers in which it differs, the most frequent first."""
        counts = Counter(difference.feature for difference in self.differences)
        return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))

    @property
    def todo(self) -> str:
        """The first thing to do."""
        return next((cause.todo for cause in self.causes.values()), "")

    def of(self, feature: str) -> list[Difference]:
        """The differences of one feature."""
        return [difference for difference in self.differences if difference.feature == feature]

    def sentences(self) -> list[str]:
        """Each feature with its rows, an example and the probable cause; the most frequent first."""
        found = []
        for name, count in self.counts.items():
            one, *others = self.of(name)
            also = f" (also {', '.join(other.prediction_id for other in others[:2])})" if others else ""
            cause = f"; {self.causes[name].sentence}" if name in self.causes else ""
            found.append(
                f"{name}: {count} answers, such as {one.prediction_id} at {format_time(one.asked_at)}{also}: "
                f"served {one.served}, recomputed {one.recomputed}{cause}"
            )
        return found


class Auditor:
    """Recomputes what was answered.

    Args:
        workspace: The definitions, and where answers and events are read from.
        online: The projections; None where there are none, and no answer can be compared then.
    """

    def __init__(self, workspace: Workspace, online: lmdb.Environment | None) -> None:
        self._workspace = workspace
        self._online = online

    def audit(self, model: str, limit: int = SAMPLE, *, since: int = 0, until: int = FOREVER) -> AuditResult:
        """Compare a sample of the answers asked in `[since, until)` under the present definitions.

        Args:
            limit: Most answers; which ones depends on their ids alone.
        """
        plan = self._workspace.plans[model]
        manifest = self._workspace.compact()
        files = self._workspace.history.paths(manifest, f"{ANSWERS}/{model}")
        if not files:
            return AuditResult(features=len(plan.features))
        sample, other = _sample(plan, files, (since, until), limit)
        left_out = {OTHER: other} if other else {}
        if self._online is None:
            return AuditResult(features=len(plan.features), left_out={**left_out, UNKNOWN: len(sample)})
        reach = Reach(self._online)
        known = reach.at({int(serial) for serial in sample["_position"]})
        kept, moments, why = comparable(sample, manifest, known)
        left_out |= why
        if not len(kept):
            return AuditResult(features=len(plan.features), left_out=left_out)
        sample = sample.take(kept)
        with tempfile.TemporaryDirectory(prefix="icekeel-audit-") as folder:
            bulk = {file: serial for file, (serial, _) in reach.files().items()}
            seen = SeenEvents(self._workspace, manifest, bulk, Path(folder))
            comparison = Comparison(plan, sample)
            exact = self._recomputed(plan, sample, seen, moments)
            differences = comparison.differences(exact)
            everything = [Moment(moment.asked_at, 0, {}) for moment in moments]
            late = comparison.changed(exact, self._recomputed(plan, sample, seen, everything))
            evidence = Evidence(self._workspace, model, seen, self._online, reach)
            causes = comparison.causes(differences, moments, evidence)
        return AuditResult(len(sample), len(plan.features), tuple(differences), late, left_out, causes)

    def _recomputed(self, plan: Plan, sample: Frame, seen: SeenEvents, moments: Sequence[Moment]) -> Frame:
        """The features of each answer as its moment saw the events."""
        groups = chains(moments)
        found = []
        for places in groups:
            part = sample.take(np.array(places))
            files = seen.write([moments[place] for place in places], reaches(plan.lookups))
            found.append(recompute(self._workspace, plan, part, part["_asked_at"], files))
        order = np.argsort(np.concatenate(groups))
        return Frame.stack(found).take(order)


class Comparison:
    """A sample of answers beside what history gives for the same questions."""

    def __init__(self, plan: Plan, sample: Frame) -> None:
        self._plan = plan
        self._sample = sample
        self._tolerances = {
            feature.name: TOLERANCE * _scale(sample[FEATURE + feature.name]) if _sums(feature.node) else 0.0
            for feature in plan.features
        }

    def differences(self, computed: Frame) -> list[Difference]:
        """Every feature that was served other than it is computed, answer by answer."""
        sample = self._sample
        return [
            Difference(sample["_id"][at], int(sample["_asked_at"][at]), name, served, again)
            for at in range(len(sample))
            for name in self._tolerances
            if not self.same(name, served := sample[FEATURE + name][at], again := computed[name][at])
        ]

    def changed(self, one: Frame, other: Frame) -> int:
        """Rows of which some feature differs."""
        names, rows = list(self._tolerances), range(len(one))
        return sum(any(not self.same(name, one[name][at], other[name][at]) for name in names) for at in rows)

    def same(self, name: str, one: Any, other: Any) -> bool:
        """Whether two values of a feature are equal, of one that sums but for the order of adding."""
        one, other = (math.nan if value is None else value for value in (one, other))
        if isinstance(one, str) or isinstance(other, str):
            return bool(one == other)
        if math.isnan(one) or math.isnan(other):
            return math.isnan(one) and math.isnan(other)
        return bool(one == other or abs(one - other) <= self._tolerances[name])

    def causes(
        self, differences: Sequence[Difference], moments: Sequence[Moment], evidence: Evidence
    ) -> dict[str, Cause]:
        """The probable cause of the features that differ most often, each from one answer."""
        places = {identifier: place for place, identifier in enumerate(self._sample["_id"])}
        examples = {one.feature: one for one in reversed(differences)}
        causes = {}
        for name, _ in Counter(one.feature for one in differences).most_common(EXPLAINED):
            one = examples[name]
            place = places[one.prediction_id]
            row = self._sample.take(np.array([place]))
            asked = Asked(name, row, moments[place], one.served, one.recomputed)
            causes[name] = evidence.cause(asked, partial(self.same, name))
        return causes


def _sample(plan: Plan, files: Sequence[Path], span: tuple[int, int], limit: int) -> tuple[Frame, int]:
    """Answers of a stretch of time, and how many others were given under other definitions."""
    own = [Column("_id", Kind.ID), Column("_asked_at", Kind.TIME), Column("_position", Kind.TIME)]
    logged = [Column(FEATURE + column.name, column.kind) for column in plan.columns]
    columns = [*plan.inputs, *own, *logged]
    with connect(reads=files) as connection:
        source, types = parquet(files, union=True), {one.name: SQL_TYPES[one.kind] for one in columns}
        listed = ", ".join(selected(connection, source, types))
        within = f"FROM {source} WHERE _asked_at >= {span[0]} AND _asked_at < {span[1]} AND _definitions"
        (other,) = one_row(connection, f"SELECT count(*) {within} <> '{plan.digest}'")
        statement = f"SELECT {listed} {within} = '{plan.digest}' ORDER BY md5(_id) LIMIT {limit}"
        return fetch(connection, statement, columns), other


def comparable(
    sample: Frame, manifest: Manifest, known: Mapping[int, Reached]
) -> tuple[Ints, list[Moment], dict[str, int]]:
    """Places of the answers that can be compared, the moment of each, and why others cannot.

    Args:
        known: Serial -> how far the projections were.
    """
    serials = [int(serial) for serial in sample["_position"]]
    kept, moments, left_out = [], [], Counter[str]()
    for place, (serial, asked_at) in enumerate(zip(serials, sample["_asked_at"].tolist(), strict=True)):
        reached = known.get(serial)
        if reached is None:
            left_out[UNKNOWN] += 1
        elif any(offset > manifest.journal.get(name, 0) for name, offset in reached.offsets.items()):
            left_out[GONE] += 1
        elif asked_at <= reached.known_until - GRACE:
            left_out[OLD] += 1
        else:
            kept.append(place)
            moments.append(Moment(asked_at, serial, reached.offsets))
    return np.array(kept, dtype=np.int64), moments, dict(left_out)


def _scale(values: Any) -> float:
    if values.dtype == object or not np.isfinite(values).any():
        return 1.0
    return max(1.0, float(np.abs(values[np.isfinite(values)]).max()))


def _sums(node: Any) -> bool:
    return any(isinstance(one, Windowed) and Function(one.function) in _SUMMING for one in walk(node))
