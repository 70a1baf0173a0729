"""What users write to test their features: the world as it was known at a time."""

from __future__ import annotations

import math

import pytest

import icekeel as ik
from icekeel.core.errors import IcekeelError

DIFFICULTY = {"vinyl": 1.5, "metal": 3.0}


class Quote(ik.Request):
    quote_id: ik.Id
    customer: ik.Id = ik.private()
    substrate: ik.Cat
    colors: ik.Num = ik.between(1, 12)
    material_cost: ik.Num


class Orders(ik.Events, time="ordered_at", available="booked_at", id="order_id"):
    order_id: ik.Id
    customer: ik.Id
    revenue: ik.Num = ik.at_least(0)
    margin: ik.Num


class Customers(ik.Events, time="since", id="customer"):
    customer: ik.Id
    segment: ik.Cat


mine = Orders.where(customer=Quote.customer).last("365d")


class Features(ik.Features):
    complexity = Quote.colors * ik.table(Quote.substrate, DIFFICULTY, default=1)
    clv = mine.revenue.sum() * (1 + mine.margin.mean(empty=0))
    rfm = mine.count() * ik.exp(-mine.days_since(empty=365) / 365)
    season_sin, season_cos = ik.cyclic(ik.asked_at, "month", tz="America/Chicago")
    trend = mine.revenue.mean_of_last(3) - mine.revenue.mean_of_last(6)
    segment = Customers.of(customer=Quote.customer).segment
    loyal = ik.cross(Customers.of(customer=Quote.customer).segment, Quote.substrate)


def test_an_order_not_yet_booked_is_unknown() -> None:
    world = ik.given(Orders("1", "a", 100, 0.3, ordered_at="2025-03-01", booked_at="2025-03-03"))
    assert world.at("2025-03-02")[Features.clv](customer="a") == 0
    assert world.at("2025-03-03")[Features.clv](customer="a") == 130
    assert world.at("2025-03-03")[Features.clv](customer="b") == 0
    assert world.at("2025-03-03")[Features.clv]() == 0


def test_an_event_leaves_the_window_after_its_last_moment() -> None:
    world = ik.given(Orders("1", "a", 100, 0.0, ordered_at="2025-03-01"))
    assert world.at("2025-03-01")[Features.clv](customer="a") == 0
    assert world.at("2026-03-01")[Features.clv](customer="a") == 100
    assert world.at("2026-03-01T00:00:00.000001")[Features.clv](customer="a") == 0


def test_a_correction_replaces_and_of_two_at_once_the_later_given_holds() -> None:
    world = ik.given(
        Orders("1", "a", 100, 0.0, ordered_at="2025-03-01", booked_at="2025-03-02"),
        Orders("1", "a", 70, 0.0, ordered_at="2025-03-01", booked_at="2025-03-05"),
        Orders("1", "a", 60, 0.0, ordered_at="2025-03-01", booked_at="2025-03-05"),
        Orders("1", "b", 60, 0.0, ordered_at="2025-03-01", booked_at="2025-03-07"),
    )
    seen = [world.at(f"2025-03-0{day}")[Features.clv](customer="a") for day in (2, 4, 5, 7)]
    assert seen == [100, 100, 60, 0]
    assert world.at("2025-03-07")[Features.clv](customer="b") == 60


class Bookings(ik.Events, time="booked_at", available="sent_at", id="booking_id", deleted="cancelled"):
    booking_id: ik.Id
    customer: ik.Id = ik.optional()
    seats: ik.Num = ik.optional()
    cancelled: ik.Flag = ik.optional()


booked = Bookings.where(customer=Quote.customer).last("30d")


class Booked(ik.Features):
    seats = booked.seats.sum()
    bookings = booked.count()


def test_a_deletion_ends_the_event_from_when_it_is_known() -> None:
    world = ik.given(
        Orders("1", "a", 100, 0.0, ordered_at="2025-03-01"),
        Orders("2", "a", 5, 0.0, ordered_at="2025-03-01"),
        ik.deleted(Orders, "1", at="2025-03-05"),
        Orders("1", "a", 60, 0.0, ordered_at="2025-03-01", booked_at="2025-03-07"),
    )
    seen = [world.at(f"2025-03-0{day}")[Features.clv](customer="a") for day in (4, 5, 6, 7)]
    assert seen == [105, 5, 5, 65]


def test_a_row_that_is_true_in_the_column_of_deleted_is_a_deletion() -> None:
    world = ik.given(
        Bookings("1", "a", 3, booked_at="2025-03-01"),
        Bookings("2", "a", 2, False, booked_at="2025-03-01"),
        Bookings("1", cancelled=True, sent_at="2025-03-03"),
    )
    seen = [world.at(f"2025-03-0{day}")[Booked.seats](customer="a") for day in (2, 3)]
    assert seen == [5, 2]
    assert world.at("2025-03-03")[Booked.bookings](customer="a") == 1
    with pytest.raises(IcekeelError) as caught:
        ik.given(Bookings("1", cancelled=True), ik.deleted(Orders, None, at="2025-01-01"))  # type: ignore[arg-type]
    assert [fault.where for fault in caught.value.faults] == ["Bookings.sent_at", "Orders.order_id"]


