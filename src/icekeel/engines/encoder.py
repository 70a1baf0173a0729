"""From feature values to the vector of float64 that a tree model reads."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from icekeel.core.errors import BundleError, Fault
from icekeel.core.frames import Column, Floats, Frame, Kind

NAN = math.nan
CODED = (Kind.NUM, Kind.FLAG, Kind.CAT)
"""Kinds that become one number in a vector."""
READABLE = (*CODED, Kind.TEXT)
"""Kinds that some model can read; identifiers and times become features first."""

Value = float | str | None
"""One feature value of one row; None is null, a flag may be a `bool`."""


class Encoder:
    """Columns in a fixed order, with the codes of their categories.

    Numbers and flags pass unchanged. A category becomes its position in the vocabulary. A null and an unknown
    category become NaN, or their column's fill.

    Args:
        columns: What the vector holds, in order.
        categories: Category column -> its known values in the order of their codes.
        fills: Column -> what its null is read as, and a category value that is not known. A tree that never saw
            a null would read it as 0, so training names a usual value for the columns without nulls.
        most: Numbers beyond it, above or below 0, are read as it.
    """

    def __init__(
        self,
        columns: Sequence[Column],
        categories: Mapping[str, Sequence[str]],
        fills: Mapping[str, float],
        *,
        most: float = math.inf,
    ) -> None:
        self.columns = readable(columns, CODED)
        texts = {column.name for column in self.columns if column.kind is Kind.CAT}
        if set(categories) != texts or not set(fills) <= {c.name for c in self.columns}:
            raise BundleError(
                Fault("bad_engine", "categories or fills do not match the columns", "engine.json")
            )
        self.categories = {name: tuple(known) for name, known in categories.items()}
        self.fills = dict(fills)
        self.most = most
        self._codes = tuple(
            (
                i,
                {value: float(code) for code, value in enumerate(categories[column.name])},
                fills.get(column.name, NAN),
            )
            for i, column in enumerate(self.columns)
            if column.name in texts
        )
        self._fills = tuple(fills.get(column.name, NAN) for column in self.columns)

    def encode_one(self, values: Sequence[Value]) -> list[float]:
        """The vector of one row, values in column order."""
        # Texts stay until they are coded below; only NaN differs from itself.
        vector: list[float] = [
            fill if value is None or value != value else value  # type: ignore[misc]  # noqa: PLR0124
            for value, fill in zip(values, self._fills, strict=True)
        ]
        for i, codes, fill in self._codes:
            vector[i] = codes.get(values[i], fill)  # type: ignore[arg-type]  # None and numbers have no code
        if self.most < math.inf:
            most = self.most
            return [-most if value < -most else most if value > most else value for value in vector]
        return vector

    def encode_many(self, frame: Frame) -> Floats:
        """The vectors of all rows, shape `(n_rows, n_columns)`, row-major."""
        matrix = np.empty((len(frame), len(self.columns)))
        for i, column in enumerate(self.columns):
            if column.kind is not Kind.CAT:
                values = np.asarray(frame[column.name], dtype=np.float64)
                matrix[:, i] = np.where(np.isnan(values), self._fills[i], values)
        for i, codes, fill in self._codes:
            matrix[:, i] = [codes.get(value, fill) for value in frame[self.columns[i].name]]
        return np.clip(matrix, -self.most, self.most, out=matrix) if self.most < math.inf else matrix


def readable(columns: Sequence[Column], kinds: Sequence[Kind] = READABLE) -> tuple[Column, ...]:
    """The columns, once it is certain that they are of kinds that a model can read.

    Raises:
        BundleError: a kind that no engine reads, or a name given twice.
    """
    names = [column.name for column in columns]
    faults = [
        Fault("bad_column", "no engine reads this kind", column.name, column.kind, ", ".join(kinds))
        for column in columns
        if column.kind not in kinds
    ]
    faults += [
        Fault("bad_column", "named twice", name) for name in sorted({n for n in names if names.count(n) > 1})
    ]
    if faults:
        raise BundleError(*faults)
    return tuple(columns)


def rows_of(columns: Sequence[Column], frame: Frame) -> list[tuple[Value, ...]]:
    """The rows of a frame as `predict_one` takes them: None for null, values in column order."""
    lists = [frame[column.name].astype(object) for column in columns]
    for column, values in zip(columns, lists, strict=True):
        if not column.kind.is_text:
            values[np.isnan(frame[column.name])] = None
    return list(zip(*(values.tolist() for values in lists), strict=True)) if lists else [()] * len(frame)


def frame_of(columns: Sequence[Column], rows: Sequence[Sequence[Value]]) -> Frame:
    """The frame of rows as `predict_one` takes them, for `predict_many`; its length is lost where it has no column."""
    held = zip(*rows, strict=True) if rows else [()] * len(columns)
    return Frame(
        {
            column.name: np.array(values, dtype=object if column.kind.is_text else np.float64)
            for column, values in zip(columns, held, strict=True)
        }
    )
