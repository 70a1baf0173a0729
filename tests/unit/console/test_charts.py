from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from xml.etree import ElementTree

import pytest

from icekeel.console import Chart
from icekeel.console.charts import COLOURS, SERIES, WIDTH, Bar, Span, bars, histogram, lines, spans
from icekeel.core.time import DAY, parse_time

from . import samples

HOSTILE = "</svg><script>alert(1)</script>\"' onload='x' & <b>"


def words(chart: Chart) -> list[str]:
    return [
        text.text or "" for text in ElementTree.fromstring(chart.svg).iter() if text.tag.endswith("}text")
    ]


@pytest.mark.parametrize(
    "make",
    [
        samples.errors_by_month,
        samples.late_rates,
        samples.importances,
        samples.raw_against_engineered,
        samples.latencies,
        samples.roles,
    ],
)
def test_a_chart_is_one_drawing_in_theme_colours_as_wide_as_all_others(make: Callable[[], Chart]) -> None:
    chart = make()
    root = ElementTree.fromstring(chart.svg)
    assert root.attrib["aria-label"] == chart.title
    assert abs(float(root.attrib["width"]) - WIDTH) < 20
    painted = set(re.findall(r'(?:fill|stroke)="([^"]+)"', chart.svg)) - {"none"}
    assert painted <= {f"var(--{name}, {value})" for name, value in COLOURS.items()}
    # No identifiers that could clash with those of another chart, and nothing to fetch.
    assert re.findall(r'\b(id|href|xlink:href)="|url\(', chart.svg) == []


def test_lines_show_months_in_utc_titles_and_every_series_differently() -> None:
    chart = samples.errors_by_month()
    assert {"March", "September", "living system", "never retrained", "late-5 promoted"} <= set(words(chart))
    assert {"month of departure, 2013", "log loss (nats per flight)"} <= set(words(chart))
    assert all(COLOURS[name] in chart.svg for name in SERIES[:2])
    assert 'stroke-dasharray="6,3"' in chart.svg


def test_times_are_shown_in_utc_wherever_the_chart_is_made() -> None:
    program = "from tests.unit.console import samples; print(samples.late_rates().svg)"
    environment = {**os.environ, "TZ": "Asia/Kathmandu"}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment
    )
    assert done.stdout.strip() == samples.late_rates().svg
    assert {"March", "October"} <= set(words(samples.late_rates()))


def test_values_that_are_missing_or_not_finite_break_the_line() -> None:
    x = [0.0, 1.0, 2.0, 3.0, 4.0]
    whole = lines("t", x, {"a": [1.0, 2.0, 1.0, 2.0, 1.0]}, x_title="x", y_title="y", dates=False)
    broken = lines("t", x, {"a": [1.0, 2.0, None, 2.0, 1.0]}, x_title="x", y_title="y", dates=False)
    odd = [
        lines("t", x, {"a": [1.0, 2.0, value, 2.0, 1.0]}, x_title="x", y_title="y", dates=False)
        for value in (float("nan"), float("inf"))
    ]
    pieces = [len(re.findall(r'd="(M[^"]+)" stroke="var\(--c1', chart.svg)) for chart in (whole, broken)]
    moves = [
        re.findall(r'd="(M[^"]+)" stroke="var\(--c1', chart.svg)[0].count("M") for chart in (whole, broken)
    ]
    assert (sum(pieces), moves) == (2, [1, 2])
    assert [chart.svg for chart in odd] == [broken.svg] * 2


def test_series_of_another_length_are_refused() -> None:
    with pytest.raises(ValueError, match="zip"):
        lines("t", [1.0, 2.0], {"a": [1.0]}, x_title="x", y_title="y", dates=False)


