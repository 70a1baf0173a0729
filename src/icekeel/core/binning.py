"""Cells of a column, counts of rows in them, and how far two such counts lie apart."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np

from .frames import Array, Column, Floats, Ints

BINS = 20


@dataclass(frozen=True, slots=True)
class Binning:
    """How one column is counted. The first cell holds the nulls.

    Numbers: then `(-inf, edges[0]]`, `(edges[0], edges[1]]` .. `(edges[-1], inf)`. Categories: then one
    cell each, and the last for all others.

    Attributes:
        edges: Rising edges; used when `categories` is None.
        categories: Names counted apart; None for a number.
    """

    edges: tuple[float, ...] = ()
    categories: tuple[str, ...] | None = None

    @classmethod
    def of_numbers(cls, values: Floats, cells: int = BINS) -> Binning:
        """Edges at the quantiles of `values`: at most `cells`, the outer two for what was never seen.

        A value that fills several quantiles gives one edge, so a constant column has three cells.
        """
        known = values[~np.isnan(values)]
        if not len(known):
            return cls()
        inside = np.quantile(known, np.linspace(0, 1, cells - 2), method="inverted_cdf")
        edges = np.unique(np.append(inside, np.nextafter(inside[0], -np.inf)))
        return cls(edges=tuple(edges.tolist()))

    @classmethod
    def of_categories(cls, values: Array, cells: int = BINS) -> Binning:
        """A cell for each of the most frequent categories, ties by name; one of `cells` is for all others."""
        counts = Counter(value for value in values.tolist() if value is not None)
        ranked = sorted(counts, key=lambda name: (-counts[name], name))
        return cls(categories=tuple(ranked[: cells - 1]))

    @classmethod
    def of(cls, column: Column, values: Array, cells: int = BINS) -> Binning:
        """The binning that fits a column's kind."""
        make = cls.of_categories if column.kind.is_text else cls.of_numbers
        return make(values, cells)

    @property
    def cells(self) -> int:
        """Number of cells, the one for nulls included."""
        return 2 + len(self.edges if self.categories is None else self.categories)

    def codes(self, values: Array) -> Ints:
        """The cell of each value, shape `(n_rows,)`."""
        if self.categories is None:
            places = np.searchsorted(self.edges, values, side="left") + 1
            places[np.isnan(values)] = 0
            return places
        known: dict[str | None, int] = {name: place + 1 for place, name in enumerate(self.categories)}
        known[None] = 0
        others = self.cells - 1
        return np.fromiter((known.get(value, others) for value in values.tolist()), np.int64, len(values))

    def count(self, values: Array) -> Ints:
        """Rows per cell, shape `(cells,)`."""
        return np.bincount(self.codes(values), minlength=self.cells).astype(np.int64)

    def label(self, cell: int) -> str:
        """The cell in words."""
        if cell == 0:
            return "nulls"
        if self.categories is not None:
            return self.categories[cell - 1] if cell <= len(self.categories) else "other categories"
        if not self.edges:
            return "any value"
        if cell == len(self.edges) + 1:
            return f"above {self.edges[-1]:.4g}"
        above = f"above {self.edges[cell - 2]:.4g} and " if cell > 1 else ""
        return f"{above}up to {self.edges[cell - 1]:.4g}"


def distance(binning: Binning, a: Ints, b: Ints) -> float:
    """How much of the rows would have to move, in [0, 1]; 0 where either side is empty.

    Numbers: largest difference of the cumulative shares (Kolmogorov-Smirnov, on the cells), nulls first.
    Categories: half the sum of the absolute differences (total variation).
    """
    if not a.sum() or not b.sum():
        return 0.0
    change = a / a.sum() - b / b.sum()
    if binning.categories is None:
        return float(np.abs(np.cumsum(change)).max())
    return float(np.abs(change).sum() / 2)


def chi2_p_value(a: Ints | Floats, b: Ints | Floats) -> float:
    """P-value of the chi-squared test that both samples share one distribution of *independent* rows.

    Pearson's statistic over the cells that are not empty, one degree of freedom less than those. Where a cell
    expects fewer than 5 rows (Cochran 1954) it is divided by 5 instead: one row in a cell never seen before
    proves nothing, forty do.
    """
    total_a, total_b = float(a.sum()), float(b.sum())
    together = (a + b)[(a + b) > 0]
    if len(together) < 2 or not total_a or not total_b:
        return 1.0
    expected_b = together * (total_b / (total_a + total_b))
    weight = 1 / np.maximum(expected_b, 5) + 1 / np.maximum(together - expected_b, 5)
    statistic = np.square(b[(a + b) > 0] - expected_b) * weight
    # Loaded where it is used, once a day by the keeper: it takes a fifth of the start of a server that never does.
    from scipy.special import chdtrc  # type: ignore[import-untyped]

    return float(chdtrc(len(together) - 1, statistic.sum()))
