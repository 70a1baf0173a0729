"""Counts, means and intervals of every cell of several groupings at once, in one pass over columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from icekeel.core.binning import Binning
from icekeel.core.frames import Column, Floats, Frame, Ints
from icekeel.core.statistics import wilson


@dataclass(frozen=True, slots=True)
class Group:
    """One column cut into cells.

    Attributes:
        codes: The cell of each row, shape `(n_rows,)`.
    """

    name: str
    binning: Binning
    codes: Ints

    @classmethod
    def of(cls, column: Column, frame: Frame, cells: int) -> Group:
        """A column of a frame."""
        binning = Binning.of(column, frame[column.name], cells)
        return cls(column.name, binning, binning.codes(frame[column.name]))


@dataclass(frozen=True)
class Tally:
    """Sums over the cells of one group, or of all combinations of several.

    Attributes:
        count: Rows, shape one axis per group.
        sums: Name -> sum of a series over the rows of each cell, same shape.
        spreads: Name -> variance of that sum, taking days as what is independent: the linearised, cluster-robust one
            of a mean (Liang and Zeger 1986), times the square of the count.
        days: Days on which each cell has rows; 0 without spreads.
    """

    groups: tuple[Group, ...]
    count: Floats
    sums: Mapping[str, Floats]
    spreads: Mapping[str, Floats]
    days: Ints

    @classmethod
    def of(
        cls, groups: Sequence[Group], series: Mapping[str, Floats], day: tuple[int, Ints] | None = None
    ) -> Tally:
        """The sums of each series.

        Args:
            series: Each of shape `(n_rows,)`, finite.
            day: How many days there are, and the day of each row; None leaves the spreads out.
        """
        shape = tuple(group.binning.cells for group in groups)
        code = np.ravel_multi_index(tuple(group.codes for group in groups), shape)
        cells = int(np.prod(shape))
        count = np.bincount(code, minlength=cells).astype(np.float64)
        sums = {
            name: np.bincount(code, values, minlength=cells).astype(np.float64)
            for name, values in series.items()
        }
        spreads: dict[str, Floats] = {}
        held = np.zeros(cells, dtype=np.int64)
        if day is not None:
            days, of_day = day
            both, size = code * days + of_day, cells * days
            rows = np.bincount(both, minlength=size).reshape(cells, days)
            held = (rows > 0).sum(axis=1)
            active = np.maximum(2, held)
            for name, values in series.items():
                by_day = np.bincount(both, values, minlength=size).reshape(cells, days)
                mean = sums[name] / np.maximum(count, 1)
                squares = np.square(by_day - rows * mean[:, None]).sum(axis=1)
                spreads[name] = (squares * active / (active - 1)).reshape(shape)
        shaped = {name: values.reshape(shape) for name, values in sums.items()}
        return cls(tuple(groups), count.reshape(shape), shaped, spreads, held.reshape(shape))

    def mean(self, name: str) -> Floats:
        """The mean of a series in each cell, NaN where there are no rows."""
        return self.sums[name] / self._rows

    def interval(self, name: str) -> tuple[Floats, Floats]:
        """Bounds of that mean: normal, with days as what is independent."""
        half = 1.96 * np.sqrt(self.spreads[name]) / self._rows
        return self.mean(name) - half, self.mean(name) + half

    def rate_interval(self, name: str) -> tuple[Floats, Floats]:
        """Bounds of the mean of a series of 0 and 1, see `wilson`."""
        return wilson(self.sums[name], self.count)

    @cached_property
    def _rows(self) -> Floats:
        return np.where(self.count > 0, self.count, np.nan)

    def words(self, cell: Sequence[int]) -> str:
        """A cell in words: `origin = LGA, distance above 500`."""
        return ", ".join(
            f"{group.name} is null"
            if at == 0
            else f"{group.name} {'= ' if group.binning.categories is not None else ''}{group.binning.label(at)}"
            for group, at in zip(self.groups, cell, strict=True)
        )
