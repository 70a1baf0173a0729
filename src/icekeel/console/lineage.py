"""Where features come from, as a picture: tables, windows, features, features built from those, the model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise

from .charts import FONT, SERIES, colour
from .report import Chart

ROW, LETTER, GAP = 19, 5.7, 56
"""Pixels: height of a line, width of a letter, and between columns, where the lines run."""
LONGEST = 54
"""Letters shown of a text; the whole is shown under the pointer."""


@dataclass(frozen=True, slots=True)
class Item:
    """One feature.

    Attributes:
        windows: What it reads, as `Orders by kitchen, last 1h: count`: the table is the first word.
        request: Whether it reads the request itself.
        built_on: Features that it is made of.
        share: Of the model's performance: how thick its line to the model is.
    """

    name: str
    windows: Sequence[str]
    request: bool
    built_on: Sequence[str]
    share: float


@dataclass(slots=True)
class _Node:
    text: str
    column: int
    inputs: tuple[_Node, ...] = ()
    tone: str = "soft"
    share: float = 0.0
    is_model: bool = False
    x: float = 0.0
    y: float = 0.0

    @property
    def shown(self) -> str:
        return self.text if len(self.text) <= LONGEST else self.text[: LONGEST - 1] + "…"


def lineage(title: str, request: str, model: str, items: Sequence[Item]) -> Chart:
    """The picture, one column per step.

    Args:
        title: The finding, in a sentence.
        request, model: What the first and the last column call them.
    """
    nodes = _nodes(request, model, items)
    _arrange(nodes)
    columns = [[one for one in nodes if one.column == place] for place in range(1 + nodes[-1].column)]
    left, edges = 0.0, []
    for column in columns:
        for one in column:
            one.x = left
        edges.append(left + LETTER * max((len(one.shown) for one in column), default=0))
        left = edges[-1] + GAP
    lines = "".join(_line(source, node, edges[source.column]) for node in nodes for source in node.inputs)
    texts = "".join(_text(node) for node in nodes)
    height = max(node.y for node in nodes) + ROW
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {edges[-1]:.0f} {height:.0f}" role="img" '
        f'aria-label="{escape(title)}" font-family="{escape(FONT)}" font-size="11">{lines}{texts}</svg>'
    )
    return Chart(title, svg, "A line to the model is as thick as the feature's share.")


def _nodes(request: str, model: str, items: Sequence[Item]) -> list[_Node]:
    """Every node, sources before what reads them and the model last."""
    texts = sorted({text for item in items for text in item.windows})
    names = dict.fromkeys(text.replace(",", " ").split()[0] for text in texts)
    tables = {name: _Node(name, 0, (), SERIES[at % len(SERIES)]) for at, name in enumerate(names)}
    windows = {}
    for text in texts:
        table = tables[text.replace(",", " ").split()[0]]
        windows[text] = _Node(text.removeprefix(table.text).lstrip(" ,"), 1, (table,), table.tone)
    asked = _Node(request, 0)
    features: dict[str, _Node] = {}
    waiting = list(items)
    while waiting:
        item = next(one for one in waiting if not set(one.built_on) - set(features))
        waiting.remove(item)
        below = [features[name] for name in item.built_on]
        known = {id(source) for one in below for source in _sources(one)}
        own = [windows[text] for text in item.windows if id(windows[text]) not in known]
        own += [asked] if item.request and id(asked) not in known else []
        column = max([1, *(one.column for one in below)]) + 1
        features[item.name] = _Node(item.name, column, (*below, *own), share=item.share)
    last = 1 + max(one.column for one in features.values())
    inputs = tuple(features.values())
    return [*tables.values(), asked, *windows.values(), *inputs, _Node(model, last, inputs, is_model=True)]


def _sources(node: _Node) -> list[_Node]:
    return [node, *(below for one in node.inputs for below in _sources(one))]


def _arrange(nodes: Sequence[_Node]) -> None:
    """Windows one below the other, their tables amid them, the request at the foot; then each next to its inputs."""
    windows = [one for one in nodes if one.column == 1]
    for at, window in enumerate(windows):
        window.y = ROW * (at + 1)
    sources = [one for one in nodes if one.column == 0]
    for source in sources:
        own = [one.y for one in windows if source in one.inputs]
        source.y = sum(own) / len(own) if own else ROW * (len(windows) + 4)
    _spread(sources)
    for column in range(2, 1 + nodes[-1].column):
        members = [one for one in nodes if one.column == column]
        for one in members:
            one.y = sum(source.y for source in one.inputs) / max(1, len(one.inputs))
        _spread(members)


def _spread(column: list[_Node]) -> None:
    """Move nodes apart to a line each, in their order, the column as a whole staying where it was."""
    column.sort(key=lambda one: one.y)
    wanted = [one.y for one in column]
    for before, one in pairwise(column):
        one.y = max(one.y, before.y + ROW)
    moved = sum(one.y for one in column) - sum(wanted)
    shift = min(moved / len(column), column[0].y - ROW)
    for one in column:
        one.y -= shift


def _line(source: _Node, node: _Node, edge: float) -> str:
    """Straight to the end of the source's column, then in a curve to the node; to the model by its share."""
    start, end = source.x + LETTER * len(source.shown) + 4, node.x - 4
    y, to, bend = source.y - 4, node.y - 4, GAP / 2
    width = 1 + 24 * source.share * node.is_model
    path = f"M{start:.0f} {y:.1f}H{max(start, edge):.0f}C{edge + bend:.0f} {y:.1f} {end - bend:.0f} {to:.1f} {end:.0f} {to:.1f}"
    return f'<path d="{path}" fill="none" stroke="{colour(source.tone)}" stroke-width="{width:.1f}" opacity=".45"/>'


def _text(node: _Node) -> str:
    halo = f'stroke="{colour("paper")}" stroke-width="3" paint-order="stroke"'
    return (
        f'<text x="{node.x:.0f}" y="{node.y:.1f}" fill="{colour("ink")}" {halo}>'
        f"<title>{escape(node.text)}</title>{escape(node.shown)}</text>"
    )
