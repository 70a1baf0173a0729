from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from icekeel.app import App
from icekeel.core.errors import RegistryError, TrainingError
from icekeel.core.ids import new_id
from icekeel.core.time import DAY, HOUR, MINUTE
from icekeel.define import Act, Model, Simplest, usd_per_year
from icekeel.journal import Alerted, Decided, Predicted, scan
from icekeel.monitoring import Signal
from icekeel.operations.alerts.alerting import Alerting
from icekeel.operations.alerts.severity import FEWEST, MOST, Recent, course, reckon
from icekeel.operations.projections.projections import Settled
from icekeel.operations.workshop.workshop import allow_training
from icekeel.registry import AlertChange
from icekeel.testing.small import write_small_project

T0 = 20_000 * DAY


def answer(at: int, prediction: float = 0.3, **request: Any) -> Predicted:
    return Predicted(
        at, new_id(at), "late", "late-1", "champion", 1.0, "u", "k", request, {"load": prediction * 10},
        prediction, prediction, None, None, "", "pass", [], 0, [], 0, at,
    )  # fmt: skip


def settled(at: int, prediction: float, target: float) -> Settled:
    return Settled(at, at, new_id(at), "u", "late-1", "champion", 1.0, prediction, prediction, {}, target)


class World:
    """The alerts of a small project, without a keeper."""

    def __init__(self, folder: Path) -> None:
        write_small_project(folder)
        self.app = App(folder, clock=lambda: T0)
        self.registry = self.app.registry()
        self.journal = self.app.journal("test")
        self.alerting = Alerting(self.app.workspace, self.registry, self.journal)

    def report(self, at: int, *signals: Signal) -> None:
        self.alerting.report(at, "late", signals)

    def told(self, kind: type[Any]) -> list[str]:
        return [record.id for record in scan(self.app.places.journal, kinds=kind)]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path / "small")
    yield made
    made.journal.close()
    made.registry.close()


def late(change: str = "late") -> Signal:
    return Signal(
        "source", "Scans", "nothing for 30 min", 3.0, change, since=T0 - 30 * MINUTE, examples=("p1",)
    )


def test_bad_data_block_training_until_resolved_or_overridden(world: World) -> None:
    world.report(T0, late())
    (alert,) = world.registry.alerts("late")
    assert (alert.cause, alert.diagnosis, alert.state(T0)) == ("source Scans", "bad data", "open")
    assert alert.evidence["examples"] == ["p1"]
    (decision,) = world.registry.decisions("late")
    assert (decision.kind, decision.evidence["alert"]) == ("block_training", alert.id)
    assert (world.told(Alerted), world.told(Decided)) == ([alert.id], [decision.id])
    order: dict[str, Any] = {"by": "ann", "at": T0}
    with pytest.raises(TrainingError) as caught:
        allow_training(world.registry, world.journal, "late", override=" ", **order)
    fault = caught.value.faults[0]
    assert (fault.code, fault.where) == ("training_blocked", "source Scans")
    assert f"icekeel alerts show {alert.id}" in fault.hint
    allow_training(world.registry, world.journal, "late", override="the gap is harmless", **order)
    assert world.registry.decisions("late")[-1].reason == "by ann, although source Scans: the gap is harmless"
    world.registry.resolve(alert.id, resolution="feed restarted", by="ann", at=T0 + HOUR)
    allow_training(world.registry, world.journal, "late", override="", **order)


def test_one_cause_opens_once_however_often_it_is_found_and_closes_after_a_quiet_stretch(
    world: World,
) -> None:
    for minute in range(0, 600, 7):
        world.report(T0 + minute * MINUTE, *([late()] if minute % 2 else []))
    (alert,) = world.registry.alerts("late")
    assert (alert.resolved_at, len(world.registry.decisions("late"))) == (None, 1)
    world.report(T0 + 3 * DAY)
    assert world.registry.alerts("late", open_only=True) == [alert]
    world.report(T0 + 4 * DAY)
    (closed,) = world.registry.alerts("late")
    assert (closed.resolved_at, closed.resolution) == (T0 + 4 * DAY, "not found for 3 days")
    assert [change.by for change in closed.changes] == ["keeper"]
    world.report(T0 + 4 * DAY + HOUR, late())
    assert len(world.registry.alerts("late")) == 2


