"""Charts as SVG from plain values, drawn by Vega-Lite inside the process (`vl_convert`).

Colours are custom properties of the page (`var(--ink)`) with the light theme's value to fall back on, so that
one picture follows the reader's theme and still stands alone. Series differ by dash as well as by colour.
Times are microseconds UTC, as everywhere. Values that are None or not finite leave a gap.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from markupsafe import Markup

from icekeel.core.time import DAY

from .report import Chart

WIDTH = 720
COLOURS = {
    "paper": "#ffffff",
    "ink": "#1c2128",
    "soft": "#57606a",
    "line": "#d8dee4",
    "c1": "#1f5fa8",
    "c2": "#b5500f",
    "c3": "#0d7a67",
    "c4": "#7a4fa3",
    "c5": "#8a6d00",
}
"""The light theme; the dark one is in `style.css`."""
SERIES = ("c1", "c2", "c3", "c4", "c5")
DASHES = ([1, 0], [6, 3], [2, 2], [8, 3, 2, 3], [1, 4])
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif"
LINE_LEGEND = {"symbolType": "stroke", "symbolSize": 500, "symbolStrokeWidth": 2, "offset": 36}
Json = dict[str, Any]  # a Vega-Lite specification is open-ended JSON
Mark = tuple[float, str]
"""A place on the x axis and what happened there."""


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar with the ends of its interval, if it has one, and the series it belongs to, if there are several."""

    label: str
    value: float
    low: float | None = None
    high: float | None = None
    series: str = ""


@dataclass(frozen=True, slots=True)
class Span:
    """Something that lasted: times in microseconds UTC, the end open."""

    row: str
    start: int
    end: int
    label: str = ""


def lines(
    title: str,
    x: Sequence[float],
    series: Mapping[str, Sequence[float | None]],
    *,
    x_title: str,
    y_title: str,
    marks: Sequence[Mark] = (),
    band: tuple[float, float] | None = None,
    dates: bool = True,
    percent: bool = False,
) -> Chart:
    """Values over time, one line for each series, with vertical marks where something happened.

    Args:
        title: The finding, in a sentence.
        x: Times in microseconds UTC, or plain numbers where `dates` is off.
        series: Name -> as many values as `x`.
        y_title: What is measured, with its unit.
        band: Between which values a series is as usual.
        percent: Show shares as per cent.
    """
    values = [
        {"x": _place(at, dates), "y": _finite(value), "s": name}
        for name, column in series.items()
        for at, value in zip(x, column, strict=True)
    ]
    names = list(series)
    dash = {"domain": names, "range": _cycle(DASHES, len(names))}
    legend = LINE_LEGEND if len(names) > 1 else None
    height = 250 + _headroom(marks)
    scale = {"zero": False, "range": [height, _headroom(marks)]}
    layer = {
        "data": {"values": values},
        "mark": {"type": "line", "point": {"size": 28} if len(x) <= 40 else False, "strokeWidth": 2},
        "encoding": {
            "x": _x(x_title, x, dates, scale={"nice": False, "padding": 8}),
            "y": {"field": "y", "type": "quantitative", "scale": scale, "axis": _y_axis(y_title, percent)},
            "color": _colour(names, LINE_LEGEND),
            "strokeDash": {"field": "s", "scale": dash, "legend": legend},
        },
    }
    usual: list[Json] = []
    if band is not None:
        usual = [
            {
                "data": {"values": [{}]},
                "mark": {"type": "rect", "color": colour("c1"), "opacity": 0.12},
                "encoding": {
                    "y": {"datum": band[0], "type": "quantitative", "scale": scale, "title": None},
                    "y2": {"datum": band[1]},
                },
            }
        ]
    return _chart(title, [*usual, *_marks(marks, x, dates, height=height), layer], height=height)


def bars(title: str, rows: Sequence[Bar], *, x_title: str, digits: int = 2, percent: bool = False) -> Chart:
    """Horizontal bars in the order given, each with its value and, where it has one, its interval.

    Bars of one label stand together, one for each series.

    Args:
        title: The finding, in a sentence.
        x_title: What is measured, with its unit.
        digits: Decimals of the values shown.
        percent: Show shares as per cent.
    """
    names = list(dict.fromkeys(row.series for row in rows))
    values = [_bar(row, f".{digits}{'%' if percent else 'f'}") for row in rows]
    offset: Json = {"yOffset": {"field": "s", "sort": names}} if len(names) > 1 else {}
    ends = [0.0, *(bar[end] for bar in values for end in ("x", "low", "high") if bar[end] is not None)]
    # Room for the value after the longest bar.
    scale = {"domain": [min(ends), max(ends) + 0.12 * (max(ends) - min(ends) or 1.0)], "nice": False}
    axis = {"tickCount": 6} | ({"format": "~%"} if percent else {})
    x = {"type": "quantitative", "title": x_title, "axis": axis, "scale": scale}
    layers: list[Json] = [
        {"mark": {"type": "bar"}, "encoding": {"x": {"field": "x", **x}, "color": _colour(names)}},
        # An interval is drawn twice, so that it has an edge on its bar in either theme.
        *(
            {
                "mark": {"type": "rule", "color": colour(name), "strokeWidth": width},
                "encoding": {"x": {"field": "low", **x}, "x2": {"field": "high"}},
            }
            for name, width in (("paper", 4), ("ink", 1.5))
        ),
        {
            "mark": {"type": "text", "align": "left", "dx": 6, "color": colour("ink")},
            "encoding": {"x": {"field": "end", **x}, "text": {"field": "text"}},
        },
    ]
    for layer in layers:
        layer["data"] = {"values": values}
        layer["encoding"] |= {"y": _rows("label", [row.label for row in rows]), **offset}
    return _chart(title, layers, height=(22 if len(names) > 1 else 27) * len(rows) + 10)


