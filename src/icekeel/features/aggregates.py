"""What is computed over windows: the vocabulary that the offline kernel and the online store share.

A row is one *version* of an event. Relative to a question asked at `t` its age is `t - event_time`
(negative for what is still to come), and it counts in a window when

    low <= t - event_time <= high      (the span)     and     start <= t < end      (the version known at t)

with all four integers in microseconds. `last=w` is the span `[1, w]`, `next=w` is `[1 - w, 0]`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Function(StrEnum):
    """How the rows of a window become one number. `windows`, `online.scan` and `testing.oracle` each say how.

    All but COUNT and SINCE read a column and skip its nulls; with nothing to read they give null (NaN),
    except COUNT, SUM and DISTINCT, which give 0. What is beyond the range of float64 is null too.
    """

    COUNT = "count"
    """Rows in the window."""
    SUM = "sum"
    MEAN = "mean"
    MIN = "min"
    MAX = "max"
    STD = "std"
    """Sample standard deviation (n - 1); null below two values."""
    FIRST = "first"
    """Value of the earliest row by (event_time, id)."""
    LAST = "last"
    """Value of the latest row by (event_time, id)."""
    DISTINCT = "distinct"
    """Number of different values."""
    SINCE = "since"
    """Microseconds from the latest row's event time to the question; null without a row."""
    LAST_MEAN = "last_mean"
    """Mean of the latest `k` values (of fewer where there are fewer)."""
    LAST_CHANGE = "last_change"
    """Latest value minus the `k`-th before it; null with fewer than `k + 1` values."""
    LAST_ACCELERATION = "last_acceleration"
    """`(x0 - xk) - (xk - x2k)` of the latest value and the `k`-th and `2k`-th before; null below `2k + 1` values."""
    SHARE_OF = "share_of"
    """Share of the values that equal the question's parameter; null without values or where that is null."""
    RANK_OF = "rank_of"
    """`(less + equal / 2) / n` of the question's parameter among the `n` values; null as for SHARE_OF."""


EMPTY = {Function.COUNT: 0.0, Function.SUM: 0.0, Function.DISTINCT: 0.0}
"""What functions give over no rows; all others give null."""


@dataclass(frozen=True, slots=True)
class Span:
    """Ages that belong to a window, both ends included, in microseconds."""

    low: int
    high: int


@dataclass(frozen=True, slots=True)
class Aggregate:
    """One number per question.

    Attributes:
        column: Index into the view's value columns; -1 for COUNT and SINCE.
        where: Index of a value column that holds 1.0 for rows that count (0.0 or NaN: not); -1 for all rows.
        k: How many, for the functions over the latest values.
        of: Index into the question's parameters, for SHARE_OF and RANK_OF; -1 means the latest value itself.
    """

    function: Function
    span: Span
    column: int = -1
    where: int = -1
    k: int = 0
    of: int = -1


@dataclass(frozen=True, slots=True)
class View:
    """All aggregates over one event table by the same key columns: the unit of online state.

    Attributes:
        name: Stable identifier, a function of the definition.
        keys: Its columns that make the key; empty for one window over all rows.
        columns: Names of the float64 value columns stored for each row.
        aggregates: What is asked of it.
        back: How far back any span reaches, microseconds (0 when none does).
        ahead: How far ahead any span reaches, microseconds (0 when none does).
    """

    name: str
    table: str
    keys: tuple[str, ...]
    columns: tuple[str, ...]
    aggregates: tuple[Aggregate, ...]
    back: int
    ahead: int