def test_what_a_person_resolved_is_not_opened_again_by_signals_on_their_way(world: World) -> None:
    world.report(T0, late())
    (alert,) = world.registry.alerts("late")
    world.registry.resolve(alert.id, resolution="known", by="ann", at=T0 + MINUTE)
    world.report(T0 + 5 * MINUTE, late())
    assert len(world.registry.alerts("late")) == 1
    world.report(T0 + 2 * HOUR, late())
    assert len(world.registry.alerts("late", open_only=True)) == 1


def test_an_effect_takes_its_cause_s_name_and_the_other_effects_close(world: World) -> None:
    world.report(T0, Signal("prediction", "mean", "rose", 2.0, "level"))
    (effect,) = world.registry.alerts("late")
    assert effect.cause == "prediction"
    world.report(T0 + 10 * MINUTE, Signal("guard", "flags", "more flags", 1.0, "rate"))
    world.report(T0 + 20 * MINUTE, late())
    first, second = world.registry.alerts("late")
    assert (first.id, first.cause, first.diagnosis) == (effect.id, "source Scans", "bad data")
    assert second.resolution == "the same cause as source Scans"
    kinds = [one.kind for one in world.registry.decisions("late")]
    assert kinds == ["watch", "watch", "block_training"]


@pytest.mark.parametrize(
    ("signal", "kind"),
    [
        (Signal("outcome", "log_loss", "worse", 1.0, "error"), "retrain"),
        (Signal("traffic", "requests", "9 times as many", 1.0, "rate"), "add_capacity"),
        (Signal("prediction", "mean", "rose", 1.0, "level", "origin=north"), "watch"),
        (Signal("process", "keeper", "it stands still", 1.0, "late"), "repair"),
    ],
)
def test_what_is_decided_follows_from_the_diagnosis(world: World, signal: Signal, kind: str) -> None:
    world.report(T0, signal)
    assert [one.kind for one in world.registry.decisions("late")] == [kind]
    assert world.registry.blocks("late") == []


def test_states_are_a_history_that_is_only_added_to(world: World) -> None:
    world.report(T0, late())
    (alert,) = world.registry.alerts("late")

    def change(state: Any, at: int, until: int | None = None, reason: str = "r") -> None:
        world.registry.change_alert(
            AlertChange(alert=alert.id, state=state, by="ann", reason=reason, at=at, until=until)
        )

    for faulty in (
        {"state": "muted", "at": T0},
        {"state": "muted", "at": T0, "until": T0},
        {"state": "open", "at": T0, "reason": " "},
    ):
        with pytest.raises(RegistryError):
            change(**faulty)  # type: ignore[arg-type]
    change("acknowledged", T0 + 1)
    change("muted", T0 + 2, T0 + HOUR)
    found = world.registry.alert(alert.id[:6])
    assert (found.state(T0 + 3), found.state(T0 + HOUR)) == ("muted", "open")
    change("resolved", T0 + 4)
    with pytest.raises(RegistryError, match="what comes after is another"):
        change("open", T0 + 5)
    assert [one.state for one in world.registry.alert(alert.id).changes] == [
        "acknowledged",
        "muted",
        "resolved",
    ]
    with pytest.raises(RegistryError, match="no such alert"):
        world.registry.alert("zz")


# Severity


def priced(world: World, **changes: Any) -> Model:
    model = object.__new__(Model)
    model.__dict__.update({**world.app.project.models["late"].__dict__, **changes})
    return model


def at_rate(per_minute: int, minutes: range, prediction: float, spread: float = 0.02) -> Iterable[Predicted]:
    rng = np.random.default_rng(minutes.start + 10**6)
    for minute in minutes:
        for second in range(per_minute):
            yield answer(
                T0 + minute * MINUTE + second, prediction + spread * rng.standard_normal(), origin="north"
            )


def test_answers_a_day_are_counted_and_the_old_ones_thinned(world: World) -> None:
    recent = Recent()
    recent.add(at_rate(20, range(-600, 0), 0.3))
    assert recent.per_day(T0) == pytest.approx(20 * 60 * 24)
    assert len(recent.kept) <= MOST
    assert min(record.at for record in recent.kept) < T0 - 500 * MINUTE  # the past is sparse, not gone


