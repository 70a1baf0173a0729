"""The simplest model that is any use: one number for each group of similar requests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec
import numpy as np

from icekeel.core.errors import BundleError, Fault
from icekeel.core.frames import Column, Floats, Frame, Kind

from .encoder import Value, readable
from .explained import Explained


class Group(msgspec.Struct, frozen=True):
    """The rows that share these category values (null is a value), and their prediction."""

    key: tuple[str | None, ...]
    prediction: float


class GroupSpec(msgspec.Struct, frozen=True, tag_field="kind", tag="group", forbid_unknown_fields=True):
    """A table of predictions by up to two category columns, with one for every other row."""

    columns: tuple[Column, ...]
    groups: tuple[Group, ...]
    otherwise: float
    format: Literal[1] = 1

    def engine(self, _files: Mapping[str, bytes]) -> GroupEngine:
        """The engine that looks up in this table."""
        return GroupEngine(self)


class GroupEngine:
    """Looks a row's group up; microseconds, no arithmetic."""

    def __init__(self, spec: GroupSpec) -> None:
        width = len(spec.columns)
        self.columns = readable(spec.columns)
        if width > 2 or any(column.kind is not Kind.CAT for column in self.columns):
            raise BundleError(Fault("bad_engine", "groups are of at most two categories", "engine.json"))
        if any(len(group.key) != width for group in spec.groups):
            raise BundleError(Fault("bad_engine", f"a group's key must have {width} values", "engine.json"))
        self._table: dict[tuple[Value, ...], float] = {group.key: group.prediction for group in spec.groups}
        self._otherwise = spec.otherwise

    def predict_one(self, values: Sequence[Value]) -> float:
        """The prediction of the row's group, or the one for rows of no known group."""
        return self._table.get(tuple(values), self._otherwise)

    def predict_many(self, frame: Frame) -> Floats:
        """The same for all rows, shape `(n_rows,)`."""
        if not self.columns:
            return np.full(len(frame), self._otherwise)
        keys = zip(*(frame[column.name] for column in self.columns), strict=True)
        return np.array([self._table.get(key, self._otherwise) for key in keys], dtype=np.float64)

    def explain(self, values: Sequence[Value]) -> Explained:
        """What belonging to the row's group adds to the prediction for rows of no known group."""
        names = tuple(column.name for column in self.columns)
        return Explained("identity", self._otherwise, ((names, self.predict_one(values) - self._otherwise),))
