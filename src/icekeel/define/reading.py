"""What a feature is and reads, in words: a `window`, `Orders by kitchen, last 1h: count`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from icekeel.core.kinds import Kind
from icekeel.core.time import format_duration

from .features import Feature
from .nodes import (
    AskedAt,
    Call,
    EventField,
    Literal,
    Node,
    Op,
    RequestField,
    Windowed,
    children,
    shallow,
    walk,
)
from .windows import EVER

_PLAIN = {Op.FILL, Op.ROUND, Op.FLOOR, Op.NEG, Op.ABS, Op.KNOWN}
_SCALED = {Op.ADD, Op.SUB, Op.MUL, Op.DIV, Op.LEAST, Op.GREATEST}
_CHANGES = ("last_change", "last_acceleration")


def reads_of(node: Node) -> Mapping[str, list[str]]:
    """The request's fields and the windows below a feature, each once, in the order of its definition."""
    fields = [
        below.name if isinstance(below, RequestField) else "asked_at"
        for below in shallow(node)
        if isinstance(below, RequestField | AskedAt)
    ]
    return {"request": list(dict.fromkeys(fields)), "windows": [window_text(one) for one in windows_of(node)]}


def windows_of(node: Node) -> list[Windowed]:
    """The windows below a feature, each once, in the order of its definition."""
    return list(dict.fromkeys(below for below in shallow(node) if isinstance(below, Windowed)))


def sources_of(node: Node) -> dict[str, list[str]]:
    """The columns that a feature reads of each event table, those of filters and keys included."""
    found: dict[str, dict[str, None]] = {}
    for window in windows_of(node):
        columns = found.setdefault(window.keyed.table, {})
        columns |= dict.fromkeys(below.name for below in walk(window) if isinstance(below, EventField))
        columns |= dict.fromkeys(column for column, _ in window.keyed.keys)
    return {table: list(columns) for table, columns in found.items()}


def kind_of(node: Node) -> str:
    """What sort of feature this is.

    `request`: a field as it was sent. `reference`: the newest row of a table. `window`: one number of one window.
    `trend`: a difference of windows over the same column. `cyclical` and `calendar`: parts of a time.
    `interaction`: a product of several values. `domain`: any other formula.
    """
    core, windows = _core(node), windows_of(node)
    ops = {below.op for below in shallow(node) if isinstance(below, Call)}
    if ops & {Op.SINE, Op.COSINE}:
        return "cyclical"
    if isinstance(core, RequestField):
        return "request"
    if isinstance(core, Windowed):
        if core.high >= EVER:
            return "reference"
        return "trend" if core.function in _CHANGES else "window"
    if Op.PART in ops and not windows:
        return "calendar"
    if _is_trend(node, windows, ops):
        return "trend"
    product = isinstance(core, Call) and core.op in (Op.MUL, Op.CROSS)
    return "interaction" if product and Op.TABLE not in ops else "domain"


def built_on(features: Sequence[Feature]) -> dict[str, list[str]]:
    """For each feature the other ones that its definition contains, the outermost only."""
    names = {one.node: one.name for one in features if not isinstance(one.node, RequestField)}

    def inside(node: Node) -> list[str]:
        found = [names[child] if child in names else inside(child) for child in children(node)]
        return [name for one in found for name in ([one] if isinstance(one, str) else one)]

    return {one.name: list(dict.fromkeys(inside(one.node))) for one in features}


def window_text(window: Windowed) -> str:
    """One window: its table, keys, filter, stretch of time and aggregate."""
    keyed = window.keyed
    text = keyed.table
    if keyed.keys:
        pairs = (
            column if column == field.name else f"{column} = {field.name}" for column, field in keyed.keys
        )
        text += f" by {', '.join(pairs)}"
    if keyed.where is not None:
        text += f" where {_condition(keyed.where)}"
    return f"{text}, {_span(window)}: {_aggregate(window)}"


def _aggregate(window: Windowed) -> str:
    columns = _columns(window.value) if window.value is not None else ""
    name, asked, _ = window.function.partition("_of")
    if asked:  # share_of, rank_of: what is asked about and the values it is held against
        fields = (
            [below.name for below in walk(window.of) if isinstance(below, RequestField)] if window.of else []
        )
        return f"{name} of {', '.join(fields) or 'the latest'} in {columns}"
    return name + (f" {window.k}" if window.k else "") + (f" of {columns}" if columns else "")


def _core(node: Node) -> Node:
    """The node without defaults, rounding and constants around it."""
    while isinstance(node, Call):
        varying = [arg for arg in node.args if not isinstance(arg, Literal)]
        if node.op in _PLAIN:
            node = node.args[0]
        elif node.op in _SCALED and len(varying) == 1:
            node = varying[0]
        else:
            break
    return node


def _is_trend(node: Node, windows: Sequence[Windowed], ops: set[Op]) -> bool:
    leaves = [below for below in shallow(node) if not isinstance(below, Call | Literal)]
    columns = {(window.keyed.table, window.value) for window in windows}
    linear = ops <= {Op.SUB, Op.ADD, Op.NEG, Op.MUL, Op.DIV, Op.FILL} and Op.SUB in ops
    return linear and len(columns) == 1 and all(isinstance(leaf, Windowed) for leaf in leaves)


def _span(window: Windowed) -> str:
    if window.high >= EVER:
        return "newest row"
    return (
        f"last {format_duration(window.high)}" if window.high else f"next {format_duration(1 - window.low)}"
    )


def _condition(node: Node) -> str:
    """A filter: `departed and not late and carrier = UA`; another formula by the columns it reads."""
    if isinstance(node, Call) and node.op is Op.AND:
        return " and ".join(_condition(arg) for arg in node.args)
    if isinstance(node, Call) and node.op is Op.NOT:
        return f"not {_condition(node.args[0])}"
    if isinstance(node, Call) and node.op is Op.EQ and isinstance(node.args[1], Literal):
        column, value = _columns(node.args[0]), node.args[1].value
        if node.args[0].kind is Kind.FLAG:
            return column if value else f"not {column}"
        return f"{column} = {value}"
    return _columns(node)


def _columns(node: Node) -> str:
    return ", ".join(dict.fromkeys(below.name for below in walk(node) if isinstance(below, EventField)))
