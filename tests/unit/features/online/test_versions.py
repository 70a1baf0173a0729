from __future__ import annotations

import numpy as np

from icekeel.core.time import FOREVER
from icekeel.features.online.versions import EventVersion, History, id_bytes, remember


def version(start: int, *, time: int = 5, amount: float = 1.0, deleted: bool = False) -> EventVersion:
    return EventVersion("a", time, start, deleted, (b"k",), ((amount,),))


def changes(history: History) -> list[tuple[int, int, bool]]:
    return [(found.start, end, event is not None) for found, end, event in history.rows()]


def test_each_version_ends_where_the_next_starts() -> None:
    history = History([])
    assert history.admit(version(10)) and history.admit(version(30)) and history.admit(version(20))
    assert changes(history) == [(30, FOREVER, True), (20, 30, True), (10, 20, True)]


def test_a_late_version_ends_the_stored_one_before_it_and_is_ended_by_the_one_after() -> None:
    history = History([remember(version(10)), remember(version(30))])
    assert history.admit(version(20))
    assert changes(history) == [(20, 30, True), (10, 20, False)]


def test_a_repeat_changes_nothing() -> None:
    history = History([remember(version(10))])
    assert not history.admit(version(10))
    assert changes(history) == []


def test_of_two_with_the_same_start_the_later_holds() -> None:
    history = History([remember(version(10))])
    assert history.admit(version(10, amount=2.0)) and history.admit(version(10, amount=3.0))
    (overruled, end, event), (_, _, kept) = history.rows()
    assert (overruled.start, end, event) == (10, 10, None)
    assert kept is not None and kept.values == ((3.0,),)


def test_a_deletion_is_stored_nowhere_but_ends_the_version_before_it() -> None:
    history = History([remember(version(10))])
    assert history.admit(version(20, deleted=True))
    assert next((found.keys, end) for found, end, _ in history.rows()) == ((None,), FOREVER)
    assert changes(history)[1] == (10, 20, False)


def test_kept_is_what_a_later_question_can_meet() -> None:
    history = History([remember(version(start)) for start in (10, 20, 30)])
    assert [one.start for one in history.kept(20)] == [20, 30]
    assert [one.start for one in history.kept(99)] == [30]


def test_ids_sort_as_text_and_survive_fixed_width() -> None:
    texts = sorted(["", "a", "aé", "a\U0001f600", "b", "z" * 80, "a" * 64])
    assert sorted(map(id_bytes, texts)) == [id_bytes(text) for text in texts]
    odd = ["a", "a\0", "a\0\0", "x" * 70 + "1", "x" * 70 + "2"]
    fixed = np.array([id_bytes(text) for text in odd], "S")
    assert len(set(fixed.tolist())) == len(odd)
    assert all(len(id_bytes(text)) <= 64 for text in odd)
