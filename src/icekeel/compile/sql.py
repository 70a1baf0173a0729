"""Row-level expressions as DuckDB SQL: the engine of whole tables. The twin of `closure`.

Nodes are computed in layers, one sub-select each, so that a node used often is computed once and the
statement stays as long as the tree is large. Numbers and flags are DOUBLE, texts VARCHAR, times BIGINT.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from string import ascii_lowercase, ascii_uppercase

from icekeel.core.kinds import Kind
from icekeel.define.nodes import Call, EventField, Literal, Node, Op

from .calendar import part_sql

Leaf = Callable[[Node], str | None]
"""SQL of a leaf node, or None for nodes that are not leaves."""

_WORD = "'[^ \t\n\v\f\r]+'"
_TURN = f"CAST('{2 * math.pi!r}' AS DOUBLE)"


def quote(name: str) -> str:
    """An SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def literal(value: float | str | bool | None) -> str:
    """An SQL constant; numbers are DOUBLE, exactly."""
    if value is None:
        return "NULL"
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    return f"CAST('{float(value)!r}' AS DOUBLE)"


def event_leaf(node: Node) -> str | None:
    """Reads a column of an event by its own name."""
    return quote(node.name) if isinstance(node, EventField) else None


def select(nodes: Sequence[Node], leaf: Leaf, source: str) -> tuple[str, list[str]]:
    """A statement that computes `nodes` for every row of `source`.

    Args:
        leaf: SQL of the inputs, over the columns of `source`.
        source: A relation: a table name or a sub-select in parentheses.

    Returns:
        The statement, whose rows hold all columns of `source` and one more per different node, and the
        column of each of `nodes`.
    """
    names: dict[Node, str] = {}
    layers: list[list[str]] = []

    def place(node: Node) -> int:
        """Write the node and what it needs; give the first layer in which its column exists."""
        if node in depth:
            return depth[node]
        below = [place(argument) for argument in node.args] if isinstance(node, Call) else []
        layer = max(below, default=0)
        names[node] = f"_n{len(names)}"  # no field begins with an underscore
        found = leaf(node)
        if isinstance(node, Literal):
            found = literal(node.value)
            if node.kind in (Kind.ID, Kind.CAT, Kind.TEXT):
                found = f"CAST({found} AS VARCHAR)"
        if found is None:
            if not isinstance(node, Call):
                raise TypeError(f"no value for {node!r}")
            found = _call(node, [names[argument] for argument in node.args])
        while len(layers) <= layer:
            layers.append([])
        layers[layer].append(f"{found} AS {names[node]}")
        depth[node] = layer + 1
        return layer + 1

    depth: dict[Node, int] = {}
    for node in nodes:
        place(node)
    statement = f"SELECT * FROM {source}"
    for layer in layers:
        statement = f"SELECT *, {', '.join(layer)} FROM ({statement})"
    return statement, [names[node] for node in nodes]


def _call(node: Call, a: list[str]) -> str:
    if node.op is Op.TABLE:
        default, *rest = node.params
        pairs = zip(rest[::2], rest[1::2], strict=True)
        cases = " ".join(f"WHEN {literal(key)} THEN {literal(value)}" for key, value in pairs)
        return f"CASE {a[0]} {cases} ELSE {literal(default)} END" if cases else literal(default)
    if node.op is Op.PART:
        return f"CASE WHEN {a[0]} IS NOT NULL THEN {part_sql(a[0], str(node.params[0]), str(node.params[1]))} END"
    if node.op is Op.ELAPSED:
        return f"CAST({a[1]} - {a[0]} AS DOUBLE) / {literal(float(str(node.params[0])))}"
    if node.op is Op.ONE_OF:
        return f"CAST({a[0]} IN ({', '.join(map(literal, node.params))}) AS DOUBLE)"
    if node.op is Op.PIECE:
        separator, n = str(node.params[0]), int(str(node.params[1]))
        return f"string_split({a[0]}, {literal(separator)})[{n + 1 if n >= 0 else n}]"
    if node.op is Op.REPLACE:
        old, new = map(literal, node.params)
        return f"replace({a[0]}, {old}, {new})"
    if node.op in (Op.SINE, Op.COSINE):
        function = "sin" if node.op is Op.SINE else "cos"
        return f"{function}({_TURN} * {a[0]} / {literal(node.params[0])})"
    return _SQL[node.op](a)


def _finite(value: str) -> str:
    return f"CASE WHEN isfinite({value}) THEN {value} END"


