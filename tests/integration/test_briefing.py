"""The page about a model, its card, and the five questions, of a project that was served for two days."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from icekeel.app import App
from icekeel.console.briefing import RUNGS, briefing_page, model_card, text_of
from icekeel.console.report import render
from icekeel.core.errors import RegistryError
from icekeel.core.time import DAY, parse_time
from icekeel.operations.accounts.briefing import FEWEST, Briefing
from icekeel.operations.accounts.readiness import TWO_MINUTES, Answered
from icekeel.registry import CHAMPION
from icekeel.testing.small import PROJECT, TRAINED_TO, train_small, write_small_project
from icekeel.training.catalog import UPKEEP
from icekeel.training.mistakes import Choices
from icekeel.training.worth import dollars

from .commands import icekeel
from .shipping import SETTINGS, played_project

PLACED = "project.py"
NOW = TRAINED_TO + 7 * DAY


def open_app(folder: Path) -> App:
    """Three days after the last answer."""
    return App(folder, SETTINGS, clock=lambda: NOW)


@pytest.fixture(scope="module")
def made() -> Iterator[Path]:
    """Two versions, four days of answers with their outcomes."""
    with played_project(4) as folder:
        yield folder


@pytest.fixture(scope="module")
def about(made: Path) -> Briefing:
    return open_app(made).briefing("late")


def by_question(found: list[Answered]) -> dict[str, Answered]:
    return {one.question.split()[-1]: one for one in found}


def test_the_figures_are_those_of_the_registry(about: Briefing) -> None:
    assert isinstance(about.wrong, Choices)
    page = text_of(briefing_page(about))
    assert about.version.name in page
    assert f"Of {about.wrong.rows:,} later cases {about.wrong.rate:.0%} came true." in page
    steps = {step["rung"]: step["error"] for step in about.version.ladder["steps"]}
    for rival in about.rivals:
        more = (
            (steps[rival.name] - steps[about.version.rung]) * 100 * about.definition.choose.within.error_point
        )
        assert rival.usd_per_year == pytest.approx(more)
    assert [rival.name for rival in about.rivals if rival.simpler] == ["group"]
    assert RUNGS.keys() == UPKEEP.keys()


def test_it_tells_how_the_model_did_in_life(about: Briefing) -> None:
    assert about.life.answers >= FEWEST
    assert isinstance(about.life.wrong, Choices)
    assert f"In use since then: {about.life.answers:,} answers" in text_of(briefing_page(about))


def test_the_example_is_ordinary_and_its_cases_came_before_it(about: Briefing) -> None:
    example = about.example
    assert example is not None
    assert example.outcome in (0.0, 1.0)
    assert len(about.cases) == 10
    assert all(case.asked_at < parse_time(example.asked_at) for case in about.cases)
    assert list(about.cases) == sorted(about.cases, key=lambda case: case.distance)
    assert example.id not in {case.id for case in about.cases}
    came = sum(case.outcome > 0.5 for case in about.cases)
    said = f"The 10 cases before it that are most like it: {came or 'none'} came true."
    assert said in text_of(briefing_page(about))


def test_the_page_is_read_in_two_minutes_and_is_one_file(about: Briefing) -> None:
    page = briefing_page(about)
    assert 100 < len(text_of(page).split()) <= TWO_MINUTES
    html = render(page)
    assert about.definition.error not in html
    assert "times as wrong" not in html
    assert 'class="sheet"' in html
    assert "<script" not in html


def test_texts_of_the_project_are_escaped(tmp_path: Path) -> None:
    hostile = "</title><script>alert(1)</script>"
    write_small_project(tmp_path, PROJECT.replace("baseline=Plain,", f'baseline=Plain, about="{hostile}",'))
    train_small(tmp_path)
    about = open_app(tmp_path).briefing("late-1")
    for report in (briefing_page(about), model_card(about)):
        html = render(report)
        assert "<script" not in html
        assert "&lt;script&gt;" in html


def test_the_card_has_what_those_who_work_with_it_need(about: Briefing) -> None:
    html = render(model_card(about))
    for part in (about.version.digest[:16], about.version.snapshot[:16], *about.kinds):
        assert part in html
    for gate in about.version.gates:
        assert str(gate["why"]) in html.replace("&gt;", ">").replace("&lt;", "<").replace("&#39;", "'")


def test_an_override_is_told_for_ever(folder: Path) -> None:
    app = open_app(folder)
    registry = app.registry()
    version = registry.champion("late")
    gates = [{**gate, "passed": False} for gate in version.gates]
    bad = registry.register(
        "late", "f" * 64, snapshot="s", code="c", features="f", metrics={}, gates=gates, ladder={},
        trained_from=0, trained_to=0, reason="test",
    )  # fmt: skip
    registry.set_alias("late", CHAMPION, bad.name, reason="r", by="test", override="the board wanted it")
    registry.set_alias("late", CHAMPION, version.name, reason="r", by="test")
    registry.close()
    assert open_app(folder).briefing(version.name).dossier.overrides == []
    (change,) = [one for one in app.registry().history("late") if one.override]
    assert change.override == "the board wanted it"


def test_five_questions_are_answered_with_evidence(made: Path, about: Briefing) -> None:
    found = by_question(open_app(made).readiness(about, words=300))
    assert len(found) == 5
    assert all(one.points for one in found.values())
    kept = found["right?"]
    assert any("no tests" in point.what and not point.holds for point in kept.points)
    assert kept.verdict == "partly"
    simple = found["enough?"]
    assert simple.verdict == (
        "yes" if about.version.metrics["ladder_winner"] == about.version.rung else "partly"
    )


def test_a_page_that_takes_longer_is_too_complex(made: Path, about: Briefing) -> None:
    found = by_question(open_app(made).readiness(about, words=TWO_MINUTES + 1))
    assert any(
        f"{TWO_MINUTES + 1} words" in point.what and not point.holds for point in found["enough?"].points
    )


def test_tests_of_the_project_are_run(folder: Path) -> None:
    path = folder / PLACED
    path.write_text(path.read_text() + "\n\ndef test_it() -> None:\n    assert False\n")
    app = open_app(folder)
    kept = by_question(app.readiness(app.briefing("late"), words=1))["right?"]
    assert kept.verdict == "no"
    assert any("do not pass" in point.what for point in kept.points)


def test_a_changed_feature_is_a_no(folder: Path) -> None:
    path = folder / PLACED
    path.write_text(path.read_text().replace("weight = Parcel.weight", "weight = Parcel.weight * 2"))
    app = open_app(folder)
    kept = by_question(app.readiness(app.briefing("late"), words=1))["right?"]
    assert any("features changed since: weight" in point.what and not point.holds for point in kept.points)


def test_the_commands_write_pages_and_answer_in_json(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "pages"
    said = icekeel(folder, "explain", "late", "--out", str(out))
    assert Path(said["page"]).read_text().startswith("<!doctype html>")
    assert Path(said["card"]).parent == out
    assert said["model"] == "late"
    ready = icekeel(folder, "ready", "late", status=1)  # the keeper is at work no more
    assert {one["verdict"] for one in ready} <= {"yes", "partly", "no"}


def test_a_model_that_nothing_serves_is_told(tmp_path: Path) -> None:
    write_small_project(tmp_path)
    with pytest.raises(RegistryError) as raised:
        open_app(tmp_path).briefing("late")
    assert raised.value.faults[0].code == "no_champion"


def test_a_whole_ladder_tells_what_features_and_the_next_rung_are_worth(tmp_path: Path) -> None:
    write_small_project(tmp_path)
    train_small(tmp_path, rung="")
    app = open_app(tmp_path)
    about = app.briefing("late-1")
    worth = about.version.metrics["worth"]
    assert about.features is not None
    plain = dollars(about.features.features.gain * 1_000_000)
    page = text_of(briefing_page(about))
    assert f"The same kind on plain features would cost {plain} a year more" in page
    earned = {one["rung"]: one["earns"] for one in [worth["next"]] if one}
    for rival in about.rivals:
        if rival.name in earned:
            assert rival.usd_per_year == pytest.approx(-earned[rival.name])
    work = by_question(app.readiness(about, words=1))["work?"]
    assert any("on the features of Plain has an error of" in one.what and one.holds for one in work.points)
    train_small(tmp_path)  # as a scheduled retrain does
    assert open_app(tmp_path).briefing("late-2").features == about.features
