"""Row-level expressions as one Python function: the engine of single requests and of single events.

The tree becomes Python source, one assignment per different node, compiled once. Numbers are floats (flags 1.0
and 0.0), texts `str`, times `int`, null is None. Every operation here has its twin in `sql`; both give the
same bits because both call the same C library functions on float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from string import ascii_lowercase, ascii_uppercase
from typing import Any

from icekeel.define.fields import Field
from icekeel.define.nodes import ANSWER, Call, EventField, Literal, Node, Op, RequestField

from .calendar import part

Leaf = Callable[[Node], tuple[str, bool] | None]
"""Source of a leaf node and whether it can be null; None for nodes that are not leaves."""

Row = Callable[..., list[Any]]

_LARGEST = "1.7976931348623157e308"
_TURN = repr(2 * math.pi)
_BLANKS = " \t\n\v\f\r"
_TO_LOWER = str.maketrans(ascii_uppercase, ascii_lowercase)
_TO_UPPER = str.maketrans(ascii_lowercase, ascii_uppercase)


def round_half_away(x: float) -> float:
    """The nearest whole number, halves away from zero, as C's `round`."""
    whole = math.trunc(x)
    if abs(x - whole) >= 0.5:
        whole += 1 if x > 0 else -1
    return math.copysign(whole, x)


def power(x: float, y: float) -> float | None:
    """x to the power y; None where that is no finite real number."""
    try:
        value = math.pow(x, y)
    except (OverflowError, ValueError):
        return None
    return value if math.isfinite(value) else None


def piece(text: str, separator: str, n: int) -> str | None:
    """Piece `n` of a split text; None where there is none."""
    pieces = text.split(separator)
    return pieces[n] if -len(pieces) <= n < len(pieces) else None


def compile_row(nodes: Sequence[Node], leaf: Leaf, arguments: str) -> Row:
    """A function that computes all `nodes` of one row.

    Args:
        leaf: Names the inputs, as Python source over `arguments`.
        arguments: The function's parameters, as source: `r, t, w`.

    Returns:
        A function that gives the values in the order of `nodes`.
    """
    writer = _Writer(leaf)
    results = [writer.name_of(node)[0] for node in nodes]
    body = "\n    ".join([*writer.lines, f"return [{', '.join(results)}]"])
    namespace: dict[str, Any] = {
        **{"math": math, "part": part, "piece": piece, "power": power, "round_half_away": round_half_away},
        **{"TO_LOWER": _TO_LOWER, "TO_UPPER": _TO_UPPER},
        **writer.constants,
    }
    exec(compile(f"def row({arguments}):\n    {body}\n", "<icekeel row>", "exec"), namespace)
    function: Row = namespace["row"]
    return function


def request_leaf(fields: Sequence[str]) -> Leaf:
    """Reads a field of a request from `r`, a sequence of values in this order, and the answer from `a`."""

    def leaf(node: Node) -> tuple[str, bool] | None:
        if node == ANSWER:
            return "a", True
        return (f"r[{fields.index(node.name)}]", True) if isinstance(node, RequestField) else None

    return leaf


def compile_event(fields: Sequence[Field], values: Sequence[Node]) -> Row:
    """`row(r)`: expressions over one event whose column values `r` holds in field order."""
    places = {field.name: at for at, field in enumerate(fields)}

    def leaf(node: Node) -> tuple[str, bool] | None:
        # Nullable throughout: a contract that turns lax must not change what a stored window holds.
        return (f"r[{places[node.name]}]", True) if isinstance(node, EventField) else None

    return compile_row(list(values), leaf, "r")


class _Writer:
    """Writes one assignment per node; remembers which names can be null."""

    def __init__(self, leaf: Leaf) -> None:
        self.leaf = leaf
        self.lines: list[str] = []
        self.constants: dict[str, Any] = {}
        self.names: dict[Node, tuple[str, bool]] = {}

    def name_of(self, node: Node) -> tuple[str, bool]:
        if node not in self.names:
            self.names[node] = self._write(node)
        return self.names[node]

    def _write(self, node: Node) -> tuple[str, bool]:
        found = self.leaf(node)
        if isinstance(node, Literal):
            found = (repr(node.value), node.value is None)
        name = f"v{len(self.names)}_"
        if found is not None:
            source, nullable = found
            self.lines.append(f"{name} = {source}")
            if nullable:  # windows give NaN for null, whatever their kind
                self.lines.append(f"if {name} != {name}: {name} = None")
            return name, nullable
        if not isinstance(node, Call):
            raise TypeError(f"no value for {node!r}")
        inputs = [self.name_of(argument) for argument in node.args]
        name = f"v{len(self.names)}"
        special = _TOTAL.get(node.op)
        if special is not None:
            self.lines.append(f"{name} = {special(self, node, [source for source, _ in inputs])}")
            return name, node.op not in (Op.KNOWN, Op.TABLE, Op.CROSS) and any(null for _, null in inputs)
        return name, self._strict(name, node, inputs)

    def _strict(self, name: str, node: Call, inputs: list[tuple[str, bool]]) -> bool:
        """An operation that is null as soon as one input is; gives whether it can be null."""
        names = [source for source, _ in inputs]
        value, overflows = _STRICT[node.op](names, node)
        missing = " or ".join(f"{source} is None" for source, null in inputs if null)
        self.lines.append(f"{name} = None if {missing} else {value}" if missing else f"{name} = {value}")
        nullable = bool(missing) or "None" in value or node.op in (Op.POW, Op.PIECE)
        if overflows:
            known = f"{name} is not None and " if nullable else ""
            self.lines.append(f"if {known}not -{_LARGEST} <= {name} <= {_LARGEST}: {name} = None")
        return nullable or overflows

    def constant(self, value: object) -> str:
        name = f"c{len(self.constants)}"
        self.constants[name] = value
        return name


