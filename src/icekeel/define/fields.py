"""What a field of a request or an event must satisfy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from icekeel.core.kinds import Kind


@dataclass(frozen=True, slots=True)
class Limits:
    """The part of a field that stands to the right of `=` in a class body."""

    optional: bool = False
    low: float | None = None
    high: float | None = None
    allowed: tuple[str, ...] | None = None
    private: bool = False


@dataclass(frozen=True, slots=True)
class Field:
    """A named, typed, limited field.

    Attributes:
        limits: Numbers lie in [low, high], both included; texts are among `allowed`; null only if optional.
    """

    name: str
    kind: Kind
    limits: Limits = Limits()


def optional() -> Any:
    """The field may be null or missing."""
    return Limits(optional=True)


def between(low: float, high: float, *, optional: bool = False) -> Any:
    """The number lies in [low, high]."""
    return Limits(optional=optional, low=low, high=high)


def at_least(low: float, *, optional: bool = False) -> Any:
    """The number is `low` or more."""
    return Limits(optional=optional, low=low)


def at_most(high: float, *, optional: bool = False) -> Any:
    """The number is `high` or less."""
    return Limits(optional=optional, high=high)


def one_of(*values: str, optional: bool = False) -> Any:
    """The text is one of these."""
    return Limits(optional=optional, allowed=tuple(values))


def private(*, optional: bool = False) -> Any:
    """The field identifies a person. This marks it and no more: nothing protects its values yet."""
    return Limits(optional=optional, private=True)
