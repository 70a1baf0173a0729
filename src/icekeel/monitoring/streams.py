"""What is watched of a stream of rows: counts of its columns in cells, and series that are sums over those cells.

A stream is the questions of a model, the rows of an event table, or answers whose outcome is settled. Minutes of one
are histograms, which add up to days; every series is a score of each cell, so that the same counts feed the detectors
of minutes and the tests of days.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np

from icekeel.core.binning import Binning
from icekeel.core.frames import Array, Column, Floats, Frame, Ints, Kind

from .detectors import Kind as SeriesKind

NAMED = 8
"""Categories of a column whose share is watched one by one."""
LEAST_SHARE = 0.01
ARRIVALS = "arrivals"
REPEATED, LATENESS = "repeated", "lateness"
"""Column of rows of a table that say the same as one shortly before."""


class Cells(msgspec.Struct, frozen=True):
    """One column of a stream, and how the reference's rows lay in its cells.

    Attributes:
        subject, name: As in `Signal`.
        edges, categories: See `Binning`. Of a number the outermost two cells are for values well outside of all seen.
        counts: Reference rows per cell.
        mean, log_mean: Mean, and mean log of the absolute value, of the reference's values that are not 0.
        where: Key of a column, and its value in the rows that count; None for all.
        fixed: Counts are what is declared, not what was seen: nothing is known of how days differ.
    """

    subject: str
    name: str
    edges: tuple[float, ...] = ()
    categories: tuple[str, ...] | None = None
    counts: tuple[int, ...] = ()
    mean: float = 0.0
    log_mean: float = 0.0
    where: tuple[str, str] | None = None
    fixed: bool = False

    @property
    def binning(self) -> Binning:
        """How values are counted."""
        return Binning(self.edges, self.categories)

    @property
    def key(self) -> str:
        """The column of the stream's rows."""
        return f"{self.subject}.{self.name}"

    @property
    def segment(self) -> str:
        """The rows that count, in words."""
        return "" if self.where is None else f"{self.where[0].partition('.')[2]}={self.where[1]}"

    @property
    def id(self) -> str:
        """Names it among the columns of a stream."""
        return self.key if self.where is None else f"{self.key} of {self.segment}"


class Draft(NamedTuple):
    """A series before anything is known of how it varies: a score and a weight for each cell, shape `(cells,)`."""

    cells: Cells
    change: str
    label: str
    kind: SeriesKind
    scores: Floats
    weights: Floats


def cells_of(
    subject: str, column: Column, values: Array, where: tuple[str, str] | None = None
) -> Cells | None:
    """The cells of a column whose kind has a shape, from reference values; None of others, or without a value."""
    if column.kind.is_text:
        if column.kind is not Kind.CAT:
            return None
        binning = Binning.of_categories(values)
        if not binning.categories:
            return None
        return Cells(subject, column.name, (), binning.categories, _counts(binning, values), where=where)
    known = values[np.isfinite(values)] if column.kind in (Kind.NUM, Kind.FLAG) else values[:0]
    if not len(known):
        return None
    binning = Binning(_bounded(Binning.of_numbers(known).edges, known))
    other = known[known != 0]
    return Cells(
        subject,
        column.name,
        binning.edges,
        None,
        _counts(binning, values),
        float(known.mean()),
        float(np.log(np.abs(other)).mean()) if len(other) else 0.0,
        where,
    )


def declared(subject: str, name: str, shares: Mapping[str, float], rows: int = 100_000) -> Cells:
    """A category of which it is declared, not known from the past, how often each value comes."""
    counts = [0, *(round(share * rows) for share in shares.values())]
    counts.append(max(0, rows - sum(counts)))
    return Cells(subject, name, (), tuple(shares), tuple(counts), fixed=True)


def _bounded(edges: tuple[float, ...], known: Floats) -> tuple[float, ...]:
    """Edges with two more, beyond which a value is unlike all seen: half the range further out, and twice as far from 0."""
    low, high = float(known.min()), float(known.max())
    spread = high - low or max(abs(low), 1.0)
    below = max(low - spread / 2, low / 2) if low > 0 else low - spread / 2
    above = min(high + spread / 2, high / 2) if high < 0 else high + spread / 2
    return tuple(sorted({below, *edges, above}))


def _counts(binning: Binning, values: Array) -> tuple[int, ...]:
    return tuple(binning.count(values).tolist())


