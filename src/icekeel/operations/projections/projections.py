"""What the keeper derives from the journal: online windows, and answers joined with what came of them.

Every projection writes in the transaction it is given, the one in which the keeper also commits how far it has
read, so that a crash neither loses nor doubles.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, TypeVar

import lmdb
import msgspec

from icekeel.compile import Row, compile_event
from icekeel.core.time import DAY
from icekeel.data import AVAILABLE, DELETED
from icekeel.define import EventTable, Metric, Model, Project
from icekeel.define.nodes import Outcome
from icekeel.engines import Engine
from icekeel.features.live import EventFeed, outcome_key
from icekeel.features.online.lmdb import LmdbWindows
from icekeel.features.online.versions import digest
from icekeel.features.outcomes import target_function
from icekeel.journal import Predicted, Pushed
from icekeel.registry import CHALLENGER
from icekeel.serving.answers import CHALLENGER_FAILED, FORCED
from icekeel.serving.asked import Asked, AskedIndex

LAYOUT = 4
"""Changes with how answers and outcomes are kept: the keeper makes another environment for another layout."""
_OFFSET = 2**63
GRACE = 2 * DAY
"""How long after its window an outcome is kept for an answer that is read late, from another process's segment."""
Value = float | int | str | bool | None
Keyed = TypeVar("Keyed")


class Happened(msgspec.Struct, frozen=True, array_like=True):
    """A version of an event that may decide outcomes; its value is None where it does not count.

    `key` is the digest of the key by which answers meet it; empty where a part is null, as in a deletion. `content` is
    that of what the row says, whenever that was known.
    """

    time: int
    id: str
    value: float | None
    available: int
    key: bytes
    content: bytes = b""


class Waiting(msgspec.Struct, frozen=True, array_like=True):
    """An answer whose outcome is not settled; `shadows` holds what each version in shadow would have said."""

    asked_at: int
    id: str
    unit: str
    version: str
    arm: str
    share: float
    prediction: float
    answer: float
    shadows: dict[str, float]
    verdict: str = "pass"
    source: str = "model"
    phase: str = ""
    segments: tuple[str, ...] = ()
    covariate: float | None = None


class Settled(msgspec.Struct, frozen=True, array_like=True):
    """An answer and what came of it; `settled_at` is when that became known.

    `phase` is that of the experiment it counts in, empty where it counts in none; `segments` are the values of the fields by
    which results are told apart, `covariate` what the unit was worth before.
    """

    settled_at: int
    asked_at: int
    id: str
    unit: str
    version: str
    arm: str
    share: float
    prediction: float
    answer: float
    shadows: dict[str, float]
    target: float
    verdict: str = "pass"
    source: str = "model"
    phase: str = ""
    segments: tuple[str, ...] = ()
    covariate: float | None = None


class EventProjection:
    """Pushed events into the online windows."""

    def __init__(self, feed: EventFeed, windows: LmdbWindows) -> None:
        self._feed = feed
        self._windows = windows

    def apply(self, txn: lmdb.Transaction, records: Sequence[Pushed]) -> int:
        """Project a batch; gives the availability of the newest version, 0 for an empty one."""
        pushes: dict[str, list[tuple[list[dict[str, Value]], int]]] = {}
        for record in records:
            if self._feed.reads(record.table) and record.rows:
                pushes.setdefault(record.table, []).append((record.rows, record.at))
        newest = 0
        for table, rows in pushes.items():
            batch = self._feed.batch(txn, table, rows)
            self._windows.apply(txn, table, batch)
            newest = max(newest, int(batch.start.max()))
        return newest


