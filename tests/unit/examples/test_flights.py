from __future__ import annotations

import shutil
from collections import Counter
from datetime import UTC, datetime, timedelta
from importlib import import_module
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import duckdb
import pytest

from icekeel.core.errors import SourceError
from icekeel.core.ids import file_digest
from icekeel.core.time import DAY, HOUR, MINUTE, parse_time
from icekeel.examples.flights import AVAILABLE, Prepared, prepare
from icekeel.examples.sources import batches

NEW_YORK = ZoneInfo("America/New_York")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    return prepare(tmp_path_factory.mktemp("flights"), progress=lambda line: None)


def ask(prepared: Prepared, select: str) -> list[tuple[Any, ...]]:
    with duckdb.connect() as connection:
        for name in AVAILABLE:
            connection.execute(f"CREATE VIEW {name} AS FROM '{prepared.path(name)}'")
        return connection.execute(select).fetchall()


def test_every_row_of_the_source_is_kept(prepared: Prepared) -> None:
    assert prepared.rows == {
        "flights": 665_297,
        "arrivals": 327_346,
        "weather": 26_115,
        "planes": 3_322,
        "questions": 336_776,
    }
    assert ask(prepared, "SELECT count(DISTINCT flight_id) FROM questions") == [(336_776,)]
    assert ask(prepared, "SELECT count(DISTINCT (flight_id, departed)) FROM flights") == [(665_297,)]
    assert ask(prepared, "SELECT count(DISTINCT weather_id) FROM weather") == [(26_115,)]


def test_a_departure_is_a_later_version_of_the_scheduled_flight(prepared: Prepared) -> None:
    assert ask(prepared, "SELECT departed, count(*), count(delay) FROM flights GROUP BY 1 ORDER BY 1") == [
        (False, 336_776, 0),
        (True, 328_521, 328_521),
    ]
    late = f"departed AND known_at <> departs_at + delay::BIGINT * {MINUTE}"
    early = f"NOT departed AND known_at <> departs_at - {60 * DAY}"
    assert ask(prepared, f"SELECT count(*) FROM flights WHERE ({late}) OR ({early})") == [(0,)]


def test_departures_are_the_local_times_of_new_york(prepared: Prepared) -> None:
    rows = ask(
        prepared,
        "SELECT DISTINCT departs_at, flight_id[:10] || 'T' || flight_id[-4:-3] || ':' || flight_id[-2:] FROM questions",
    )
    assert len(rows) > 100_000
    for departs_at, text in rows:
        local = datetime.fromisoformat(text).replace(tzinfo=NEW_YORK)
        assert departs_at == parse_time(local)


@pytest.mark.parametrize(
    ("flight_id", "departs_at", "arrives_at"),
    [
        (
            "2013-01-01-EWR-UA-1545-0515",
            "2013-01-01T10:15Z",
            "2013-01-01T14:19Z",
        ),  # to Houston, the first row
        (
            "2013-03-10-JFK-AA-185-2135",
            "2013-03-11T01:35Z",
            "2013-03-11T07:50Z",
        ),  # the night clocks go forward
        (
            "2013-11-03-JFK-AA-185-2140",
            "2013-11-04T02:40Z",
            "2013-11-04T08:40Z",
        ),  # and the night they go back
    ],
)
def test_scheduled_times_in_utc(prepared: Prepared, flight_id: str, departs_at: str, arrives_at: str) -> None:
    found = ask(prepared, f"SELECT departs_at, arrives_at FROM questions WHERE flight_id = '{flight_id}'")
    assert found == [(parse_time(departs_at), parse_time(arrives_at))]


def test_every_arrival_takes_longer_than_its_air_time(prepared: Prepared) -> None:
    assert ask(prepared, "SELECT min(taxi_minutes), max(taxi_minutes) FROM arrivals") == [(5.0, 235.0)]
    shortest, longest = ask(
        prepared, f"SELECT min(x), max(x) FROM (SELECT (arrives_at - departs_at) / {MINUTE} x FROM questions)"
    )[0]
    assert (shortest, longest) == (50, 700)


def test_arrivals_after_midnight_on_the_night_clocks_go_back(prepared: Prepared) -> None:
    """Rolled over by 24 hours of UTC they would come an hour earlier: in less than their air time."""
    flights = (
        "UA-371-2058",
        "B6-1371-2130",
        "B6-527-2129",
        "B6-1183-2150",
        "AA-185-2140",
        "B6-486-2245",
        "B6-2002-2250",
    )
    ends = " OR ".join(f"flight_id LIKE '2013-11-03-%-{flight}'" for flight in flights)
    rows = ask(prepared, f"SELECT taxi_minutes FROM arrivals WHERE {ends} ORDER BY 1")
    assert [row[0] for row in rows] == [13, 16, 19, 24, 26, 29, 30]