def drafts(cells: Cells) -> Iterator[Draft]:
    """The series of a column: level, nulls and values out of range; of a category the share of each."""
    counts = np.array(cells.counts, dtype=np.float64)
    known = np.ones(len(counts))
    known[0] = 0.0
    if not cells.fixed:
        yield Draft(cells, "nulls", "", "share", 1.0 - known, np.ones(len(counts)))
    if cells.categories is None:
        below = np.cumsum(counts) - counts - counts[0]
        rank = (below + counts / 2) / max(1.0, counts[1:].sum())
        rank[0] = 0.0
        yield Draft(cells, "level", "", "mean", np.clip(rank, 0.0, 1.0) * known, known)
        if cells.segment == "":
            outside = np.zeros(len(counts))
            outside[[1, -1]] = 1.0
            yield Draft(cells, "range", "", "share", outside, known)
        return
    total = max(1.0, counts[1:].sum())
    named = [at for at in range(1, len(counts) - 1) if counts[at] / total >= LEAST_SHARE]
    if cells.fixed:  # the first of what is declared is that nothing was at fault, which the others tell
        named = list(range(2, len(counts) - 1))
    for at in [*named[:NAMED], len(counts) - 1]:
        one = np.zeros(len(counts))
        one[at] = 1.0
        label = cells.categories[at - 1] if at <= len(cells.categories) else ""
        yield Draft(cells, "category", label, "share", one, known)


class Counted(NamedTuple):
    """Rows of a stream in the cells of all its columns, one behind the other, and what the cells do not tell.

    Attributes:
        counts: Shape `(all cells,)`.
        values: Sum of the values, sum of log absolute values, and number of those not 0, of each column, `(columns, 3)`.
        unseen: Key of a column -> values that have no cell of their own, with how often they came; at most `MOST_UNSEEN`.
    """

    counts: Ints
    values: Floats
    unseen: dict[str, dict[str, int]]


MOST_UNSEEN = 5


class Stream(msgspec.Struct, frozen=True):
    """The columns of a stream.

    Attributes:
        name: `requests`, `outcomes`, or `table NAME`.
    """

    name: str
    columns: tuple[Cells, ...]

    def count(self, frame: Frame) -> Counted:
        """Rows counted; columns that the frame lacks count as null."""
        parts, values, unseen = [], np.zeros((len(self.columns), 3)), {}
        for at, cells in enumerate(self.columns):
            column = self._column(frame, cells)
            binning = cells.binning
            counted = binning.count(column)
            parts.append(counted)
            if cells.categories is None:
                known = column[np.isfinite(column)]
                other = known[known != 0]
                values[at] = known.sum(), np.log(np.abs(other)).sum(), len(other)
            elif counted[-1]:
                unseen[cells.key] = _most(column, cells.categories)
        return Counted(np.concatenate(parts) if parts else np.zeros(0, np.int64), values, unseen)

    def _column(self, frame: Frame, cells: Cells) -> Array:
        if cells.key not in frame:
            empty: Any = None if cells.categories is not None else np.nan
            return np.full(len(frame), empty, dtype=object if cells.categories is not None else np.float64)
        column = frame[cells.key]
        if cells.where is not None:
            name, value = cells.where
            column = column[frame[name] == value] if name in frame else column[:0]
        return column

    @property
    def starts(self) -> list[int]:
        """Where the cells of each column begin, and the end."""
        return [0, *np.cumsum([cells.binning.cells for cells in self.columns]).tolist()]

    def drafts(self) -> list[Draft]:
        """All series of its columns."""
        return [draft for cells in self.columns for draft in drafts(cells)]


class Scores:
    """The rows and sums of every series of a stream from its counts, by one multiplication each."""

    def __init__(self, stream: Stream, chosen: Sequence[Draft]) -> None:
        starts = stream.starts
        place = {id(cells): at for at, cells in enumerate(stream.columns)}
        self._scores, self._weights = (np.zeros((len(chosen), starts[-1])) for _ in range(2))
        for row, draft in enumerate(chosen):
            at = place[id(draft.cells)]
            self._scores[row, starts[at] : starts[at + 1]] = draft.scores
            self._weights[row, starts[at] : starts[at + 1]] = draft.weights

    def __call__(self, counts: Ints) -> tuple[Floats, Floats]:
        """Rows and sums, shape `(series,)`, or `(windows, series)` of counts of shape `(windows, cells)`."""
        return counts @ self._weights.T, counts @ self._scores.T


def _most(column: Array, categories: Sequence[str]) -> dict[str, int]:
    known, found = set(categories), dict[str, int]()
    for value in column.tolist():
        if value is not None and value not in known:
            found[str(value)] = found.get(str(value), 0) + 1
            if len(found) >= 200:
                break
    return dict(sorted(found.items(), key=lambda pair: (-pair[1], pair[0]))[:MOST_UNSEEN])
