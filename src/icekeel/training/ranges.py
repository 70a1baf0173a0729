"""Between what numbers ordinarily lie, by the category that narrows it most."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from msgspec.structs import replace

from icekeel.core.frames import Bools, Floats, Ints
from icekeel.guard import Category, Number

TAIL = 0.001
"""Share of rows below and above the range of a number before its margin."""
ENOUGH_ROWS = 50
"""Rows from which a value of a category gets a range of its own."""


def number_ranges(
    values: Floats, at: int, name: str, categories: Sequence[Category], codes: Sequence[Ints]
) -> Number:
    """The ranges of one column of numbers, without margin, by the category that narrows it most.

    Args:
        values: NaN for null.
        at, name: Its position among the values that are checked, and its name.
        categories, codes: Those that may narrow it, and their codes of each row.
    """
    known = ~np.isnan(values)
    x = values[known]
    logarithmic = len(x) > 0 and bool(x.min() > 0) and _skew(np.log(x)) < _skew(x)
    x = np.log(x) if logarithmic else x
    best, group = _Ranges.of(x, np.zeros(len(x), dtype=np.int64), 1), -1
    for index, category in enumerate(categories):
        ranges = _Ranges.of(x, codes[index][known], len(category.counts))
        if ranges.mean_width < 0.95 * best.mean_width:
            best, group = ranges, index
    return Number(
        name=name,
        at=at,
        group=group,
        low=tuple((np.exp(best.low) if logarithmic else best.low).tolist()),
        high=tuple((np.exp(best.high) if logarithmic else best.high).tolist()),
        own=tuple(best.own.tolist()),
        width=tuple(best.width.tolist()),
        logarithmic=bool(logarithmic),
        watched=bool(known.all()),
    )


def distances(number: Number, values: Floats, codes: Sequence[Ints]) -> Floats:
    """How far each row lies outside its range, in widths; 0 inside and for null."""
    at = codes[number.group] if number.group >= 0 else np.zeros(len(values), dtype=np.int64)
    return number.distances(values, at)


def widened(number: Number, margin: float) -> Number:
    """The number with `margin` widths added below and above."""
    # A hair wider than the threshold, so that the row that set it is not flagged by a rounding error.
    width = margin * (1 + 1e-9) * np.array(number.width)
    low, high = np.array(number.low), np.array(number.high)
    if number.logarithmic and math.isfinite(margin):
        with np.errstate(over="ignore"):
            low, high = low / np.exp(width), high * np.exp(width)
    else:
        low, high = low - width, high + width
    return replace(number, low=tuple(low.tolist()), high=tuple(high.tolist()))


class _Ranges(NamedTuple):
    """Ranges by code without margin, and their mean width over the rows."""

    low: Floats
    high: Floats
    own: Bools
    width: Floats
    mean_width: float

    @classmethod
    def of(cls, x: Floats, codes: Ints, size: int) -> _Ranges:
        """Quantiles `TAIL` and `1 - TAIL` of each code with enough rows, of all rows for the others."""
        low, high = np.full(size, -np.inf), np.full(size, np.inf)
        if not len(x):
            return cls(low, high, np.zeros(size, dtype=np.bool_), np.ones(size), np.inf)
        every = np.sort(x)
        cut = int(TAIL * (len(x) - 1))
        low[:], high[:] = every[cut], every[-1 - cut]
        whole = max(float(high[0] - low[0]), 1e-300)
        order = np.lexsort((x, codes))
        ends = np.cumsum(np.bincount(codes, minlength=size))
        rows = np.diff(ends, prepend=0)
        own = rows >= ENOUGH_ROWS
        own[0] = False
        cuts = (TAIL * (rows - 1)).astype(np.int64)[own]
        low[own] = x[order[(ends - rows)[own] + cuts]]
        high[own] = x[order[ends[own] - 1 - cuts]]
        width = np.maximum(high - low, whole / 20)
        return cls(low, high, own, width, float(np.average(width, weights=rows)))


def _skew(x: Floats) -> float:
    low, middle, high = np.quantile(x, (0.01, 0.5, 0.99))
    return abs(low + high - 2 * middle) / (high - low) if high > low else 0.0
