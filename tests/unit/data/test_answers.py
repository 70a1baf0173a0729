"""An answer is found wherever it is, and as it was given."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from icekeel.core.errors import RequestError
from icekeel.core.ids import new_id
from icekeel.core.time import DAY
from icekeel.data import History
from icekeel.data.answers import Answers, Wanted, answer_columns
from icekeel.data.compaction import compact
from icekeel.journal import Positions, Predicted, Tail, Writer
from tests.unit.journal.examples import PREDICTED

MODELS = {name: answer_columns((), ()) for name in ("price", "late")}


def given(number: int) -> Predicted:
    """Every third flagged, every second of another model, five keys."""
    return msgspec.structs.replace(
        PREDICTED,
        at=number * DAY,
        id=new_id(number * DAY),
        model=("price", "late")[number % 2],
        key=f"k{number % 5}",
        unit=f"u{number % 4}",
        verdict="pass" if number % 3 else "unseen_value",
        request={"colors": float(number), "note": None},
        reasons=["never seen: ink=gold; 'quoted'"] * (number % 2),
        codes=["unseen_value:ink"] * (number % 2),
        trace=f"t{number}",
        low=1.0 if number % 2 else None,
    )


GIVEN = [given(number) for number in range(40)]


@pytest.fixture(params=[0, 17, 40], ids=["all in the journal", "some moved", "all moved"])
def answers(request: pytest.FixtureRequest, tmp_path: Path) -> Answers:
    history, journal = History(tmp_path / "history"), tmp_path / "journal"
    for at in range(0, request.param, 6):
        with Writer(journal, "serve", clock=lambda: 10) as writer:
            writer.append_many(GIVEN[at : min(at + 6, request.param)])
        compact(history, journal, {}, MODELS)
    with Writer(journal, "serve", clock=lambda: 10) as writer:
        writer.append_many(GIVEN[request.param :])
    return Answers(history, journal)


def test_by_its_id_as_it_was_given(answers: Answers) -> None:
    assert [answers.one(one.id) for one in GIVEN] == GIVEN
    assert answers.many([GIVEN[3].id, GIVEN[30].id, new_id(3 * DAY)]) == {
        one.id: one for one in (GIVEN[3], GIVEN[30])
    }


def test_what_stands_behind_a_position_is_found_without_the_rest_and_all_else_still(
    answers: Answers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tail = Tail(tmp_path / "journal", Positions())
    tail.read()
    late = [given(number) for number in (50, 51)]
    with Writer(tmp_path / "journal", "serve", clock=lambda: 20) as writer:
        writer.append_many(late)
    wanted = [*(one.id for one in late), GIVEN[3].id, GIVEN[30].id, new_id(3 * DAY)]
    found = answers.many(wanted, tail.positions)
    assert found == {one.id: one for one in (*late, GIVEN[3], GIVEN[30])}
    monkeypatch.delattr(Answers, "_many")  # what reads all that is in the journal, and history
    assert list(answers.many([one.id for one in late], tail.positions).values()) == late


@pytest.mark.parametrize(
    "unknown",
    [new_id(5 * DAY), "p1", "", "x" * 10_000, "'; DROP"],
    ids=["new", "short", "empty", "long", "quoted"],
)
def test_an_unknown_id_says_so(answers: Answers, unknown: str) -> None:
    with pytest.raises(RequestError) as caught:
        answers.one(unknown)
    assert caught.value.code == "unknown_prediction"


@pytest.mark.parametrize(
    "wanted",
    [
        Wanted(),
        Wanted(limit=7),
        Wanted(model="late"),
        Wanted(key="k3"),
        Wanted(unit="u2", model="price"),
        Wanted(verdict="flagged"),
        Wanted(verdict="pass", limit=5),
        Wanted(since=10 * DAY, until=20 * DAY),
        Wanted(before=GIVEN[12].id, limit=4),
        Wanted(key="nobody's"),
    ],
    ids=["all", "limit", "model", "key", "unit", "flagged", "passed", "time", "before", "nobody"],
)
def test_the_newest_that_are_wanted(answers: Answers, wanted: Wanted) -> None:
    fitting = [one for one in reversed(GIVEN) if wanted.fits(one)]
    assert answers.find(wanted) == fitting[: wanted.limit]


def test_page_by_page_gives_each_once(answers: Answers) -> None:
    pages: list[Predicted] = []
    while page := answers.find(Wanted(before=pages[-1].id if pages else None, limit=9)):
        pages += page
    assert pages == GIVEN[::-1]


def test_what_moves_while_it_is_looked_for_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    history, journal = History(tmp_path / "history"), tmp_path / "journal"
    with Writer(journal, "serve", clock=lambda: 10) as writer:
        writer.append_many(GIVEN)
    answers = Answers(history, journal)
    look = answers._many

    def moved(*args: object) -> dict[str, Predicted]:
        monkeypatch.undo()
        compact(history, journal, {}, MODELS)
        for segment in journal.iterdir():
            segment.unlink()
        return look(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(answers, "_many", moved)
    assert answers.one(GIVEN[4].id) == GIVEN[4]
