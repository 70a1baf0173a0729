"""An additive model in plain numbers: one curve for each number, one level for each category value, weights of words.

A ridge or logistic regression on linear splines and one-hot categories is exactly this, so that a person can
read from the file what each feature adds, and prediction needs a look-up and a multiplication per column.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from itertools import pairwise
from math import isnan
from typing import Literal

import msgspec
import numpy as np

from icekeel.core.errors import BundleError, Fault
from icekeel.core.frames import Array, Column, Floats, Frame, Kind

from .encoder import Value, readable
from .explained import Explained
from .links import Link, from_link, from_link_many
from .texts import Words, WordsTerm

MOST = 3.4028234663852886e38
"""The largest float32: what is beyond it counts as this, since training libraries hold numbers in float32."""


class Curve(msgspec.Struct, frozen=True, tag="curve", forbid_unknown_fields=True):
    """What a number adds: straight between knots, level beyond the outer ones."""

    knots: tuple[float, ...]
    heights: tuple[float, ...]
    null: float


class Slope(msgspec.Struct, frozen=True, tag="slope", forbid_unknown_fields=True):
    """What a number adds: `slope * (x - centre)`, without end but for `MOST`."""

    slope: float
    centre: float
    null: float


class Levels(msgspec.Struct, frozen=True, tag="levels", forbid_unknown_fields=True):
    """What a category adds: by value, for a null, and for any value not listed."""

    values: dict[str, float]
    null: float
    other: float


Term = Curve | Slope | Levels | Words


class LinearSpec(msgspec.Struct, frozen=True, tag_field="kind", tag="linear", forbid_unknown_fields=True):
    """An intercept and one term per column, summed in column order, then the link."""

    columns: tuple[Column, ...]
    terms: tuple[Term, ...]
    intercept: float
    link: Link
    format: Literal[1] = 1

    def engine(self, files: Mapping[str, bytes]) -> LinearEngine:
        """The engine that adds these terms up."""
        return LinearEngine(self, files)


class LinearEngine:
    """Adds the terms in the same order and with the same operations for one row and for many."""

    def __init__(self, spec: LinearSpec, files: Mapping[str, bytes] | None = None) -> None:
        self.columns = readable(spec.columns)
        if len(spec.terms) != len(spec.columns):
            got, allowed = str(len(spec.terms)), str(len(spec.columns))
            raise BundleError(Fault("bad_engine", "one term for each column", "engine.json", got, allowed))
        self._terms = tuple(
            _term(column, term, files or {}) for column, term in zip(self.columns, spec.terms, strict=True)
        )
        self._intercept = spec.intercept
        self._link: Link = spec.link

    def predict_one(self, values: Sequence[Value]) -> float:
        """Intercept plus terms, through the link."""
        total = self._intercept
        for term, value in zip(self._terms, values, strict=True):
            total += term.one(value)
        return from_link(self._link, total)

    def predict_many(self, frame: Frame) -> Floats:
        """The same for all rows, shape `(n_rows,)`."""
        total = np.full(len(frame), self._intercept)
        for column, term in zip(self.columns, self._terms, strict=True):
            total += term.many(frame[column.name])
        return from_link_many(self._link, total)

    def explain(self, values: Sequence[Value]) -> Explained:
        """What each term adds, of a text each word.

        Training has centred the terms, so that the average row, without a text, is the intercept.
        """
        added: list[tuple[tuple[str, ...], float]] = []
        for column, term, value in zip(self.columns, self._terms, values, strict=True):
            if isinstance(term, WordsTerm):
                added += term.added(column.name, value)
            else:
                added.append(((column.name,), term.one(value)))
        return Explained(self._link, self._intercept, tuple(added))


class _SlopeTerm:
    def __init__(self, slope: Slope) -> None:
        self.slope, self.centre, self.null = slope.slope, slope.centre, slope.null

    def one(self, value: Value) -> float:
        if value is None or isinstance(value, str) or isnan(value):
            return self.null
        return self.slope * (min(max(value, -MOST), MOST) - self.centre)

    def many(self, values: Array) -> Floats:
        known = self.slope * (np.clip(values, -MOST, MOST) - self.centre)
        return np.where(np.isnan(known), self.null, known)


class _CurveTerm:
    def __init__(self, curve: Curve) -> None:
        self.null = curve.null
        self.first, self.last = curve.knots[0], curve.knots[-1]
        self.inner = list(curve.knots[1:-1])
        self.slopes = [
            (high - low) / (right - left)
            for (left, right), (low, high) in zip(pairwise(curve.knots), pairwise(curve.heights), strict=True)
        ] or [0.0]
        self.starts, self.heights = list(curve.knots), list(curve.heights)
        self.arrays = [np.array(part) for part in (self.inner, self.starts, self.heights, self.slopes)]

    def one(self, value: Value) -> float:
        if value is None or isinstance(value, str) or isnan(value):
            return self.null
        x = min(max(value, self.first), self.last)
        i = bisect_right(self.inner, x)
        return self.heights[i] + self.slopes[i] * (x - self.starts[i])

    def many(self, values: Array) -> Floats:
        inner, starts, heights, slopes = self.arrays
        x = np.clip(values, self.first, self.last)
        i = np.searchsorted(inner, x, side="right") if len(inner) else np.zeros(len(x), dtype=np.intp)
        # NaN sorts last and so stays within the tables; its null replaces it.
        return np.where(np.isnan(x), self.null, heights[i] + slopes[i] * (x - starts[i]))


class _LevelsTerm:
    def __init__(self, levels: Levels) -> None:
        self.table: dict[Value, float] = {None: levels.null}
        self.table.update(levels.values)
        self.other = levels.other

    def one(self, value: Value) -> float:
        return self.table.get(value, self.other)

    def many(self, values: Array) -> Floats:
        get, other = self.table.get, self.other
        return np.array([get(value, other) for value in values], dtype=np.float64)


def _term(
    column: Column, term: Term, files: Mapping[str, bytes]
) -> _CurveTerm | _SlopeTerm | _LevelsTerm | WordsTerm:
    fits = {Kind.CAT: Levels, Kind.TEXT: Words}.get(column.kind)
    if not isinstance(term, fits or (Curve, Slope)):
        what = "a curve or slope is for a number, levels for a category, words for a text"
        raise BundleError(Fault("bad_engine", what, column.name))
    if isinstance(term, Levels):
        return _LevelsTerm(term)
    if isinstance(term, Words):
        return WordsTerm(term, files.get(term.file))
    if isinstance(term, Slope):
        return _SlopeTerm(term)
    rising = all(left < right for left, right in pairwise(term.knots))
    if not term.knots or len(term.knots) != len(term.heights) or not rising:
        raise BundleError(Fault("bad_engine", "knots must rise, one height for each", column.name))
    return _CurveTerm(term)
