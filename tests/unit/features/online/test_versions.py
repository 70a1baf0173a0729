from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import pytest

from icekeel.core.time import FOREVER
from icekeel.features.aggregates import Aggregate, Function, Span, View
from icekeel.features.online.chunks import TIME, Layout
from icekeel.features.online.versions import (
    Admitted,
    Applied,
    Batch,
    EventVersion,
    Keys,
    admit,
    changes,
    is_forgotten,
    key_name,
)

PAST = -FOREVER
LAYOUT = Layout(View("v", "t", ("k",), ("x",), (Aggregate(Function.SUM, Span(1, 100), 0),), 100, 0))


def version(
    start: int,
    *,
    name: str = "a",
    time: int = 5,
    amount: float = 1.0,
    deleted: bool = False,
    key: bytes | None = b"k",
) -> EventVersion:
    return EventVersion(name, time, start, deleted, (key,), ((amount,),))


def admitted(
    versions: Sequence[EventVersion], stored: Mapping[bytes, bytes] | None = None, horizon: int = PAST
) -> Admitted:
    return admit(Batch.of(versions), stored or {}, horizon)


def after(*versions: EventVersion) -> dict[bytes, bytes]:
    """What is remembered after these came one by one."""
    remembered: dict[bytes, bytes] = {}
    for one in versions:
        remembered |= admitted([one], remembered).remembered
    return remembered


def ends(found: Admitted) -> dict[int, int]:
    return dict(zip(found.rows.tolist(), found.ends.tolist(), strict=True))


def test_each_version_ends_where_the_next_starts() -> None:
    found = admitted([version(10), version(30), version(20)])
    assert ends(found) == {0: 20, 1: FOREVER, 2: 30}
    assert found.applied == Applied(new=1, replaced=2)


def test_a_late_version_ends_the_stored_one_before_it_and_is_ended_by_the_one_after() -> None:
    found = admitted([version(20)], after(version(10), version(30)))
    assert ends(found) == {0: 30}
    assert dict(found.endings[0]) == {key_name(b"k"): [(5, b"a", 10, 20)]}


def test_a_repeat_changes_nothing_however_zero_is_signed() -> None:
    for again in (version(10, amount=0.0), version(10, amount=-0.0)):
        found = admitted([again], after(version(10, amount=0.0)))
        assert not len(found.rows) and not found.endings[0]
        assert found.applied == Applied(duplicates=1)


@pytest.mark.parametrize(
    "other",
    [
        version(10, amount=2.0),
        version(10, amount=math.nan),
        version(10, time=6),
        version(10, key=b"m"),
        version(10, key=None),
        version(10, deleted=True),
    ],
)
def test_whatever_differs_is_no_repeat(other: EventVersion) -> None:
    assert admitted([other], after(version(10))).applied == Applied(replaced=1)


def test_of_two_with_the_same_start_the_later_holds() -> None:
    found = admitted([version(10, amount=2.0), version(10, amount=3.0)], after(version(10)))
    assert ends(found) == {1: FOREVER}
    assert dict(found.endings[0]) == {key_name(b"k"): [(5, b"a", 10, 10)]}


def test_a_deletion_is_stored_nowhere_but_ends_the_version_before_it() -> None:
    found = admitted([version(20, deleted=True)], after(version(10)))
    assert not len(found.rows)
    assert dict(found.endings[0]) == {key_name(b"k"): [(5, b"a", 10, 20)]}
    assert not admitted([version(30)], found.remembered).endings[0]


def test_remembered_is_what_a_later_question_can_meet() -> None:
    stored = after(version(10), version(20), version(30))
    one = len(stored[b"a"]) // 3
    assert len(admitted([version(40)], stored, horizon=20).remembered[b"a"]) == 3 * one
    assert len(admitted([version(40)], stored, horizon=99).remembered[b"a"]) == one
    assert is_forgotten(stored[b"a"], 1, horizon=31, oldest=6)
    assert not is_forgotten(stored[b"a"], 1, horizon=30, oldest=6)
    assert not is_forgotten(stored[b"a"], 1, horizon=31, oldest=5)


def test_changes_are_grouped_by_key_and_sorted_by_time_and_id() -> None:
    batch = Batch.of(
        [
            version(9, name="d", time=7, key=b"m"),
            version(9, name="c", time=7, key=b"k"),
            version(9, name="b", time=7, key=b"k"),
            version(9, name="e", time=3, key=b"k"),
            version(9, name="f", time=3, key=None),
            version(9, name="g", time=-200, key=b"k"),
        ]
    )
    (found,) = changes(batch, admit(batch, {}, PAST), [LAYOUT], 0, 1)
    assert found.keys == [key_name(b"k"), key_name(b"m")]
    assert found.bounds == [0, 3, 4]
    assert found.rows[:, TIME].tolist() == [3, 7, 7, 7]
    assert found.rows[:, LAYOUT.ids :].copy().view("S8")[:, 0].tolist() == [b"e", b"b", b"c", b"d"]


def test_keys_are_encoded_once_each_and_null_has_none() -> None:
    calls: list[str] = []

    def encode(value: str) -> bytes | None:
        calls.append(value)
        return value.encode() if value else None

    keys = Keys.by(["b", "", "a", "b"], encode)
    assert keys.of.tolist() == [1, -1, 0, 1]
    assert keys.names == [key_name(b"a"), key_name(b"b")]
    assert sorted(calls) == ["", "a", "b"]


def test_names_of_keys_never_meet() -> None:
    keys = [
        b"",
        b"\0",
        b"\0\0",
        b"a",
        b"a\0",
        b"a" * 15,
        b"a" * 16,
        b"a" * 15 + b"\x10",
        bytes(15),
        bytes(16),
    ]
    names = {key_name(key) for key in keys}
    assert len(names) == len(keys)
    assert {len(name) for name in names} == {16}
    assert bytes(16) not in names
