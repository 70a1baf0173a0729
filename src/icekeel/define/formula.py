"""A definition as a line of text, for people who ask where a number comes from."""

from __future__ import annotations

from .nodes import AskedAt, Call, EventField, Literal, Node, Op, Outcome, RequestField, Windowed
from .reading import window_text

_INFIX = {
    Op.OR: ("or", 1),
    Op.AND: ("and", 2),
    Op.LT: ("<", 4),
    Op.LE: ("<=", 4),
    Op.EQ: ("==", 4),
    Op.NE: ("!=", 4),
    Op.ADD: ("+", 5),
    Op.SUB: ("-", 5),
    Op.MUL: ("*", 6),
    Op.DIV: ("/", 6),
    Op.MOD: ("%", 6),
    Op.POW: ("**", 8),
}
"""Sign, and how strongly it binds, as in Python."""


def formula(node: Node) -> str:
    """The text of an expression: `Quote.colors * [Orders by customer, last 30d: count]`."""
    return _text(node, 0)


def _text(node: Node, outer: int) -> str:
    if isinstance(node, Literal):
        whole = isinstance(node.value, float) and node.value.is_integer()
        return f"{node.value:g}" if whole else repr(node.value)
    if isinstance(node, RequestField):
        return f"{node.request}.{node.name}"
    if isinstance(node, EventField):
        return f"{node.table}.{node.name}"
    if isinstance(node, AskedAt):
        return "asked_at"
    if isinstance(node, Windowed):
        return f"[{window_text(node)}]"
    if isinstance(node, Outcome):
        return f"[what came of it in {node.keyed.table}: {node.function}]"
    return _call(node, outer) if isinstance(node, Call) else "?"


def _call(node: Call, outer: int) -> str:
    if node.op in (Op.LT, Op.LE) and isinstance(node.args[0], Literal):  # as people write it: x > 2
        bound, value = node.args
        text = f"{_text(value, 4)} {'>' if node.op is Op.LT else '>='} {_text(bound, 4)}"
        return f"({text})" if outer > 4 else text
    if node.op in _INFIX:
        sign, binds = _INFIX[node.op]
        right = binds + (node.op in (Op.SUB, Op.DIV, Op.MOD))
        parts = [_text(arg, right if at else binds) for at, arg in enumerate(node.args)]
        text = f" {sign} ".join(parts)
        return f"({text})" if binds < outer else text
    if node.op is Op.NEG:
        return f"-{_text(node.args[0], 7)}"
    if node.op is Op.NOT:
        return f"not {_text(node.args[0], 3)}"
    given = [_text(arg, 0) for arg in node.args]
    if node.op is Op.TABLE:  # its entries are in the project file, and may be hundreds
        return f"table({given[0]}, {len(node.params) // 2} entries, default={node.params[0]!r})"
    return f"{node.op}({', '.join([*given, *map(repr, node.params)])})"
