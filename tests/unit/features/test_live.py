"""Features of one request from the online store, and keys: what is served is what the definitions say."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lmdb
import pytest

import icekeel as ik
from icekeel.core.errors import StateError
from icekeel.core.time import DAY, HOUR
from icekeel.define import Feature
from icekeel.features.live import (
    EventFeed,
    LiveFeatures,
    State,
    StateCell,
    all_views,
    encode_key,
    outcome_key,
)
from icekeel.features.online import LmdbWindows, TextCodes, open_environment, writing
from icekeel.features.plan import make_plan
from icekeel.journal import Pushed
from icekeel.operations.projections.projections import EventProjection


class Ask(ik.Request):
    who: ik.Id = ik.optional()
    sort: ik.Cat = ik.optional()
    x: ik.Num = ik.optional()


class Things(ik.Events, time="happened_at", id="thing"):
    thing: ik.Id
    who: ik.Id
    sort: ik.Cat = ik.optional()
    amount: ik.Num = ik.optional()


his = Things.where(who=Ask.who).last("1d")


class Past(ik.Features):
    same_sort = his.sort.share_of(Ask.sort)
    same_as_latest = his.sort.share_of()
    rank = his.amount.rank_of(Ask.x)
    rank_of_latest = his.amount.rank_of()
    rank_of_double = his.amount.rank_of(Ask.x * 2)
    acceleration = his.amount.acceleration_over_last(1)
    last_sort = his.sort.last()
    after_null = his.amount.sum()


FIELDS = tuple(Ask.icekeel_fields.values())
PLAN = make_plan(FIELDS, Past.icekeel_features)
TABLES = {"Things": Things.icekeel_table}
ROWS: list[dict[str, Any]] = [
    {"thing": f"t{i}", "who": "a", "sort": sort, "amount": amount, "happened_at": i * HOUR}
    for i, (sort, amount) in enumerate([("u", 1.0), (None, 4.0), ("v", None), ("u", 4.0), ("é", 2.0)])
]
NOTHING = [None, None, None, None, None, None, None, 0.0]
SERVED: list[tuple[tuple[str | None, str | None, float | None], list[Any]]] = [
    (("a", "u", 4.0), [0.5, 0.25, 0.75, 0.375, 1.0, -2.0, "é", 11.0]),
    (("a", "é", 1.5), [0.25, 0.25, 0.25, 0.375, 0.5, -2.0, "é", 11.0]),
    (("a", "never seen", -9.0), [0.0, 0.25, 0.0, 0.375, 0.0, -2.0, "é", 11.0]),
    (("a", None, None), [None, 0.25, None, 0.375, None, -2.0, "é", 11.0]),
    (("stranger", "u", 1.0), NOTHING),
    ((None, "u", 1.0), NOTHING),
]


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[lmdb.Environment]:
    with open_environment(tmp_path, map_size=1 << 26) as opened:
        yield opened


def project(environment: lmdb.Environment, *pushes: Pushed) -> int:
    lookups = all_views([PLAN])
    feed = EventFeed(TABLES, lookups, TextCodes(environment))
    projection = EventProjection(feed, LmdbWindows(environment, [one.view for one in lookups]))
    cell = StateCell(environment)
    with writing(environment) as txn:
        newest = projection.apply(txn, pushes)
        cell.write(txn, State(serial=7, known_until=newest))
    return newest


def live(environment: lmdb.Environment) -> LiveFeatures:
    return LiveFeatures(environment, PLAN, [one.view for one in all_views([PLAN])])


def test_what_is_served_is_what_the_definitions_say(environment: lmdb.Environment) -> None:
    project(environment, Pushed(5 * HOUR, "Things", ROWS[:2]), Pushed(5 * HOUR, "Things", ROWS[2:]))
    features = live(environment)
    for request, wanted in SERVED:
        read = features.read(request, 6 * HOUR)
        assert read.values == wanted, request
        assert read.state == State(serial=7, known_until=5 * HOUR)


def test_a_projection_tells_the_newest_start_and_leaves_other_tables_aside(
    environment: lmdb.Environment,
) -> None:
    assert project(environment, Pushed(3, "Others", [{"id": "x"}])) == 0
    assert project(environment, Pushed(4, "Things", [])) == 0
    assert project(environment, Pushed(9, "Things", ROWS[:1]), Pushed(8, "Things", ROWS[1:2])) == 9
    assert live(environment).state().known_until == 9


def test_several_pushes_are_one_batch_and_a_repeat_none(environment: lmdb.Environment) -> None:
    corrected = {**ROWS[3], "amount": 10.0}
    pushes = [
        Pushed(5 * HOUR, "Things", ROWS),
        Pushed(6 * HOUR, "Things", [corrected]),
        Pushed(5 * HOUR, "Things", ROWS),
    ]
    project(environment, *pushes)
    features = live(environment)
    total = PLAN.features.index(next(one for one in PLAN.features if one.name == "after_null"))
    assert features.read(["a", None, None], 6 * HOUR - 1).values[total] == 11.0
    assert features.read(["a", None, None], 6 * HOUR).values[total] == 17.0
    assert features.read(["a", None, None], 3 * DAY).values[total] == 0.0


def test_an_environment_without_windows_is_refused(environment: lmdb.Environment, tmp_path: Path) -> None:
    with open_environment(tmp_path / "other") as other:
        del other
    with open_environment(tmp_path / "other", readonly=True) as other, pytest.raises(StateError) as caught:
        live(other)
    assert caught.value.code == "state_missing"


def test_a_single_text_is_its_own_key() -> None:
    assert outcome_key(["Q000123"]) == "Q000123"
    assert outcome_key(["None"]) == "None"


def test_parts_do_not_run_together() -> None:
    pairs = [("a\x1fb", "c"), ("a", "b\x1fc"), ("1:a", ""), ("", "1:a"), ("a", "b"), ("ab", "")]
    assert len({outcome_key(pair) for pair in pairs}) == len(pairs)


def test_a_number_is_the_same_whole_or_not_and_zero_however_it_is_signed() -> None:
    assert outcome_key([3, "a"]) == outcome_key([3.0, "a"]) != outcome_key([3.5, "a"])
    assert encode_key([-0.0]) == encode_key([0]) == encode_key([0.0])


@pytest.mark.parametrize("parts", [[None], [None, "a"], ["a", None]])
def test_null_meets_nothing(parts: list[str | None]) -> None:
    assert outcome_key(parts) == ""


def test_what_cannot_be_read_is_as_never_seen() -> None:
    class Ask(ik.Request):
        who: ik.Id

    class Things(ik.Events, time="at", id="thing"):
        thing: ik.Id
        who: ik.Id
        amount: ik.Num

    his = Things.where(who=Ask.who).last("1d")
    windows = [his.count(), his.amount.sum(), his.amount.distinct(), his.amount.mean(), his.amount.last()]
    features = [Feature(f"f{at}", one.node) for at, one in enumerate(windows)]
    plan = make_plan(tuple(Ask.icekeel_fields.values()), features)
    assert plan.compile()(["a"], 0, plan.unseen()) == [0.0, 0.0, 0.0, None, None]
    assert [ik.given().at("2025-01-01")[one](who="a") for one in windows] == [0.0, 0.0, 0.0, None, None]
