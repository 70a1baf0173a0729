"""The guard's compiled tables: what they hold, how their cells are numbered, how they are stored."""

from __future__ import annotations

import hashlib
import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import msgspec
import numpy as np

from icekeel.core.errors import BundleError, Fault
from icekeel.core.frames import Array, Bools, Column, Floats, Ints, Kind

MAGIC = b"icekeel-guard-1\n"
ORDINARY, UNSEEN_PAIR, UNSEEN_TRIPLE, MISSING = range(4)
"""What a cell of `Tables.flags` can say of its combination of values."""

Scale = Literal["log", "logit", "plain"]
"""How effects on the target are measured: log of an amount, log-odds of a probability, its own unit."""


class Category(msgspec.Struct, frozen=True):
    """One column of declared values. Code 0 stands for every value not seen in training.

    Attributes:
        kind: `cat` or `flag`.
        at: Position among the values that are checked.
        values: Values seen, None for null.
        codes: Their codes, 1 or more; values that share a code are not told apart in combinations.
        counts: Training rows by code.
        effects: Absolute effect on the target by code, on the target's scale.
        watched: Whether a value that was never seen is flagged.
        tolerated: Values never seen that are not flagged, since too many ordinary requests have them.
    """

    name: str
    kind: Kind
    at: int
    values: tuple[str | float | None, ...]
    codes: tuple[int, ...]
    counts: tuple[int, ...]
    effects: tuple[float, ...]
    watched: bool
    tolerated: tuple[str | float | None, ...] = ()


class Number(msgspec.Struct, frozen=True):
    """One column of numbers with a range for each value of the category that narrows it most.

    Attributes:
        at: Position among the values that are checked.
        group: Index of that category, -1 if none narrows it.
        low: Lowest ordinary value by code of the category (closed); code 0 has the range of all rows.
        high: Highest ordinary value by code (closed).
        own: Whether the range of a code comes from its own rows; there were enough of them.
        width: Width of the range by code before its margin, the unit of distances outside.
        logarithmic: Whether range, margin and width were made of logarithms.
        watched: Whether a null is flagged.
    """

    name: str
    at: int
    group: int
    low: tuple[float, ...]
    high: tuple[float, ...]
    own: tuple[bool, ...]
    width: tuple[float, ...]
    logarithmic: bool
    watched: bool

    def distance(self, value: float, code: int) -> float:
        """How far `value` lies outside the range of `code`, in widths; 0 inside, infinite below a log scale."""
        low, high = self.low[code], self.high[code]
        if low <= value <= high:
            return 0.0
        if self.logarithmic:
            gap = math.inf if value <= 0 else math.log(low / value if value < low else value / high)
        else:
            gap = max(low - value, value - high)
        return gap / self.width[code]

    def outside(self, values: Floats, codes: Ints) -> Bools:
        """Whether each value lies outside the range of its code; never for NaN."""
        with np.errstate(invalid="ignore"):
            return (values < np.array(self.low)[codes]) | (values > np.array(self.high)[codes])

    def distances(self, values: Floats, codes: Ints) -> Floats:
        """`distance` of every value; 0 for NaN."""
        found = np.zeros(len(values))
        for at in np.flatnonzero(self.outside(values, codes)).tolist():
            found[at] = self.distance(float(values[at]), int(codes[at]))
        return found


class Tables(msgspec.Struct, frozen=True):
    """All that a guard knows.

    Attributes:
        target: The target's name, for reasons.
        categories: In the order that `combinations` refers to.
        combinations: Pairs, then triples, of category indices.
        pair_counts: Rows by cell of each pair, in order; little-endian int32.
        flags: One byte per cell of each combination, in order: ORDINARY and so on.
        prediction: The ranges of what the model says, a number like those of the request; None where none were learnt.
    """

    rows: int
    target: str
    scale: Scale
    categories: tuple[Category, ...]
    numbers: tuple[Number, ...]
    combinations: tuple[tuple[int, ...], ...]
    pair_counts: bytes
    flags: bytes
    prediction: Number | None = None

    def encode(self) -> bytes:
        """The tables as bytes that `decode` reads: format, SHA-256 of the rest, compressed msgpack."""
        body = zlib.compress(msgspec.msgpack.encode(self), 6)
        return MAGIC + hashlib.sha256(body).digest() + body

    @classmethod
    def decode(cls, data: bytes) -> Tables:
        """The tables that `encode` wrote.

        Raises:
            BundleError: `data` is damaged, cut short or of another format.
        """
        start = len(MAGIC) + 32
        body = data[start:]
        if data[: len(MAGIC)] != MAGIC:
            fault = Fault(code="guard_format", what="these are no guard tables of this format", where="guard")
            raise BundleError(fault)
        if hashlib.sha256(body).digest() != data[len(MAGIC) : start]:
            raise BundleError(Fault(code="guard_damaged", what="guard tables are damaged", where="guard"))
        try:
            return msgspec.msgpack.decode(zlib.decompress(body), type=cls)
        except (zlib.error, msgspec.DecodeError) as error:
            fault = Fault(code="guard_damaged", what="guard tables cannot be read", got=str(error))
            raise BundleError(fault) from error

    @property
    def columns(self) -> tuple[Column, ...]:
        """The columns to be checked, in the order in which their values are given."""
        found = [(c.at, Column(c.name, c.kind)) for c in self.categories]
        found += [(n.at, Column(n.name, Kind.NUM)) for n in self.numbers]
        return tuple(column for _, column in sorted(found, key=lambda pair: pair[0]))


@dataclass(frozen=True, slots=True)
class Combinations:
    """Where the cells of each combination lie in one flat table.

    Attributes:
        members: The categories of each combination, by index.
        shapes: Number of codes of each of its categories, for every combination.
        starts: First cell of each combination, and as last entry the number of all cells.
        weights: Shape `(n_combinations, n_categories + 1)`: times the codes and a final 1, the cell of every
            combination. Floats, because BLAS multiplies those; exact far beyond any table's size.
    """

    members: tuple[tuple[int, ...], ...]
    shapes: tuple[tuple[int, ...], ...]
    starts: tuple[int, ...]
    weights: Floats

    @classmethod
    def of(cls, combinations: Sequence[tuple[int, ...]], sizes: Sequence[int]) -> Combinations:
        """The layout for categories with `sizes` codes each, one combination after the other."""
        shapes = tuple(tuple(sizes[member] for member in members) for members in combinations)
        starts = np.cumsum([0] + [int(np.prod(shape)) for shape in shapes])
        weights = np.zeros((len(shapes), len(sizes) + 1))
        for row, (members, shape) in enumerate(zip(combinations, shapes, strict=True)):
            weights[row, -1] = starts[row]
            for position, member in enumerate(members):
                weights[row, member] = np.prod(shape[position + 1 :])
        return cls(tuple(combinations), shapes, tuple(int(start) for start in starts), weights)

    def split(self, table: Array) -> dict[tuple[int, ...], Array]:
        """Views of a flat table by combination, each of its shape; of as many as the table covers."""
        return {
            members: table[start:end].reshape(shape)
            for members, shape, start, end in zip(
                self.members, self.shapes, self.starts, self.starts[1:], strict=False
            )
            if end <= len(table)
        }
