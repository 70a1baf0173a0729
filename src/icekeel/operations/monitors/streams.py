"""The streams of a model as rows: what is asked, what is answered, what came of it, and its event tables.

Rows of the past and rows of the present come out alike, so that what was learnt of the one holds for the other.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from icekeel.core.frames import NO_TIME, Array, Bools, Column, Floats, Frame, Ints, Kind
from icekeel.core.time import HOUR, SECOND
from icekeel.data.relations import array_of
from icekeel.define import EventTable, Model, Project
from icekeel.define.nodes import EventField, RequestField, Windowed, walk
from icekeel.features.plan import Plan
from icekeel.journal import Predicted, Value
from icekeel.monitoring import LATENESS, REPEATED, expected_error
from icekeel.operations.projections.projections import Settled

REQUESTS, ANSWERS, OUTCOMES = "requests", "answers", "outcomes"
INTAKE = "intake "
"""What comes of a model or a table, accepted or not, is a stream of its own: that begins so, and ends in its name."""
REFUSED = "refused"
"""Column of what was wrong with requests that were refused."""
SHAPED = (Kind.NUM, Kind.FLAG, Kind.CAT)
SAME = 100
"""Rows among which a table's values must not be the same again."""
SLOW_US = 50_000
"""From when on an answer is slow, microseconds; nobody waits for an hour: such a difference is virtual time."""
_pack = msgspec.msgpack.Encoder().encode


class Streams:
    """What of a model is watched, and its rows as frames whose columns are `subject.name`.

    Args:
        model: The definition.
        plan: Its features.
        project: For the event tables that it reads.
    """

    def __init__(self, model: Model, plan: Plan, project: Project) -> None:
        self.model = model
        fields = model.request.icekeel_fields.values()
        public = [one for one in fields if one.kind in SHAPED and not one.limits.private]
        self.fields = [Column(one.name, one.kind) for one in public]
        made = [
            one
            for one in plan.features
            if one.column.kind in SHAPED and not isinstance(one.node, RequestField)
        ]
        # What follows from the time alone, a season or an hour, says nothing.
        self.features = [one.column for one in made if _reads(one.node)]
        read = {lookup.view.table for lookup in plan.lookups} | {model.outcome.keyed.table}
        self.tables: dict[str, EventTable] = {name: project.tables[name] for name in sorted(read)}

    def columns(self, stream: str) -> list[tuple[str, Column]]:
        """Subject and column of what is learnt from past rows."""
        if stream == REQUESTS:
            return [("field", one) for one in self.fields] + [("feature", one) for one in self.features]
        if stream == ANSWERS:
            estimate = [("prediction", Column(self.estimate, Kind.NUM))] if self.estimate else []
            return [("prediction", Column(self.model.name, Kind.NUM)), *estimate]
        if stream == OUTCOMES:
            names = (self.model.error, "actual", "actual against predicted")
            return [("outcome", Column(name, Kind.NUM)) for name in names]
        table = self.tables[stream.partition(" ")[2]]
        return [("source", Column(f"{table.name}.{name}", kind)) for name, kind in self._of_table(table)]

    @property
    def segments(self) -> list[str]:
        """Fields by whose values predictions are watched: those declared, else every category that is not private."""
        named = self.model.watch.segments
        return [one.node.name for one in named] or [c.name for c in self.fields if c.kind is Kind.CAT]

    @property
    def estimate(self) -> str:
        """What the error is called that a classifier's own probabilities lead one to expect; empty for numbers."""
        if self.model.task != "probability":
            return ""
        return "estimated cost" if self.model.action is not None else "estimated log_loss"

    def _of_table(self, table: EventTable) -> list[tuple[str, Kind]]:
        own = [
            (one.name, one.kind)
            for one in table.fields.values()
            if one.kind in SHAPED and not one.limits.private
        ]
        return [*own, (LATENESS, Kind.NUM), (REPEATED, Kind.FLAG)]

    # The present

    def asked(self, records: Sequence[Predicted]) -> Frame:
        """What was asked, and the features it was answered with."""
        columns = {
            f"field.{c.name}": _column([r.request.get(c.name) for r in records], c) for c in self.fields
        }
        more = {
            f"feature.{c.name}": _column([r.features.get(c.name) for r in records], c) for c in self.features
        }
        return Frame(columns | more)

    def answered(self, records: Sequence[Predicted], again: Bools) -> Frame:
        """What was answered; `again`: which of them were asked before, shape `(n,)`."""
        said = np.array([record.prediction for record in records], dtype=np.float64)
        frame = self.predicted(
            said, {c.name: _column([r.request.get(c.name) for r in records], c) for c in self.fields}
        )
        words = {
            "guard.verdict": [record.codes[0] if record.codes else record.verdict for record in records],
            "answer.source": [record.source for record in records],
            "answer.degraded": [record.degraded[0] if record.degraded else "none" for record in records],
            "traffic.duplicates": ["again" if one else "none" for one in again.tolist()],
            "latency.answers": ["slow" if SLOW_US < r.served_at - r.at < HOUR else "none" for r in records],
        }
        return frame.with_columns({name: _texts(values) for name, values in words.items()})

    def predicted(self, said: Floats, fields: Mapping[str, Array]) -> Frame:
        """Predictions with the fields of their requests."""
        columns: dict[str, Array] = {f"prediction.{self.model.name}": said}
        if self.estimate:
            columns[f"prediction.{self.estimate}"] = expected_error(said, self.model.action)
        return Frame(columns | {f"field.{name}": values for name, values in fields.items()})

    def settled(self, rows: Sequence[Settled], error: Floats) -> Frame:
        """What came of answers; `error` is that of each."""
        said = np.array([row.prediction for row in rows], dtype=np.float64)
        return self.came(said, np.array([row.target for row in rows], dtype=np.float64), error)

    def came(self, said: Floats, target: Floats, error: Floats) -> Frame:
        """Outcomes, against what was predicted: the quotient where the error is relative, else the difference."""
        with np.errstate(all="ignore"):
            gap = target / said if self.model.error == "mape" else target - said
        columns = {self.model.error: error, "actual": target, "actual against predicted": gap}
        finite = {name: np.where(np.isfinite(values), values, np.nan) for name, values in columns.items()}
        return Frame({f"outcome.{name}": values for name, values in finite.items()})

    def rows(
        self, table: EventTable, rows: Sequence[Mapping[str, Value]], known: Ints, before: Ints
    ) -> tuple[Frame, Ints]:
        """Rows of an event table, and the contents of the last `SAME` of them for the next call.

        Args:
            known: When each became available, microseconds UTC.
            before: What the call before gave.
        """
        fields = [Column(one.name, one.kind) for one in table.fields.values()]
        return self.events(table, Frame({c.name: array_of(rows, c) for c in fields}), known, before)

    def events(self, table: EventTable, frame: Frame, known: Ints, before: Ints) -> tuple[Frame, Ints]:
        """The same of rows in columns."""
        content = [name for name, one in table.fields.items() if one.kind in (Kind.NUM, Kind.CAT, Kind.TEXT)]
        numbers = any(table.fields[name].kind is Kind.NUM for name in content)
        hashes = _hashes([frame[name] for name in content], len(frame))
        happened = np.asarray(frame[table.time], dtype=np.int64)
        late = np.where(happened == NO_TIME, np.nan, (known - happened) / SECOND)
        again = seen_before(hashes, before, SAME) if numbers else np.zeros(len(frame), np.bool_)
        columns = {f"source.{table.name}.{name}": frame[name] for name, _ in self._of_table(table)[:-2]}
        columns[f"source.{table.name}.{LATENESS}"] = late
        columns[f"source.{table.name}.{REPEATED}"] = again.astype(np.float64)
        return Frame(columns), np.concatenate([before, hashes])[-SAME:]


