from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

from icekeel.app import App
from icekeel.core.time import DAY, HOUR
from icekeel.journal import Predicted, Pushed, Value
from icekeel.settings import Settings
from icekeel.testing.small import TRAINED_TO, train_small, write_small_project
from icekeel.training.dataset import declared_questions, past_questions


def test_a_served_question_that_the_declared_file_holds_too_counts_once(tmp_path: Path) -> None:
    write_small_project(tmp_path)
    train_small(tmp_path, settings=Settings(rehearsal=True))
    app = App(tmp_path, Settings(rehearsal=True), clock=lambda: TRAINED_TO)
    model, plan = app.model("late"), app.plans["late"]
    registry = app.registry()
    declared = declared_questions(model, plan, tmp_path, app.history())
    before = past_questions(model, plan, declared, app.history(), app.history().manifest(), now=TRAINED_TO)
    names = [field.name for field in plan.fields]
    first, asked_at = {name: before.requests[name][0] for name in names}, int(before.asked_at[0])
    key = model.outcome.keyed.keys[0][1].name
    answers = [
        answer("again", {**first}, asked_at + HOUR),  # the same question, as the server saw it
        answer("later", {**first}, asked_at + 2 * DAY),  # asked again two days later
        answer("new", {**first, key: "never seen"}, asked_at + HOUR),
    ]
    with app.journal("serve") as journal:
        journal.append_many(answers)
    after = past_questions(model, plan, declared, app.history(), app.workspace.compact(), now=TRAINED_TO)
    assert len(after) == len(before) - 1 + len(answers)
    registry.close()


def answer(identifier: str, request: dict[str, object], at: int) -> Predicted:
    return Predicted(
        at=at,
        id=identifier,
        model="late",
        version="late-1",
        arm="champion",
        share=1.0,
        unit="u",
        key="k",
        request={
            name: getattr(value, "item", lambda value=value: value)() for name, value in request.items()
        },
        features={},
        prediction=0.5,
        answer=0.5,
        low=None,
        high=None,
        action="none",
        verdict="pass",
        reasons=[],
        position=1,
        degraded=[],
        cpu_us=1,
        served_at=at,
    )


def test_a_training_set_of_a_month_ago_is_rebuilt_as_it_was_known(tmp_path: Path) -> None:
    write_small_project(tmp_path)
    then = TRAINED_TO - 30 * DAY
    app = App(tmp_path, Settings(rehearsal=True), clock=lambda: TRAINED_TO)
    app.ingest([])
    registry = app.registry()
    snapshot, before = app.workshop(registry).prepare("late", then, lambda line: None)
    place = int(np.flatnonzero(before.outcomes.target == 0.0)[0])
    parcel, asked_at = str(before.requests["parcel_id"][place]), int(before.asked_at[place])
    assert before.asked_at.max() <= then
    late: dict[str, Value] = {
        "parcel_id": parcel,
        "depot": "north",
        "minutes_late": 999.0,
        "delivered_at": asked_at + HOUR,
    }
    moved: dict[str, Value] = {
        "scan_id": "north-1-3",
        "depot": "north",
        "backlog": 1e6,
        "scanned_at": then - HOUR,
        "booked_at": then,
    }
    with app.journal("serve") as journal:  # corrections that nobody knew of then
        journal.append(Pushed(at=then + HOUR, table="Deliveries", rows=[late]))
        journal.append(Pushed(at=then + HOUR, table="Scans", rows=[moved]))
    shutil.rmtree(app.places.history / "features")
    again, after = app.workshop(registry).prepare("late", then, lambda line: None)
    for one, other in ((before.features, after.features), (before.requests, after.requests)):
        for name in one:
            np.testing.assert_array_equal(one[name], other[name])
    for part in ("target", "status", "known_at"):
        np.testing.assert_array_equal(getattr(before.outcomes, part), getattr(after.outcomes, part))
    assert again == snapshot
    _, later = app.workshop(registry).prepare("late", then + DAY, lambda line: None)
    assert later.outcomes.target[place] == 1.0
    registry.close()
