"""What a feature reads, in words: `Orders by kitchen, last 1h: count`; and what of it is to be computed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from icekeel.core.errors import SourceError, TrainingError
from icekeel.core.time import format_duration
from icekeel.define.features import Feature
from icekeel.define.nodes import AskedAt, EventField, Node, RequestField, Windowed, shallow, walk
from icekeel.define.windows import EVER

if TYPE_CHECKING:
    from icekeel.app import App


def reads_of(node: Node) -> Mapping[str, list[str]]:
    """The request's fields and the windows below a feature, each once, in the order of its definition."""
    fields = [
        below.name if isinstance(below, RequestField) else "asked_at"
        for below in shallow(node)
        if isinstance(below, RequestField | AskedAt)
    ]
    windows = [window_text(below) for below in shallow(node) if isinstance(below, Windowed)]
    return {"request": list(dict.fromkeys(fields)), "windows": list(dict.fromkeys(windows))}


def work_of(app: App, model: str, features: Sequence[Feature]) -> list[Mapping[str, Any]]:
    """Of each feature why and for how many past questions it is to be computed, and for how many it is kept."""
    try:
        cache = app.feature_cache(model)
    except (SourceError, TrainingError) as error:
        return [{"why": [error.faults[0].what], "compute": 0, "kept": 0} for _ in features]
    works = [cache.work(feature) for feature in features]
    return [{"why": list(work.why), "compute": work.compute, "kept": work.kept} for work in works]


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