class OutcomeRows:
    """What rows of an outcome's table say."""

    def __init__(self, outcome: Outcome, table: EventTable) -> None:
        self._names = list(table.fields)
        self._keys = [column for column, _ in outcome.keyed.keys]
        parts = [part for part in (outcome.value, outcome.keyed.where) if part is not None]
        self._row: Row = compile_event(tuple(table.fields.values()), parts)
        self._filtered, self._valued = outcome.keyed.where is not None, outcome.value is not None

    def key(self, row: Mapping[str, Any]) -> str:
        """By which answers meet a row; empty where a part is null."""
        return outcome_key([row.get(column) for column in self._keys])

    def value(self, row: Mapping[str, Any]) -> float | None:
        """Of a row; None where it does not count."""
        computed = self._row([row.get(name) for name in self._names])
        if row.get(DELETED) or (self._filtered and not computed[-1]):
            return None
        value = computed[0] if self._valued else 1.0
        return None if value is None else float(value)


class AnswerProjection:
    """Answers of one model and one of its outcomes: kept waiting until that is known, then settled.

    A model has one for its target, and one for each metric of its experiments, for which only exposed answers wait.

    Answers and outcomes come from segments of different processes, so either may be read first: both are kept,
    and what decides is only when things happened and became known. Answers lie under the digest of their key;
    all versions of an event lie together under its id, since a correction may name another key and a deletion
    names none, and under each of these keys lies the id.

    Args:
        environment: Of the keeper.
        model: The definition.
        project: For the outcome's event table.
        metric: Of an experiment; None: the target.

    Attributes:
        fresh: Of the target, what was settled since somebody took it away.
    """

    def __init__(
        self, environment: lmdb.Environment, model: Model, project: Project, metric: Metric | None = None
    ) -> None:
        self._metric = metric
        self._unread: list[Settled] | None = None
        self._waiting, self._happened, self._ids, self._settled = (
            environment.open_db(name) for name in (b"waiting", b"happened", b"happened_ids", b"settled")
        )
        self._index = AskedIndex(environment)
        self._model = model
        name = model.name if metric is None else f"{model.name}\n{metric.called}\n{metric.node!r}"
        self._mine = digest(name.encode())[:8]
        self._outcome = model.outcome if metric is None else metric.outcome
        self._target = target_function(model.target if metric is None else metric.node)
        self._describe = _describer(model)
        table = project.tables[self._outcome.keyed.table]
        self.table, self._table = table.name, table
        self._time, self._id = table.time, table.id
        self._rows = OutcomeRows(self._outcome, table)
        self.fresh: list[Settled] = []

    @property
    def within(self) -> int:
        """How long after the question its outcome may come, microseconds."""
        return self._outcome.within

    def answered(
        self,
        txn: lmdb.Transaction,
        records: Sequence[Predicted],
        shadows: Callable[[Predicted], dict[str, float]],
    ) -> None:
        """Keep answers waiting, with what versions in shadow would have said."""
        for record in records:
            if self._metric is not None and record.phase in ("", FORCED):
                continue
            waiting = Waiting(
                record.at, record.id, record.unit, record.version, record.arm, record.share,
                record.prediction, record.answer, shadows(record), record.verdict, record.source,
                record.phase, *self._describe(record),
            )  # fmt: skip
            parts = [record.request.get(field.name) for _, field in self._outcome.keyed.keys]
            met = record.key if self._metric is None else outcome_key(parts)
            key = self._mine + digest(met.encode())
            txn.put(key + record.id.encode(), _pack(waiting), db=self._waiting)
            if self._metric is None:
                self._index.answered(txn, record.id, Asked.of(record, self._model))
            self._settle_known(txn, key)

    def happened(self, txn: lmdb.Transaction, records: Sequence[Pushed]) -> None:
        """Keep rows of the outcome's table, and settle the answers that they decide."""
        for record in records:
            for row in record.rows:
                known = row.get(AVAILABLE)
                met = self._rows.key(row)
                event = Happened(
                    int(row[self._time] or 0),
                    str(row[self._id]),
                    self._rows.value(row),
                    record.at if known is None else int(known),
                    digest(met.encode()) if met else b"",
                    self._content_of(row),
                )
                if self._keep(txn, event) and met:
                    self._settle_known(txn, self._mine + event.key)

    def _content_of(self, row: Mapping[str, Any]) -> bytes:
        table = self._table
        names = [name for name in table.fields if name != table.available or name == table.time]
        return digest(_pack([bool(row.get(DELETED)), *(row.get(name) for name in names)]))

    def _keep(self, txn: lmdb.Transaction, event: Happened) -> bool:
        """Put a version among those of its event; of two that became known at once the later read holds.

        One that says what was known already is none: False.
        """
        name = digest(event.id.encode())
        others = [one for one in self._versions_of(txn, name) if one.available != event.available]
        ordered = sorted([*others, event], key=lambda one: one.available)
        versions = [ordered[0]]
        versions += [one for before, one in pairwise(ordered) if one.content != before.content]
        if event not in versions:
            return False
        txn.put(self._mine + name, _pack(versions), db=self._happened)
        if event.key:
            txn.put(self._mine + event.key + name, b"", db=self._ids)
        return True

    def _versions_of(self, txn: lmdb.Transaction, name: bytes) -> list[Happened]:
        """All versions of one event, in the order in which they became known."""
        stored = txn.get(self._mine + name, db=self._happened)
        return [] if stored is None else _happened(stored)

    def _settle_known(self, txn: lmdb.Transaction, key: bytes) -> None:
        """Settle the answers under a key whose outcome is known as soon as one event is."""
        if not self._outcome.closes_early:
            return
        for place, waiting in list(_under(txn, self._waiting, key, _waiting)):
            counting = [
                event.available
                for event in self._versions(txn, key)
                if event.value is not None and self._meets(waiting, event, key)
            ]
            if counting:
                self._settle(txn, place, waiting, min(counting), min(counting))

    def close(self, txn: lmdb.Transaction, now: int) -> None:
        """Settle or drop the answers whose time is over at `now`, by what was known then."""
        for place, waiting in _under(txn, self._waiting, self._mine, _waiting):
            over = waiting.asked_at + self._outcome.within
            if over <= now:
                # By the midnight at which it was due, also where that is made up for later or done anew.
                self._settle(txn, place, waiting, min(now, -(-over // DAY) * DAY), over)

    def forget(self, txn: lmdb.Transaction, now: int) -> None:
        """Drop outcomes that no answer still to come can meet."""
        oldest = now - self._outcome.within - GRACE
        if self._metric is None:
            self._index.forget(txn, oldest)
        for place, versions in _under(txn, self._happened, self._mine, _happened):
            if all(max(event.time, event.available) < oldest for event in versions):
                txn.delete(place, db=self._happened)
                for event in versions:
                    txn.delete(self._mine + event.key + place[len(self._mine) :], db=self._ids)

    def _versions(self, txn: lmdb.Transaction, key: bytes) -> list[Happened]:
        """All versions of events that ever had a key, those of one event in the order they became known."""
        names = [place[_KEY:] for place, _ in _under(txn, self._ids, key, bytes)]
        return [event for name in names for event in self._versions_of(txn, name)]

    def _meets(self, waiting: Waiting, event: Happened, key: bytes) -> bool:
        """Whether an event decides an answer that waits under a key."""
        in_time = waiting.asked_at <= event.time < waiting.asked_at + self._outcome.within
        return in_time and self._mine + event.key == key

    def _settle(self, txn: lmdb.Transaction, place: bytes, waiting: Waiting, known: int, at: int) -> None:
        """Settle an answer by what was known at `known`, not before `at`."""
        txn.delete(place, db=self._waiting)
        key = place[:_KEY]
        newest = {event.id: event for event in self._versions(txn, key) if event.available <= known}
        # Only now by time and key: a correction may have moved an event to others, which is then gone from here.
        events = [
            event for event in newest.values() if event.value is not None and self._meets(waiting, event, key)
        ]
        at = max([at, waiting.asked_at, *(event.available for event in events)])
        ordered = sorted(events, key=lambda one: (one.time, one.id))
        values = [event.value for event in ordered if event.value is not None]
        absent = None if self._outcome.absent is None else float(self._outcome.absent)
        value = _AGGREGATES[self._outcome.function](values) if values else absent
        target = None if value is None else self._target(value)
        if target is None:
            return
        settled = Settled(
            at, waiting.asked_at, waiting.id, waiting.unit, waiting.version, waiting.arm, waiting.share,
            waiting.prediction, waiting.answer, waiting.shadows, target, waiting.verdict, waiting.source,
            waiting.phase, waiting.segments, waiting.covariate,
        )  # fmt: skip
        txn.put(self._mine + _sortable(at) + waiting.id.encode(), _pack(settled), db=self._settled)
        if self._metric is None:
            self.fresh.append(settled)
        if self._unread is not None:
            self._unread.append(settled)

    def unread(self) -> list[Settled] | None:
        """What was settled since this was last asked, whenever that became known; None the first time, for "all of it"."""
        found, self._unread = self._unread, []
        return found

    def settled(self, txn: lmdb.Transaction, since: int, until: int) -> Iterator[Settled]:
        """Answers settled in `[since, until)`, in that order."""
        end = self._mine + _sortable(until)
        for place, row in _under(txn, self._settled, self._mine, _settled, start=_sortable(since)):
            if place >= end:
                return
            yield row

    def pending(self, txn: lmdb.Transaction) -> int:
        """Answers that wait for their outcome."""
        return sum(1 for _ in _under(txn, self._waiting, self._mine, bytes))


class Struck:
    """Which units of an experiment were struck by a hard failure, each once, by kind and arm."""

    def __init__(self, environment: lmdb.Environment, model: str) -> None:
        self._database = environment.open_db(b"struck")
        self._mine = digest(model.encode())[:8]

    def add(self, txn: lmdb.Transaction, records: Sequence[Predicted]) -> None:
        """Keep the failures of answers that count."""
        for record in records:
            if record.phase in ("", FORCED):
                continue
            second = record.arm == CHALLENGER
            share = record.share if second else 1 - record.share
            for kind in failures_of(record):
                self.put(txn, record.phase, kind, record.unit, share=share, second=second)

    def put(
        self, txn: lmdb.Transaction, phase: str, kind: str, unit: str, *, share: float, second: bool
    ) -> None:
        """Keep that a unit of the champion, or of the second arm, was struck."""
        place = digest(f"{phase}\n{kind}\n{unit}".encode()) + (b"b" if second else b"a")
        txn.put(self._mine + place, _pack((phase, kind, share, second)), db=self._database)

    def read(self, txn: lmdb.Transaction) -> dict[tuple[str, str, float], tuple[int, int]]:
        """(phase, kind, share of the challenger) -> units of the champion and of the challenger that were struck."""
        found: dict[tuple[str, str, float], tuple[int, int]] = {}
        for _, (phase, kind, share, second) in _under(
            txn, self._database, self._mine, msgspec.msgpack.decode
        ):
            a, b = found.get((phase, kind, share), (0, 0))
            found[phase, kind, share] = (a, b + 1) if second else (a + 1, b)
        return found

    def forget(self, txn: lmdb.Transaction, keep: Collection[str]) -> None:
        """Drop what is of no trial that still runs.

        Args:
            keep: What the phases of those begin with.
        """
        for place, row in _under(txn, self._database, self._mine, msgspec.msgpack.decode):
            if not row[0].startswith(tuple(keep)):
                txn.delete(place, db=self._database)


SLOW_US = 100_000
"""Processor time of an answer beyond which it counts as too slow: hundreds of times the budget of the path."""


def failures_of(record: Predicted) -> Iterator[str]:
    """The kinds of hard failure that an answer shows."""
    if CHALLENGER_FAILED in record.degraded:
        yield "no finite answer"
    if record.verdict != "pass":
        yield "a finding of the guard"
    if record.cpu_us > SLOW_US:
        yield f"over {SLOW_US // 1000} ms of processor time"


def _describer(model: Model) -> Callable[[Predicted], tuple[tuple[str, ...], float | None]]:
    """The values by which results are told apart, and the covariate, of an answer."""
    rollout = model.rollout
    fields = () if rollout is None else rollout.segment_fields
    covariate = None if rollout is None or rollout.covariate is None else rollout.covariate.node
    named = [one.name for one in model.features.icekeel_features if one.node == covariate]

    def describe(record: Predicted) -> tuple[tuple[str, ...], float | None]:
        if record.phase in ("", FORCED):
            return (), None
        value = record.features.get(named[0]) if named else None
        return tuple(str(record.request.get(name)) for name in fields), _number(value)

    return describe


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


_KEY = 24
"""Bytes before the id: 8 for the model, 16 for the key of the outcome."""
_pack = msgspec.msgpack.Encoder().encode
_waiting = msgspec.msgpack.Decoder(Waiting).decode
_happened = msgspec.msgpack.Decoder(list[Happened]).decode
_settled = msgspec.msgpack.Decoder(Settled).decode


_AGGREGATES: Mapping[str, Callable[[list[float]], float]] = {
    "last": lambda values: values[-1],
    "first": lambda values: values[0],
    "sum": sum,
    "mean": lambda values: sum(values) / len(values),
    "max": max,
    "count": lambda values: float(len(values)),
}


def _under(
    txn: lmdb.Transaction,
    database: Any,
    prefix: bytes,
    decode: Callable[[bytes], Keyed],
    *,
    start: bytes = b"",
) -> Iterator[tuple[bytes, Keyed]]:
    """Entries whose key begins so; the one given last may be changed or deleted meanwhile."""
    cursor = txn.cursor(database)
    found = cursor.set_range(prefix + start)
    while found and (key := bytes(cursor.key())).startswith(prefix):
        yield key, decode(bytes(cursor.value()))
        found = cursor.set_range(key + b"\0")


def _sortable(time: int) -> bytes:
    return (time + _OFFSET).to_bytes(8, "big")


UNSCORED = math.nan
"""Stands among an answer's shadows where the keeper had no time to ask the version."""


FAILED = math.inf
"""Stands there where the version gave no finite answer."""


class Shadow:
    """What a version would have predicted, from the features that were journaled."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._names = [column.name for column in engine.columns]

    def __call__(self, features: Mapping[str, Any]) -> float:
        """The prediction for an answer's journaled features; `FAILED` where it is no number."""
        values = [features.get(name) for name in self._names]
        said = self._engine.predict_one(values)
        return said if math.isfinite(said) else FAILED


class Results:
    """What came of the answers of one model, by metric; `""` is the target. Opens a read transaction for each question.

    Args:
        environment: Of the keeper.
        projections: By metric.
        struck: Hard failures.
    """

    def __init__(
        self, environment: lmdb.Environment, projections: Mapping[str, AnswerProjection], struck: Struck
    ) -> None:
        self._environment = environment
        self._projections = projections
        self._struck = struck

    @classmethod
    def of(cls, environment: lmdb.Environment, model: Model, project: Project) -> Results:
        """Those of a model whose target has no projection yet."""
        metrics = model.rollout.metrics if model.rollout else ()
        projections = {one.called: AnswerProjection(environment, model, project, one) for one in metrics}
        target = {"": AnswerProjection(environment, model, project)}
        return cls(environment, {**target, **projections}, Struck(environment, model.name))

    def all(self) -> Sequence[AnswerProjection]:
        """The projections, the target's first."""
        return list(self._projections.values())

    def settled(self, metric: str, since: int, until: int) -> Iterator[Settled]:
        """Answers whose metric was settled in `[since, until)`, in that order."""
        with self._environment.begin() as txn:
            yield from self._projections[metric].settled(txn, since, until)

    def fresh(self, metric: str) -> list[Settled] | None:
        """As `AnswerProjection.unread`."""
        return self._projections[metric].unread()

    def struck(self) -> dict[tuple[str, str, float], tuple[int, int]]:
        """As `Struck.read`."""
        with self._environment.begin() as txn:
            return self._struck.read(txn)
