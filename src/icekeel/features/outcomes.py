"""What came of questions: the target of each, known, absent or still pending."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np

from icekeel.compile import compile_row
from icekeel.core.frames import Array, Floats, Frame, Ints
from icekeel.core.kinds import Column
from icekeel.core.time import FOREVER
from icekeel.define.nodes import Node, Outcome

from .aggregates import Aggregate, Function, Span, View
from .events import EventStore, Scan
from .plan import Lookup
from .windows import Questions, Versions, aggregate


class Status(IntEnum):
    """What is known of an outcome."""

    PENDING = 0
    """It may still come."""
    KNOWN = 1
    ABSENT = 2
    """The time is over, nothing came, and the definition gives no value for that."""


@dataclass(frozen=True, slots=True)
class Outcomes:
    """The outcome of each question.

    Attributes:
        target: Value of the target, NaN unless known; shape `(n,)`.
        value: Of the outcome that the target is made of, NaN unless known.
        status: `Status` of each.
        known_at: When it became known, microseconds UTC; for others when it will be settled at the latest.
    """

    target: Floats
    value: Floats
    status: Ints
    known_at: Ints


def target_function(target: Node) -> Any:
    """`f(o)`: the target from the value of its one outcome; None for null."""

    def leaf(node: Node) -> tuple[str, bool] | None:
        return ("o", True) if isinstance(node, Outcome) else None

    row = compile_row([target], leaf, "o")
    return lambda value: row(value)[0]


def historical_outcomes(
    target: Node, outcome: Outcome, requests: Frame, asked_at: Ints, store: EventStore, *, now: int
) -> Outcomes:
    """The outcomes of past questions as far as they were known at `now`.

    Args:
        outcome: Events with `asked_at <= event_time < asked_at + within`, newest versions at `now`.
        requests: The request's fields, as many rows as `asked_at`.
        now: What became available later is not seen.
    """
    fields = list(dict.fromkeys(Column(field.name, field.kind) for _, field in outcome.keyed.keys))
    values = tuple(node for node in (outcome.value, outcome.keyed.where) if node is not None)
    keys = tuple(column for column, _ in outcome.keyed.keys)
    view = View("", outcome.keyed.table, keys, (), (), 0, outcome.within)
    lookup = Lookup(view, tuple(field.name for _, field in outcome.keyed.keys), values)
    scan = Scan(store, lookup, fields, requests, asked_at)
    span = Span(1 - outcome.within, 0)
    where = -1 if outcome.keyed.where is None else len(values) - 1
    asked = [
        Aggregate(Function(outcome.function), span, -1 if outcome.value is None else 0, where),
        Aggregate(Function.COUNT, span, -1, where),
        Aggregate(Function.MAX, span, len(values), where),
    ]
    answers = [np.full(len(asked_at), np.nan) for _ in asked]
    for mine, versions in scan.parts():
        questions = Questions(scan.codes[mine], asked_at[mine])
        for answer, found in zip(answers, aggregate(_known(versions, now), questions, asked), strict=True):
            answer[mine] = found
        del versions  # before the next part is read
    found, count, latest = answers
    return _settle(target, outcome, asked_at, found=found, count=count, latest=latest, now=now)


def _known(versions: Versions, now: int) -> Versions:
    """Each event as it is known now, as if always known; a last column says since when."""
    seen = np.flatnonzero((versions.start <= now) & (now < versions.end))
    order = versions.order
    return Versions(
        versions.key[seen],
        versions.time[seen],
        np.broadcast_to(np.int64(-FOREVER), len(seen)),
        np.broadcast_to(np.int64(FOREVER), len(seen)),
        (lambda rows: order(seen[rows])) if callable(order) else order[seen],
        (*(column[seen] for column in versions.columns), versions.start[seen].astype(np.float64)),
    )


def _settle(
    target: Node, outcome: Outcome, asked_at: Ints, *, found: Floats, count: Array, latest: Floats, now: int
) -> Outcomes:
    closes = asked_at + outcome.within
    early = (count > 0) & ~np.isnan(found) if outcome.closes_early else np.zeros(len(asked_at), dtype=bool)
    missing = (count == 0) | np.isnan(found)
    if outcome.absent is not None:
        found = np.where(missing, float(outcome.absent), found)
        missing = np.zeros(len(missing), dtype=bool)
    over = now >= closes
    status = np.where(early | (over & ~missing), Status.KNOWN, np.where(over, Status.ABSENT, Status.PENDING))
    arrived = np.nan_to_num(latest, nan=0.0).astype(np.int64)
    known_at = np.where(early, arrived, np.maximum(arrived, closes))
    compute = target_function(target)
    known = status == Status.KNOWN
    result = np.full(len(asked_at), np.nan)
    values = [compute(float(value)) for value in found[known]]
    result[known] = [np.nan if value is None else value for value in values]
    status[known & np.isnan(result)] = Status.ABSENT  # the target has no value for this outcome
    return Outcomes(result, np.where(known, found, np.nan), status.astype(np.int64), known_at)
