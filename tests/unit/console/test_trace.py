"""The page of one answer."""

from __future__ import annotations

import re
from dataclasses import replace
from html import escape

import msgspec

from icekeel.console import trace_page

from . import samples

HEADINGS = (
    *("Answer", "Version price-3", "What became of the version", "Where it comes from", "Features"),
    *("Events behind them", "Guard", "Outcome", "What the audit finds"),
)


def test_it_leads_from_the_answer_to_the_audit() -> None:
    html = trace_page(samples.trace())
    assert tuple(re.findall(r"<h2>(.*?)</h2>", html)) == HEADINGS
    for text in (
        "unseen_value:ink",
        "never seen",
        "o7",
        "too large",
        "deleted",
        "price=12, note=x",
        "1 differ",
        "a note",
    ):
        assert escape(text) in html, text
    assert "computed but not read by this version: spent" in html
    long = msgspec.structs.replace(samples.trace().answer, answer=27.29988791, low=1234.5678, high=None)
    assert "answered 27.3, between 1,235 and –" in trace_page(replace(samples.trace(), answer=long))


def test_an_override_is_told_whatever_gave_the_version_its_role() -> None:
    version = samples.trace().version
    assert version is not None
    later = replace(version, serving=replace(version.steps[0], override=""))
    page = trace_page(replace(samples.trace(), version=later))
    assert "OVERRIDE: made champion by ann on 2025-03-01T00:00:00Z although gates had failed: tried" in page


def test_what_a_caller_sent_is_text_wherever_it_stands() -> None:
    hostile = "<script>alert(1)</script>"
    html = trace_page(samples.trace(hostile))
    assert hostile not in html
    assert html.count(escape(hostile)) >= 8


def test_what_is_not_known_is_left_out_and_nothing_else() -> None:
    whole = samples.trace()
    bare = replace(
        whole,
        version=None,
        outcome=None,
        notes=[],
        features=[replace(one, windows=[]) for one in whole.features],
    )
    html = trace_page(bare)
    left = [
        name
        for name in HEADINGS
        if name in ("Answer", "Features", "Events behind them", "Guard", "What the audit finds")
    ]
    assert re.findall(r"<h2>(.*?)</h2>", html) == left
    assert "no window was read" in html
