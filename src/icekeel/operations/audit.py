"""The skew audit: features that were served, recomputed from history, and every difference named."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import numpy as np

from icekeel.compile import quote
from icekeel.core.frames import Frame, Ints
from icekeel.core.kinds import Column, Kind
from icekeel.core.time import DAY, FOREVER, format_time
from icekeel.data import History
from icekeel.data.compaction import ANSWERS, FEATURE, compact
from icekeel.data.relations import fetch, parquet
from icekeel.define import EventTable, Project
from icekeel.define.nodes import Windowed, walk
from icekeel.features.aggregates import Function
from icekeel.features.offline import EventStore, historical_features
from icekeel.features.plan import Plan

SAMPLE = 200
MOST_BEHIND = 20
"""Answers that are recomputed one by one, each as far as its features had been read."""
TOLERANCE = 1e-9
"""Of features that sum, relative to the largest value of the feature in the sample: another order of adding."""
_SUMMING = {Function.SUM, Function.MEAN, Function.STD, Function.LAST_MEAN}


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
        behind: Answers of `rows` whose events had not all been projected when they were asked; they are compared
            with what had been.
        skipped: Answers left out since it is not known, or too dear to recompute, how far theirs had been.
        tables: Feature -> the event tables behind it.
    """

    rows: int
    features: int
    differences: tuple[Difference, ...]
    behind: int
    skipped: int
    tables: Mapping[str, Sequence[str]]

    @property
    def title(self) -> str:
        """One line."""
        answers = len({difference.prediction_id for difference in self.differences})
        features = len({difference.feature for difference in self.differences})
        return f"{features} features of {answers} of {self.rows} answers were served other than recomputed"

    def sentences(self) -> list[str]:
        """Each feature with its rows, an example and the probable cause; the most frequent first."""
        first = {one.feature: one for one in reversed(self.differences)}
        counts = Counter(difference.feature for difference in self.differences)
        return [
            f"{name}: {count} answers, such as {first[name].prediction_id} at {format_time(first[name].asked_at)}: "
            f"served {first[name].served}, recomputed {first[name].recomputed}; {self._cause(name)}"
            for name, count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        ]

    def _cause(self, feature: str) -> str:
        tables = self.tables.get(feature, ())
        if not tables:
            return "it reads the request alone, so the two compilations of its expression differ"
        return f"history and the online windows hold different rows of {' or '.join(tables)}"


