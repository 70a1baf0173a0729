"""Histograms of columns: small, mergeable, and enough to compare one day with another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from icekeel.core.binning import Binning
from icekeel.core.frames import Column, Frame, Ints, Kind

WATCHED = (Kind.NUM, Kind.FLAG, Kind.CAT)
"""Kinds that have a shape worth watching; identifiers, times and texts have none."""


@dataclass(frozen=True, slots=True)
class Profile:
    """Counts by column of one period: a day, a segment's day. Parts add up to the whole."""

    counts: Mapping[str, Ints]

    @property
    def rows(self) -> int:
        """Rows counted."""
        return int(next(iter(self.counts.values())).sum()) if self.counts else 0

    def __add__(self, other: Profile) -> Profile:
        return Profile({name: counts + other.counts[name] for name, counts in self.counts.items()})

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {name: counts.tolist() for name, counts in self.counts.items()}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Profile:
        """The profile that `to_dict` wrote."""
        return cls({name: np.array(counts, dtype=np.int64) for name, counts in data.items()})


@dataclass(frozen=True, slots=True)
class Profiler:
    """How each watched column is counted; fixed by the reference, so that periods can be compared."""

    binnings: Mapping[str, Binning]

    @classmethod
    def fit(cls, columns: Sequence[Column], frame: Frame) -> Profiler:
        """Cells taken from reference rows, for the columns whose kind is in `WATCHED`."""
        return cls(
            {
                column.name: Binning.of(column, frame[column.name])
                for column in columns
                if column.kind in WATCHED
            }
        )

    def profile(self, frame: Frame) -> Profile:
        """Counts of the rows of `frame`, which has every watched column."""
        return Profile({name: binning.count(frame[name]) for name, binning in self.binnings.items()})

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            name: {"edges": list(b.edges)} if b.categories is None else {"categories": list(b.categories)}
            for name, b in self.binnings.items()
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Profiler:
        """The profiler that `to_dict` wrote."""
        return cls(
            {
                name: Binning(tuple(cells.get("edges", ())), _names(cells.get("categories")))
                for name, cells in data.items()
            }
        )


def _names(categories: Sequence[str] | None) -> tuple[str, ...] | None:
    return None if categories is None else tuple(categories)


def psi(reference: Ints, counts: Ints) -> float:
    """Population stability index `sum((q - p) ln(q / p))`, half a row added to each cell.

    Jeffreys' divergence; the name and its 0.1 and 0.25 marks are from credit scoring (Siddiqi 2006). Shown
    because people ask for it: 0.1 misses a shift of a fifth of a standard deviation.
    """
    p, q = reference + 0.5, counts + 0.5
    p, q = p / p.sum(), q / q.sum()
    return float(((q - p) * np.log(q / p)).sum())
