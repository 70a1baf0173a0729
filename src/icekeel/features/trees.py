"""Folds over ranges: how partial aggregates of rows are merged for many questions at once.

Two structures, each the mirror image of the other, and both only ever *merge*, so nothing cancels:

- rows in order, each question reads a range of them (`over_ranges`);
- questions in order, each row reaches a range of them (`spread`).

Positions stand in a `Layout`: the block of a key begins at a multiple of its own size, a power of two. So how
partials are paired, and with it every rounding, follows from the key's own rows and questions, whatever else is
computed at the same time. All loops run over levels; work on a level is vectorised.

A *partial* is a float64 array whose first axis runs over what it belongs to: rows, blocks, questions.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np

from icekeel.core.frames import Floats, Ints

_SHORT = 8
"""Up to this many, partials are merged by one strided step each."""


class Fold(ABC):
    """A commutative monoid over rows."""

    @property
    @abstractmethod
    def identity(self) -> Floats:
        """The partial of no rows, shape `()` or `(width,)`."""

    @abstractmethod
    def leaves(self, values: Floats, ranks: Ints) -> Floats:
        """The partial of each row alone, from its value (not null) and its rank by (time, id)."""

    @abstractmethod
    def merge(self, left: Floats, right: Floats) -> Floats:
        """The partials of both sides' rows together."""

    def nothing(self, size: int) -> Floats:
        """`size` partials of no rows."""
        return np.broadcast_to(self.identity, (size, *self.identity.shape)).copy()


class Additive(Fold):
    """A fold that can be computed for whole runs of rows at once."""

    @abstractmethod
    def runs(self, values: Floats, begin: Ints) -> Floats:
        """The partial of each run of rows; a run ends where the next begins."""


@dataclass(frozen=True)
class Simple(Additive):
    """A fold whose partial is one number, merged by a ufunc: sum, min, max."""

    ufunc: np.ufunc
    start: float

    @property
    def identity(self) -> Floats:
        """What the ufunc starts from."""
        return np.asarray(self.start)

    def leaves(self, values: Floats, ranks: Ints) -> Floats:
        """The values themselves."""
        return values

    def merge(self, left: Floats, right: Floats) -> Floats:
        """The ufunc of both sides."""
        return np.asarray(self.ufunc(left, right))

    def runs(self, values: Floats, begin: Ints) -> Floats:
        """By `reduceat`, which adds pair by pair."""
        return np.asarray(self.ufunc.reduceat(values, begin))


@dataclass(frozen=True)
class Moments(Additive):
    """Count, mean and sum of squared deviations, merged as in Chan, Golub and LeVeque (1983), eq. 1.5."""

    @property
    def identity(self) -> Floats:
        """No rows: three zeros."""
        return np.zeros(3)

    def leaves(self, values: Floats, ranks: Ints) -> Floats:
        """A count of one, the value, no deviation."""
        return np.column_stack((np.ones(len(values)), values, np.zeros(len(values))))

    def merge(self, left: Floats, right: Floats) -> Floats:
        """Eq. 1.5, written so that an empty side changes nothing."""
        n = left[..., 0] + right[..., 0]
        share = right[..., 0] / np.maximum(n, 1)
        delta = right[..., 1] - left[..., 1]
        squares = left[..., 2] + right[..., 2] + delta * delta * left[..., 0] * share
        return np.stack((n, left[..., 1] + delta * share, squares), axis=-1)

    def runs(self, values: Floats, begin: Ints) -> Floats:
        """Twice over the rows: means, then deviations from them."""
        count = np.diff(begin, append=len(values))
        mean = np.add.reduceat(values, begin) / count
        deviation = values[begin[0] :] - np.repeat(mean, count)
        squares = np.add.reduceat(deviation * deviation, begin - begin[0])
        return np.column_stack((count, mean, squares))


@dataclass(frozen=True)
class Ends(Fold):
    """Ranks of the earliest or latest `k` rows, nearest the end first, infinite where there are fewer.

    Ranks of the latest are negative, so that in both cases the smallest are wanted.
    """

    k: int
    latest: bool

    @property
    def identity(self) -> Floats:
        """No rows: `k` infinities."""
        return np.full(self.k, np.inf)

    def leaves(self, values: Floats, ranks: Ints) -> Floats:
        """Each row's rank in the first place."""
        result = self.nothing(len(ranks))
        result[:, 0] = -ranks if self.latest else ranks
        return result

    def merge(self, left: Floats, right: Floats) -> Floats:
        """The smallest `k` of both sides."""
        if self.k == 1:
            return np.minimum(left, right)
        return np.sort(np.concatenate((left, right), axis=-1), axis=-1)[..., : self.k]


