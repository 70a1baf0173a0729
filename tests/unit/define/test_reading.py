"""What a feature reads, in words."""

from __future__ import annotations

from pathlib import Path

import icekeel as ik
from icekeel.define import load_project
from icekeel.define.reading import built_on, kind_of, reads_of, sources_of
from icekeel.examples import flights

FLIGHTS = load_project(Path(flights.__path__[0]))
FEATURES = {one.name: one for one in FLIGHTS.models["late"].features.icekeel_features}


def windows(name: str) -> list[str]:
    return list(reads_of(FEATURES[name].node)["windows"])


def test_windows_name_table_key_filter_stretch_and_aggregate() -> None:
    assert windows("overdue_3h") == ["Schedule by origin where not departed, last 3h: count"]
    assert windows("planned_next_2h") == ["Schedule by origin, next 2h: count"]
    assert windows("delay_3h") == ["Schedule by origin where departed, last 3h: mean of delay"]
    assert windows("seats") == ["Planes by tail, newest row: last of seats"]
    assert windows("wind") == ["Weather by station = origin, last 6h: last of wind_speed"]


class Ride(ik.Request):
    rider: ik.Id
    price: ik.Num


class Rides(ik.Events, time="ended_at", id="ride_id"):
    ride_id: ik.Id
    rider: ik.Id
    price: ik.Num
    night: ik.Flag
    city: ik.Cat


def test_every_aggregate_reads_as_a_sentence() -> None:
    mine = Rides.where(rider=Ride.rider).last("3d")
    dear = Rides.where(Rides.price > 9, night=True, city="Oslo").last("1h")
    said = {
        "Rides by rider, last 3d: rank of price in price": mine.price.rank_of(Ride.price),
        "Rides by rider, last 3d: rank of the latest in price": mine.price.rank_of(),
        "Rides by rider, last 3d: last_acceleration 2 of price": mine.price.acceleration_over_last(2),
        "Rides where city = Oslo and night and price, last 1h: count": dear.count(),
    }
    assert {text: reads_of(one.node)["windows"] for text, one in said.items()} == {
        text: [text] for text in said
    }
    assert kind_of(mine.price.acceleration_over_last(2).node) == "trend"
    assert kind_of((Ride.price * mine.price.mean()).node) == "interaction"
    assert kind_of((Ride.price / mine.price.mean()).node) == "domain"


def test_fields_of_the_request_are_apart_from_the_keys_of_windows() -> None:
    assert reads_of(FEATURES["planned_minutes"].node)["request"] == ["departs_at", "arrives_at"]
    assert reads_of(FEATURES["delay_3h"].node)["request"] == []


def test_every_feature_has_a_kind() -> None:
    kinds = {name: kind_of(one.node) for name, one in FEATURES.items()}
    assert {name for name, kind in kinds.items() if kind == "request"} == {
        "carrier",
        "origin",
        "dest",
        "distance",
    }
    assert {name for name, kind in kinds.items() if kind == "cyclical"} == {"clock_sin", "clock_cos"}
    assert {name for name, kind in kinds.items() if kind == "trend"} == {
        *("delay_trend", "delay_acceleration", "pressure_trend")
    }
    assert kinds["seats"] == "reference"
    assert kinds["pressure_to_leave"] == "interaction"
    assert kinds["hour"] == "calendar"
    assert (kinds["load"], kinds["planned_minutes"]) == ("domain", "domain")
    assert (kinds["rain_6h"], kinds["plane_delay"]) == ("window", "window")


def test_a_feature_names_its_sources_and_the_features_inside_it() -> None:
    assert sources_of(FEATURES["delay_3h"].node) == {"Schedule": ["departed", "delay", "origin"]}
    inner = built_on(list(FEATURES.values()))
    assert inner["pressure_to_leave"] == ["overdue_3h", "planned_next_2h"]
    assert inner["delay_1h"] == inner["hour"] == []
