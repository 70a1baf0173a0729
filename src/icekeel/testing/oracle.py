"""The naive oracle of window aggregates: one question, one pass over plain Python rows, as the rule reads."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass

from icekeel.features.aggregates import Aggregate, Function


@dataclass(frozen=True, slots=True)
class Row:
    """One version of an event.

    Attributes:
        key: Entity; compared by equality.
        time: Event time.
        start: Available from (included).
        end: Replaced from (excluded).
        order: Breaks ties of `time`: a rank or the event's id.
        values: Value columns; None or NaN for null.
    """

    key: Hashable
    time: int
    start: int
    end: int
    order: int | str
    values: tuple[float | None, ...] = ()


def naive(
    rows: Iterable[Row], key: Hashable, at: int, aggregate: Aggregate, params: Sequence[float | None] = ()
) -> float | None:
    """The aggregate for one question, None for null. Any key is taken as it is, unknown ones match no row.

    `params` are the question's parameters, None or NaN for null.
    """
    seen = sorted((row for row in rows if row.key == key and _counts(row, at, aggregate)), key=_when)
    if aggregate.function is Function.COUNT:
        return float(len(seen))
    if aggregate.function is Function.SINCE:
        return float(at - seen[-1].time) if seen else None
    values = [value for row in seen if (value := _value(row, aggregate.column)) is not None]
    if aggregate.function in (Function.SHARE_OF, Function.RANK_OF):
        return _relative(aggregate, values, params)
    return _FUNCTIONS[aggregate.function](values, aggregate.k)


def _relative(aggregate: Aggregate, values: list[float], params: Sequence[float | None]) -> float | None:
    if not values:
        return None
    x = values[-1] if aggregate.of < 0 else params[aggregate.of]
    if x is None or math.isnan(x):
        return None
    equal = sum(1 for value in values if value == x)
    if aggregate.function is Function.SHARE_OF:
        return equal / len(values)
    return (sum(1 for value in values if value < x) + equal / 2) / len(values)


def _counts(row: Row, at: int, aggregate: Aggregate) -> bool:
    in_span = aggregate.span.low <= at - row.time <= aggregate.span.high
    chosen = aggregate.where < 0 or _value(row, aggregate.where) == 1.0
    return in_span and chosen and row.start <= at < row.end


def _when(row: Row) -> tuple[int, int | str]:
    return row.time, row.order


def _value(row: Row, column: int) -> float | None:
    value = row.values[column]
    return None if value is None or math.isnan(value) else value


def _mean(values: list[float]) -> float | None:
    return math.fsum(values) / len(values) if values else None


def _std(values: list[float], _k: int) -> float | None:
    if len(values) < 2:
        return None
    mean = math.fsum(values) / len(values)
    return math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1))


def _acceleration(values: list[float], k: int) -> float | None:
    if len(values) <= 2 * k:
        return None
    return (values[-1] - values[-1 - k]) - (values[-1 - k] - values[-1 - 2 * k])


_FUNCTIONS: dict[Function, Callable[[list[float], int], float | None]] = {
    Function.SUM: lambda values, _: math.fsum(values),
    Function.MEAN: lambda values, _: _mean(values),
    Function.MIN: lambda values, _: min(values, default=None),
    Function.MAX: lambda values, _: max(values, default=None),
    Function.STD: _std,
    Function.FIRST: lambda values, _: values[0] if values else None,
    Function.LAST: lambda values, _: values[-1] if values else None,
    Function.DISTINCT: lambda values, _: float(len(set(values))),
    Function.LAST_MEAN: lambda values, k: _mean(values[-k:]),
    Function.LAST_CHANGE: lambda values, k: values[-1] - values[-1 - k] if len(values) > k else None,
    Function.LAST_ACCELERATION: _acceleration,
}
