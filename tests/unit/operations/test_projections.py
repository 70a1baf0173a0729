"""Answers joined with what came of them, whichever version of an event is the newest."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lmdb
import msgspec
import pytest

import icekeel as ik
from icekeel.app import App
from icekeel.core.time import DAY, HOUR, parse_time
from icekeel.data import AVAILABLE, DELETED, History, ingest
from icekeel.journal import Pushed
from icekeel.operations.projections.past import stored_rows
from icekeel.operations.projections.projections import AnswerProjection, Settled
from icekeel.testing.small import write_small_project
from tests.unit.journal.examples import PREDICTED

T0 = parse_time("2024-03-01")
ASKED = msgspec.structs.replace(PREDICTED, at=T0, model="late", key="p", verdict="refused")


Joined = tuple[lmdb.Environment, AnswerProjection]


@pytest.fixture
def joined(tmp_path: Path) -> Iterator[Joined]:
    """Of an outcome that is open until its window ends."""
    write_small_project(tmp_path / "small")
    project = tmp_path / "small" / "project.py"
    project.write_text(project.read_text().replace(".latest(", ".max("))
    app = App(tmp_path / "small", clock=lambda: T0)
    with lmdb.open(str(tmp_path / "online"), max_dbs=8) as environment:
        yield environment, AnswerProjection(environment, app.model("late"), app.project)


def delivered(at: int, late: float, known: int) -> Pushed:
    row: dict[str, Any] = {
        "parcel_id": "p",
        "depot": "north",
        "minutes_late": late,
        "delivered_at": at,
        AVAILABLE: known,
    }
    return Pushed(at=known, table="Deliveries", rows=[row])


def settle(joined: Joined, events: list[Pushed]) -> list[Settled]:
    environment, answers = joined
    with environment.begin(write=True) as txn:
        answers.answered(txn, [ASKED], lambda record: {})
        answers.happened(txn, events)
        answers.close(txn, T0 + 3 * DAY)
        return list(answers.settled(txn, 0, T0 + 9 * DAY))


def test_an_answer_is_settled_with_its_verdict(joined: Joined) -> None:
    (row,) = settle(joined, [delivered(T0 + HOUR, 60.0, T0 + HOUR)])
    assert (row.target, row.verdict) == (1.0, "refused")


@pytest.mark.parametrize("moved_to", [T0 - HOUR, T0 + 2 * DAY])
def test_a_correction_that_moves_an_event_out_of_the_window_takes_it_away(
    joined: Joined, moved_to: int
) -> None:
    events = [delivered(T0 + HOUR, 60.0, T0 + HOUR), delivered(moved_to, 60.0, T0 + 2 * HOUR)]
    assert settle(joined, events) == []


def test_a_correction_that_moves_an_event_into_the_window_counts(joined: Joined) -> None:
    events = [delivered(T0 - HOUR, 0.0, T0 + HOUR), delivered(T0 + HOUR, 60.0, T0 + 2 * HOUR)]
    assert [row.target for row in settle(joined, events)] == [1.0]


@pytest.mark.parametrize("turned", [False, True], ids=["as told", "the repetition read first"])
@pytest.mark.parametrize(("minutes", "since"), [(60.0, 2 * DAY + 6 * HOUR), (61.0, 2 * DAY + 12 * HOUR)])
def test_what_is_told_again_is_known_since_it_was_first_told(
    joined: Joined, minutes: float, since: int, turned: bool
) -> None:
    """Told again, or corrected, when its window is over and before the midnight at which that is looked at."""
    environment, answers = joined
    events = [
        delivered(T0 + 7 * HOUR, 60.0, T0 + 7 * HOUR),
        delivered(T0 + 7 * HOUR, minutes, T0 + 2 * DAY + 12 * HOUR),
    ]
    with environment.begin(write=True) as txn:
        asked = msgspec.structs.replace(ASKED, at=T0 + 6 * HOUR)
        answers.answered(txn, [asked], lambda record: {})
        answers.happened(txn, events[::-1] if turned else events)
        answers.close(txn, T0 + 3 * DAY)
        (row,) = answers.settled(txn, 0, T0 + 9 * DAY)
    assert (row.target, row.settled_at) == (1.0, T0 + since)


def test_answers_made_up_for_later_are_settled_by_the_midnight_that_was_due(joined: Joined) -> None:
    environment, answers = joined
    events = [delivered(T0 + HOUR, 60.0, T0 + HOUR), delivered(T0 + HOUR, 1.0, T0 + 5 * DAY)]
    with environment.begin(write=True) as txn:
        answers.answered(txn, [ASKED], lambda record: {})
        answers.happened(txn, events)
        answers.close(txn, T0 + 8 * DAY)
        (row,) = answers.settled(txn, 0, T0 + 9 * DAY)
    assert (row.target, row.settled_at) == (1.0, T0 + 2 * DAY)


GONE: dict[str, Any] = dict.fromkeys(("parcel_id", "depot", "minutes_late", "delivered_at"))
"""A row that deletes says no more than which id."""


def deleted(known: int) -> Pushed:
    row = GONE | {"delivery": "d", DELETED: 1.0, AVAILABLE: known}
    return Pushed(at=known, table="Deliveries", rows=[row])


def event(at: int, late: float, known: int, parcel: str | None = "p") -> Pushed:
    row = {"delivery": "d", "parcel_id": parcel, "minutes_late": late, "delivered_at": at, AVAILABLE: known}
    return Pushed(at=known, table="Deliveries", rows=[GONE | row])


@pytest.fixture
def by_id(tmp_path: Path) -> Iterator[Joined]:
    """Of an outcome whose events have an id that is not the key by which answers meet them."""
    write_small_project(tmp_path / "small")
    project = tmp_path / "small" / "project.py"
    text = project.read_text().replace(".latest(", ".max(").replace('id="parcel_id"', 'id="delivery"')
    project.write_text(text.replace('at its door."""\n', 'at its door."""\n\n    delivery: ik.Id'))
    app = App(tmp_path / "small", clock=lambda: T0)
    with lmdb.open(str(tmp_path / "online"), max_dbs=8) as environment:
        yield environment, AnswerProjection(environment, app.model("late"), app.project)


EVENT = event(T0 + HOUR, 60.0, T0 + HOUR)


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize(
    ("versions", "wanted"),
    [
        ([EVENT], [1.0]),
        ([EVENT, deleted(T0 + 2 * HOUR)], []),
        ([EVENT, deleted(T0 + 2 * HOUR), event(T0 + HOUR, 5.0, T0 + 3 * HOUR)], [0.0]),
        ([EVENT, event(T0 + HOUR, 60.0, T0 + 2 * HOUR, "another")], []),
        ([EVENT, event(T0 + HOUR, 60.0, T0 + 2 * HOUR, None)], []),
        ([event(T0 + HOUR, 60.0, T0 + HOUR, "another"), event(T0 + HOUR, 60.0, T0 + 2 * HOUR)], [1.0]),
        ([EVENT, deleted(T0 + 3 * DAY + 1)], [1.0]),
    ],
)
def test_a_deletion_by_id_and_a_change_of_key_take_the_outcome_away(
    by_id: Joined, versions: list[Pushed], wanted: list[float], turned: bool
) -> None:
    """In whichever order they are read."""
    events = versions[::-1] if turned else versions
    assert [row.target for row in settle(by_id, events)] == wanted


def test_an_event_is_forgotten_with_all_its_versions_or_not_at_all(by_id: Joined) -> None:
    environment, answers = by_id
    planned = T0 + 20 * DAY
    with environment.begin(write=True) as txn:
        answers.happened(txn, [event(planned, 60.0, T0), deleted(T0 + HOUR)])
        answers.forget(txn, T0 + 19 * DAY)  # the deletion is old, what it deletes is not
        late = msgspec.structs.replace(ASKED, at=planned - HOUR)
        answers.answered(txn, [late], lambda record: {})
        answers.close(txn, planned + 3 * DAY)
        assert list(answers.settled(txn, 0, planned + 9 * DAY)) == []
        moved = [event(T0, 60.0, T0, "q"), event(planned, 60.0, T0 + HOUR, "q")]
        answers.happened(
            txn, [msgspec.structs.replace(one, rows=[one.rows[0] | {"delivery": "e"}]) for one in moved]
        )
        answers.forget(txn, T0 + 19 * DAY)  # nor is what it was moved to
        answers.answered(txn, [msgspec.structs.replace(late, key="q")], lambda record: {})
        answers.close(txn, planned + 3 * DAY)
        assert [row.target for row in answers.settled(txn, 0, planned + 9 * DAY)] == [1.0]
        answers.forget(txn, planned + 9 * DAY)
        for database in (b"happened", b"happened_ids"):
            assert txn.stat(environment.open_db(database, txn, create=False))["entries"] == 0


class Bookings(ik.Events, time="starts_at", available="known_at", id="booking", deleted="void"):
    booking: ik.Id
    void: ik.Flag = ik.optional()


def test_of_a_stored_file_what_happened_or_became_known_since_is_read_again(tmp_path: Path) -> None:
    rows = [
        ("old", T0 - DAY, T0 - DAY, ""),
        ("old", "", T0, "true"),
        ("late", T0 - DAY, T0, ""),
        ("new", T0, T0, ""),
    ]
    lines = ["booking,starts_at,known_at,void", *(",".join(map(str, row)) for row in rows)]
    (tmp_path / "rows.csv").write_text("\n".join(lines))
    history = History(tmp_path / "history")
    (taken,) = ingest(history, Bookings.icekeel_table, [tmp_path / "rows.csv"])
    assert taken.kept == 4
    (file,) = history.files("Bookings")
    found = [row for rows in stored_rows(file, Bookings.icekeel_table, since=T0, batch=2) for row in rows]
    assert [(row["booking"], row["starts_at"], row[DELETED]) for row in found] == [
        ("old", None, 1.0),
        ("late", T0 - DAY, 0.0),
        ("new", T0, 0.0),
    ]
