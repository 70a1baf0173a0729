"""A learning platform whose plays are mostly accidents: which definition of a play predicts what comes next."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from icekeel.app import App
from icekeel.core.time import DAY, HOUR, MINUTE, parse_time
from icekeel.define.expressions import Num, expression
from icekeel.define.nodes import EventField
from icekeel.testing.small import write_rows
from icekeel.training.audits import Finding

START, DAYS = parse_time("2025-01-01"), 40
NOW = START + DAYS * DAY
TOPICS = ("art", "chess", "law", "music", "sql", "yoga")

PROJECT = '''"""Will a learner who is offered a course enrol, and play it?"""

import icekeel as ik


class Offer(ik.Request):
    offer_id: ik.Id
    learner: ik.Id
    topic: ik.Cat


class Plays(ik.Events, time="played_at", id="play_id", source="plays.csv"):
    play_id: ik.Id
    offer_id: ik.Id
    learner: ik.Id
    topic: ik.Cat
    minutes: ik.Num = ik.at_least(0)


class Enrolments(ik.Events, time="enrolled_at", id="offer_id", source="enrolments.csv"):
    offer_id: ik.Id
    enrolled: ik.Flag


mine = Plays.where(learner=Offer.learner, topic=Offer.topic)


class Features(ik.Features):
    topic = Offer.topic
    plays_30d = mine.last("30d").count()
    share_30d = plays_30d / Plays.where(learner=Offer.learner).last("30d").count()


common = dict(
    history=ik.table_of(Offer, "offers.csv", asked_at="offered_at"), error="log_loss",
    choose=ik.Simplest(within=ik.usd_per_year(1_000, error_point=5_000)),
    audits=ik.Audits(meaningful=(Plays.minutes >= 2, Plays.minutes >= 25)),
)
enrol = ik.Model(
    "enrol", Offer, Features,
    target=Enrolments.where(offer_id=Offer.offer_id).within("1d").enrolled.latest(absent=ik.UNKNOWN), **common,
)
play = ik.Model(
    "play", Offer, Features, target=Plays.where(offer_id=Offer.offer_id).within("1d").count() > 0, **common,
)
'''


def rows_of_a_platform() -> dict[str, list[dict[str, object]]]:
    """150 learners, each fond of one topic and offered 1.5 courses a day; two plays in three are accidents of seconds."""
    rng = np.random.default_rng(11)
    found: dict[str, list[dict[str, object]]] = {"plays": [], "enrolments": [], "offers": []}
    fond = rng.integers(len(TOPICS), size=150)
    for number, at in enumerate(np.sort(rng.integers(START, NOW - 2 * DAY, 9_000)).tolist()):
        learner, topic = int(rng.integers(150)), int(rng.integers(len(TOPICS)))
        likes = rng.random() < (0.8 if fond[learner] == topic else 0.15)
        accident = rng.random() < 0.4
        offer: dict[str, object] = {
            "offer_id": f"o{number}",
            "learner": f"l{learner}",
            "topic": TOPICS[topic],
        }
        found["offers"].append(offer | {"offered_at": at})
        found["enrolments"].append({"offer_id": f"o{number}", "enrolled": likes, "enrolled_at": at + HOUR})
        for meant in [True] * likes + [False] * accident:
            minutes = rng.uniform(4, 40) if meant else rng.uniform(0, 0.3)
            play = {"play_id": f"p{number}{meant}", "minutes": round(float(minutes), 2)}
            found["plays"].append(offer | play | {"played_at": at + int(rng.integers(MINUTE, 2 * HOUR))})
    return found


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> App:
    folder: Path = tmp_path_factory.mktemp("platform")
    (folder / "project.py").write_text(PROJECT, encoding="utf-8")
    for name, rows in rows_of_a_platform().items():
        write_rows(folder / f"{name}.csv", rows)
    app = App(folder, clock=lambda: NOW)
    app.ingest([])
    return app


def audit(app: App, model: str) -> Finding:
    registry = app.registry()
    (finding,) = app.workshop(registry).audit(model, ["interactions"], NOW, lambda line: None)
    registry.close()
    return finding


def test_windows_of_meaningful_events_predict_better(app: App) -> None:
    finding = audit(app, "enrol")
    assert finding.verdict == "warn" and "Plays.minutes >= 2, the other events weak" in finding.what
    tried = {(one["meaningful"], one["noise"]): one["gains"] for one in finding.evidence["tried"]}
    assert list(tried) == [
        (meaningful, noise)
        for meaningful in ("Plays.minutes >= 2", "Plays.minutes >= 25")
        for noise in ("dropped", "weak")
    ]
    two, most = tried["Plays.minutes >= 2", "dropped"], tried["Plays.minutes >= 25", "dropped"]
    assert two["all events"]["low"] > most["all events"]["gain"] > 0, "to drop meant plays too is a loss"
    gain = tried["Plays.minutes >= 2", "weak"]["all events"]["gain"]
    assert finding.cost == pytest.approx(gain / 0.01 * 5_000)


def test_an_outcome_of_the_same_events_is_judged_by_both_truths(app: App) -> None:
    finding = audit(app, "play")
    tried = {(one["meaningful"], one["noise"]): one["gains"] for one in finding.evidence["tried"]}
    assert {noise for _, noise in tried} == {"dropped", "negative", "weak"}
    for noise in ("dropped", "negative", "weak"):
        gains = tried["Plays.minutes >= 2", noise]
        assert list(gains) == ["all events", "Plays.minutes >= 2"]
        assert gains["Plays.minutes >= 2"]["low"] > 0, "accidents of before do not tell who will mean it"
    assert finding.verdict == "warn" and finding.evidence["recommended"]["meaningful"] == "Plays.minutes >= 2"
    assert "pairs" in finding.what and finding.cost is None


def test_a_definition_that_all_events_meet_is_no_better(app: App) -> None:
    app.model("enrol").audits = replace(app.model("enrol").audits, meaningful=(app_plays(app) >= 0,))
    finding = audit(app, "enrol")
    assert finding.verdict == "pass" and finding.evidence["recommended"] is None


def test_a_definition_that_no_event_meets_leaves_nothing_to_learn(app: App) -> None:
    app.model("play").audits = replace(app.model("play").audits, meaningful=(app_plays(app) >= 500,))
    finding = audit(app, "play")
    assert finding.verdict == "pass"
    assert [one["noise"] for one in finding.evidence["tried"]] == ["weak"]


def app_plays(app: App) -> Num:
    field = app.project.tables["Plays"].fields["minutes"]
    minutes: Num = expression(EventField("Plays", field.name, field.kind))
    return minutes
