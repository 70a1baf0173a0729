from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from icekeel.app import App
from icekeel.define import Model, Retrain
from icekeel.operations.workshop.workshop import COMPARED, admit
from icekeel.registry import CHAMPION, Version
from icekeel.testing.small import write_small_project

NOW = 1_000_000


@pytest.fixture
def app(tmp_path: Path) -> Iterator[App]:
    write_small_project(tmp_path)
    yield App(tmp_path, clock=lambda: NOW)


def admitted(app: App, model: Model, *, compared: bool = True, features: str = "F") -> str:
    """What becomes of a second version beside a champion of features F."""
    registry = app.registry()

    def version(number: int, features: str) -> Version:
        gates = [{"name": COMPARED if compared else "parity", "passed": True}]
        return registry.register(
            "late", f"d{number}{features}", snapshot="s", code="c", features=features, metrics={}, gates=gates, ladder={},
            trained_from=0, trained_to=1, reason="r",
        )  # fmt: skip

    registry.set_alias("late", CHAMPION, version(1, "F").name, reason="r", by="t")
    with app.journal("test") as journal:
        kind = admit(registry, journal, model, version(2, features), at=NOW, by="t").kind
    registry.close()
    return kind


def test_what_changes_no_outcome_answers_in_shadow_unless_a_split_is_asked_for(app: App) -> None:
    model = app.model("late")
    assert admitted(app, model) == "start_shadow"
    assert admitted(app, model, features="G") == "start_experiment"
    assert model.rollout is not None
    model.rollout = replace(model.rollout, split=False)
    assert admitted(app, model, features="H") == "start_shadow"
    model.retrain = None
    assert admitted(app, model, features="I") == "start_shadow"


def test_answers_that_influence_outcomes_are_never_judged_in_shadow(app: App) -> None:
    model = app.model("late")
    model.influences = True
    assert admitted(app, model) == "start_experiment"


def test_gates_alone_promote_only_what_was_held_against_the_champion(app: App) -> None:
    model = app.model("late")
    model.retrain = model.rollout = None
    assert admitted(app, model) == "promote"


def test_what_could_not_be_compared_is_blocked(app: App) -> None:
    model = app.model("late")
    model.retrain = model.rollout = None
    assert admitted(app, model, compared=False) == "block"
    model.retrain = Retrain()
    assert admitted(app, model, compared=False) == "start_shadow"
