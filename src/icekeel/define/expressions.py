"""What a user computes with: typed expressions over fields, windows and constants.

`Quote.colors * 2` is a `Num`, `Quote.colors > 4` a `Flag`. An expression only records what is meant;
nothing is computed here. Operators follow Python's notation, with `&`, `|` and `~` for logic.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self, TypeGuard

from icekeel.core.errors import Fault, ProjectError, nearest, shorten
from icekeel.core.kinds import Kind

from .nodes import AskedAt, Call, EventField, Invalid, Literal, Node, Op, Scalar, broken, shallow

LARGEST_NUMBER = 1.7976931348623157e308
LARGEST = 200
"""Parts of an expression at most: recursion must reach the last, and `x = x * x` in a loop doubles them, and each is hashed and walked."""


class Expression:
    """A value of some kind, yet to be computed. Subclasses give each kind its operations."""

    __slots__ = ("node",)
    __hash__ = None  # type: ignore[assignment]  # == makes a Flag, so expressions cannot be keys

    def __init__(self, node: Node) -> None:
        self.node = node

    def __bool__(self) -> bool:
        hint = "use &, | and ~ for and, or, not; .one_of for in; ik.when for if and else"
        raise ProjectError(Fault("no_truth_value", "an expression has no truth value yet", hint=hint))

    def __repr__(self) -> str:
        return f"<{self.node.kind} expression>"

    def known(self) -> Flag:
        """Whether the value is not null."""
        return Flag(call(Op.KNOWN, Kind.FLAG, self))

    def __eq__(self, other: object) -> Flag:  # type: ignore[override]
        return Flag(_compare(Op.EQ, self, other))

    def __ne__(self, other: object) -> Flag:  # type: ignore[override]
        return Flag(_compare(Op.NE, self, other))

    def one_of(self, *values: str | float) -> Flag:
        """Whether the value is one of these constants; null where it is null."""
        nodes = [lift(value) for value in values]
        faults = broken(nodes)
        if not faults and not (
            values
            and all(isinstance(node, Literal) and _comparable(self.node.kind, node.kind) for node in nodes)
        ):
            what = "one_of takes constants of the value's own kind, at least one"
            faults.append(
                Fault("bad_constant", what, got=shorten(values), allowed=f"each a {self.node.kind}")
            )
        if faults and not isinstance(self.node, Invalid):
            return Flag(Invalid(tuple(faults), Kind.FLAG))
        constants = {node.value for node in nodes if isinstance(node, Literal)}
        params = tuple(sorted(constants, key=lambda one: (str(type(one)), one)))
        return Flag(call(Op.ONE_OF, Kind.FLAG, self, params=params))

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Wrong:
            # A name that does not exist is a fault among others, not an exception that hides them.
            if name.startswith("_"):
                raise AttributeError(name)
            return Wrong(self.node if isinstance(self.node, Invalid) else Invalid((_no_method(self, name),)))

    # Operators stand here so that a category in a sum is reported with all other faults, not raised alone.

    def __and__(self, other: Flag) -> Flag:
        return Flag(call(Op.AND, Kind.FLAG, self, other, of=Kind.FLAG))

    def __or__(self, other: Flag) -> Flag:
        return Flag(call(Op.OR, Kind.FLAG, self, other, of=Kind.FLAG))

    def __invert__(self) -> Flag:
        return Flag(call(Op.NOT, Kind.FLAG, self, of=Kind.FLAG))

    def __add__(self, other: Num | float) -> Num:
        return numeric(Op.ADD, self, other)

    def __radd__(self, other: float) -> Num:
        return numeric(Op.ADD, other, self)

    def __sub__(self, other: Num | float) -> Num:
        return numeric(Op.SUB, self, other)

    def __rsub__(self, other: float) -> Num:
        return numeric(Op.SUB, other, self)

    def __mul__(self, other: Num | float) -> Num:
        return numeric(Op.MUL, self, other)

    def __rmul__(self, other: float) -> Num:
        return numeric(Op.MUL, other, self)

    def __truediv__(self, other: Num | float) -> Num:
        return numeric(Op.DIV, self, other)

    def __rtruediv__(self, other: float) -> Num:
        return numeric(Op.DIV, other, self)

    def __mod__(self, other: Num | float) -> Num:
        return numeric(Op.MOD, self, other)

    def __rmod__(self, other: float) -> Num:
        return numeric(Op.MOD, other, self)

    def __pow__(self, other: Num | float) -> Num:
        return numeric(Op.POW, self, other)

    def __neg__(self) -> Num:
        return numeric(Op.NEG, self)

    def __abs__(self) -> Num:
        return numeric(Op.ABS, self)

    def __lt__(self, other: Num | float) -> Flag:
        return Flag(call(Op.LT, Kind.FLAG, self, other, of=Kind.NUM))

    def __le__(self, other: Num | float) -> Flag:
        return Flag(call(Op.LE, Kind.FLAG, self, other, of=Kind.NUM))

    def __gt__(self, other: Num | float) -> Flag:
        return Flag(call(Op.LT, Kind.FLAG, other, self, of=Kind.NUM))

    def __ge__(self, other: Num | float) -> Flag:
        return Flag(call(Op.LE, Kind.FLAG, other, self, of=Kind.NUM))


class Num(Expression):
    """A number (float64)."""

    __slots__ = ()
    __hash__ = None

    def fill(self, value: Num | float) -> Num:
        """This value, or `value` where it is null."""
        return numeric(Op.FILL, self, value)

    def clip(self, low: float, high: float) -> Num:
        """The value moved into [low, high]."""
        return numeric(Op.LEAST, numeric(Op.GREATEST, self, low), high)

    def round(self) -> Num:
        """The nearest whole number, halves away from zero."""
        return numeric(Op.ROUND, self)

    def floor(self) -> Num:
        """The largest whole number not above the value."""
        return numeric(Op.FLOOR, self)

    def sign(self) -> Num:
        """1, 0 or -1."""
        return numeric(Op.SIGN, self)


class Flag(Num):
    """Yes, no or unknown; counts as 1 and 0 in arithmetic."""

    __slots__ = ()
    __hash__ = None


class Wrong(Flag):
    """What cannot hold, whatever is done with it: it carries its faults to where all are reported."""

    __slots__ = ()
    __hash__ = None

    def __call__(self, *_: object, **__: object) -> Wrong:
        """The same: what was called does not exist."""
        return self

    def __getitem__(self, _: object) -> Wrong:
        return self

    def __iter__(self) -> Any:
        raise TypeError(str(self.node.faults[0]) if isinstance(self.node, Invalid) else "not a list")


class Words(Expression):
    """What categories, identifiers and free text have in common: they are texts."""

    __slots__ = ()
    __hash__ = None

    def fill(self, value: str) -> Self:
        """This text, or `value` where it is null."""
        return self._same(Op.FILL, value)

    def lower(self) -> Self:
        """The same with A-Z made small; other letters stay, since languages disagree about them."""
        return self._same(Op.LOWER)

    def upper(self) -> Self:
        """The same with a-z made large; other letters stay, since languages disagree about them."""
        return self._same(Op.UPPER)

    def strip(self) -> Self:
        """The same without blanks, tabs and line ends before and after it."""
        return self._same(Op.STRIP)

    def replace(self, old: str, new: str) -> Self:
        """The same with every `old` become `new`, to the letter."""
        if not (is_text(old) and old and is_text(new)):
            bad: Self = _bad_constant("expected two texts, the first not empty", "replace", (old, new))
            return bad
        return type(self)(call(Op.REPLACE, self.node.kind, self, of=Kind.CAT, params=(old, new)))

    def group(self, groups: Mapping[str, Sequence[str]], *, otherwise: str) -> Cat:
        """The name of the group that holds the value; `otherwise` for any other and for null."""
        found: Cat = Cat(lift(otherwise))
        for name, values in groups.items():
            held = self.one_of(*([values] if isinstance(values, str) else values))
            found = Cat(call(Op.WHEN, Kind.CAT, held, name, found))
        return found

    def length(self) -> Num:
        """Number of characters (Unicode code points)."""
        return Num(call(Op.LENGTH, Kind.NUM, self, of=Kind.CAT))

    def words(self) -> Num:
        """Number of words: what stands between blanks, tabs and line ends."""
        return Num(call(Op.WORDS, Kind.NUM, self, of=Kind.CAT))

    def contains(self, text: Words | str) -> Flag:
        """Whether `text` occurs in it, to the letter."""
        return Flag(call(Op.CONTAINS, Kind.FLAG, self, text, of=Kind.CAT))

    def starts_with(self, text: Words | str) -> Flag:
        """Whether it begins with `text`, to the letter."""
        return Flag(call(Op.STARTS_WITH, Kind.FLAG, self, text, of=Kind.CAT))

    def ends_with(self, text: Words | str) -> Flag:
        """Whether it ends with `text`, to the letter."""
        return Flag(call(Op.ENDS_WITH, Kind.FLAG, self, text, of=Kind.CAT))

    def piece(self, separator: str, n: int) -> Cat:
        """Piece `n` of what `separator` splits it into, from 0, or from the end by -1; null where there is none."""
        if not (isinstance(separator, str) and separator and isinstance(lift(separator), Literal)):
            bad: Cat = _bad_constant("a separator is a text that is not empty", "piece", separator)
            return bad
        if not isinstance(n, int) or isinstance(n, bool) or abs(n) > 1000:
            which: Cat = _bad_constant("expected which piece, a whole number from -1000 to 1000", "piece", n)
            return which
        return Cat(call(Op.PIECE, Kind.CAT, self, of=Kind.CAT, params=(separator, n)))

    def _same(self, op: Op, *others: object) -> Self:
        return type(self)(call(op, self.node.kind, self, *others, of=Kind.CAT))


class Cat(Words):
    """A category: one of a moderate number of texts."""

    __slots__ = ()
    __hash__ = None


class Id(Words):
    """An identifier: joins rows, is never a feature."""

    __slots__ = ()
    __hash__ = None


class Text(Words):
    """Free text: as a feature it is for models that read texts; what is counted, found or cut out of it, for all."""

    __slots__ = ()
    __hash__ = None


class Time(Expression):
    """A moment (microseconds UTC)."""

    __slots__ = ()
    __hash__ = None


class Unfinished:
    """Events yet to be aggregated; no value, so that computing with them is a fault."""

    __slots__ = ()

    if not TYPE_CHECKING:

        def _misused(self, *_: object) -> Wrong:
            return invalid(Kind.NUM, _unfinished(self))

        __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = _misused
        __pow__ = __mod__ = __neg__ = __abs__ = __lt__ = __le__ = __gt__ = __ge__ = _misused
        __and__ = __or__ = __invert__ = _misused


def _unfinished(value: object) -> Fault:
    hint = "aggregate it: window.count(), window.column.mean()"
    return Fault("not_aggregated", "a window is no number yet", got=type(value).__name__, hint=hint)


CLASSES: Mapping[Kind, type[Expression]] = {
    Kind.NUM: Num,
    Kind.FLAG: Flag,
    Kind.CAT: Cat,
    Kind.ID: Id,
    Kind.TEXT: Text,
    Kind.TIME: Time,
}
KINDS: Mapping[type[Expression], Kind] = {cls: kind for kind, cls in CLASSES.items()}

asked_at = Time(AskedAt())
"""The time of the question: in training from the history, in serving now."""


def expression(node: Node) -> Any:
    """The expression class that fits the node's kind."""
    return CLASSES[node.kind](node)


