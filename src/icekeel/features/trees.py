"""Folds over ranges: how partial aggregates of rows are merged for many questions at once.

Two trees, each the mirror image of the other, and both only ever *merge*, so nothing cancels:

- rows in order, each question reads a range of them: the tree stands over the rows (`Fold.ranges`);
- questions in order, each row reaches a range of them: the tree stands over the questions (`spread`).

Source: the iterative segment tree with queries on half-open ranges, and its dual with updates on ranges.
All loops run over tree levels; work on a level is vectorised over all questions or rows.

A *partial* is a float64 array whose first axis runs over what it belongs to: rows, tree nodes, questions.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from icekeel.core.frames import Floats, Ints

Ranges = Callable[[Ints, Ints], Floats]
"""Gives the partials of the rows `[lo, hi)`, one per pair."""


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

    def ranges(self, values: Floats, ranks: Ints) -> Ranges:
        """Answers for ranges of these rows, by a tree built once: O(rows), then O(log rows) a question."""
        levels = [self.leaves(values, ranks)]
        while len(levels[-1]) > 1:
            below = levels[-1]
            levels.append(self.merge(below[:-1:2], below[1::2]))
        return lambda lo, hi: self._walk(levels, lo, hi)

    def _walk(self, levels: list[Floats], lo: Ints, hi: Ints) -> Floats:
        result = self.nothing(len(lo))
        asked = np.flatnonzero(lo < hi)
        lo, hi = lo[asked], hi[asked]
        for level in levels:
            for edge, node in ((lo, lo), (hi, hi - 1)):
                odd = np.flatnonzero(edge & 1)
                who = asked[odd]
                result[who] = self.merge(result[who], level[node[odd]])
            lo, hi = (lo + 1) >> 1, hi >> 1
            going = lo < hi
            asked, lo, hi = asked[going], lo[going], hi[going]
            if not len(asked):
                break
        return result


@dataclass(frozen=True)
class Simple(Fold):
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


class Count(Simple):
    """Number of rows."""

    def leaves(self, values: Floats, ranks: Ints) -> Floats:
        """One for each row."""
        return np.ones(len(values))

    def ranges(self, values: Floats, ranks: Ints) -> Ranges:
        """Lengths of ranges, which need no tree."""
        return lambda lo, hi: np.maximum(hi - lo, 0).astype(np.float64)


@dataclass(frozen=True)
class Moments(Fold):
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
        n = left[:, 0] + right[:, 0]
        share = right[:, 0] / np.maximum(n, 1)
        delta = right[:, 1] - left[:, 1]
        squares = left[:, 2] + right[:, 2] + delta * delta * left[:, 0] * share
        return np.column_stack((n, left[:, 1] + delta * share, squares))


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
        return np.sort(np.concatenate((left, right), axis=1), axis=1)[:, : self.k]

    def ranges(self, values: Floats, ranks: Ints) -> Ranges:
        """The ends of ranges, which need no tree."""

        def pick(lo: Ints, hi: Ints) -> Floats:
            result = self.nothing(len(lo))
            for nth in range(self.k):
                there = np.flatnonzero(lo + nth < hi)
                rank = ranks[hi[there] - 1 - nth if self.latest else lo[there] + nth]
                result[there, nth] = -rank if self.latest else rank
            return result

        return pick


COUNT = Count(np.add, 0.0)
SUM = Simple(np.add, 0.0)
MIN = Simple(np.minimum, np.inf)
MAX = Simple(np.maximum, -np.inf)
MOMENTS = Moments()


def spread(fold: Fold, rows: Floats, first: Ints, last: Ints, size: int) -> Floats:
    """Partials of `size` questions, where row `i` counts for the questions `[first[i], last[i])`.

    Each row is left at the O(log size) nodes that make up its range, then every node is handed down to
    its questions. Any ranges in any order: how rows came by them does not matter.
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
    change = np.bincount(begin[opens] % (size + 1), minlength=size + 1)
    change -= np.bincount(end[closes] % (size + 1), minlength=size + 1)
    return np.cumsum(change)[:size].astype(np.float64)