def test_traps_are_left_for_the_contract(prepared: Prepared) -> None:
    places = ask(
        prepared, "SELECT dest, count(*) FROM questions WHERE arrives_at IS NULL GROUP BY 1 ORDER BY 1"
    )
    assert places == [("BQN", 896), ("PSE", 365), ("SJU", 5_819), ("STT", 522)]
    assert ask(prepared, "SELECT count(*), count(reported_at) FROM arrivals WHERE landed_at IS NULL") == [
        (7_537, 7_537)
    ]
    gust = ask(prepared, "SELECT weather_id FROM weather WHERE wind_speed > 43")
    assert gust == [("EWR-2013-02-12T08",)]
    nulls = ask(prepared, "SELECT count(*) - count(pressure), count(*) - count(wind_gust) FROM weather")
    assert nulls == [(2_729, 20_778)]
    assert ask(
        prepared, "SELECT count(*) FROM planes WHERE built IS NULL AND registered_at = 631152000000000"
    ) == [(70,)]


def test_gaps_that_the_docstring_counts(prepared: Prepared) -> None:
    unknown = "SELECT count(*), count(DISTINCT tail) FROM questions ANTI JOIN planes USING (tail) WHERE tail IS NOT NULL"
    assert ask(prepared, unknown) == [(50_094, 721)]
    cancelled = "flight_id NOT IN (SELECT flight_id FROM flights WHERE departed)"
    counts = f"SELECT count(*), count(*) FILTER ({cancelled}) FROM questions WHERE tail IS NULL"
    assert ask(prepared, counts) == [(2_512, 2_512)]
    dry = f"""SELECT count(*) FROM questions q ANTI JOIN weather w
        ON q.origin = w.station AND q.departs_at // {HOUR} * {HOUR} = w.observed_at"""
    assert ask(prepared, dry) == [(1_556,)]


def test_weather_is_hourly_through_both_changes_of_the_clock(prepared: Prepared) -> None:
    """The day with 25 hours lacks its first one in the source."""
    for day, hours in (("2013-03-10", 23), ("2013-11-03", 24)):
        start = datetime.fromisoformat(day).replace(tzinfo=NEW_YORK)
        end = (datetime.fromisoformat(day) + timedelta(days=1)).replace(tzinfo=NEW_YORK)
        between = f"observed_at >= {parse_time(start.astimezone(UTC))} AND observed_at < {parse_time(end.astimezone(UTC))}"
        assert ask(prepared, f"SELECT count(*) FROM weather WHERE station = 'JFK' AND {between}") == [
            (hours,)
        ]
    assert ask(prepared, "SELECT DISTINCT published_at - observed_at FROM weather") == [(HOUR,)]


def test_a_second_run_reuses_the_files_and_a_new_one_makes_the_same(
    prepared: Prepared, tmp_path: Path
) -> None:
    lines: list[str] = []
    again = prepare(prepared.folder, progress=lines.append)
    assert again.reused
    assert len(lines) == 1
    shutil.copytree(prepared.folder, tmp_path, dirs_exist_ok=True)
    (tmp_path / "planes.parquet").unlink()
    other = prepare(tmp_path, progress=lines.append)
    assert not other.reused
    for name in AVAILABLE:
        assert file_digest(other.path(name)) == file_digest(prepared.path(name))


def test_without_the_package_the_error_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = import_module("icekeel.examples.flights.prepare")
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(SourceError) as caught:
        prepare(tmp_path, progress=lambda line: None)
    assert caught.value.faults[0].code == "missing_package"
    assert caught.value.faults[0].hint == "pip install icekeel[demo]"


def test_batches_give_every_row_once_when_it_became_available(prepared: Prepared) -> None:
    start = parse_time("2013-03-09T00:00Z")
    end = start + 50 * HOUR + 30 * MINUTE
    counts: Counter[str] = Counter()
    opening = start
    for batch in batches(prepared.folder, AVAILABLE, start, end, HOUR):
        assert batch.start == opening
        opening = batch.end
        for table, rows in batch.tables.items():
            counts[table] += len(rows)
            moments = [int(row[AVAILABLE[table]] or 0) for row in rows]
            assert moments == sorted(moments)
            assert batch.start < moments[0] <= moments[-1] <= batch.end
    assert opening == end
    for table, column in AVAILABLE.items():
        within = f"{column} > {start} AND {column} <= {end}"
        assert ask(prepared, f"SELECT count(*) FROM {table} WHERE {within}") == [(counts[table],)]


def test_batches_of_a_row_hold_plain_values(prepared: Prepared) -> None:
    moment = parse_time("2013-03-09T12:00Z")
    some = {name: AVAILABLE[name] for name in ("weather", "flights")}
    (batch,) = batches(prepared.folder, some, moment, moment + HOUR, HOUR)
    assert set(batch.tables) == {"weather", "flights"}
    assert {type(value) for rows in batch.tables.values() for row in rows for value in row.values()} <= {
        str,
        int,
        float,
        bool,
        type(None),
    }
    with pytest.raises(ValueError, match="above 0"):
        next(batches(prepared.folder, AVAILABLE, 0, 1, 0))