def test_every_feature_of_the_example() -> None:
    world = ik.given(
        *(Orders(str(n), "a", 10.0 * n, 0.1, ordered_at=f"2025-01-0{n}") for n in range(1, 7)),
        Customers("a", "retail", since="2024-01-01"),
        Customers("a", "trade", since="2025-01-05"),
    )
    now = world.at("2025-01-08T12:00:00-06:00")
    assert now[Features.complexity](colors=4, substrate="metal") == 12
    assert now[Features.complexity](colors=4, substrate=None) == 4
    assert now[Features.complexity](substrate="metal") is None
    assert now[Features.rfm](customer="a") == pytest.approx(6 * math.exp(-2.75 / 365), rel=1e-15)
    assert now[Features.rfm](customer="b") == 0
    assert now[Features.season_sin]() == pytest.approx(0.5)
    assert now[Features.trend](customer="a") == 50 - 35
    assert now[Features.trend](customer="b") is None
    assert now[Features.segment](customer="a") == "trade"
    assert world.at("2025-01-04")[Features.segment](customer="a") == "retail"
    assert now[Features.segment](customer="b") is None
    assert now[Features.loyal](customer="b", substrate="vinyl") == "? x vinyl"
    assert ik.given().at("2025-01-04")[Features.segment](customer="a") is None


def test_a_field_that_the_feature_does_not_use_is_named() -> None:
    with pytest.raises(IcekeelError) as caught:
        ik.given().at("2025-01-01")[Features.clv](custmer="a")
    assert (caught.value.code, caught.value.faults[0].hint) == ("unknown_field", 'did you mean "customer"?')


def test_a_row_without_id_or_time_is_refused() -> None:
    with pytest.raises(IcekeelError) as caught:
        ik.given(Orders("1", "a", 100, 0.0), Orders(customer="a", ordered_at="2025-01-01"))
    assert [fault.where for fault in caught.value.faults] == [
        "Orders.ordered_at",
        "Orders.booked_at",
        "Orders.order_id",
    ]


def test_a_column_that_the_table_does_not_have_is_named() -> None:
    with pytest.raises(TypeError, match='no column "revenu"; did you mean "revenue"'):
        Orders("1", "a", revenu=5, ordered_at="2025-01-01")
    with pytest.raises(TypeError, match="has 6 columns, got 7 values"):
        Orders("1", "a", 1, 1, "2025-01-01", "2025-01-01", 1)


def test_a_feature_that_cannot_hold_says_why() -> None:
    with pytest.raises(IcekeelError) as caught:
        ik.given().at("2025-01-01")[Features.clw](customer="a")
    assert caught.value.faults[0].hint == 'did you mean "clv"?'


class Windows(ik.Features):
    _mine = Orders.where(customer=Quote.customer).last("365d")
    _planned = Orders.where(customer=Quote.customer).next("30d")
    margin_share = _mine[Orders.margin > 0.2].share(empty=0)
    acceleration = _mine.revenue.acceleration_over_last(1, empty=-1)
    price_rank = _mine.revenue.rank_of(Quote.material_cost * 2)
    latest_rank = _mine.revenue.rank_of()
    same_price = _mine.revenue.share_of(Quote.material_cost, empty=-1)
    same_as_latest = _mine.margin.share_of()
    order_share = _mine.order_id.share_of(Quote.quote_id)
    planned = _planned.count()
    planned_rank = _planned.revenue.rank_of(Quote.material_cost, empty=-1)


def test_a_value_of_the_request_stands_among_the_past_of_its_key() -> None:
    revenue = (10, 40, 20, 20)
    rows = [Orders(str(n), "a", x, 0.1 * n, ordered_at=f"2025-01-0{n}") for n, x in enumerate(revenue, 1)]
    rows += [
        Orders("5", "b", 1, 0.1, ordered_at="2025-01-01"),
        Orders("6", "a", 9, 0, ordered_at="2025-02-01", booked_at="2025-01-01"),
    ]
    now = ik.given(*rows).at("2025-01-08")
    assert now[Windows.margin_share](customer="a") == 0.5
    assert now[Windows.margin_share](customer="nobody") == 0
    assert now[Windows.acceleration](customer="a") == (20 - 20) - (20 - 40)
    assert now[Windows.acceleration](customer="b") == -1
    assert [now[Windows.price_rank](customer="a", material_cost=x) for x in (1, 10, 15, 50)] == [
        0,
        0.5,
        0.75,
        1,
    ]
    assert now[Windows.price_rank](customer="a") is None
    assert now[Windows.price_rank](customer="nobody", material_cost=1) is None
    assert now[Windows.latest_rank](customer="a") == 0.5
    assert [now[Windows.same_price](customer="a", material_cost=x) for x in (20, 21)] == [0.5, 0]
    assert now[Windows.same_price](customer="nobody", material_cost=20) == -1
    assert now[Windows.same_as_latest](customer="a") == 0.25
    assert [now[Windows.order_share](customer="a", quote_id=x) for x in ("3", "5", None)] == [0.25, 0, None]
    assert now[Windows.planned](customer="a") == 1
    assert [now[Windows.planned_rank](customer=c, material_cost=10) for c in ("a", "b")] == [1, -1]
