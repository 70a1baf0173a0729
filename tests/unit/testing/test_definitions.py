"""The oracle says what the rules say, in cases worked out by hand."""

from __future__ import annotations

from typing import Any

import pytest

import icekeel as ik
from icekeel.core.time import DAY, HOUR, parse_time
from icekeel.data.history import AVAILABLE, DELETED
from icekeel.define.expressions import Expression
from icekeel.testing.definitions import Oracle


class Ask(ik.Request):
    who: ik.Id = ik.optional()
    x: ik.Num = ik.optional()
    flag: ik.Flag = ik.optional()
    word: ik.Cat = ik.optional()
    due: ik.Time = ik.optional()


class Things(ik.Events, time="time", available="known", id="name"):
    name: ik.Id
    who: ik.Id
    amount: ik.Num = ik.optional()


def value(wanted: Expression, *rows: dict[str, Any], at: int = DAY, **request: Any) -> Any:
    oracle = Oracle({"Things": Things.icekeel_table}, {"Things": rows})
    blank = dict.fromkeys(Ask.icekeel_fields)
    return oracle.value(wanted.node, {**blank, "who": "a", **request}, at)


def row(
    name: str, time: int, amount: float | None = 1.0, *, known: int = 0, deleted: float = 0.0, who: str = "a"
) -> dict[str, Any]:
    return {
        "name": name, "who": who, "amount": amount, "time": time, "known": known,
        AVAILABLE: known, DELETED: deleted,
    }  # fmt: skip


his = Things.where(who=Ask.who)
hour = his.last("1h")


@pytest.mark.parametrize(("age", "counts"), [(0, 0), (1, 1), (HOUR, 1), (HOUR + 1, 0), (-1, 0)])
def test_the_past_begins_with_its_first_moment_and_ends_before_the_question(age: int, counts: int) -> None:
    assert value(hour.count(), row("1", DAY - age)) == counts


@pytest.mark.parametrize(("age", "counts"), [(1, 0), (0, 1), (1 - HOUR, 1), (-HOUR, 0)])
def test_the_future_begins_with_the_question(age: int, counts: int) -> None:
    assert value(his.next("1h").count(), row("1", DAY - age)) == counts


def test_an_event_is_its_newest_version_known_by_then() -> None:
    versions = [
        row("1", DAY - 5, 30.0, known=30),
        row("1", DAY - 5, 10.0, known=10),
        row("1", DAY - 5, 20.0, known=20),
        row("1", DAY - 5, 21.0, known=20),
        row("1", DAY - 5, None, known=40, deleted=1.0),
    ]
    total = his.last("1d").amount.sum()
    moments = (9, 10, 19, 20, 29, 30, 39, 40)
    shifted = [[{**one, "time": at - 1} for one in versions] for at in moments]
    assert [value(total, *rows, at=at) for rows, at in zip(shifted, moments, strict=True)] == [
        *(0.0, 10.0, 10.0, 21.0, 21.0, 30.0, 30.0, 0.0)
    ]


def test_ties_are_ordered_by_id_and_nulls_are_skipped() -> None:
    rows = [
        *(row("b", DAY - 5, 2.0), row("a", DAY - 5, 1.0), row("c", DAY - 5, None), row("z", DAY - 9, 7.0)),
        *(row("a0", DAY - 1, 9.0, who="b"), row("0", DAY - 10, None)),
    ]
    amount = hour.amount
    assert [value(one, *rows) for one in (amount.first(), amount.last(), amount.mean_of_last(2))] == [
        7,
        2,
        1.5,
    ]
    assert value(amount.change_over_last(1), *rows) == 1.0
    assert value(amount.change_over_last(3), *rows) is None
    assert value(amount.acceleration_over_last(1), *rows) == 1.0 - -6.0
    assert value(hour.minutes_since(), *rows) == 5 / 60_000_000
    assert value(hour.count(), *rows) == 5
    assert value(amount.std(), *rows) == pytest.approx((93 / 9) ** 0.5)


def test_rank_and_share_of_a_value_and_of_the_latest() -> None:
    rows = [row(str(at), DAY - 10 + at, amount) for at, amount in enumerate((5.0, 1.0, 1.0, 3.0))]
    assert value(hour.amount.rank_of(Ask.x), *rows, x=1.0) == 0.25
    assert value(hour.amount.rank_of(), *rows) == (2 + 0.5) / 4
    assert value(hour.amount.share_of(Ask.x), *rows, x=1.0) == 0.5
    assert value(hour.amount.share_of(Ask.x), *rows) is None
    assert value(hour.amount.share_of(Ask.x), x=1.0) is None


def test_a_key_that_is_null_or_unknown_has_no_events() -> None:
    assert value(hour.count(), row("1", DAY - 1), who=None) == 0
    assert value(hour.amount.max(), row("1", DAY - 1), who="b") is None
    assert value(hour.amount.max(empty=-1), row("1", DAY - 1), who="b") == -1
    assert value(Things.where().last("1h").count(), row("1", DAY - 1), who=None) == 1


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        *(
            (Ask.x / 0, None),
            (ik.ln(Ask.x - Ask.x), None),
            (ik.sqrt(-Ask.x), None),
            (ik.exp(Ask.x * 300), None),
        ),
        *((Ask.x.round(), 3), ((-Ask.x).round(), -3), ((-Ask.x).floor(), -3), (-Ask.x % 2, 1.5)),
        *((Ask.flag & (Ask.x < 0), 0), (Ask.flag & (Ask.x > 0), None), (Ask.flag | (Ask.x > 0), 1)),
        *((ik.when(Ask.flag, 1, 2), 2), (ik.cross(Ask.word, Ask.word), "a-b x a-b"), (Ask.flag.known(), 0)),
        *(
            (ik.table(Ask.word, {"x": 1}, default=7), 7),
            (Ask.word.piece("-", 1), "b"),
            (Ask.word.piece("-", 2), None),
        ),
        *((Ask.x.one_of(2.5, 3), 1), (ik.least(Ask.x, 1), 1), (Ask.x + 0 * (Ask.x / 0), None)),
    ],
)
def test_expressions_are_total_and_null_goes_through(
    wanted: Expression, expected: float | str | None
) -> None:
    assert value(wanted, x=2.5, word="a-b") == expected


def test_the_clock_is_that_of_the_place_on_the_day() -> None:
    hours = ik.part(Ask.due, "hour", tz="America/New_York")
    moments = ("2013-11-03T05:59", "2013-11-03T06:00", "2013-11-03T07:00", "2013-07-01T12:00")
    assert [value(hours, due=parse_time(moment)) for moment in moments] == [1, 1, 2, 8]
