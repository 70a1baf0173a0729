from __future__ import annotations

from pathlib import Path

import pytest

from icekeel.app import App
from icekeel.core.time import DAY
from icekeel.examples.flights.demo import MODEL, START, run
from icekeel.experiments import PairedDays
from icekeel.journal import Predicted, scan
from icekeel.operations.trials.desk import TrialDesk
from icekeel.registry import CHAMPION, SHADOW, trials
from icekeel.settings import Settings

END = START + 9 * DAY


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    folder, said = tmp_path_factory.mktemp("flights"), list[str]()
    run(folder, fresh=False, say=said.append, end=END)
    return folder, said


def test_every_question_is_answered_and_every_served_feature_is_what_history_says(
    demo: tuple[Path, list[str]],
) -> None:
    lead = next(line for line in demo[1] if line.startswith("One question"))
    assert "0 requests failed, and 0 of" in lead
    answers = list(scan(demo[0] / ".icekeel" / "journal", kinds=Predicted))
    assert len({answer.id for answer in answers}) == len(answers) > 3_000
    assert f"asked {len(answers):,} times" in lead


def test_the_challenger_answers_in_shadow_on_the_first_champions_questions(
    demo: tuple[Path, list[str]],
) -> None:
    app = App(demo[0], Settings())
    registry = app.registry()
    (trial,) = trials(registry.history(MODEL), SHADOW)
    assert (trial.champion, trial.version, trial.since) == ("late-1", "late-2", START)
    answers = list(scan(demo[0] / ".icekeel" / "journal", kinds=Predicted))
    assert {(answer.arm, answer.version) for answer in answers} == {(CHAMPION, "late-1")}
    with app.online(readonly=True) as online:
        desk = TrialDesk(app.workspace, registry, online, END)
        found = desk.standing(app.model(MODEL), trial)
    assert isinstance(found.state.primary, PairedDays)
    assert sum(pairs for pairs, _, _ in found.state.primary.days.values()) > 0.8 * len(answers)
    registry.close()


def test_landings_without_a_time_zone_stand_in_quarantine(demo: tuple[Path, list[str]]) -> None:
    manifest = App(demo[0], Settings()).history().manifest()
    assert manifest.rows("quarantine/Arrivals") > 1_257  # those of January and February, and more since
    assert manifest.rows("quarantine/Weather") == 1


def test_a_second_run_has_nothing_to_do(demo: tuple[Path, list[str]]) -> None:
    said: list[str] = []
    report = run(demo[0], fresh=False, say=said.append, end=END)
    assert "nothing has changed since the last run" in said[-1]
    assert report.stat().st_size > 50_000
