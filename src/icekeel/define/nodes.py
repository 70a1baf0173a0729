"""The syntax tree of a definition: frozen, hashable, computing nothing.

Users never meet these classes; they write with `expressions`, `windows` and `tables`, and the rooms
`data` and `features` read the tree. Equal definitions are equal nodes, which is how work is shared.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum

from icekeel.core.errors import Fault
from icekeel.core.kinds import Kind

Scalar = float | str | bool | None


class Op(StrEnum):
    """Row-level functions. All are total: where mathematics has no finite answer the result is null.

    Null propagates through all of them except AND, OR (three-valued logic, as in SQL), WHEN (a null
    condition takes the second branch), FILL, KNOWN and TABLE (null takes the default).
    """

    ADD = "add"
    SUB = "sub"
    MUL = "mul"
    DIV = "div"
    MOD = "mod"
    """What is left of the first after whole multiples of the second; has the sign of the second."""
    NEG = "neg"
    ABS = "abs"
    POW = "pow"
    SQRT = "sqrt"
    EXP = "exp"
    LN = "ln"
    ROUND = "round"
    """To the nearest whole number, halves away from zero."""
    FLOOR = "floor"
    SIGN = "sign"
    LEAST = "least"
    GREATEST = "greatest"
    LT = "lt"
    LE = "le"
    EQ = "eq"
    NE = "ne"
    ONE_OF = "one_of"
    """Whether the value is among `params`."""
    AND = "and"
    OR = "or"
    NOT = "not"
    WHEN = "when"
    FILL = "fill"
    KNOWN = "known"
    TABLE = "table"
    """Look-up of a text; `params` are the default and then keys and values in turn."""
    CROSS = "cross"
    """Two texts as one, joined by " x ", null as "?"."""
    LENGTH = "length"
    """Number of code points."""
    WORDS = "words"
    """Number of stretches without ASCII white space (blank, \\t, \\n, \\v, \\f, \\r)."""
    LOWER = "lower"
    """A-Z become a-z, all else stays; UPPER is the reverse."""
    UPPER = "upper"
    STRIP = "strip"
    """Without ASCII white space at both ends."""
    REPLACE = "replace"
    """With every `params[0]` become `params[1]`, from the left."""
    CONTAINS = "contains"
    STARTS_WITH = "starts_with"
    ENDS_WITH = "ends_with"
    PIECE = "piece"
    """Piece `params[1]` (from 0, or from the end by -1) of a text split at `params[0]`; null where there is none."""
    ELAPSED = "elapsed"
    """Second time minus the first, in units of `params[0]` microseconds."""
    PART = "part"
    """Calendar part `params[0]` of a time in zone `params[1]`."""
    SINE = "sine"
    """Sine of the whole turn: sin(2 pi x / params[0])."""
    COSINE = "cosine"


@dataclass(frozen=True, slots=True)
class Literal:
    """A constant."""

    value: Scalar
    kind: Kind


@dataclass(frozen=True, slots=True)
class RequestField:
    """What the caller sent."""

    request: str
    name: str
    kind: Kind


ANSWER = RequestField("", "answer", Kind.NUM)
"""What postprocessors are about; no request has this field, since none has an empty name."""


@dataclass(frozen=True, slots=True)
class EventField:
    """A column of an event."""

    table: str
    name: str
    kind: Kind


@dataclass(frozen=True, slots=True)
class AskedAt:
    """The time of the question."""

    kind: Kind = Kind.TIME


@dataclass(frozen=True, slots=True)
class Call:
    """A row-level function of other nodes."""

    op: Op
    args: tuple[Node, ...]
    kind: Kind
    params: tuple[Scalar, ...] = ()


@dataclass(frozen=True, slots=True)
class Keyed:
    """Which events belong to a question: equal keys, and a filter over the event's own columns.

    Attributes:
        keys: (event column, request field) pairs, sorted by column; empty for all events.
        where: A flag over event columns, or None.
    """

    table: str
    keys: tuple[tuple[str, RequestField], ...]
    where: Node | None = None


@dataclass(frozen=True, slots=True)
class Windowed:
    """One number from the events of a window, before `empty=` is applied.

    Attributes:
        function: Name of the aggregate (`icekeel.features.aggregates.Function`).
        keyed: Which events.
        low, high: Ages `asked_at - event_time` that belong to the window, both included, microseconds.
        value: Expression over event columns that is aggregated; None for counting and time since.
        k: How many, for the functions over the latest values.
        of: What `share_of` and `rank_of` ask about: an expression over the request and the time asked;
            None for the latest value of the window.
    """

    function: str
    keyed: Keyed
    low: int
    high: int
    value: Node | None
    kind: Kind
    k: int = 0
    of: Node | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What happened later: events with `asked_at <= event_time < asked_at + within`.

    Attributes:
        closes_early: True for `latest` and `first` without `absent=`, known as soon as an event is;
            otherwise the outcome is known when the time is over.
        absent: Value when the time is over and no event came; None: such rows are left out.
    """

    function: str
    keyed: Keyed
    within: int
    value: Node | None
    kind: Kind
    closes_early: bool
    absent: Scalar


@dataclass(frozen=True, slots=True)
class Invalid:
    """A definition that cannot hold, kept in the tree so that all faults are reported at once."""

    faults: tuple[Fault, ...] = field(default=())
    kind: Kind = Kind.NUM


Node = Literal | RequestField | EventField | AskedAt | Call | Windowed | Outcome | Invalid


def children(node: Node) -> tuple[Node, ...]:
    """The nodes directly below, those inside a window's keys, filter and value included."""
    if isinstance(node, Call):
        return node.args
    if isinstance(node, Windowed | Outcome):
        below: list[Node] = [request for _, request in node.keyed.keys]
        of = node.of if isinstance(node, Windowed) else None
        below += [part for part in (node.keyed.where, node.value, of) if part is not None]
        return tuple(below)
    return ()


def broken(nodes: Iterable[Node]) -> list[Fault]:
    """The faults of what cannot hold among some nodes."""
    return [fault for node in nodes if isinstance(node, Invalid) for fault in node.faults]


def walk(node: Node) -> Iterator[Node]:
    """The node and everything below it, each occurrence once, parents first."""
    yield node
    for child in children(node):
        yield from walk(child)


def shallow(node: Node) -> Iterator[Node]:
    """Like `walk`, without entering windows and outcomes."""
    yield node
    if isinstance(node, Call):
        for child in node.args:
            yield from shallow(child)
