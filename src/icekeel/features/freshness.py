"""How old rows are, against what their tables allow: of a table as a whole, of each key, of what was asked about."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from icekeel.compile.sql import quote
from icekeel.core.frames import Floats, Frame, Ints
from icekeel.core.time import FOREVER
from icekeel.data.history import DELETED
from icekeel.define import EventTable
from icekeel.define.features import Feature
from icekeel.define.nodes import Windowed

from .events import EventStore
from .offline import historical_features
from .plan import Plan, make_plan

State = Literal["fresh", "warn", "error", "empty", "no limit"]
MOST_NAMED = 5


@dataclass(frozen=True, slots=True)
class TableAge:
    """How old the rows of a table are at some time.

    Attributes:
        newest: When its newest row became available, microseconds UTC; None before any.
        age: Since then, microseconds.
        state: Of the table as a whole.
        keys: Values of `by=` that have a row; 0 where the table is judged as a whole alone.
        warn, error: How many of them have no row newer than that.
        worst: The keys whose newest row is the oldest, by its event time, with its age.
    """

    table: str
    newest: int | None
    age: int | None
    state: State
    keys: int = 0
    warn: int = 0
    error: int = 0
    worst: tuple[tuple[str, int], ...] = ()


def table_age(store: EventStore, table: EventTable, now: int) -> TableAge:
    """How old the rows of a table are at `now`, of what was known then."""
    warn, error = table.fresh.limits
    newest = store.newest(table.name, now)
    age = None if newest is None else now - newest
    state: State = "empty" if age is None else "error" if age > error else "warn" if age > warn else "fresh"
    if min(warn, error) == FOREVER:
        state = "no limit"
    if not table.fresh.keys or newest is None:
        return TableAge(table.name, newest, age, state)
    relation, _ = store.versions(table.name)
    keys = ", ".join(map(quote, table.fresh.keys))
    standing = f"{DELETED} = 0 AND _start <= {now} AND _end > {now} AND _time < {now}"
    known = " AND ".join(f"{quote(key)} IS NOT NULL" for key in table.fresh.keys)
    ages = f"SELECT concat_ws(' ', {keys}) AS key, {now} - max(_time) AS age FROM {relation} WHERE {standing} AND {known} GROUP BY {keys}"
    ((count, warned, wrong),) = store.connection.execute(
        f"SELECT count(*), count(*) FILTER (age > {warn}), count(*) FILTER (age > {error}) FROM ({ages})"
    ).fetchall()
    worst = store.connection.execute(
        f"SELECT * FROM ({ages}) WHERE age > {min(warn, error)} ORDER BY age DESC, key LIMIT {MOST_NAMED}"
    ).fetchall()
    return TableAge(table.name, newest, age, state, count, warned, wrong, tuple(worst))


def key_ages(plan: Plan, age: Windowed, requests: Frame, at: Ints, store: EventStore) -> Floats:
    """How old the newest row of each request's key was at some time: exactly what serving sees.

    Args:
        age: One of its `ages`.
        requests, at: Whose keys, and when, shape `(n,)`.

    Returns:
        Microseconds, shape `(n,)`; infinite where there is none in reach.
    """
    own = make_plan(plan.fields, [Feature("age", age)])
    found = historical_features(own, requests, at, store)["age"]
    return np.where(np.isnan(found), np.inf, found)