def test_a_worse_truth_costs_what_its_mistakes_cost(world: World) -> None:
    model = priced(world, action=Act("warn", missed=9.0, false=1.0))
    recent = Recent()
    recent.add(at_rate(2, range(-1440, 0), 0.05))
    rows = [settled(T0 + m * MINUTE, 0.05, float(m % (10 if m < 0 else 5) == 0)) for m in range(-1000, 500)]
    found = reckon(
        model, recent, lambda a, b: [r for r in rows if a <= r.settled_at < b], since=T0, at=T0 + 500 * MINUTE
    )
    # One in five is missed at $9 where it was one in ten: $0.90 more an answer, 2,880 answers a day.
    assert found.usd_per_day == pytest.approx(0.9 * recent.per_day(T0 + 500 * MINUTE), rel=1e-6)
    assert "cost $1.80 an answer against $0.90" in found.sentence


def test_moved_predictions_cost_at_most_the_regret_of_the_decisions_they_turn(world: World) -> None:
    model = priced(world, action=Act("warn", missed=9.0, false=1.0))
    recent = Recent()
    recent.add(at_rate(2, range(-1440, 0), 0.05, 0.0))
    recent.add(at_rate(2, range(0, 60), 0.15, 0.0))
    found = reckon(model, recent, None, since=T0, at=T0 + HOUR)
    assert found.usd_per_day == pytest.approx(0.05 * 10.0 * recent.per_day(T0 + HOUR), rel=1e-6)
    assert "at the most" in found.sentence


def test_an_error_with_a_price_costs_its_points(world: World) -> None:
    model = priced(
        world, action=None, error="mape", task="number", choose=Simplest(usd_per_year(1, error_point=36_500))
    )
    recent = Recent()
    recent.add(at_rate(2, range(-1440, 0), 100.0, 0.0))
    recent.add(at_rate(2, range(0, 60), 102.0, 0.0))
    found = reckon(model, recent, None, since=T0, at=T0 + HOUR)
    assert found.usd_per_day == pytest.approx(200.0)  # 2 points of error at $100 a day


def test_what_is_unknown_is_said_to_be(world: World) -> None:
    model = priced(world, action=Act("warn", missed=9.0, false=1.0))
    empty = reckon(model, Recent(), None, since=T0, at=T0 + HOUR)
    assert (empty.usd_per_day, "not known yet" in empty.sentence) == (None, True)
    recent = Recent()
    recent.add(at_rate(2, range(-600, 60), 0.3))
    still = reckon(model, recent, None, since=T0, at=T0 + HOUR)
    assert (still.usd_per_day, "have not moved" in still.sentence) == (None, True)
    free = priced(world, action=None, choose=Simplest(usd_per_year(0, error_point=0)))
    assert "no price" in reckon(free, recent, None, since=T0, at=T0 + HOUR).sentence


def test_the_picture_has_the_band_of_the_quiet_past_and_the_move_outside_it(world: World) -> None:
    recent = Recent()
    recent.add(at_rate(2, range(-1440, 0), 0.3))
    recent.add(at_rate(2, range(0, 120), 0.6))
    moved = Signal("feature", "load", "moved", 1.0)
    found = course(world.app.project.models["late"], moved, recent, None, since=T0, at=T0 + 2 * HOUR)
    assert found["name"] == "load"
    quiet = [value for when, value in zip(found["at"], found["values"], strict=True) if when < T0]
    after = [
        value for when, value in zip(found["at"], found["values"], strict=True) if when > T0 + 30 * MINUTE
    ]
    assert all(found["low"] < value < found["high"] for value in quiet)
    assert min(after) > found["high"]
    few = Recent()
    few.add(list(at_rate(1, range(0, FEWEST - 1), 0.3)))
    assert course(world.app.project.models["late"], moved, few, None, since=T0, at=T0 + DAY) == {}


def test_an_alert_is_reckoned_when_it_opens_and_again_after_an_hour(world: World) -> None:
    world.alerting.recent["late"].add(at_rate(2, range(-1440, 0), 0.2, 0.01))
    world.alerting.recent["late"].add(at_rate(2, range(0, 120), 0.6, 0.01))
    moved = Signal("prediction", "mean", "rose", 2.0, "level", since=T0)
    world.report(T0 + HOUR, moved)
    (alert,) = world.registry.alerts("late")
    assert alert.evidence["reckoning"]
    assert alert.evidence["series"]["name"] == "prediction"
    assert len(alert.evidence["examples"]) == 10
    world.report(T0 + HOUR + MINUTE, replace(moved, sentence="rose more"))
    (renewed,) = world.registry.alerts("late")
    assert renewed.evidence["reckoned_at"] == alert.evidence["reckoned_at"]
    world.report(T0 + 2 * HOUR, moved)
    assert world.registry.alerts("late")[0].evidence["reckoned_at"] == T0 + 2 * HOUR