def histogram(
    title: str,
    edges: Sequence[float],
    counts: Sequence[float],
    *,
    x_title: str,
    y_title: str,
    marks: Sequence[Mark] = (),
    log: bool = False,
) -> Chart:
    """Counts between edges, of which there is one more; marks show percentiles or limits.

    Args:
        title: The finding, in a sentence.
        log: Logarithmic x axis; all edges are above zero.
    """
    bins = zip(edges[:-1], edges[1:], counts, strict=True)
    values = [{"x": low, "x2": high, "y": count} for low, high, count in bins]
    x_scale = {
        "type": "log" if log else "linear",
        "nice": False,
        "zero": False,
        "domain": [edges[0], edges[-1]],
    }
    x = _x(x_title, edges, dates=False, scale=x_scale)
    if log:
        x["axis"]["values"] = [
            digit * 10.0**power
            for power in range(math.floor(math.log10(edges[0])), math.ceil(math.log10(edges[-1])))
            for digit in (1, 2, 5)
        ]
    height = 210 + _headroom(marks)
    y_scale = {"range": [height, _headroom(marks)]}
    layer = {
        "data": {"values": values},
        "mark": {"type": "rect", "color": colour("c1"), "stroke": colour("paper"), "strokeWidth": 1},
        "encoding": {
            "x": x,
            "x2": {"field": "x2"},
            "y": {
                "field": "y",
                "type": "quantitative",
                "scale": y_scale,
                "axis": _y_axis(y_title, percent=False),
            },
            "y2": {"datum": 0},
        },
    }
    return _chart(title, [layer, *_marks(marks, edges, dates=False, height=height)], height=height)


def spans(title: str, rows: Sequence[Span]) -> Chart:
    """What lasted from when to when, one line for each row name: which version answered, which alert was open."""
    edges = [edge for row in rows for edge in (row.start, row.end)]
    # Seven pixels a letter, in about 0.8 of the width: a longer label would run into the next span.
    letters = 0.8 * WIDTH / 7 / max(1, max(edges) - min(edges))
    values = [
        {
            "row": row.row,
            "x": _place(row.start, dates=True),
            "x2": _place(row.end, dates=True),
            "text": row.label if len(row.label) < letters * (row.end - row.start) else "",
        }
        for row in rows
    ]
    bar = {"type": "bar", "color": colour("c1"), "fillOpacity": 0.2, "stroke": colour("c1"), "strokeWidth": 1}
    text = {"type": "text", "align": "left", "dx": 5, "color": colour("ink")}
    place = {
        "x": _x("", edges, dates=True, scale={"nice": False}),
        "y": _rows("row", [row.row for row in rows]),
    }
    layers = [
        {"data": {"values": values}, "mark": bar, "encoding": {**place, "x2": {"field": "x2"}}},
        {"data": {"values": values}, "mark": text, "encoding": {**place, "text": {"field": "text"}}},
    ]
    return _chart(title, layers, height=34 * len({row.row for row in rows}))


def spark(counts: Sequence[float], *, gaps: bool = False) -> Markup:
    """A histogram the size of a word, for the cell of a table; `gaps` sets categories apart."""
    most, width = max(counts, default=0) or 1, 4.0
    rects = "".join(
        f'<rect x="{place * width:g}" y="{20 - 20 * count / most:.1f}" width="{width - gaps:g}" height="{20 * count / most:.1f}"/>'
        for place, count in enumerate(counts)
    )
    return Markup(
        f'<svg class="spark" viewBox="0 0 96 20" fill="{colour("c1")}" aria-hidden="true">{rects}</svg>'
    )


def colour(name: str) -> str:
    """A colour of the page's theme, with the light theme's value where there is no page."""
    return f"var(--{name}, {COLOURS[name]})"


def _bar(row: Bar, form: str) -> Json:
    high = row.value if row.high is None else row.high
    low = row.value if row.low is None else row.low
    text = f"{row.value:,{form}}" if math.isfinite(row.value) else "unknown"
    return {
        **{"label": row.label, "s": row.series, "text": text, "x": _finite(row.value) or 0.0},
        **{"low": _finite(low), "high": _finite(high), "end": max(0.0, _finite(high) or 0.0)},
    }


