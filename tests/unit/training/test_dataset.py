from __future__ import annotations

from pathlib import Path

from icekeel.app import App
from icekeel.core.time import DAY, HOUR
from icekeel.journal import Predicted
from icekeel.settings import Settings
from icekeel.testing.small import TRAINED_TO, train_small, write_small_project
from icekeel.training.dataset import past_questions


def test_a_served_question_that_the_declared_file_holds_too_counts_once(tmp_path: Path) -> None:
    write_small_project(tmp_path)
    train_small(tmp_path, settings=Settings(rehearsal=True))
    app = App(tmp_path, Settings(rehearsal=True), clock=lambda: TRAINED_TO)
    model, plan = app.model("late"), app.plans["late"]
    registry = app.registry()
    before = past_questions(model, plan, tmp_path, app.history(), now=TRAINED_TO)
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
    app.workspace.compact()
    after = past_questions(model, plan, tmp_path, app.history(), now=TRAINED_TO)
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
