"""Will this flight from New York arrive more than 15 minutes late? Asked one hour before scheduled departure."""

from typing import Any

import icekeel as ik

NEW_YORK = "America/New_York"


class Flight(ik.Request):
    flight_id: ik.Id
    carrier: ik.Cat
    origin: ik.Cat = ik.one_of("EWR", "JFK", "LGA")
    dest: ik.Cat
    tail: ik.Id = ik.optional()
    departs_at: ik.Time
    arrives_at: ik.Time = ik.optional()
    distance: ik.Num = ik.between(10, 6_000)


class Schedule(ik.Events, time="departs_at", available="known_at", id="flight_id", source="flights.parquet"):
    """A flight as planned; its second version, known when the plane leaves, holds the delay."""

    flight_id: ik.Id
    carrier: ik.Cat
    origin: ik.Cat
    dest: ik.Cat
    tail: ik.Id = ik.optional()
    departed: ik.Flag
    delay: ik.Num = ik.between(-120, 2_000, optional=True)


class Arrivals(ik.Events, time="landed_at", id="flight_id", source="arrivals.parquet"):
    """A landing. Cancelled and diverted flights have none: the data do not say when that was known."""

    flight_id: ik.Id
    carrier: ik.Cat
    origin: ik.Cat
    dest: ik.Cat
    tail: ik.Id = ik.optional()
    departed_at: ik.Time
    minutes_late: ik.Num = ik.between(-180, 2_000)

    @ik.rule("an aircraft lands after it has left")
    def possible(row: Any) -> ik.Flag:
        return ik.minutes_between(row.departed_at, row.landed_at) > 0


class Weather(
    ik.Events, time="observed_at", available="published_at", id="weather_id", source="weather.parquet"
):
    weather_id: ik.Id
    station: ik.Cat
    temp: ik.Num = ik.optional()
    wind_speed: ik.Num = ik.between(0, 200, optional=True)
    precip: ik.Num = ik.at_least(0, optional=True)
    pressure: ik.Num = ik.optional()
    visib: ik.Num = ik.between(0, 10, optional=True)


class Planes(ik.Events, time="registered_at", id="tail", source="planes.parquet"):
    tail: ik.Id
    seats: ik.Num = ik.at_least(1)
    built: ik.Num = ik.between(1930, 2014, optional=True)


here = Schedule.where(origin=Flight.origin)
left_here = Schedule.where(origin=Flight.origin, departed=True)
carrier = Schedule.where(carrier=Flight.carrier, departed=True)
route = Arrivals.where(carrier=Flight.carrier, origin=Flight.origin, dest=Flight.dest)
plane_left = Schedule.where(tail=Flight.tail, departed=True)
plane_landed = Arrivals.where(tail=Flight.tail)
sky = Weather.where(station=Flight.origin).last("6h")


class Static(ik.Features):
    """What a notebook starts with: columns of the schedule."""

    carrier = Flight.carrier
    origin = Flight.origin
    dest = Flight.dest
    distance = Flight.distance
    hour = ik.part(Flight.departs_at, "hour", tz=NEW_YORK)
    weekday = ik.part(Flight.departs_at, "weekday", tz=NEW_YORK)
    planned_minutes = ik.minutes_between(Flight.departs_at, Flight.arrives_at)


class Engineered(Static):
    # cyclical: 23 h lies next to 0 h
    clock_sin, clock_cos = ik.cyclic(Flight.departs_at, "minute", tz=NEW_YORK)
    # domain: load against what the airport usually handles, weather, the plane
    planned_next_2h = here.next("2h").count()
    load = planned_next_2h / (here.last("7d").count() / (7 * 12))
    seats = Planes.of(tail=Flight.tail).seats  # the newest row of a reference table
    wind = sky.wind_speed.last()
    rain_6h = sky.precip.sum()
    visibility = sky.visib.min()
    pressure_trend = sky.pressure.last() - sky.pressure.first()
    # overdue: planned to have left within the past hours, not known to have
    overdue_3h = Schedule.where(origin=Flight.origin, departed=False).last("3h").count()
    # windows over the airport, the carrier, the route, the destination, the plane
    delay_1h = left_here.last("1h").delay.mean()
    delay_3h = left_here.last("3h").delay.mean()
    carrier_delay_3h = carrier.last("3h").delay.mean()
    carrier_delay_1d = carrier.last("1d").delay.mean()
    route_late_30d = route.last("30d").minutes_late.mean()
    route_spread_30d = route.last("30d").minutes_late.std()
    there_late_6h = Arrivals.where(dest=Flight.dest).last("6h").minutes_late.mean()
    plane_delay = plane_left.last("1d").delay.last()
    plane_late = plane_landed.last("1d").minutes_late.last()
    plane_legs_1d = plane_left.last("1d").count()
    plane_worst_1d = plane_landed.last("1d").minutes_late.max()
    # trend and acceleration
    delay_trend = delay_1h - delay_3h
    delay_acceleration = delay_1h - 2 * delay_3h + left_here.last("6h").delay.mean()
    # interaction: delay passed on through a crowded airport
    pressure_to_leave = overdue_3h * planned_next_2h / 100


landing = Arrivals.where(flight_id=Flight.flight_id).within("36h")

late = ik.Model(
    "late",
    Flight,
    Engineered,
    about="Says one hour before a flight leaves New York whether it will arrive more than 15 minutes late.",
    baseline=Static,
    history=ik.table_of(Flight, "questions.parquet", asked_at="asked_at"),
    target=landing.minutes_late.latest(absent=ik.UNKNOWN) > 15,
    error="log_loss",
    choose=ik.Simplest(within=ik.usd_per_year(20_000, error_point=40_000)),
    action=ik.Act("warn", missed=5, false=1),
    guard=ik.Guard(budget=0.01),
    rollout=ik.Rollout(unit=Flight.flight_id),
    retrain=ik.Retrain(every="month"),
    watch=ik.Watch(false_alarms_per_year=4),
)


def test_a_plane_that_has_not_left_is_overdue() -> None:
    flight = {"flight_id": "UA1", "carrier": "UA", "origin": "EWR", "dest": "ORD"}
    flight["departs_at"] = "2013-03-01T12:00"
    planned = Schedule(**flight, departed=False, known_at="2013-01-01")
    left = Schedule(**flight, departed=True, delay=95, known_at="2013-03-01T13:35")
    world = ik.given(planned, left)
    before, after = world.at("2013-03-01T13:30"), world.at("2013-03-01T13:36")
    assert before[Engineered.overdue_3h](origin="EWR") == 1
    assert after[Engineered.overdue_3h](origin="EWR") == 0
    assert before[Engineered.delay_3h](origin="EWR") is None
    assert after[Engineered.delay_3h](origin="EWR") == 95