def _x(title: str, x: Sequence[float], dates: bool, *, scale: Json) -> Json:
    axis: Json = {"grid": False, "labelOverlap": True, "tickCount": 8}
    if dates and max(x) - min(x) > 60 * DAY:
        axis["tickCount"] = {"interval": "month", "step": 1 + int((max(x) - min(x)) // (360 * DAY))}
    kind = (
        {"type": "temporal", "scale": {"type": "utc", **scale}}
        if dates
        else {"type": "quantitative", "scale": scale}
    )
    return {"field": "x", "title": title or None, "axis": axis, **kind}


def _y_axis(title: str, percent: bool) -> Json:
    """Its title stands above it and reads like a sentence."""
    axis: Json = {"title": title, "titleAngle": 0, "titleAlign": "left", "titleAnchor": "end", "titleX": 0}
    axis |= {"titleY": -12, "titleBaseline": "bottom", "domain": False, "ticks": False, "tickCount": 5}
    return axis | ({"format": "~%"} if percent else {})


def _rows(field: str, labels: Sequence[str]) -> Json:
    axis = {"domain": False, "ticks": False, "labelPadding": 8, "labelColor": colour("ink")}
    scale = {"paddingInner": 0.25, "paddingOuter": 0.15}
    order = list(dict.fromkeys(labels))
    return {"field": field, "type": "nominal", "sort": order, "title": None, "axis": axis, "scale": scale}


def _colour(names: Sequence[str], legend: Json | None = None) -> Json:
    scale = {"domain": list(names), "range": _cycle([colour(name) for name in SERIES], len(names))}
    return {
        "field": "s",
        "type": "nominal",
        "scale": scale,
        "legend": (legend or {}) if len(names) > 1 else None,
    }


def _cycle(values: Sequence[Any], count: int) -> list[Any]:
    return [values[place % len(values)] for place in range(count)]


def _headroom(marks: Sequence[Mark]) -> int:
    """Pixels above the data in which the labels of marks stand, neighbours on different heights."""
    return 15 * min(3, len(marks))


def _marks(marks: Sequence[Mark], x: Sequence[float], dates: bool, *, height: int) -> list[Json]:
    """A thin rule for each mark, its label beside it on the roomier side.

    A rule begins at its own label, and of two neighbours the one whose label runs over the other's place has
    it higher, so that no rule strikes a label through.
    """
    middle = (min(x) + max(x)) / 2
    layers: list[Json] = []
    for place, (at, label) in enumerate(sorted(marks)):
        late = at > middle
        top = 15 * ((len(marks) - 1 - place if late else place) % 3)
        position = {"field": "x", "type": "temporal" if dates else "quantitative"}
        data = {"values": [{"x": _place(at, dates), "text": label}]}
        rule = {"type": "rule", "color": colour("ink"), "strokeDash": [3, 3], "strokeWidth": 1}
        text = {"type": "text", "align": "right" if late else "left", "dx": -5 if late else 5}
        down = {"y": {"value": top}, "y2": {"value": height}}
        beside = {"y": {"value": top + 6}, "text": {"field": "text"}}
        layers += [
            {"data": data, "mark": rule, "encoding": {"x": position, **down}},
            {"data": data, "mark": {**text, "color": colour("soft")}, "encoding": {"x": position, **beside}},
        ]
    return layers


def _place(at: float, dates: bool) -> float:
    return at / 1_000 if dates else at  # Vega counts milliseconds


def _finite(value: float | None) -> float | None:
    return float(value) if value is not None and math.isfinite(value) else None


def _chart(title: str, layers: Sequence[Json], *, height: int) -> Chart:
    spec = {"width": WIDTH, "height": height, "layer": list(layers), "config": _config()}
    # All charts are equally wide with their labels, so that a letter is equally large in each.
    spec["autosize"] = {"type": "fit-x", "contains": "padding"}
    # Loaded where it is used: a server that draws nothing starts without it.
    import vl_convert

    svg = vl_convert.vegalite_to_svg(spec, vl_version="6.4", allowed_base_urls=[])
    return Chart(title, svg.replace("<svg ", f'<svg role="img" aria-label="{escape(title)}" ', 1))


def _config() -> Json:
    soft, line = colour("soft"), colour("line")
    axis = {"labelFontSize": 12, "titleFontSize": 12, "titleFontWeight": "normal", "titleColor": soft}
    axis |= {"labelColor": soft, "gridColor": line, "domainColor": line, "tickColor": line, "labelLimit": 280}
    legend = {
        "orient": "top",
        "title": None,
        "labelFontSize": 12,
        "labelColor": colour("ink"),
        "labelLimit": 300,
    }
    return {
        "aria": False,
        "background": None,
        "font": FONT,
        "padding": {
            "left": 4,
            "top": 4,
            "right": 24,
            "bottom": 4,
        },  # half of the last label stands over the axis
        "view": {"stroke": None},
        "axis": axis,
        "legend": {**legend, "offset": 10},
        "text": {"fontSize": 12},
    }
