from __future__ import annotations

import math
from pathlib import Path

import pytest

import icekeel as ik
from icekeel.define import load_project
from icekeel.examples.quotes import DIFFICULTY, project
from icekeel.examples.quotes.project import Capacity, Engineered, Orders, Raw

FILE = Path(project.__file__)


def test_the_project_is_read_without_a_fault_and_short() -> None:
    read = load_project(FILE.parent)
    model = read.models["price"]
    assert list(read.tables) == ["Results", "Orders", "Capacity"]
    assert (model.error, model.task) == ("mape", "number")
    assert [type(step) for step in model.after] == [ik.After, ik.After]
    assert isinstance(model.guard, ik.Guard)
    assert isinstance(model.guard.otherwise, ik.SimilarCases)
    assert len(FILE.read_text(encoding="utf-8").splitlines()) < 150


@pytest.mark.parametrize("name", [name for name in vars(project) if name.startswith("test_")])
def test_the_project_passes_its_own_test(name: str) -> None:
    getattr(project, name)()


def test_the_shop_knows_its_substrates() -> None:
    assert project.DIFFICULTY == DIFFICULTY


def test_engineered_features_add_to_the_raw_ones() -> None:
    raw = [feature.name for feature in Raw.icekeel_features]
    engineered = [feature.name for feature in Engineered.icekeel_features]
    assert engineered[: len(raw)] == raw
    assert "customer" not in engineered
    assert len(engineered) == len(raw) + 8


def test_frequent_customers_count_for_less_the_longer_they_are_silent() -> None:
    world = ik.given(
        Orders("1", "a", 100, 0.3, ordered_at="2025-01-01", booked_at="2025-01-02"),
        Orders("2", "a", 300, 0.5, ordered_at="2025-02-01", booked_at="2025-02-02"),
        Orders("3", "b", 900, 0.5, ordered_at="2025-02-01", booked_at="2025-02-02"),
    )
    for silent, at in ((10, "2025-02-11"), (59, "2025-04-01")):
        value = world.at(at)[Engineered.recency_frequency](customer="a")
        assert value == pytest.approx(2 * math.exp(-silent / 365))
    assert world.at("2025-02-11")[Engineered.customer_value](customer="a") == pytest.approx(400 * 1.4)
    assert world.at("2025-02-11")[Engineered.recency_frequency](customer="c") == 0


def test_pressure_is_the_backlog_against_what_usually_waits() -> None:
    world = ik.given(
        Capacity("1", "P1", 60, measured_at="2025-03-01"),
        Capacity("2", "P1", 120, measured_at="2025-03-02"),
        Capacity("3", "P2", 999, measured_at="2025-03-02"),
    )
    moment = world.at("2025-03-03")
    assert moment[Engineered.backlog]() == 120
    assert moment[Engineered.pressure]() == pytest.approx(120 / 90)


def test_december_lies_next_to_january() -> None:
    def place(at: str) -> tuple[float, float]:
        moment = ik.given().at(at)
        return moment[Engineered.season_sin](), moment[Engineered.season_cos]()

    january = place("2025-01-15")
    assert math.dist(january, place("2024-12-15")) == pytest.approx(math.dist(january, place("2025-02-15")))
    assert math.dist(january, place("2025-07-15")) == pytest.approx(2)
