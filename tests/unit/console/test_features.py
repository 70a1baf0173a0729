from __future__ import annotations

import re
from dataclasses import replace
from xml.etree import ElementTree

import pytest

from icekeel.console.features import features_page
from icekeel.console.lineage import Item, lineage
from icekeel.operations.workshop.feature_report import (
    Distribution,
    FeatureFinding,
    FeatureReport,
    Stretch,
    Worth,
)

EARLIER = Stretch("2024-01-01T00:00:00Z", "2024-02-01T00:00:00Z", 1_000)
LATER = Stretch("2024-02-01T00:00:01Z", "2024-03-01T00:00:00Z", 400)
WINDOW = "Scans by depot, last 6h: last of backlog"
NUMBERS = Distribution({"p1": 1.0, "p50": 2.0, "p99": 3.0}, edges=[1.0, 2.0, 3.0], counts=[30, 10])


def worth(gain: float) -> Worth:
    return Worth(gain, gain - 0.002, gain + 0.002, 1e6 * gain)


def finding(name: str, gain: float, **more: object) -> FeatureFinding:
    known: dict[str, object] = {
        **{
            "kind": "window",
            "type": "num",
            "request": [],
            "windows": [WINDOW],
            "sources": {"Scans": ["backlog"]},
        },
        **{"built_on": [], "nulls": 0.25, "distribution": NUMBERS, "drift": 0.1, "share": gain * 10},
        **{
            "shuffled": worth(gain),
            "dropped": worth(gain / 2),
            "cost_us": None,
            "delete": False,
            "warnings": [],
        },
    }
    return FeatureFinding(name, **{**known, **more})  # type: ignore[arg-type]


@pytest.fixture
def report() -> FeatureReport:
    depot = Distribution(top={"<north>": 0.75, "south": 0.25})
    features = [
        finding("backlog", 0.09, cost_us=7.25),
        finding("depot", 0.01, distribution=depot, type="cat", kind="request", request=["depot"], windows=[]),
        finding("trend", 0.0, built_on=["backlog"], delete=True, warnings=["says the same as backlog"]),
    ]
    figures = (1, 0.9, 1, 0.005, worth(0.001), 12.0, 40.0)
    return FeatureReport("late", "lightgbm", "log_loss", 0.4, EARLIER, LATER, *figures, features)


def test_the_page_says_what_carries_what_can_go_and_what_to_look_at(report: FeatureReport) -> None:
    text = features_page(report)
    assert "1 of 3 features carry 90%; the best fifth (1) carries 90%" in text
    assert (
        "1 of 3 can go: without them together log_loss changes by +0.001 [-0.001, +0.003], costing 1,000 $"
        in text
    )
    assert "a request is read in 12 us less" in text
    assert "trend: says the same as backlog." in text
    assert "3 features from 1 windows over 1 tables" in text
    assert "+0.0450" in text
    for outside in ("http:", "https:", "<script", "url("):
        assert outside not in text.replace("http://www.w3.org/2000/svg", "").replace(
            "http://www.w3.org/1999/xlink", ""
        )


def test_values_of_the_outside_are_escaped(report: FeatureReport) -> None:
    text = features_page(report)
    assert "&lt;north&gt; 75%" in text
    assert "<north>" not in text


def test_without_an_online_store_the_cost_is_not_known(report: FeatureReport) -> None:
    figures = (1, 0.9, 1, 0.005, None, None, None)
    none = FeatureReport("late", "linear", "mae", 0.4, EARLIER, LATER, *figures, [finding("one", 0.01)])
    text = features_page(none)
    assert "none can go" in text
    assert ">n/a<" in text


def test_lineage_draws_each_step_from_the_tables_to_the_model() -> None:
    items = [
        Item("trend", [WINDOW, "Scans by depot, last 1d: mean of backlog"], False, ["backlog"], 0.2),
        Item("backlog", [WINDOW], False, [], 0.5),
        Item("size", [], True, [], 0.3),
        Item("a<b", [], True, ["size"], 0.0),
    ]
    svg = ElementTree.fromstring(lineage("Title", "request", "late", items).svg)
    texts = ["".join(node.itertext()) for node in svg.iter() if node.tag.endswith("text")]
    shown = {text[len(text) // 2 :] for text in texts}
    assert shown == {
        *("Scans", "request", "late", "trend", "backlog", "size", "a<b"),
        *("by depot, last 6h: last of backlog", "by depot, last 1d: mean of backlog"),
    }
    lines = [node for node in svg.iter() if node.tag.endswith("path")]
    # two windows, then backlog, trend on backlog and its own window, size, a<b on size, and four to the model
    assert len(lines) == 2 + 1 + 2 + 1 + 1 + 4
    places = {
        text[len(text) // 2 :]: float(node.attrib["x"])
        for text, node in zip(texts, (node for node in svg.iter() if node.tag.endswith("text")), strict=True)
    }
    assert (
        places["Scans"] < places["by depot, last 6h: last of backlog"] < places["backlog"] < places["trend"]
    )
    assert places["trend"] < places["late"]
    assert max(float(line.attrib["stroke-width"]) for line in lines) == pytest.approx(1 + 24 * 0.5)
    heights = [float(node.attrib["y"]) for node in svg.iter() if node.tag.endswith("text")]
    assert min(heights) > 0
    assert re.fullmatch(r"0 0 \d+ \d+", svg.attrib["viewBox"])


def test_what_idle_features_do_is_a_cost_or_a_saving(report: FeatureReport) -> None:
    assert report.money == "costing 1,000 $ a year"
    assert replace(report, deletion=worth(-0.002)).money == "saving 2,000 $ a year"