def invalid(kind: Kind, *faults: Fault) -> Wrong:
    """An expression that carries faults to the place where all are reported."""
    return Wrong(Invalid(tuple(dict.fromkeys(faults)), kind))


def _no_method(value: Expression, name: str) -> Fault:
    if isinstance(value.node, EventField):
        table, column = value.node.table, value.node.name
        hint = f'{table}.where(...).last("30d").{column}.{name}()'
        return Fault(
            "no_horizon", "an event column is aggregated in a window", f"{table}.{column}.{name}", hint=hint
        )
    known = [one for one in dir(type(value)) if not one.startswith("_") and one != "node"]
    what = f"a {value.node.kind} has no {name}()"
    return Fault("unknown_method", what, "", "", ", ".join(known), nearest(name, known))


def _bad_constant(what: str, where: str, got: object) -> Any:
    return invalid(Kind.CAT, Fault("bad_constant", what, where, shorten(got)))


def lift(value: object) -> Node:
    """The node of an expression or of a Python constant."""
    if isinstance(value, Expression):
        return value.node
    if isinstance(value, bool):
        return Literal(float(value), Kind.FLAG)
    if is_number(value):
        return Literal(float(value) + 0.0, Kind.NUM)  # -0.0 equals 0.0 and would share its node
    if is_text(value):
        return Literal(value, Kind.CAT)
    if isinstance(value, Unfinished):
        return Invalid((_unfinished(value),))
    what = "this is neither an expression nor a finite constant"
    return Invalid((Fault("bad_constant", what, got=shorten(value)),))


