"""Features for a whole history, point-in-time correct: the offline feature store.

DuckDB reads the events and evaluates row-level expressions; the windows are the kernel's. Rows out equal rows in,
in the same order.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import duckdb
import numpy as np

from icekeel.compile.sql import quote, select
from icekeel.core.frames import Array, Floats, Frame, Ints
from icekeel.core.kinds import Column, Kind
from icekeel.data.relations import create_table, from_sql
from icekeel.define.nodes import AskedAt, Node, RequestField, Windowed, walk

from .aggregates import Function
from .events import ASKED_AT, EventStore, Scan, same_rows
from .plan import Lookup, Plan
from .windows import Questions, aggregate, in_order

__all__ = ["EventStore", "evaluate", "historical_features", "window_values"]

_UNORDERED = {
    Function.COUNT,
    Function.SUM,
    Function.MEAN,
    Function.MIN,
    Function.MAX,
    Function.STD,
    Function.DISTINCT,
    Function.SINCE,
}
"""Functions for which it does not matter which of two events at the same time comes first."""


def historical_features(plan: Plan, requests: Frame, asked_at: Ints, store: EventStore) -> Frame:
    """The features of each request as they were at the time it was asked.

    Args:
        requests: The request's fields, `n` rows.
        asked_at: When each was asked, shape `(n,)`, microseconds UTC.

    Returns:
        One row per request, in the same order, one column per feature.
    """
    slots = [
        slot for lookup in plan.lookups for slot in window_values(plan, lookup, requests, asked_at, store)
    ]
    return evaluate(plan, requests, asked_at, slots, store.connection)


def window_values(
    plan: Plan, lookup: Lookup, requests: Frame, asked_at: Ints, store: EventStore, groups: Ints | None = None
) -> list[Array]:
    """Every aggregate of a lookup for each request; texts decoded.

    `groups` are labels of the requests, 0 and above: each group is computed as if it alone were asked, to the last
    bit, though the events are read once.
    """
    used = {node.name for param in lookup.params for node in walk(param) if isinstance(node, RequestField)}
    inputs = [column for column in plan.inputs if column.name in used | set(lookup.key_fields)]
    ordered = any(one.of < 0 and one.function not in _UNORDERED for one in lookup.view.aggregates)
    scan = Scan(store, lookup, inputs, requests, asked_at, ordered=ordered)
    pairs = list(dict.fromkeys((one.of, one.column) for one in lookup.view.aggregates if one.of >= 0))
    params = tuple(scan.param(*pair) for pair in pairs)
    wanted = [
        replace(one, of=pairs.index((one.of, one.column)) if one.of >= 0 else -1)
        for one in lookup.view.aggregates
    ]
    answers: list[Floats] = [np.full(len(asked_at), np.nan) for _ in wanted]
    for mine, versions in scan.parts():
        several = groups is not None and len(mine) > 0 and groups[mine].min() < groups[mine].max()
        rows = in_order(versions) if several else versions
        for some in _split(mine, groups):
            ask = Questions(scan.codes[some], asked_at[some], tuple(values[some] for values in params))
            for answer, values in zip(answers, aggregate(rows, ask, wanted), strict=True):
                answer[some] = values
        del versions, rows  # before the next part is read
    found: list[Array] = list(answers)
    for at in lookup.texts:
        found[at] = scan.decode(lookup.view.aggregates[at].column, answers[at])
    return found


def _split(rows: Ints, groups: Ints | None) -> Iterator[Ints]:
    if groups is None:
        yield rows
        return
    order = np.argsort(groups[rows], kind="stable")
    cuts = np.flatnonzero(np.diff(groups[rows][order])) + 1
    yield from np.split(rows[order], cuts)


def evaluate(
    plan: Plan, requests: Frame, asked_at: Ints, slots: list[Array], connection: duckdb.DuckDBPyConnection
) -> Frame:
    """The features from the requests and the values of all windows; what is a window itself stays as it is."""
    found: dict[str, Array] = {}
    for feature in plan.features:
        if isinstance(feature.node, Windowed):
            found[feature.name] = slots[plan.slots[feature.node]]
    computed = [feature for feature in plan.features if feature.name not in found]
    if computed:
        nodes = [feature.node for feature in computed]
        values = _compute(plan, nodes, requests.with_columns({ASKED_AT: asked_at}), slots, connection)
        found |= {feature.name: array for feature, array in zip(computed, values, strict=True)}
    for array in found.values():
        same_rows(len(array), len(requests))
    return Frame({column.name: found[column.name] for column in plan.columns})


def _compute(
    plan: Plan, nodes: list[Node], requests: Frame, slots: list[Array], connection: duckdb.DuckDBPyConnection
) -> list[Array]:
    used: dict[str, tuple[Kind, Array]] = {}

    def leaf(node: Node) -> str | None:
        if isinstance(node, RequestField | AskedAt):
            name = node.name if isinstance(node, RequestField) else ASKED_AT
            used[name] = (node.kind, requests[name])
        elif isinstance(node, Windowed):
            name = f"_slot{plan.slots[node]}"
            array = slots[plan.slots[node]]
            used[name] = (Kind.CAT if array.dtype == object else Kind.NUM, array)
        else:
            return None
        return quote(name)

    statement, names = select(nodes, leaf, "_inputs")
    columns = [Column(name, kind) for name, (kind, _) in used.items()]
    frame = Frame({"_rows": np.arange(len(requests))} | {name: array for name, (_, array) in used.items()})
    create_table(connection, "_inputs", columns, frame)
    rows = connection.execute(f"SELECT _row, {', '.join(names)} FROM ({statement})").fetchnumpy()
    same_rows(len(rows["_row"]), len(requests))
    order = np.argsort(rows["_row"])
    return [from_sql(rows[name], node.kind)[order] for name, node in zip(names, nodes, strict=True)]
