"""What a field or a feature holds; apart from `frames` because definitions need no arrays."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """What a field or a feature holds."""

    ID = "id"
    CAT = "cat"
    NUM = "num"
    FLAG = "flag"
    TIME = "time"
    TEXT = "text"

    @property
    def is_text(self) -> bool:
        """Whether values are held as `str`."""
        return self in (Kind.ID, Kind.CAT, Kind.TEXT)


@dataclass(frozen=True, slots=True)
class Column:
    """Name and kind of a column: of a feature vector, a request, an event table."""

    name: str
    kind: Kind