def is_number(value: object) -> TypeGuard[float]:
    """Whether it is a constant that float64 holds."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= LARGEST_NUMBER


def is_between(low: float, value: Any, high: Any) -> bool:
    """Whether it is a number between two others, neither of which it is."""
    return isinstance(value, int | float) and not isinstance(value, bool) and low < value < high


def is_text(value: object) -> TypeGuard[str]:
    """Whether it is a text of whole characters; half of a surrogate pair has no UTF-8."""
    return isinstance(value, str) and not any("\ud800" <= letter <= "\udfff" for letter in value)


def _comparable(kind: Kind, other: Kind) -> bool:
    return (kind in _NUMERIC and other in _NUMERIC) or (kind.is_text and other.is_text)


_NUMERIC = (Kind.NUM, Kind.FLAG)
_FITTING = {Kind.NUM: _NUMERIC, Kind.CAT: (Kind.CAT, Kind.ID, Kind.TEXT)}


def call(op: Op, kind: Kind, *args: object, of: Kind | None = None, params: tuple[Scalar, ...] = ()) -> Node:
    """A call node; arguments of the wrong kind turn it into an `Invalid`."""
    nodes = tuple(lift(arg) for arg in args)
    faults = broken(nodes)
    for node in nodes:
        fits = of is None or node.kind is of or node.kind in _FITTING.get(of, ())
        if not fits and not isinstance(node, Invalid):
            what = f"{op} needs a {'text' if of is Kind.CAT else of}"
            faults.append(Fault("wrong_kind", what, got=f"a {node.kind}", hint=_HINTS.get(node.kind, "")))
    if not faults and sum(1 for node in nodes for _ in shallow(node)) >= LARGEST:
        what = f"an expression has at most {LARGEST} parts, those used again counted again"
        faults.append(Fault("too_large", what, hint="make it two features"))
    return Invalid(tuple(dict.fromkeys(faults)), kind) if faults else Call(op, nodes, kind, params)


_HINTS = {
    Kind.TIME: "ik.hours_between, ik.days_between and ik.part make numbers of times",
    Kind.CAT: "ik.table makes numbers of categories",
}


def numeric(op: Op, *args: object) -> Num:
    """A function of numbers that gives a number."""
    return Num(call(op, Kind.NUM, *args, of=Kind.NUM))


def _compare(op: Op, left: Expression, right: object) -> Node:
    node, other = left.node, lift(right)
    if not _comparable(node.kind, other.kind) and not {type(node), type(other)} & {Invalid}:
        what = f"cannot compare a {node.kind} with a {other.kind}"
        return Invalid((Fault("wrong_kind", what, hint=_HINTS.get(node.kind, "")),), Kind.FLAG)
    return call(op, Kind.FLAG, left, right)
