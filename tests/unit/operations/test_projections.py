"""Answers joined with what came of them, whichever version of an event is the newest."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lmdb
import msgspec
import pytest

from icekeel.app import App
from icekeel.core.time import DAY, HOUR, parse_time
from icekeel.data import AVAILABLE
from icekeel.journal import Pushed
from icekeel.operations.projections import AnswerProjection, Settled
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
