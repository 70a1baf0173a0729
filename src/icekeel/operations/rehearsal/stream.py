"""The window in the order of time, with the faults in it, as the steps of a replay."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

from icekeel.core.time import DAY, HOUR
from icekeel.data import AVAILABLE

from .faults import Change
from .past import Past, Truth
from .replay import Step

STEP = HOUR
Row = dict[str, Any]


class Stream:
    """What becomes known and what is asked between two times, faults included.

    Args:
        past: What happened.
        start, end: The window; its length is a multiple of `STEP`.
        changes: The faults.

    Attributes:
        truth: What came of the questions that were asked so far, noted as it became known.
    """

    def __init__(self, past: Past, start: int, end: int, changes: Sequence[Change]) -> None:
        self._past = past
        self._start, self._end = start, end
        self._changes = changes
        self.truth = Truth(past.model, past.tables)
        self._events: defaultdict[int, list[tuple[int, str, Row]]] = defaultdict(list)
        self._asked: defaultdict[int, list[tuple[int, Row]]] = defaultdict(list)

    def steps(self) -> Iterator[Step]:
        """The steps, an hour each."""
        for first in range(self._start, self._end, DAY):
            last = min(first + DAY, self._end)
            for table in self._past.tables:
                for row in self._past.rows(table, first, last):
                    self._send(table, row)
            for at, row in self._past.questions(first, last):
                for when, one in self._altered("", at, row):
                    self._asked[self._place(when)].append((when, one))
            for start in range(first, last, STEP):
                yield self._step(start, min(start + STEP, last))

    def _place(self, at: int) -> int:
        return (at - self._start - 1) // STEP

    def _send(self, table: str, row: Row) -> None:
        at = row[AVAILABLE]
        found = self._altered(table, at, row)
        for when, one in found:
            self._events[self._place(when)].append((when, table, one))
        if table == self.truth.table:
            real = any(
                change.truth and change.table == table for change in self._changes if change.strikes(at)
            )
            for one in [one for _, one in found] if real else [row]:
                self.truth.happened(one)

    def _altered(self, table: str, at: int, row: Row) -> list[tuple[int, Row]]:
        """A row, or a question, after all faults."""
        found = [(at, row)]
        for change in self._changes:
            if change.alter is not None and change.table == table:
                found = [two for when, one in found for two in change.apply(when, one)]
        return found

    def _step(self, start: int, end: int) -> Step:
        place = self._place(end)
        events: dict[str, list[Row]] = {}
        for _, table, row in sorted(self._events.pop(place, []), key=lambda one: one[0]):
            events.setdefault(table, []).append(row)
        for change in self._changes:
            fault = change.fault
            if change.shuffle is not None and change.table in events and fault.start < end <= fault.end:
                rows = events[change.table]
                events[change.table] = [rows[at] for at in change.shuffle.permutation(len(rows))]
                change.show(start)
        asked = sorted(self._asked.pop(place, []), key=lambda one: one[0])
        return Step(start, end, events, asked)
