from __future__ import annotations

import re
from html.parser import HTMLParser
from importlib.resources import files

import pytest

from icekeel.console import Callout, Moment, Report, Section, Table, Tile, Tiles, Timeline, render
from icekeel.console.charts import COLOURS
from icekeel.core.time import parse_time

from . import samples

HOSTILE = "</title></style><script>alert(1)</script><img src=x onerror=alert(1)>\"'{{ 7*7 }}"


class Reader(HTMLParser):
    """The elements of a page with their attributes, and its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def body(*blocks: object) -> str:
    html = render(Report("t", "", [Section("h", "", blocks)]))  # type: ignore[arg-type]  # all kinds of blocks
    return html[html.index("<main>") :]


def test_a_report_is_one_file_that_fetches_and_runs_nothing() -> None:
    html = render(samples.report())
    page = Reader(html)
    assert len(html) < 1_500_000
    assert {"script", "iframe", "object", "embed", "img"} & set(page.tags) == set()
    addresses = {value for name, value in page.attributes if name in ("src", "href", "xlink:href", "action")}
    assert addresses == {"data:,", *(f"#section-{number}" for number in range(1, 5))}
    assert not re.search(r"@import|url\(", html)
    assert [name for name, _ in page.attributes if name.startswith("on")] == []
    assert ("content", "default-src 'none'; style-src 'unsafe-inline'; img-src data:") in page.attributes


def test_a_report_is_the_same_each_time() -> None:
    assert render(samples.report()) == render(samples.report())


def test_every_text_is_escaped_wherever_it_stands() -> None:
    plain, page = (Reader(render(samples.hostile(text))) for text in ("plain", HOSTILE))
    # The hostile text adds and ends no element: the page has those of one with a harmless text.
    skeleton = [tag for tag in plain.tags if tag not in ("path", "g", "text", "line")]
    assert [tag for tag in page.tags if tag not in ("path", "g", "text", "line")] == skeleton
    assert {name for name, _ in page.attributes} == {name for name, _ in plain.attributes}
    assert sum("{{ 7*7 }}" in text for text in page.text) > 10


def test_paragraphs_are_parted_by_empty_lines() -> None:
    html = render(Report("t", "one\ntwo\n\n  three\n", []))
    assert re.findall(r'<p class="lead">(.*?)</p>', html, flags=re.S) == ["one\ntwo", "three"]


def test_columns_of_numbers_stand_to_the_right() -> None:
    rows = [
        ("a-1", 1_234_567, 0.43312, "12.5 %", "2013-03-01", None),
        ("7", -3, 12_345.6, "-41 us", "2013-04-01", float("nan")),
    ]
    table = Table(("name", "count", "loss", "cost", "day", "none"), rows, strong=[1])
    assert table.texts == [
        ["a-1", "1,234,567", "0.4331", "12.5 %", "2013-03-01", "–"],
        ["7", "-3", "12,346", "-41 us", "2013-04-01", "–"],
    ]
    assert table.numeric == [False, True, True, True, False, True]
    html = body(table)
    assert html.count('<td class="number">') == 8
    assert re.search(r'<tr class="strong"><td[^>]*>7<', html)


def test_a_table_without_rows_shows_its_headers_and_a_ragged_one_is_refused() -> None:
    assert "<th" in body(Table(("a", "b"), []))
    with pytest.raises(ValueError, match="zip"):
        body(Table(("a", "b"), [("1",)]))


def test_each_block_shows_what_it_holds() -> None:
    html = body(
        Tiles([Tile("Cost", "-18.5 %", "against before", "good")]),
        Callout("Beware", "first\n\nsecond", "warn"),
        Timeline([Moment(parse_time("2013-04-09T06:30"), "start_shadow", "late-2", "why", "bad")]),
    )
    assert re.search(
        r"<dt>Cost</dt><dd class=\"value good\">-18.5 %</dd><dd class=\"note\">against before</dd>", html
    )
    assert '<div class="callout warn">' in html
    assert "<p>first</p>\n<p>second</p>" in html
    assert '<time>2013-04-09 06:30</time><span class="label bad">start shadow</span>' in html


def themes() -> dict[str, dict[str, str]]:
    style = files("icekeel.console").joinpath("templates/style.css").read_text()
    light, dark = re.findall(r":root \{(.*?)\}", style, flags=re.S)
    return {
        name: dict(re.findall(r"--(\w+): (#\w{6});", text))
        for name, text in (("light", light), ("dark", dark))
    }


def luminance(colour: str) -> float:
    """Relative luminance (WCAG 2.2)."""
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_letters_and_lines_have_enough_contrast(theme: str) -> None:
    """WCAG 2.2: 4.5 for text (1.4.3); lines of charts, for which 3 would do, are held to the same."""
    colours = themes()[theme]
    for name in set(colours) - {"paper", "panel", "line"}:
        for ground in ("paper", "panel"):
            low, high = sorted((luminance(colours[name]), luminance(colours[ground])))
            assert (high + 0.05) / (low + 0.05) >= 4.5, (name, ground)


def test_charts_fall_back_on_the_light_theme() -> None:
    assert {name: themes()["light"][name] for name in COLOURS} == COLOURS
    assert themes()["dark"].keys() == themes()["light"].keys()
