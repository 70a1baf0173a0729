"""Which combinations of values the training rows hold, and how unusual each of the others is."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from icekeel.core.frames import Bools, Floats, Ints

from .tables import Category, Combinations

MAX_CELLS = 32_000_000
"""Cells of all tables together, a byte each."""
MAX_TABLE = 2_000_000
"""Cells of one table."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """Counts of pairs and triples.

    Attributes:
        cells: The combinations that are counted, pairs first, and where their cells lie.
        skipped: Names of the columns of each combination whose table would have been too large.
        pair_counts: Rows by cell of every pair.
        seen: By cell of every combination, whether any row is in it.
    """

    rows: int
    categories: Sequence[Category]
    cells: Combinations
    skipped: Sequence[tuple[str, ...]]
    pair_counts: Ints
    seen: Bools

    @classmethod
    def count(cls, categories: Sequence[Category], codes: Sequence[Ints], rows: int) -> Evidence:
        """The evidence in rows with these codes, one array of shape `(rows,)` per category."""
        sizes = [len(category.counts) for category in categories]
        chosen, skipped = _affordable(sizes)
        cells = Combinations.of(chosen, sizes)
        seen = np.zeros(cells.starts[-1], dtype=np.bool_)
        pairs: list[Ints] = [np.zeros(0, dtype=np.int64)]
        for members, view in cells.split(seen).items():
            at = np.ravel_multi_index(tuple(codes[member] for member in members), view.shape)
            counts = np.bincount(at, minlength=view.size)
            view[...] = (counts > 0).reshape(view.shape)
            if len(members) == 2:
                pairs.append(counts)
        names = [tuple(categories[member].name for member in members) for members in skipped]
        return cls(rows, categories, cells, names, np.concatenate(pairs), seen)

    def unseen(self) -> Iterator[tuple[tuple[int, ...], Floats, Floats]]:
        """For each combination the smallest effect and the expected rows of its cells, 0 in those seen.

        Expected rows of a pair: as if its values were independent, `n_i n_j / n`. Of a triple: given its pairs,
        the smallest of `n_ij n_ik / n_i` and its like, each exact if one value made the other two independent.
        """
        pairs = self.cells.split(self.pair_counts)
        effects = [np.array(category.effects) for category in self.categories]
        counts = [np.maximum(category.counts, 1.0) for category in self.categories]
        for members, seen in self.cells.split(self.seen).items():
            effect = functools.reduce(np.minimum.outer, [effects[member] for member in members])
            if len(members) == 2:
                first, second = (self.categories[member].counts for member in members)
                expected = np.multiply.outer(np.array(first), np.array(second)) / self.rows
            else:
                i, j, k = members
                ij, ik, jk = pairs[i, j][:, :, None], pairs[i, k][:, None, :], pairs[j, k][None, :, :]
                ni, nj, nk = counts[i][:, None, None], counts[j][None, :, None], counts[k][None, None, :]
                expected = np.minimum(np.minimum(ij * ik / ni, ij * jk / nj), ik * jk / nk)
            yield members, np.where(seen, 0.0, effect), np.where(seen, 0.0, expected)


def _affordable(sizes: Sequence[int]) -> tuple[list[tuple[int, ...]], list[tuple[int, ...]]]:
    """Pairs, then triples, each from the smallest table on, as many as there is room for; and the others."""
    chosen: list[tuple[int, ...]] = []
    skipped: list[tuple[int, ...]] = []
    room = MAX_CELLS
    for order in (2, 3):
        found = itertools.combinations(range(len(sizes)), order)
        for size, members in sorted((math.prod(sizes[m] for m in members), members) for members in found):
            whole = order == 2 or all(pair in chosen for pair in itertools.combinations(members, 2))
            fits = whole and size <= min(room, MAX_TABLE)
            (chosen if fits else skipped).append(members)
            room -= size * fits
    return chosen, skipped
