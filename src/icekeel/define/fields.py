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
    entity: str = ""


@dataclass(frozen=True, slots=True)
class Field:
    """A named, typed, limited field.

    Attributes:
        limits: Numbers lie in [low, high], both included; texts are among `allowed`; null only if optional.
    """

    name: str
    kind: Kind
    limits: Limits = Limits()

    @property
    def entity(self) -> str:
        """Whom a private value names: the name that fields of the same people share; empty where it is not private."""
        return (self.limits.entity or self.name) if self.limits.private else ""


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


def private(entity: str = "", *, optional: bool = False) -> Any:
    """The identifier names a person (or any other entity) whom Icekeel must be able to forget.

    What is stored is a pseudonym: random, the same wherever the value comes, and known to stand for it by the vault
    alone. `icekeel forget ENTITY=VALUE` destroys that knowledge.

    Args:
        entity: What fields that name the same people have in common; the name of the field by default.
        optional: The field may be null or missing.
    """
    return Limits(optional=optional, private=True, entity=entity)