def _modulo(a: str, b: str) -> str:
    """C's `fmod`, whose result has the sign of the dividend, turned to the sign of the divisor as in Python."""
    rest = f"({a} % {b})"
    zero = f"CASE WHEN {b} < 0 THEN {literal(-0.0)} ELSE {literal(0.0)} END"
    turned = f"WHEN ({rest} < 0) <> ({b} < 0) THEN {rest} + {b} ELSE {rest}"
    return f"CASE WHEN {b} <> 0 THEN CASE WHEN {rest} = 0 THEN {zero} {turned} END END"


def _all_known(function: str, a: list[str]) -> str:
    missing = " OR ".join(f"{name} IS NULL" for name in a)
    return f"CASE WHEN {missing} THEN NULL ELSE {function}({', '.join(a)}) END"


_SQL: dict[Op, Callable[[list[str]], str]] = {
    Op.ADD: lambda a: _finite(f"({a[0]} + {a[1]})"),
    Op.SUB: lambda a: _finite(f"({a[0]} - {a[1]})"),
    Op.MUL: lambda a: _finite(f"({a[0]} * {a[1]})"),
    Op.DIV: lambda a: f"CASE WHEN {a[1]} <> 0 AND isfinite({a[0]} / {a[1]}) THEN {a[0]} / {a[1]} END",
    Op.MOD: lambda a: _modulo(a[0], a[1]),
    Op.POW: lambda a: _finite(f"pow({a[0]}, {a[1]})"),
    Op.NEG: lambda a: f"-{a[0]}",
    Op.ABS: lambda a: f"abs({a[0]})",
    Op.SQRT: lambda a: f"CASE WHEN {a[0]} >= 0 THEN sqrt({a[0]}) END",
    Op.EXP: lambda a: f"CASE WHEN {a[0]} <= CAST('709.782712893384' AS DOUBLE) THEN exp({a[0]}) END",
    Op.LN: lambda a: f"CASE WHEN {a[0]} > 0 THEN ln({a[0]}) END",
    Op.ROUND: lambda a: f"round({a[0]})",
    Op.FLOOR: lambda a: f"floor({a[0]})",
    Op.SIGN: lambda a: f"CAST(sign({a[0]}) AS DOUBLE)",
    Op.LEAST: lambda a: _all_known("least", a),
    Op.GREATEST: lambda a: _all_known("greatest", a),
    Op.LT: lambda a: f"CAST({a[0]} < {a[1]} AS DOUBLE)",
    Op.LE: lambda a: f"CAST({a[0]} <= {a[1]} AS DOUBLE)",
    Op.EQ: lambda a: f"CAST({a[0]} = {a[1]} AS DOUBLE)",
    Op.NE: lambda a: f"CAST({a[0]} <> {a[1]} AS DOUBLE)",
    Op.AND: lambda a: f"CAST(({a[0]} <> 0) AND ({a[1]} <> 0) AS DOUBLE)",
    Op.OR: lambda a: f"CAST(({a[0]} <> 0) OR ({a[1]} <> 0) AS DOUBLE)",
    Op.NOT: lambda a: f"CAST(1 AS DOUBLE) - {a[0]}",
    Op.WHEN: lambda a: f"CASE WHEN {a[0]} <> 0 THEN {a[1]} ELSE {a[2]} END",
    Op.FILL: lambda a: f"coalesce({a[0]}, {a[1]})",
    Op.KNOWN: lambda a: f"CAST({a[0]} IS NOT NULL AS DOUBLE)",
    Op.LENGTH: lambda a: f"CAST(length({a[0]}) AS DOUBLE)",
    Op.WORDS: lambda a: f"CAST(len(regexp_extract_all({a[0]}, {_WORD})) AS DOUBLE)",
    Op.LOWER: lambda a: f"translate({a[0]}, '{ascii_uppercase}', '{ascii_lowercase}')",
    Op.UPPER: lambda a: f"translate({a[0]}, '{ascii_lowercase}', '{ascii_uppercase}')",
    Op.STRIP: lambda a: f"trim({a[0]}, ' \t\n\v\f\r')",
    Op.CONTAINS: lambda a: f"CAST(contains({a[0]}, {a[1]}) AS DOUBLE)",
    Op.STARTS_WITH: lambda a: f"CAST(starts_with({a[0]}, {a[1]}) AS DOUBLE)",
    Op.ENDS_WITH: lambda a: f"CAST(ends_with({a[0]}, {a[1]}) AS DOUBLE)",
    Op.CROSS: lambda a: f"coalesce({a[0]}, '?') || ' x ' || coalesce({a[1]}, '?')",
}
