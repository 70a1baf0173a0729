"""Settled answers of one metric of an experiment as columns, kept for as long as it lasts.

An answer takes 36 bytes, 44 with a covariate, whatever its unit is called: units are told apart by 64 bits of hash, by
which among 5 million units two are taken for one once in a million experiments.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from icekeel.core.frames import Array, Ints
from icekeel.experiments import Answers, Metric, Units, gather
from icekeel.operations.projections.projections import Settled
from icekeel.registry import CHALLENGER, CHAMPION, Trial

MOST_GROUPS, OTHERS = 100, "(others)"
"""Groups of a segment that are told apart, the largest; the evidence of the others is of all of them together."""
SPARE = 32
"""A column that is full grows by one part in so many."""


class Column:
    """Numbers of one type that grow.

    Args:
        filled: So many are there already, none of them a number.
    """

    def __init__(self, kind: DTypeLike, filled: int = 0) -> None:
        self._room: Array = np.full(filled, np.nan).astype(kind)
        self._length = filled

    def extend(self, more: Iterable[Any]) -> None:
        """Add numbers at the end."""
        added = np.array(list(more), dtype=self._room.dtype)
        end = self._length + len(added)
        if end > len(self._room):
            room = np.empty(end + end // SPARE, dtype=self._room.dtype)
            room[: self._length] = self.values
            self._room = room
        self._room[self._length : end] = added
        self._length = end

    @property
    def values(self) -> Array:
        """All of them, to be read at once."""
        return self._room[: self._length]


class Kind(NamedTuple):
    """What few answers differ in: whose arm they are, the phase, and the values of the fields that tell results apart."""

    in_b: bool
    phase: str
    segments: tuple[str, ...]


class Rows:
    """The answers that count in an experiment, in the order in which they came."""

    def __init__(self) -> None:
        self._kinds: dict[Kind, int] = {}
        self._kind, self._unit = Column(np.int32), Column(np.int64)
        self._asked_at, self._settled_at = Column(np.int64), Column(np.int64)
        self._value = Column(np.float64)
        self._before: Column | None = None
        """The covariate, from the first answer on that has one."""

    def add(self, trial: Trial, rows: Sequence[Settled], values: Iterable[float]) -> None:
        """Take those that count in a trial."""
        arms, phases = {CHAMPION, CHALLENGER}, trial.phases(even=True)
        pairs = zip(rows, values, strict=True)
        kept = [(row, value) for row, value in pairs if row.phase in phases and row.arm in arms]
        kept = [(row, value) for row, value in kept if row.asked_at >= trial.since]
        self._note([Kind(row.arm == CHALLENGER, row.phase, row.segments) for row, _ in kept])
        self._note_before([row.covariate for row, _ in kept])
        self._unit.extend(hash(row.unit) for row, _ in kept)
        self._asked_at.extend(row.asked_at for row, _ in kept)
        self._settled_at.extend(row.settled_at for row, _ in kept)
        self._value.extend(value for _, value in kept)

    def extend(self, columns: Answers) -> None:
        """Take rows from elsewhere, which are settled when they are asked; times are microseconds."""
        n = len(columns.unit)
        phases = [""] * n if columns.phase is None else columns.phase.tolist()
        segments = [""] * n if columns.segment is None else columns.segment.tolist()
        arms = columns.in_b.tolist()
        found = zip(arms, phases, segments, strict=True)
        self._note([Kind(in_b, phase, (own,)) for in_b, phase, own in found])
        self._note_before([None] * n if columns.covariate is None else columns.covariate.tolist())
        self._unit.extend(hash(repr(one)) for one in columns.unit.tolist())  # -1 and -2 have one hash
        self._asked_at.extend(columns.asked_at)
        self._settled_at.extend(columns.asked_at)
        self._value.extend(columns.value)

    def _note(self, kinds: Sequence[Kind]) -> None:
        self._kind.extend(self._kinds.setdefault(kind, len(self._kinds)) for kind in kinds)

    def _note_before(self, given: Sequence[float | None]) -> None:
        if self._before is None and any(one is not None for one in given):
            self._before = Column(np.float64, len(self._unit.values))
        if self._before is not None:
            self._before.extend(given)

    def gather(self, metric: Metric, until: int, segment: int | None = None) -> Units:
        """Units by what was settled before a time.

        Args:
            segment: Which of the fields tells results apart.
        """
        known = self._settled_at.values < until
        kind = self._kind.values[known]
        before = None if self._before is None else self._before.values[known]
        units = gather(
            metric,
            Answers(
                _ranks(self._unit.values)[known],
                np.array([one.in_b for one in self._kinds], dtype=np.bool_)[kind],
                self._asked_at.values[known],
                self._value.values[known],
                kind,
                covariate=before if before is not None and np.isfinite(before).any() else None,
            ),
        )
        first = units.phase  # the kind of each unit's first answer
        units = replace(units, phase=_objects(one.phase for one in self._kinds)[first])
        if segment is not None:
            units = replace(units, segment=_objects(one.segments[segment] for one in self._kinds)[first])
        names, group, sizes = np.unique(units.segment.astype(str), return_inverse=True, return_counts=True)
        if len(names) <= MOST_GROUPS:
            return units
        small = np.ones(len(names), dtype=np.bool_)
        small[np.argsort(-sizes, kind="stable")[:MOST_GROUPS]] = False
        return replace(units, segment=np.where(small[group], OTHERS, units.segment))

    def times(self) -> Ints:
        """When each answer was settled."""
        return self._settled_at.values


def _ranks(hashes: Ints) -> Ints:
    """For each answer the number of its unit, in the order in which units first came."""
    _, first, unit = np.unique(hashes, return_index=True, return_inverse=True)
    ranks = np.empty(len(first), dtype=np.int64)
    ranks[np.argsort(first)] = np.arange(len(first))
    return ranks[unit]


def _objects(names: Iterable[str]) -> Array:
    return np.array(list(names), dtype=object)