SUM = Simple(np.add, 0.0)
MIN = Simple(np.minimum, np.inf)
MAX = Simple(np.maximum, -np.inf)
MOMENTS = Moments()


@dataclass(frozen=True, slots=True)
class Layout:
    """Where positions of groups of `sizes` stand when each group has an aligned block of its own.

    Attributes:
        shift: What to add to the positions of each group, `(n_groups,)`.
        blocks: Sizes of the blocks, powers of two, the largest first.
        size: Number of places.
    """

    shift: Ints
    blocks: Ints
    size: int

    @classmethod
    def of(cls, first: Ints, sizes: Ints) -> Layout:
        """For groups of consecutive positions `[first, first + size)`, sizes 1 or above."""
        blocks = np.left_shift(1, np.frexp(np.maximum(sizes - 1, 0).astype(np.float64))[1]).astype(np.int64)
        order = np.argsort(-blocks, kind="stable")
        base = np.empty(len(sizes), dtype=np.int64)
        base[order] = np.cumsum(blocks[order]) - blocks[order]
        return cls(base - first, blocks[order], int(blocks.sum()))

    def up_to(self, block: int) -> int:
        """Number of places that belong to blocks of at least this size."""
        return int(self.blocks[: np.searchsorted(-self.blocks, -block, side="right")].sum())


class Ranges:
    """Ranges of rows `[lo, hi)` for questions sorted by group; rows of different groups lie apart.

    Rows between two neighbouring ends are a *piece*: all questions that read one of its rows read them all. So
    rows are folded into pieces once, and only pieces are merged for each question: the left half of its pieces from
    their middle to the left, the right half to the right, where the middle is the point at which the first and the
    last piece's places differ in the highest bit. Source: the disjoint sparse table (also: sqrt tree), level by level.
    """

    def __init__(self, group: Ints, lo: Ints, hi: Ints) -> None:
        self._size = len(lo)
        self._asked = np.flatnonzero(lo < hi)
        if not len(self._asked):
            return
        group, lo, hi = group[self._asked], lo[self._asked], hi[self._asked]
        ends = np.sort(np.concatenate((lo, hi)))
        ends = ends[np.diff(ends, prepend=-1) != 0]
        lo, hi = np.searchsorted(ends, lo), np.searchsorted(ends, hi)
        opens = np.flatnonzero(np.diff(group, prepend=group[0] - 1))
        first, sizes = lo[opens], np.maximum.reduceat(hi, opens) - lo[opens]
        self._layout = Layout.of(first, sizes)
        self._pieces = _within(first, sizes)
        self._places = self._pieces + np.repeat(self._layout.shift, sizes)
        self._ends = ends
        shift = np.repeat(self._layout.shift, np.diff(opens, append=len(group)))
        self._left, self._right = lo + shift, hi + shift - 1
        levels = np.frexp((self._left ^ self._right).astype(np.float64))[1].astype(np.uint8)
        self._order = np.argsort(levels, kind="stable")
        self._until = np.searchsorted(levels[self._order], np.arange(int(levels.max()) + 1), side="right")

    def fold(self, fold: Additive, values: Floats) -> Floats:
        """The partial of each question over the rows' values."""
        result = fold.nothing(self._size)
        if not len(self._asked):
            return result
        right = fold.nothing(self._layout.size)
        right[self._places] = fold.runs(values[: self._ends[-1]], self._ends[:-1])[self._pieces]
        left, done = right.copy(), 0
        for level, until in enumerate(self._until):
            who = self._order[done:until]
            done = until
            if level == 0:
                result[self._asked[who]] = right[self._left[who]]
                continue
            result[self._asked[who]] = fold.merge(left[self._left[who]], right[self._right[who]])
            if done < len(self._order):
                _widen(fold, left, right, 1 << (level - 1), self._layout.up_to(2 << level))
        return result


def _widen(fold: Fold, left: Floats, right: Floats, half: int, size: int) -> None:
    """From blocks of `half` to twice that: `left` holds folds up to the block's end, `right` from its begin."""
    ending = left[:size].reshape(-1, 2, half, *left.shape[1:])
    begun = right[:size].reshape(-1, 2, half, *right.shape[1:])
    if half > _SHORT:
        ending[:, 0] = fold.merge(ending[:, 0], ending[:, 1, :1])
        begun[:, 1] = fold.merge(begun[:, 0, -1:], begun[:, 1])
        return
    for at in range(half):
        ending[:, 0, at] = fold.merge(ending[:, 0, at], ending[:, 1, 0])
        begun[:, 1, at] = fold.merge(begun[:, 0, -1], begun[:, 1, at])


def _within(first: Ints, sizes: Ints) -> Ints:
    """The positions of all groups, one after the other."""
    return np.asarray(np.arange(int(sizes.sum())) + np.repeat(first - (np.cumsum(sizes) - sizes), sizes))