def seen_before(hashes: Ints, before: Ints, within: int) -> Bools:
    """Which values occur among the `within` values before them; `before` are those that came earlier, in order."""
    every = np.concatenate([before[-within:], hashes])
    order = np.argsort(every, kind="stable")
    same = every[order][1:] == every[order][:-1]
    gap = np.full(len(every), within + 1)
    gap[order[1:]] = np.where(same, order[1:] - order[:-1], within + 1)
    return np.asarray(gap[len(every) - len(hashes) :] <= within, dtype=np.bool_)


def digests(texts: Iterable[str]) -> Ints:
    """A number for each text, the same in every process."""
    return np.array([zlib.crc32(text.encode()) for text in texts], dtype=np.int64)


def _hashes(columns: Sequence[Array], rows: int) -> Ints:
    if not columns:
        return np.arange(rows, dtype=np.int64)
    listed = [column.tolist() for column in columns]
    return np.array([zlib.crc32(_pack(row)) for row in zip(*listed, strict=True)], dtype=np.int64)


def _reads(node: Any) -> bool:
    """Whether an expression reads anything but the time of the question."""
    return any(isinstance(one, RequestField | EventField | Windowed) for one in walk(node))


def _column(values: Sequence[Any], column: Column) -> Array:
    if column.kind.is_text:
        return _texts(values)
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)


def _texts(values: Sequence[Any]) -> Array:
    column = np.empty(len(values), dtype=object)
    column[:] = values
    return column