def _table(writer: _Writer, node: Call, a: list[str]) -> str:
    default, *rest = node.params
    lookup = writer.constant(dict(zip(rest[::2], rest[1::2], strict=True)))
    return f"{lookup}.get({a[0]}, {default!r})"


_TOTAL: dict[Op, Callable[[_Writer, Call, list[str]], str]] = {
    Op.AND: lambda w, n, a: (
        f"0.0 if {a[0]} == 0.0 or {a[1]} == 0.0 else None if {a[0]} is None or {a[1]} is None else 1.0"
    ),
    Op.OR: lambda w, n, a: (
        f"1.0 if {a[0]} == 1.0 or {a[1]} == 1.0 else None if {a[0]} is None or {a[1]} is None else 0.0"
    ),
    Op.WHEN: lambda w, n, a: f"{a[1]} if {a[0]} else {a[2]}",
    Op.FILL: lambda w, n, a: f"{a[1]} if {a[0]} is None else {a[0]}",
    Op.KNOWN: lambda w, n, a: f"0.0 if {a[0]} is None else 1.0",
    Op.CROSS: lambda w, n, a: (
        f"('?' if {a[0]} is None else {a[0]}) + ' x ' + ('?' if {a[1]} is None else {a[1]})"
    ),
    Op.TABLE: _table,
}

_STRICT: dict[Op, Callable[[list[str], Call], tuple[str, bool]]] = {
    Op.ADD: lambda a, n: (f"{a[0]} + {a[1]}", True),
    Op.SUB: lambda a, n: (f"{a[0]} - {a[1]}", True),
    Op.MUL: lambda a, n: (f"{a[0]} * {a[1]}", True),
    Op.DIV: lambda a, n: (f"(None if {a[1]} == 0.0 else {a[0]} / {a[1]})", True),
    Op.MOD: lambda a, n: (f"(None if {a[1]} == 0.0 else {a[0]} % {a[1]})", False),
    Op.POW: lambda a, n: (f"power({a[0]}, {a[1]})", False),
    Op.NEG: lambda a, n: (f"-{a[0]}", False),
    Op.ABS: lambda a, n: (f"abs({a[0]})", False),
    Op.SQRT: lambda a, n: (f"(None if {a[0]} < 0.0 else math.sqrt({a[0]}))", False),
    Op.EXP: lambda a, n: (f"(None if {a[0]} > 709.782712893384 else math.exp({a[0]}))", False),
    Op.LN: lambda a, n: (f"(None if {a[0]} <= 0.0 else math.log({a[0]}))", False),
    Op.ROUND: lambda a, n: (f"round_half_away({a[0]})", False),
    Op.FLOOR: lambda a, n: (f"math.copysign(math.floor({a[0]}), {a[0]})", False),
    Op.SIGN: lambda a, n: (f"(1.0 if {a[0]} > 0.0 else -1.0 if {a[0]} < 0.0 else 0.0)", False),
    Op.LEAST: lambda a, n: (f"min({', '.join(a)})", False),
    Op.GREATEST: lambda a, n: (f"max({', '.join(a)})", False),
    Op.LT: lambda a, n: (f"(1.0 if {a[0]} < {a[1]} else 0.0)", False),
    Op.LE: lambda a, n: (f"(1.0 if {a[0]} <= {a[1]} else 0.0)", False),
    Op.EQ: lambda a, n: (f"(1.0 if {a[0]} == {a[1]} else 0.0)", False),
    Op.NE: lambda a, n: (f"(1.0 if {a[0]} != {a[1]} else 0.0)", False),
    Op.ONE_OF: lambda a, n: (f"(1.0 if {a[0]} in {{{', '.join(map(repr, n.params))}}} else 0.0)", False),
    Op.LENGTH: lambda a, n: (f"float(len({a[0]}))", False),
    Op.WORDS: lambda a, n: (f"float(len({a[0]}.encode().split()))", False),  # of bytes, by ASCII white space
    Op.LOWER: lambda a, n: (f"{a[0]}.translate(TO_LOWER)", False),
    Op.UPPER: lambda a, n: (f"{a[0]}.translate(TO_UPPER)", False),
    Op.STRIP: lambda a, n: (f"{a[0]}.strip({_BLANKS!r})", False),
    Op.REPLACE: lambda a, n: (f"{a[0]}.replace({n.params[0]!r}, {n.params[1]!r})", False),
    Op.CONTAINS: lambda a, n: (f"(1.0 if {a[1]} in {a[0]} else 0.0)", False),
    Op.STARTS_WITH: lambda a, n: (f"(1.0 if {a[0]}.startswith({a[1]}) else 0.0)", False),
    Op.ENDS_WITH: lambda a, n: (f"(1.0 if {a[0]}.endswith({a[1]}) else 0.0)", False),
    Op.PIECE: lambda a, n: (f"piece({a[0]}, {n.params[0]!r}, {n.params[1]!r})", False),
    Op.NOT: lambda a, n: (f"1.0 - {a[0]}", False),
    Op.ELAPSED: lambda a, n: (f"({a[1]} - {a[0]}) / {float(str(n.params[0]))!r}", False),
    Op.PART: lambda a, n: (f"part({a[0]}, {n.params[0]!r}, {n.params[1]!r})", False),
    Op.SINE: lambda a, n: (f"math.sin({_TURN} * {a[0]} / {n.params[0]!r})", False),
    Op.COSINE: lambda a, n: (f"math.cos({_TURN} * {a[0]} / {n.params[0]!r})", False),
}