def spread(fold: Fold, rows: Floats, first: Ints, last: Ints, size: int) -> Floats:
    """Partials of `size` places, where row `i` counts for the places `[first[i], last[i])`.

    Each row is left at the O(log size) nodes that make up its range, then every node is handed down to
    its places. Any ranges in any order: how rows came by them does not matter.
    Source: the iterative segment tree with updates on ranges.
    """
    levels: list[Floats] = []
    while len(first):
        odd_first, odd_last = np.flatnonzero(first & 1), np.flatnonzero(last & 1)
        nodes, partials = _fold_runs(
            fold,
            np.concatenate((first[odd_first], last[odd_last] - 1)),
            np.concatenate((rows[odd_first], rows[odd_last])),
        )
        levels.append(fold.nothing(-(-size >> len(levels))))
        levels[-1][nodes] = partials
        first, last = (first + 1) >> 1, last >> 1
        going = first < last
        rows, first, last = rows[going], first[going], last[going]
    if not levels:
        return fold.nothing(size)
    result = levels.pop()
    while levels:
        below = levels.pop()
        result = fold.merge(below, np.repeat(result, 2, axis=0)[: len(below)])
    return result


def _fold_runs(fold: Fold, nodes: Ints, partials: Floats) -> tuple[Ints, Floats]:
    """Each different node once, with all its partials merged pair by pair (so rounding stays small)."""
    order = np.argsort(nodes, kind="stable")
    nodes, partials = nodes[order], partials[order]
    fresh = np.diff(nodes, prepend=-1) != 0
    place = np.arange(len(nodes))
    place -= np.maximum.accumulate(np.where(fresh, place, 0))  # within the run of its node
    while len(right := np.flatnonzero(place & 1)):
        partials[right - 1] = fold.merge(partials[right - 1], partials[right])
        left = np.flatnonzero((place & 1) == 0)
        partials, place = partials[left], place[left] >> 1
    return nodes[fresh], partials


def count_reaching(first: Ints, last: Ints, size: int) -> Ints:
    """How many rows reach each of `size` questions; row `i` reaches `[first[i], last[i])`."""
    change = np.bincount(first, minlength=size + 1) - np.bincount(last, minlength=size + 1)
    return np.asarray(np.cumsum(change)[:size])


def count_distinct(codes: Ints, first: Ints, last: Ints, size: int) -> Floats:
    """How many different codes reach each of `size` questions; row `i` reaches `[first[i], last[i])`.

    The ranges of one code are united, after which each code counts once where its united ranges lie:
    ranges of all codes are laid end to end on one line, sorted, and joined where they touch.
    """
    offset = codes * (size + 1)
    order = np.argsort(offset + first)
    begin, end = (offset + first)[order], np.maximum.accumulate((offset + last)[order])
    opens = np.ones(len(begin), dtype=np.bool_)
    opens[1:] = begin[1:] > end[:-1]
    closes = np.append(opens[1:], True)[: len(end)]
    return count_reaching(begin[opens] % (size + 1), end[closes] % (size + 1), size).astype(np.float64)


def count_up_to(place: Ints, values: Floats, asked: Floats) -> tuple[Ints, Ints]:
    """Of the rows with `place <= q`, how many have a value below, and how many at most, that of question `q`.

    Args:
        place: Of each row, 0 or above; shape `(n,)`.
        values: Of each row, without NaN.
        asked: What each question compares with, `(n_questions,)`; for NaN the counts mean nothing.

    Returns:
        Two arrays `(n_questions,)`, exact. Source: the wavelet matrix (Claude, Navarro and Ordonez 2015), which parts
        the rows by one bit of their value's rank a level.
    """
    order = np.argsort(place, kind="stable")
    until = np.searchsorted(place[order], np.arange(len(asked)), side="right")
    different, ranks = np.unique(values[order], return_inverse=True)
    bound = np.concatenate([np.searchsorted(different, asked, side) for side in ("left", "right")])
    low, high = np.zeros_like(bound), np.concatenate((until, until))
    found = np.zeros_like(bound)
    for bit in reversed(range(len(different).bit_length())):
        upper = (ranks >> bit) & 1 == 1
        zeros = np.concatenate(([0], np.cumsum(~upper)))
        low_zeros, high_zeros = zeros[low], zeros[high]
        above = (bound >> bit) & 1 == 1
        found += np.where(above, high_zeros - low_zeros, 0)
        low = np.where(above, zeros[-1] + low - low_zeros, low_zeros)
        high = np.where(above, zeros[-1] + high - high_zeros, high_zeros)
        ranks = np.concatenate((ranks[~upper], ranks[upper]))
    return found[: len(asked)], found[len(asked) :]
