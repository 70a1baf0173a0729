"""Where in a project faults may strike: its feeds, fields and segments, the most telling first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from icekeel.core.kinds import Kind
from icekeel.core.time import DAY, HOUR
from icekeel.data import AVAILABLE
from icekeel.define import EventTable, Model
from icekeel.define.nodes import EventField, RequestField, Windowed, walk

from .past import Past

SAMPLE_DAYS = 7
LEAST_PER_DAY = 24
"""A feed with fewer rows a day is no place where a fault shows within hours."""
LEAST_EXPECTED = 20.0
"""A combination is rare where it never came though so many were to be expected."""


class Places:
    """What a project and the week before the rehearsal say of where faults may strike.

    Args:
        past: The history.
        at: When the rehearsal begins.
    """

    def __init__(self, past: Past, at: int) -> None:
        self.model: Model = past.model
        self.tables: Mapping[str, EventTable] = past.tables
        self.outcome = past.model.outcome.keyed.table
        self._fields = {field.name: field for field in past.plan.fields}
        nodes = [node for feature in past.plan.features for node in walk(feature.node)]
        self._read = Counter(node.name for node in nodes if isinstance(node, RequestField))
        self._columns = Counter((node.table, node.name) for node in nodes if isinstance(node, EventField))
        self._feeds = Counter(node.keyed.table for node in nodes if isinstance(node, Windowed))
        self._rows = {name: past.rows(name, at - SAMPLE_DAYS * DAY, at) for name in past.tables}
        asked = past.questions(at - SAMPLE_DAYS * DAY, at)
        times = {"": [one for one, _ in asked]}
        times |= {name: [row[AVAILABLE] for row in rows] for name, rows in self._rows.items()}
        self._hours = {
            name: np.bincount(np.array(own, dtype=np.int64) // HOUR % 168, minlength=168)
            for name, own in times.items()
        }
        self._asked = {name: [row[name] for _, row in asked] for name in self._fields}

    def busy(self, at: int, lasts: int, where: str = "") -> int:
        """The first full hour from a time on in which so long a stretch is as busy as half the week's mean, or more.

        Args:
            where: What is struck; of a feed its rows must be as many, too, and they alone where both never are.
        """
        first, feed = -(-at // HOUR), where.partition(".")[0]
        own = self._hours.get(feed, self._hours[""])
        begins = np.arange(first, first + 168)
        stretches = (begins[:, None] + np.arange(max(1, lasts // HOUR))) % 168
        busy, fed = (each[stretches].mean(axis=1) >= each.mean() / 2 for each in (self._hours[""], own))
        found = begins[busy & fed] if (busy & fed).any() else begins[fed]
        return int(found[0]) * HOUR

    def feeds(self) -> Sequence[str]:
        """Tables that features read, the most read first."""
        least = LEAST_PER_DAY * SAMPLE_DAYS
        often = [name for name, _ in self._feeds.most_common() if len(self._rows[name]) >= least]
        return often or list(self._feeds)

    def rollouts(self) -> Sequence[str]:
        """Nowhere in particular, where challengers are rolled out at all."""
        return ("",) if self.model.rollout is not None else ()

    def outcomes(self) -> Sequence[str]:
        """The table of outcomes."""
        return (self.outcome,)

    def outcome_values(self) -> Sequence[str]:
        """The column that the target is made of."""
        value = self.model.outcome.value
        nodes = () if value is None else walk(value)
        return [f"{node.table}.{node.name}" for node in nodes if isinstance(node, EventField)][:1]

    def feed_numbers(self) -> Sequence[str]:
        """Columns of numbers that features read, those without an upper limit first."""
        found = [(table, name) for table, name in self._columns if table in self.feeds()]
        numbers = [(t, n) for t, n in found if self.tables[t].fields[n].kind is Kind.NUM]
        order = self.feeds()
        numbers.sort(
            key=lambda one: (self.tables[one[0]].fields[one[1]].limits.high is not None, order.index(one[0]))
        )
        return [f"{table}.{name}" for table, name in numbers]

    def feed_categories(self) -> Sequence[str]:
        """Columns of categories of the feeds, those by which features choose first."""
        chosen = [
            f"{name}.{field.name}"
            for name in self.feeds()
            for field in self.tables[name].fields.values()
            if field.kind is Kind.CAT
        ]
        return sorted(chosen, key=lambda where: tuple(where.split(".")) not in self._columns)

    def request_numbers(self) -> Sequence[str]:
        """Numbers of the request that features read, those without an upper limit first."""
        names = [name for name in self._read if self._fields[name].kind is Kind.NUM]
        return sorted(names, key=lambda name: (self._fields[name].limits.high is not None, -self._read[name]))

    def request_categories(self) -> Sequence[str]:
        """Categories of the request that features read."""
        return [name for name, _ in self._read.most_common() if self._fields[name].kind is Kind.CAT]

    def request_fields(self) -> Sequence[str]:
        """Optional fields of the request that features read; any of them where none is optional."""
        names = [*self.request_numbers(), *self.request_categories()]
        return sorted(names, key=lambda name: not self._fields[name].limits.optional)

    def within(self, name: str, value: float) -> float:
        """A value of a field of the request, held within its limits."""
        limits = self._fields[name].limits
        low = value if limits.low is None else max(value, limits.low)
        return low if limits.high is None else min(low, limits.high)

    def segments(self) -> Sequence[str]:
        """Segments of the requests, those nearest to a quarter of all first."""
        if not self.request_numbers():
            return ()
        found = []
        for name in self.request_categories():
            for value, count in Counter(self._asked[name]).items():
                if value is not None:
                    found.append((abs(count / len(self._asked[name]) - 0.25), f"{name}={value}"))
        return [where for _, where in sorted(found)]

    def combinations(self) -> Sequence[str]:
        """Two or three values of different fields that never came together though often expected to, likeliest first."""
        names = [name for name in self.request_categories() if len(set(self._asked[name])) <= 200]
        for parts in (2, 3):
            found = [one for some in combinations(sorted(names), parts) for one in self._never(some)]
            if found:
                return [where for _, where in sorted(found, reverse=True)]
        return ()

    def _never(self, names: Sequence[str]) -> Iterable[tuple[float, str]]:
        columns = [np.array([str(value) for value in self._asked[name]]) for name in names]
        n = len(columns[0])
        kinds, codes = zip(*(np.unique(column, return_inverse=True) for column in columns), strict=True)
        counts = np.zeros([len(kind) for kind in kinds])
        np.add.at(counts, tuple(codes), 1)
        expected = np.ones_like(counts) * n
        for axis, code in enumerate(codes):
            share = np.bincount(code, minlength=counts.shape[axis]) / n
            expected = expected * share.reshape([-1 if axis == other else 1 for other in range(len(codes))])
        for place in zip(*np.nonzero((counts == 0) & (expected >= LEAST_EXPECTED)), strict=True):
            values = [kind[at] for kind, at in zip(kinds, place, strict=True)]
            where = " + ".join(f"{name}={value}" for name, value in zip(names, values, strict=True))
            yield float(expected[place]), where

    def _values(self, where: str) -> list[Any]:
        table, _, column = where.rpartition(".")
        return [row[column] for row in self._rows[table]] if table else self._asked[column]

    def commonest(self, where: str) -> Any:
        """The commonest value of a column or a field."""
        counts = Counter(value for value in self._values(where) if value is not None)
        return min(counts, key=lambda value: (-counts[value], value)) if counts else None

    def spread(self, where: str) -> tuple[float, float]:
        """Smallest value of a column, and the deviation of its values."""
        values = np.array([value for value in self._values(where) if value is not None], dtype=np.float64)
        return (float(values.min()), float(values.std())) if len(values) else (0.0, 0.0)
