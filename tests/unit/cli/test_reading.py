"""What a feature reads, in words."""

from __future__ import annotations

from pathlib import Path

from icekeel.cli.reading import reads_of
from icekeel.define import load_project
from icekeel.examples import flights

FLIGHTS = load_project(Path(flights.__path__[0]))
FEATURES = {one.name: one for one in FLIGHTS.models["late"].features.icekeel_features}


def windows(name: str) -> list[str]:
    return list(reads_of(FEATURES[name].node)["windows"])


def test_windows_name_table_key_filter_stretch_and_aggregate() -> None:
    assert windows("planned_next_2h") == ["Schedule by origin, next 2h: count"]
    assert windows("delay_3h") == ["Schedule by origin where departed, last 3h: mean of delay"]
    assert windows("seats") == ["Planes by tail, newest row: last of seats"]
    assert windows("wind") == ["Weather by station = origin, last 6h: last of wind_speed"]


def test_fields_of_the_request_are_apart_from_the_keys_of_windows() -> None:
    assert reads_of(FEATURES["planned_minutes"].node)["request"] == ["departs_at", "arrives_at"]
    assert reads_of(FEATURES["delay_3h"].node)["request"] == []
