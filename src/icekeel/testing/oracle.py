"""The naive oracle of window aggregates: one question, one pass over plain Python rows, as the rule reads."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from icekeel.features.aggregates import Aggregate, Function

RELATIVE = (Function.SHARE_OF, Function.RANK_OF)
"""Functions of a value asked about among the values of a window."""


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
    seen = sorted(
        (row for row in rows if row.key == key and _counts(row, at, aggregate)),
        key=lambda row: (row.time, row.order),
    )
    if aggregate.function is Function.COUNT:
        return float(len(seen))
    if aggregate.function is Function.SINCE:
        return float(at - seen[-1].time) if seen else None
    values = [value for row in seen if (value := _value(row, aggregate.column)) is not None]
    if aggregate.function in RELATIVE:
        asked = _known(params[aggregate.of]) if aggregate.of >= 0 else None
        return relative(aggregate.function, values, values[-1] if values and aggregate.of < 0 else asked)
    result: float | None = SUMMARIES[aggregate.function](values, aggregate.k)
    return result


def _counts(row: Row, at: int, aggregate: Aggregate) -> bool:
    in_span = aggregate.span.low <= at - row.time <= aggregate.span.high
    chosen = aggregate.where < 0 or _value(row, aggregate.where) == 1.0
    return in_span and chosen and row.start <= at < row.end


def _value(row: Row, column: int) -> float | None:
    return _known(row.values[column])


def _known(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else value


def relative(function: Function, values: Sequence[Any], asked: Any) -> float | None:
    """Share or rank of what is asked about among values of its kind; null without either."""
    if asked is None or not values:
        return None
    equal: int = sum(value == asked for value in values)
    if function is Function.SHARE_OF:
        return equal / len(values)
    less: int = sum(value < asked for value in values)
    return (less + equal / 2) / len(values)


def _std(values: Sequence[float], _k: int) -> float | None:
    if len(values) < 2:
        return None
    exact = [Fraction(value) for value in values]
    mean = sum(exact) / len(exact)
    return math.sqrt(sum((value - mean) ** 2 for value in exact) / (len(exact) - 1))


def _mean(values: Sequence[float]) -> float | None:
    return math.fsum(values) / len(values) if values else None


def _acceleration(values: Sequence[float], k: int) -> float | None:
    if len(values) <= 2 * k:
        return None
    return (values[-1] - values[-1 - k]) - (values[-1 - k] - values[-1 - 2 * k])


# Values are texts for some of these, hence Any.
SUMMARIES: dict[Function, Callable[[Sequence[Any], int], Any]] = {
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
"""What each function makes of the values of a window, in the order of (time, id), nulls left out; and of `k`."""
