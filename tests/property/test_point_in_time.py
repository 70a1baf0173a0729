"""Features see what was known when they were asked for, and no engine disagrees: the laws of time.

`make fuzz` compares a million values; here are a few worlds of each sort, and laws that need no oracle.
"""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import Any

import pytest

from icekeel.core.time import DAY, HOUR
from icekeel.data.history import AVAILABLE, DELETED
from icekeel.define.nodes import Windowed, walk
from icekeel.testing import fuzzing
from icekeel.testing.fuzzing import SORTS, World, by_files, by_oracle, check, differences, draw

Row = dict[str, Any]
seeds = pytest.mark.parametrize("seed", range(3))


@pytest.mark.parametrize("sort", SORTS)
@pytest.mark.parametrize("seed", range(2))
def test_every_engine_equals_the_oracle(seed: int, sort: str) -> None:
    compared, found = check(seed, sort)
    assert not found, str(found[0])
    assert compared["files"] >= 100
    assert compared["store"] >= 50
    assert compared["given"] >= 20


def test_a_difference_is_found_and_shown_by_few_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    def a_moment_late(world: World, _: Random) -> fuzzing.Answers:
        return by_oracle(replace(world, questions=[replace(one, at=one.at + 1) for one in world.questions]))

    monkeypatch.setattr(fuzzing, "ENGINES", {"late": a_moment_late})
    found = [one for seed in range(3) for one in check(seed, "exact")[1]]
    assert len(found) == 3
    for mismatch in found:
        assert sum(map(len, mismatch.world.rows.values())) <= 4
        assert "late says" in str(mismatch)
        assert "asked at" in str(mismatch)


def same(world: World, one: World, other: World) -> None:
    """Both worlds answer the questions of `world` alike, from files."""
    got, wanted = by_files(one, Random(1)), by_files(other, Random(2))
    assert len(got) == len(wanted) == len(world.questions)
    assert list(differences(world, got, wanted)) == []


@seeds
def test_rows_out_are_rows_in_and_keep_their_order(seed: int) -> None:
    world, rng = draw(seed, SORTS["exact"]), Random(seed)
    order = [rng.randrange(len(world.questions)) for _ in range(150)]  # some twice, some not at all
    mixed = replace(world, questions=[world.questions[at] for at in order])
    answers, whole = by_files(mixed, rng), by_files(world, rng)
    assert sorted(answers) == list(range(150))
    assert list(differences(mixed, answers, {place: whole[at] for place, at in enumerate(order)})) == []
    assert by_files(replace(world, questions=[]), rng) == {}


def falsified(row: Row, rng: Random) -> Row:
    lies = {"who": "hot", "sort": "u", "amount": 64.0, "size": 32.0, "good": 1.0, "label": "LIE", "due": None}
    return {**row, **{name: lie for name, lie in lies.items() if rng.random() < 0.7}}


@seeds
def test_what_is_not_yet_known_changes_nothing(seed: int) -> None:
    drawn, rng = draw(seed, SORTS["exact"]), Random(seed)
    things = drawn.rows["Things"]
    at = sorted(row[AVAILABLE] for row in things)[len(things) // 2]
    world = replace(drawn, questions=[replace(one, at=at) for one in drawn.questions])
    lies = [
        {
            **falsified(row, rng),
            "thing": rng.choice(things)["thing"],
            "happened_at": at - rng.randrange(DAY),
            DELETED: float(rng.random() < 0.3),
        }
        for row in things
        if row[AVAILABLE] > at
    ]
    assert len(lies) > 20
    known = [row for row in things if row[AVAILABLE] <= at]
    same(world, world, replace(world, rows={**drawn.rows, "Things": rng.sample(lies, len(lies)) + known}))


@seeds
def test_what_has_not_happened_changes_no_window_of_the_past(seed: int) -> None:
    drawn, rng = draw(seed, SORTS["exact"]), Random(seed)
    things = drawn.rows["Things"]
    at = sorted(row["happened_at"] for row in things)[len(things) // 2]
    past = [
        feature
        for feature in drawn.features
        if all(node.low > 0 for node in walk(feature.node) if isinstance(node, Windowed))
    ]
    world = replace(drawn, features=tuple(past), questions=[replace(one, at=at) for one in drawn.questions])
    later = [
        {**falsified(row, rng), "happened_at": row["happened_at"] + rng.randrange(30) * HOUR}
        if row["happened_at"] >= at
        else row
        for row in things
    ]
    assert later != things
    same(world, world, replace(world, rows={**drawn.rows, "Things": later}))
