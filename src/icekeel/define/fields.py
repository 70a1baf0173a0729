"""What a field of a request or an event must satisfy, and what happens to what does not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from icekeel.core.errors import Fault, ProjectError
from icekeel.core.kinds import Kind

QUARANTINE, WARN, BLOCK = "quarantine", "warn", "block"
BREACHES = (QUARANTINE, WARN, BLOCK)
"""What becomes of a row that breaks a rule: it is set aside; it is kept and counted; its whole batch is refused."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The part of a field that stands to the right of `=` in a class body; `&` joins two.

    Attributes:
        pattern: What the whole text matches.
        shortest, longest: Characters of a text.
        unique: Whether no two events share the value.
        references: Column of another table (a node) in which the value must be known.
        most_null: Share of the rows of a batch in which it may be null.
        breach: Code of a rule and what becomes of what breaks it, where that is not what the table says.
    """

    optional: bool = False
    low: float | None = None
    high: float | None = None
    allowed: tuple[str, ...] | None = None
    private: bool = False
    entity: str = ""
    pattern: str | None = None
    shortest: int | None = None
    longest: int | None = None
    unique: bool = False
    references: Any = None
    most_null: float | None = None
    breach: tuple[tuple[str, str], ...] = ()

    def __and__(self, other: Limits) -> Limits:
        """What satisfies both.

        Raises:
            ProjectError: both say something of the same.
        """
        if not isinstance(other, Limits):
            return NotImplemented
        changed = {one.name: getattr(other, one.name) for one in fields(Limits) if one.name != "breach"}
        changed = {name: value for name, value in changed.items() if value != getattr(_NONE, name)}
        twice = [
            name for name in changed if name != "optional" and getattr(self, name) != getattr(_NONE, name)
        ]
        if twice:
            raise ProjectError(Fault("twice", f"two limits of one field say {' and '.join(twice)}"))
        return replace(self, **changed, breach=self.breach + other.breach)


_NONE = Limits()


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


@dataclass(frozen=True, slots=True)
class Contract:
    """What a table demands of its rows together: the class option `contract=` of `ik.Events`.

    A *batch* is a file that is taken in. What a batch as a whole breaks (rows, nulls, types) blocks it, unless it warns.

    Attributes:
        breach: What becomes of rows that break a rule that does not say so itself: `quarantine`, `warn` or `block`.
            A row that cannot be stored (a value that is missing, of another type, no finite number, an impossible
            time) is never kept: there `warn` is `quarantine`.
        rows: Fewest and most rows of a batch; None for any.
        change: Fewest and most rows of a batch as multiples of the median of the ten before it.
        volume: What becomes of a batch whose rows are fewer or more: `block` or `warn`.
        types: What happens where a column has another type than in the file before, is new or gone: `warn` or `block`.
        unique: Columns that no two events share all of.
    """

    breach: str = QUARANTINE
    rows: tuple[int | None, int | None] = (None, None)
    change: tuple[float | None, float | None] = (None, None)
    volume: str = BLOCK
    types: str = WARN
    unique: Sequence[str] = ()

    def faults(self, where: str, columns: Sequence[str]) -> list[Fault]:
        """What cannot hold."""
        faults = [
            Fault("bad_contract", f"{name}= is none of these", where, repr(value), ", ".join(allowed))
            for name, value, allowed in (
                ("breach", self.breach, BREACHES),
                ("volume", self.volume, BREACHES[1:]),
                ("types", self.types, BREACHES[1:]),
            )
            if value not in allowed
        ]
        for name, ends in (("rows", self.rows), ("change", self.change)):
            if not _is_range(ends):
                what = f"{name}= is the fewest and the most, as in (1_000, None)"
                faults.append(Fault("bad_contract", what, where, repr(ends)))
        if isinstance(self.unique, str) or not all(name in columns for name in self.unique):
            what = "unique= lists columns of this table"
            faults.append(Fault("bad_contract", what, where, repr(self.unique), ", ".join(columns)))
        return faults


ORDINARY = Contract()
"""Of a table that says nothing: bad rows are set aside, and a batch may be any."""


def _is_range(ends: Any) -> bool:
    if not isinstance(ends, tuple) or len(ends) != 2:
        return False
    given = [end for end in ends if end is not None]
    numbers = all(isinstance(end, int | float) and not isinstance(end, bool) and end >= 0 for end in given)
    return numbers and (len(given) < 2 or given[0] <= given[1])


def _limits(code: str, breach: str, **given: Any) -> Any:
    if breach and breach not in BREACHES:
        fault = Fault("bad_limits", "breach= is none of these", "", repr(breach), ", ".join(BREACHES))
        raise ProjectError(fault)
    return Limits(breach=((code, breach),) if breach else (), **given)


def optional(*, most: float | None = None, breach: str = "") -> Any:
    """The field may be null or missing.

    Args:
        most: In this share of a batch's rows at most, 0 to 1.
        breach: What becomes of a batch that has more: `block` (the default) or `warn`.
    """
    return _limits("nulls", breach, optional=True, most_null=most)


def between(low: float, high: float, *, optional: bool = False, breach: str = "") -> Any:
    """The number lies in [low, high]."""
    return _limits("out_of_range", breach, optional=optional, low=low, high=high)


def at_least(low: float, *, optional: bool = False, breach: str = "") -> Any:
    """The number is `low` or more."""
    return _limits("out_of_range", breach, optional=optional, low=low)


def at_most(high: float, *, optional: bool = False, breach: str = "") -> Any:
    """The number is `high` or less."""
    return _limits("out_of_range", breach, optional=optional, high=high)


def one_of(*values: str, optional: bool = False, breach: str = "") -> Any:
    """The text is one of these."""
    return _limits("not_allowed", breach, optional=optional, allowed=tuple(values))


def matches(pattern: str, *, optional: bool = False, breach: str = "") -> Any:
    r"""The whole text matches a regular expression: `ik.matches(r"[A-Z]{2}-\d{4}")`.

    Characters, classes, groups, `|` and repetitions are offered, and `\d`, `\w`, `\s` stand for ASCII alone: what
    means the same in Python and in DuckDB. Look-around, back references, flags and anchors inside are not.
    """
    return _limits("no_match", breach, optional=optional, pattern=pattern)


def length(at_least: int = 0, at_most: int | None = None, *, optional: bool = False, breach: str = "") -> Any:
    """The text has so many characters (code points)."""
    return _limits("wrong_length", breach, optional=optional, shortest=at_least, longest=at_most)


def unique(*, optional: bool = False, breach: str = "") -> Any:
    """No two events share the value. It belongs to the first that came with it, whose versions may repeat it."""
    return _limits("not_unique", breach, optional=optional, unique=True)


def references(column: Any, *, optional: bool = False, breach: str = "") -> Any:
    """The value is known in a column of another table by the time from which the row is known: `Customers.customer`."""
    return _limits("no_reference", breach, optional=optional, references=getattr(column, "node", column))


def private(entity: str = "", *, optional: bool = False) -> Any:
    """The identifier names a person (or any other entity) whom Icekeel must be able to forget.

    What is stored is a pseudonym: random, the same wherever the value comes, and known to stand for it by the vault
    alone. `icekeel forget ENTITY=VALUE` destroys that knowledge.

    Args:
        entity: What fields that name the same people have in common; the name of the field by default.
        optional: The field may be null or missing.
    """
    return Limits(optional=optional, private=True, entity=entity)


def policy(limits: Limits, code: str, default: str) -> str:
    """What becomes of a row that breaks the rule of this code; `default` is what its table says."""
    return dict(limits.breach).get(code, default)
