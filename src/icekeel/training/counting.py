"""What some rows hold: values and their effects, combinations, ranges of numbers; before any threshold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from icekeel.core.frames import Bools, Column, Floats, Frame, Ints, Kind
from icekeel.guard import Category, Evidence, Number, Scale

from .effects import Additive, tenths
from .ranges import number_ranges

SMALLEST_EFFECT = 0.02
"""Effect up to which a value does not move the target: log, log-odds or standard deviations."""
Values = Sequence[str | float | None]


@dataclass(frozen=True, slots=True)
class Counted:
    """What the guard's tables hold of some rows: no margins, all columns watched.

    Attributes:
        codes: Codes of the rows, one array for each category.
        signed: Effects of each category by code, with their sign; 0 of a value that does not surely move the target.
        constant: The outcome without any effect, on the scale of the effects.
    """

    rows: int
    categories: Sequence[Category]
    codes: Sequence[Ints]
    signed: Sequence[Floats]
    constant: float
    numbers: Sequence[Number]
    evidence: Evidence

    @classmethod
    def of(
        cls, frame: Frame, columns: Sequence[Column], target: Floats, scale: Scale, max_values: int
    ) -> Counted:
        """What these rows hold."""
        outcome = np.log(target) if scale == "log" else target
        smallest = SMALLEST_EFFECT * (float(np.std(target)) if scale == "plain" else 1.0)
        named, numbers = _at(columns, Kind.CAT, Kind.FLAG), _at(columns, Kind.NUM)
        values = [values_of(frame, column.name) for _, column in named]
        counts = [_vocabulary(those) for those in values]
        places = [_places(those, list(known)) for those, known in zip(values, counts, strict=True)]
        tenth = [tenths(frame[column.name]) for _, column in numbers]
        model = Additive.fit([*places, *tenth], outcome, logistic=scale == "logit")
        categories, signed = [], []
        for index, (at, column) in enumerate(named):
            sure = model.sure(index)
            effect = np.where(sure > smallest, np.copysign(sure, model.effects[index]), 0.0)
            pooled = _pooled(np.abs(effect), max_values)
            categories.append(_category(at, column, counts[index], np.abs(effect), pooled))
            signed.append(np.concatenate([[0.0], effect[~pooled], np.zeros(int(pooled.any()))]))
        codes = [
            np.array(category.codes, dtype=np.int64)[place]
            for category, place in zip(categories, places, strict=True)
        ]
        ranges = [
            number_ranges(frame[column.name], at, column.name, categories, codes) for at, column in numbers
        ]
        evidence = Evidence.count(categories, codes, len(frame))
        return cls(len(frame), categories, codes, signed, model.constant, ranges, evidence)

    def encode(self, frame: Frame) -> list[Ints]:
        """Codes of other rows, 0 where the value was never seen."""
        return [
            np.array([lookup.get(value, 0) for value in values_of(frame, category.name)], dtype=np.int64)
            for category in self.categories
            for lookup in [dict(zip(category.values, category.codes, strict=True))]
        ]


def values_of(frame: Frame, name: str) -> list[str | float | None]:
    """The values of a column, None for null."""
    return [value if value == value else None for value in frame[name].tolist()]  # noqa: PLR0124 (NaN)


def _at(columns: Sequence[Column], *kinds: Kind) -> list[tuple[int, Column]]:
    return [(at, column) for at, column in enumerate(columns) if column.kind in kinds]


def _vocabulary(values: Values) -> dict[str | float | None, int]:
    """Rows of each value, the most common first."""
    counts = Counter(values)
    return {value: counts[value] for value in sorted(counts, key=lambda value: (-counts[value], repr(value)))}


def _places(values: Values, vocabulary: Values) -> Ints:
    places = {value: place for place, value in enumerate(vocabulary)}
    return np.array([places[value] for value in values], dtype=np.int64)


def _pooled(effect: Floats, max_values: int) -> Bools:
    """Which values share a code: beyond `max_values` the rarest of those that move nothing.

    The more common half of `max_values` is never pooled.
    """
    pooled = np.zeros(len(effect), dtype=np.bool_)
    surplus = len(effect) - max_values + 1
    still = [place for place in range(max_values // 2, len(effect)) if not effect[place]]
    if surplus > 1 and len(still) > 1:
        pooled[still[-surplus:]] = True
    return pooled


def _category(
    at: int, column: Column, counts: dict[str | float | None, int], effect: Floats, pooled: Bools
) -> Category:
    kept = int((~pooled).sum())
    codes = np.where(pooled, kept + 1, np.cumsum(~pooled))
    rows = np.bincount(codes, list(counts.values()))
    return Category(
        name=column.name,
        kind=column.kind,
        at=at,
        values=tuple(counts),
        codes=tuple(codes.tolist()),
        counts=tuple(rows.astype(np.int64).tolist()),
        effects=(0.0, *effect[~pooled].tolist(), *([0.0] if pooled.any() else [])),
        watched=True,
    )
