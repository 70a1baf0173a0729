"""What a feature reads, in words: `Orders by kitchen, last 1h: count`."""

from __future__ import annotations

from collections.abc import Mapping

from icekeel.core.time import format_duration
from icekeel.define.nodes import AskedAt, EventField, Node, RequestField, Windowed, shallow, walk
from icekeel.define.windows import EVER


def reads_of(node: Node) -> Mapping[str, list[str]]:
    """The request's fields and the windows below a feature, each once, in the order of its definition."""
    fields = [
        below.name if isinstance(below, RequestField) else "asked_at"
        for below in shallow(node)
        if isinstance(below, RequestField | AskedAt)
    ]
    windows = [window_text(below) for below in shallow(node) if isinstance(below, Windowed)]
    return {"request": list(dict.fromkeys(fields)), "windows": list(dict.fromkeys(windows))}


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
        text += f" where {_columns(keyed.where)}"
    aggregate = window.function + (f" {window.k}" if window.k else "")
    value = f" of {_columns(window.value)}" if window.value is not None else ""
    return f"{text}, {_span(window)}: {aggregate}{value}"


def _span(window: Windowed) -> str:
    if window.high >= EVER:
        return "newest row"
    return (
        f"last {format_duration(window.high)}" if window.high else f"next {format_duration(1 - window.low)}"
    )


def _columns(node: Node) -> str:
    return ", ".join(dict.fromkeys(below.name for below in walk(node) if isinstance(below, EventField)))
