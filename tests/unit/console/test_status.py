from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from icekeel.console import status_page
from icekeel.core.time import DAY, MINUTE
from icekeel.registry import Alert, Registry

from . import samples
from .test_report import Reader

LOCKS = Path("none")


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    opened = Registry(tmp_path / "registry.db", clock=lambda: samples.MARCH)
    yield opened
    opened.close()


def cells(html: str, first: str) -> list[str]:
    """The cells of the first row that begins with a text."""
    rows = [re.findall(r"<td[^>]*>(.*?)</td>", row) for row in re.findall(r"<tr[^>]*>(.*?)</tr>", html)]
    return next(row for row in rows if row and row[0] == first)


def test_the_page_renews_itself_without_a_script(registry: Registry) -> None:
    page = Reader(status_page(samples.fill(registry), registry, LOCKS))
    assert ("http-equiv", "refresh") in page.attributes
    assert "script" not in page.tags


def test_models_with_their_roles_the_champion_first(registry: Registry) -> None:
    html = status_page(samples.fill(registry), registry, LOCKS)
    champion = ["late", "champion", "late-2", "Features", "lightgbm", "80%", "2013-04-10 00:00", "serves it"]
    assert cells(html, "late") == champion
    assert html.index(">champion<") < html.index(">challenger<") < html.index(">shadow<")
    assert html.index("late-3 has a damaged file") < html.index(">champion<")
    assert ">serves none<" in html


def test_open_alerts_say_the_first_thing_to_do(registry: Registry) -> None:
    html = status_page(samples.fill(registry), registry, LOCKS)
    assert "First thing to do: Look at the newest rows" in html
    assert "Departures: 9 features and the predictions moved" in html
    assert "closed one" not in html


def test_the_latest_twenty_decisions_newest_first(registry: Registry) -> None:
    html = status_page(samples.fill(registry), registry, LOCKS)
    shown = [int(number) for number in re.findall(r"every month \((\d+)\)</p></div></li>", html)]
    assert shown == list(range(23, 3, -1))


def test_the_latest_runs_with_what_they_did(registry: Registry) -> None:
    status = samples.fill(registry)
    run = registry.start_run("ingest", details={"of": "Arrivals"}, at=samples.MARCH)
    registry.finish_run(run, "failed", details={"of": "Arrivals", "output": "a\ncannot read x.csv"})
    html = status_page(status, registry, LOCKS)
    shown = ["ingest", "Arrivals", "2013-03-01 00:00", "failed", "cannot read x.csv"]
    assert cells(html, "ingest") == shown


def test_versions_with_the_gates_that_failed(registry: Registry) -> None:
    html = status_page(samples.fill(registry), registry, LOCKS)
    assert cells(html, "late-5")[-1] == "all 3 passed"
    assert cells(html, "late-4")[-1].startswith("no worse than champion failed: log loss 0.471 against 0.433")


def test_an_override_is_shown_while_it_serves_and_for_ever_after(registry: Registry) -> None:
    status = samples.fill(registry)
    why: dict[str, Any] = {"reason": "r", "by": "ann", "at": samples.MARCH}
    registry.set_alias("late", "champion", "late-4", override="a holiday <b>", **why)
    html = status_page(status, registry, LOCKS)
    said = "Overridden by ann, 2013-03-01 00:00: a holiday &lt;b&gt;"
    assert "late-4 is champion of late although gates had failed" in html
    assert html.count(said) == 2
    registry.set_alias("late", "champion", "late-2", **why)
    for number in range(6, 40):
        registry.register(
            "late", f"{number:064x}", snapshot="s", code="c", features="F", metrics={}, gates=[], ladder={}, trained_from=0,
            trained_to=1, reason="r", at=samples.MARCH + number * 30 * DAY,
        )  # fmt: skip
    html = status_page(status, registry, LOCKS)
    assert "although gates had failed" not in html
    assert cells(html, "late-4")[-1].endswith(said)


@pytest.mark.parametrize(
    ("behind", "shown"), [(3 * 60, "3 h behind"), (5, "5 min behind"), (0, "0 s behind"), (-9, "0 s behind")]
)
def test_how_far_the_keeper_is_behind(registry: Registry, behind: int, shown: str) -> None:
    status = samples.fill(registry)
    status["keeper"] = {"now": status["now"] - behind * MINUTE}
    assert f">{shown}<" in status_page(status, registry, LOCKS)


def test_where_times_cannot_be_compared_the_keeper_s_own_is_shown(registry: Registry) -> None:
    html = status_page({**samples.fill(registry), "now": None}, registry, LOCKS)
    assert ">2013-08-27<" in html
    assert " behind<" not in html


@pytest.mark.parametrize(
    ("champion", "problems", "alerts", "headline"),
    [
        ("late-1", 0, 0, "All is well"),
        ("late-1", 0, 2, "2 open alerts"),
        ("late-1", 1, 2, "1 problem"),
        (None, 1, 2, "No version serves late"),
    ],
)
def test_the_headline_says_the_worst(
    registry: Registry, champion: str | None, problems: int, alerts: int, headline: str
) -> None:
    for number in range(alerts):
        registry.record(Alert(id=str(number), at=1, model="late", cause="c", todo="t"))
    status = {"models": {"late": {"champion": champion}}, "problems": ["p"] * problems}
    assert f"<title>{headline} · Icekeel</title>" in status_page(status, registry, LOCKS)


def test_an_empty_registry_and_a_bare_status_make_a_page(registry: Registry) -> None:
    html = status_page({}, registry, LOCKS)
    assert "None yet." in html
    assert "not begun" in html


def test_what_was_recorded_is_shown_as_text(registry: Registry) -> None:
    page = Reader(status_page(samples.fill(registry, "<script>alert(1)</script>"), registry, LOCKS))
    assert "script" not in page.tags
    assert any("<script>" in text for text in page.text)