@pytest.mark.parametrize("odd", [float("nan"), float("inf")])
def test_bars_show_values_in_the_order_given(odd: float) -> None:
    rows = [Bar("unknown one", odd), Bar("b", 0.0821), Bar("a", -1234.5)]
    chart = bars("t", rows, x_title="x", digits=1)
    shown = words(chart)
    assert "NaN" not in chart.svg
    assert {"-1,000", "0"} & {word.replace("\N{MINUS SIGN}", "-") for word in shown} == {"-1,000", "0"}
    assert [word for word in shown if word in ("b", "a", "unknown one")] == ["unknown one", "b", "a"]
    assert {"0.1", "-1,234.5", "unknown"} <= set(shown)
    assert "8.2%" in words(bars("t", rows[1:2], x_title="x", digits=1, percent=True))


def test_an_interval_is_drawn_where_there_is_one() -> None:
    without = bars("t", [Bar("a", 1.0)], x_title="x").svg
    widths = [
        float(found)
        for low in (0.9, 0.5)
        for found in re.findall(
            r'x2="(-?[0-9.]+)" y2="0" stroke="var\(--ink',
            bars("t", [Bar("a", 1.0, low, 1.5)], x_title="x").svg,
        )
    ]
    assert [abs(width) for width in widths] == sorted(abs(width) for width in widths)
    assert abs(widths[-1]) > abs(widths[0]) > 0
    assert re.findall(r'x2="-?[1-9][0-9.]*" y2="0" stroke="var\(--ink', without) == []


def test_a_histogram_has_round_ticks_on_a_logarithmic_axis() -> None:
    shown = words(histogram("t", [80.0, 400.0, 3_000.0], [1, 2], x_title="us", y_title="answers", log=True))
    assert [word for word in shown if word in ("100", "200", "500", "1,000", "2,000", "300", "700")] == [
        *("100", "200", "500", "1,000", "2,000")
    ]


def test_no_rule_strikes_through_the_label_of_its_neighbour() -> None:
    marks = [(0.1, "one"), (0.11, "two"), (0.88, "three"), (0.89, "four"), (0.9, "five")]
    chart = lines("t", [0.0, 1.0], {"a": [0.0, 1.0]}, x_title="x", y_title="y", marks=marks, dates=False)
    found = re.findall(r"translate\([^,]+,([0-9.]+)\)[^>]*>(one|two|three|four|five)<", chart.svg)
    heights = {word: float(height) for height, word in found}
    # A label that runs to the right stands above the rules after it, one that runs to the left above those before.
    assert heights["one"] < heights["two"]
    assert heights["five"] < heights["four"] < heights["three"]


def test_a_span_too_short_for_its_label_goes_without() -> None:
    rows = [Span("champion", 0, 99 * DAY, "late-1"), Span("champion", 99 * DAY, 100 * DAY, "late-2")]
    assert {"late-1"} == {"late-1", "late-2"} & set(words(spans("t", rows)))
    assert {"now"} <= set(words(spans("t", [Span("a", 5, 5, ""), Span("now", 5, 6, "")])))


def test_hostile_texts_are_shown_as_texts() -> None:
    for chart in samples.hostile(HOSTILE).sections[0].blocks[:3]:
        assert isinstance(chart, Chart)
        root = ElementTree.fromstring(chart.svg)
        assert [element for element in root.iter() if element.tag.endswith("script")] == []
        assert root.attrib["aria-label"] == HOSTILE
        assert any(word.startswith("</svg><script>") for word in words(chart))


def test_the_last_label_of_the_axis_has_room_in_wide_letters() -> None:
    begin = parse_time("2013-03-01")
    days = [begin + day * DAY for day in range(220)]
    svg = lines("t", days, {"a": [0.5] * 220}, x_title="", y_title="y").svg
    (left,) = re.findall(r'<g fill="none" stroke-miterlimit="10" transform="translate\(([\d.]+),', svg)
    labels = re.findall(r'transform="translate\(([\d.]+),16\)"[^>]*>([A-Z][a-z]+)<', svg)
    place, text = max(labels, key=lambda label: float(label[0]))
    assert float(left) + float(place) + 4.2 * len(text) < WIDTH