class Auditor:
    """Recomputes what was answered.

    Args:
        project, plans: The definitions.
        history, journal: What the answers and the events are read from.
        answers: Columns of each model's table of answers.
    """

    def __init__(
        self,
        project: Project,
        plans: Mapping[str, Plan],
        *,
        history: History,
        journal: Path,
        answers: Mapping[str, Sequence[Column]],
    ) -> None:
        self._project = project
        self._plans = plans
        self._history = history
        self._journal = journal
        self._answers = answers

    def audit(
        self,
        model: str,
        limit: int = SAMPLE,
        *,
        since: int = 0,
        until: int = FOREVER,
        known: Callable[[int], int | None] = lambda position: None,
    ) -> AuditResult:
        """Compare a sample of the answers asked in `[since, until)` under the present definitions.

        Args:
            limit: Most answers; which ones depends on their ids alone.
            known: The availability up to which events had been projected at a position; None if not known.
        """
        plan = self._plans[model]
        manifest = compact(self._history, self._journal, self._project.tables, self._answers)
        sample = self._sample(
            plan, self._history.paths(manifest, f"{ANSWERS}/{model}"), (since, until), limit
        )
        tables = _tables(plan)
        if not len(sample):
            return AuditResult(0, len(plan.features), (), 0, 0, tables)
        files = {name: self._history.paths(manifest, name) for name in self._project.tables}
        oldest = int(sample["_asked_at"].min()) - max((one.view.back for one in plan.lookups), default=0)
        store = _RecentEvents(self._project.tables, files, threads=1)
        store.oldest = oldest - DAY
        try:
            return self._compare(plan, sample, store, known)
        finally:
            store.close()

    def _sample(self, plan: Plan, files: Sequence[Path], span: tuple[int, int], limit: int) -> Frame:
        own = [Column("_id", Kind.ID), Column("_asked_at", Kind.TIME), Column("_position", Kind.TIME)]
        logged = [Column(FEATURE + column.name, column.kind) for column in plan.columns]
        columns = [*plan.inputs, *own, *logged]
        if not files:
            return Frame({column.name: np.zeros(0) for column in columns})
        connection = duckdb.connect(config={"threads": 1})
        try:
            source = parquet(files, union=True)
            held = {row[0] for row in connection.execute(f"DESCRIBE SELECT * FROM {source}").fetchall()}
            listed = ", ".join(
                quote(c.name) if c.name in held else f"NULL AS {quote(c.name)}" for c in columns
            )
            return fetch(
                connection,
                f"SELECT {listed} FROM {source} WHERE _asked_at >= {span[0]} AND _asked_at < {span[1]} "
                f"AND _definitions = '{plan.digest}' ORDER BY md5(_id) LIMIT {limit}",
                columns,
            )
        finally:
            connection.close()

    def _compare(
        self, plan: Plan, sample: Frame, store: EventStore, known: Callable[[int], int | None]
    ) -> AuditResult:
        """All at once as of their times; those that differ again, by what had been projected."""
        asked_at, positions = sample["_asked_at"], sample["_position"]
        scales = {feature.name: _scale(sample[FEATURE + feature.name]) for feature in plan.features}
        found = _differences(plan, sample, np.arange(len(sample)), store, scales)
        lagging: list[tuple[int, int]] = []
        skipped = 0
        for row in [row for row in found if found[row]]:
            position = known(int(positions[row]))
            if position is not None and position >= asked_at[row]:
                continue
            if position is None or len(lagging) == MOST_BEHIND:
                skipped += 1
                del found[row]
            else:
                lagging.append((position, row))
        for position, row in sorted(lagging, reverse=True):  # the store only ever forgets
            store.forget_after(position)
            found |= _differences(plan, sample, np.array([row]), store, scales)
        differences = tuple(one for row in sorted(found) for one in found[row])
        return AuditResult(
            len(sample) - skipped, len(plan.features), differences, len(lagging), skipped, _tables(plan)
        )


class _RecentEvents(EventStore):
    """Only events that windows of the sample can meet, with all their versions."""

    oldest = 0

    def _source(self, table: EventTable) -> str:
        every, name = super()._source(table), quote(table.id)
        recent = f"SELECT {name} FROM {every} WHERE {quote(table.time)} >= {self.oldest}"
        return f"(SELECT * FROM {every} WHERE {name} IN ({recent}))"


def _differences(
    plan: Plan, sample: Frame, rows: Ints, store: EventStore, scales: Mapping[str, float]
) -> dict[int, list[Difference]]:
    part = sample.take(rows)
    requests = part.select([column.name for column in plan.inputs])
    computed = historical_features(plan, requests, part["_asked_at"], store)
    found: dict[int, list[Difference]] = {int(row): [] for row in rows}
    for feature in plan.features:
        tolerance = TOLERANCE * scales[feature.name] if _sums(feature.node) else 0.0
        pairs = zip(part[FEATURE + feature.name], computed[feature.name], strict=True)
        for place, (served, again) in enumerate(pairs):
            if not _same(served, again, tolerance):
                one = Difference(
                    part["_id"][place], int(part["_asked_at"][place]), feature.name, served, again
                )
                found[int(rows[place])].append(one)
    return found


def _same(served: Any, again: Any, tolerance: float) -> bool:
    if not isinstance(served, float) or not isinstance(again, float):
        return bool(served == again)
    if math.isnan(served) or math.isnan(again):
        return math.isnan(served) and math.isnan(again)
    return served == again or abs(served - again) <= tolerance


def _scale(values: Any) -> float:
    if values.dtype == object or not np.isfinite(values).any():
        return 1.0
    return max(1.0, float(np.abs(values[np.isfinite(values)]).max()))


def _sums(node: Any) -> bool:
    return any(isinstance(one, Windowed) and Function(one.function) in _SUMMING for one in walk(node))


def _tables(plan: Plan) -> dict[str, list[str]]:
    return {
        feature.name: sorted({one.keyed.table for one in walk(feature.node) if isinstance(one, Windowed)})
        for feature in plan.features
    }
