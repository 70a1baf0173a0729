"""Columns of rows as they travel between rooms.

One representation everywhere: `num` and `flag` are float64 with NaN for null (a flag is 0.0 or 1.0),
`time` is int64 microseconds UTC with `NO_TIME` for null, `id`, `cat` and `text` are object arrays of `str` with
None for null. NaN can stand for null because no contract lets a NaN in.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .kinds import Column, Kind

__all__ = ["NO_TIME", "Array", "Bools", "Column", "Floats", "Frame", "Ints", "Kind"]

Array = NDArray[Any]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

NO_TIME = int(np.iinfo(np.int64).min)
"""Null in a column of times."""


@dataclass(frozen=True, slots=True)
class Frame:
    """Named columns of equal length. Arrays are shared, not copied: treat them as read-only.

    Attributes:
        columns: Name -> array of shape `(n_rows,)`, in a meaningful order.
    """

    columns: Mapping[str, Array]

    def __post_init__(self) -> None:
        lengths = {name: len(values) for name, values in self.columns.items()}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"columns differ in length: {lengths}")

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()))) if self.columns else 0

    def __getitem__(self, name: str) -> Array:
        return self.columns[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.columns)

    def __contains__(self, name: object) -> bool:
        return name in self.columns

    def take(self, rows: Array) -> Frame:
        """The rows chosen by a mask or by positions, in that order."""
        return Frame({name: values[rows] for name, values in self.columns.items()})

    def select(self, names: Sequence[str]) -> Frame:
        """Only the columns named, in that order."""
        return Frame({name: self.columns[name] for name in names})

    def with_columns(self, columns: Mapping[str, Array]) -> Frame:
        """The same rows with columns added or replaced."""
        return Frame({**self.columns, **columns})

    @classmethod
    def stack(cls, frames: Sequence[Frame]) -> Frame:
        """The rows of several frames with the same columns, one after the other."""
        return cls({name: np.concatenate([frame[name] for frame in frames]) for name in frames[0]})
