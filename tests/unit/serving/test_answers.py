"""The policies of an answer, on a trained project whose definition is varied."""

from __future__ import annotations

import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace as replace_in

from icekeel.app import App
from icekeel.core.errors import JournalError, ProjectError, RefusedError, RequestError, StateError
from icekeel.core.time import HOUR, MINUTE, SECOND
from icekeel.experiments import Arm, Arms
from icekeel.features.live import State, StateCell
from icekeel.journal import Predicted, Writer, scan
from icekeel.registry import CHALLENGER, CHAMPION
from icekeel.serving import Answer, Answerer
from icekeel.settings import Settings
from icekeel.testing.small import PROJECT, REQUEST, TRAINED_TO, train_small, write_small_project

STRANGE = {**REQUEST, "depot": "moon"}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("answers")
    write_small_project(folder)
    train_small(folder)
    app = App(folder, clock=lambda: TRAINED_TO)
    registry = app.registry()
    with app.journal("keep") as journal:
        keeper = app.keeper(registry, journal)
        keeper.step()
        keeper.close()
    registry.close()
    return folder


Open = Callable[..., tuple[Answerer, Writer]]


@pytest.fixture
def open_answerer(trained: Path) -> Iterator[Open]:
    closing: list[Any] = []

    def make(
        project: str = PROJECT, *, now: int = TRAINED_TO, rehearsal: bool = False
    ) -> tuple[Answerer, Writer]:
        (trained / "project.py").write_text(project)
        app = App(trained, Settings(rehearsal=rehearsal), clock=lambda: now)
        registry, journal, online = app.registry(), app.journal("test"), app.online(readonly=True)
        closing.extend((journal, online, registry))
        return app.answerers(registry, journal, online)["late"], journal

    yield make
    for one in closing:
        one.close()


def journaled(folder: Path, identifier: str) -> Predicted:
    return next(
        e for e in scan(folder / ".icekeel" / "journal") if isinstance(e, Predicted) and e.id == identifier
    )


def test_the_windows_are_those_of_the_time_asked(open_answerer: Open, trained: Path) -> None:
    answerer, _ = open_answerer()
    now = journaled(trained, answerer.answer(dict(REQUEST)).prediction_id)
    later = journaled(trained, answerer.answer(dict(REQUEST), asked_at=TRAINED_TO + 60 * HOUR).prediction_id)
    assert (now.at, later.at) == (TRAINED_TO, TRAINED_TO + 60 * HOUR)
    assert now.features["delivered_1d"] and later.features["delivered_1d"] == 0
    assert later.features["backlog"] is None
    assert now.prediction != later.prediction


def test_a_strange_request_is_marked_with_codes_for_the_caller_and_reasons_for_us(
    open_answerer: Open, trained: Path
) -> None:
    answerer, _ = open_answerer()
    answer = answerer.answer(STRANGE)
    entry = journaled(trained, answer.prediction_id)
    assert answer.verdict == entry.verdict == "unseen_value"
    assert answer.codes and len(entry.reasons) == len(answer.codes)


def test_where_the_project_says_so_it_is_refused_and_journaled(open_answerer: Open, trained: Path) -> None:
    answerer, _ = open_answerer(PROJECT.replace("budget=0.02", "budget=0.02, otherwise=ik.refuse()"))
    with pytest.raises(RefusedError) as caught:
        answerer.answer(STRANGE)
    fault = caught.value.faults[0]
    assert (fault.code, fault.where) == ("refused", "depot")
    entry = journaled(trained, caught.value.prediction_id)
    assert (entry.verdict, entry.version) == ("refused", "late-1")
    first, second = answerer.answer_many([STRANGE, dict(REQUEST)])
    assert isinstance(first, RequestError) and not isinstance(second, RequestError)
    assert journaled(trained, second.prediction_id).verdict == "pass"


def test_postprocessors_work_in_order(open_answerer: Open, trained: Path) -> None:
    after = "after=[ik.floor(Parcel.weight), ik.round_to(5)],\n    action="
    answerer, _ = open_answerer(PROJECT.replace("action=", after))
    answer = answerer.answer({**REQUEST, "weight": 13})
    assert answer.prediction == 15.0
    entry = journaled(trained, answer.prediction_id)
    assert entry.answer == 15.0 and 0 < entry.prediction < 1
    light = answerer.answer({**REQUEST, "weight": None})
    assert light.prediction == 0.0


@pytest.mark.parametrize(
    ("late", "rehearsal", "degraded"),
    [(9, False, []), (11, False, ["keeper_behind"]), (11, True, [])],
)
def test_an_answer_says_that_the_keeper_is_behind(
    open_answerer: Open, trained: Path, late: int, rehearsal: bool, degraded: list[str]
) -> None:
    answerer, _ = open_answerer(now=TRAINED_TO + late * SECOND, rehearsal=rehearsal)
    answer = answerer.answer(dict(REQUEST))
    assert answer.degraded == journaled(trained, answer.prediction_id).degraded == degraded
    assert answer.features_lag_s == float(late)


FRESH = PROJECT.replace('source="scans.csv"', 'source="scans.csv", fresh="4h"')
REFUSING = FRESH.replace("retrain=", 'stale=ik.Stale(after="1h", otherwise=ik.refuse()),\n    retrain=')


def test_an_answer_says_that_a_source_it_reads_has_stopped(open_answerer: Open) -> None:
    answerer, _ = open_answerer(FRESH, rehearsal=True)
    degraded = [
        answerer.answer(dict(REQUEST), asked_at=TRAINED_TO + minutes * MINUTE).degraded
        for minutes in (0, 70, 71)  # the last scan was booked 170 minutes before
    ]
    assert degraded == [[], [], ["stale:Scans"]]
    assert answerer.windows.stale(TRAINED_TO + 71 * MINUTE) == {"Scans": TRAINED_TO - 170 * MINUTE}


@pytest.mark.parametrize(
    ("minutes", "codes"), [(59, []), (61, ["keeper_behind"]), (71, ["keeper_behind", "stale_source"])]
)
def test_windows_that_are_too_old_are_refused_for_every_reason(
    open_answerer: Open, minutes: int, codes: list[str]
) -> None:
    answerer, _ = open_answerer(REFUSING, now=TRAINED_TO + minutes * MINUTE)
    if not codes:
        assert answerer.answer(dict(REQUEST)).degraded == []
        answerer.check()
        return
    for refused in (lambda: answerer.answer(dict(REQUEST)), answerer.check):
        with pytest.raises(StateError) as caught:
            refused()
        assert [fault.code for fault in caught.value.faults] == codes


def test_an_answer_says_that_there_are_no_events(
    open_answerer: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    answerer, _ = open_answerer()
    monkeypatch.setattr(StateCell, "read", lambda self, txn: State(seen=TRAINED_TO))
    answer = answerer.answer(dict(REQUEST))
    assert (answer.degraded, answer.features_age_s, answer.features_lag_s) == (["no_events"], None, 0.0)


def test_a_request_without_a_unit_is_in_no_experiment(open_answerer: Open, trained: Path) -> None:
    answerer, _ = open_answerer(PROJECT.replace("parcel_id: ik.Id", "parcel_id: ik.Id = ik.optional()", 1))
    routing = answerer.router.current
    arms = Arms("salt", (Arm(CHAMPION, 0.0), Arm(CHALLENGER, 1.0)))
    answerer.router.current = replace(routing, challenger=routing.champion, arms=arms)
    entries = [
        journaled(trained, answerer.answer({**REQUEST, "parcel_id": parcel}).prediction_id)
        for parcel in ("None", None)
    ]
    assert [(e.arm, e.share, e.unit, e.key) for e in entries] == [
        (CHALLENGER, 1.0, "None", "None"),
        (CHAMPION, 1.0, "", ""),
    ]


def test_no_batch_is_answered_that_is_not_journaled(open_answerer: Open) -> None:
    answerer, journal = open_answerer()
    journal.close()
    with pytest.raises(JournalError):
        answerer.answer_many([dict(REQUEST), {}])


def test_a_feature_defined_otherwise_is_not_served(open_answerer: Open) -> None:
    answerer, _ = open_answerer(
        PROJECT.replace('arrived.last("1d").count()', 'arrived.last("1d").count() + 1')
    )
    assert answerer.router.current.champion is None
    assert "delivered_1d" in str(answerer.router.current.problems)
    with pytest.raises(StateError) as caught:
        answerer.answer(dict(REQUEST))
    assert caught.value.code == "no_champion"


def test_a_field_that_the_guard_lost_is_told(open_answerer: Open) -> None:
    extra = "weight: ik.Num = ik.between(0, 50, optional=True)\n    fragile: ik.Flag = ik.optional()"
    kept, _ = open_answerer(PROJECT.replace("weight: ik.Num = ik.between(0, 50, optional=True)", extra))
    assert kept.answer({**REQUEST, "fragile": True}).verdict == "pass"


@contextmanager
def full_disk(folder: Path) -> Iterator[None]:
    """No file may grow beyond the size of the newest segment."""
    newest = max((folder / ".icekeel" / "journal").glob("*.jnl"))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (newest.stat().st_size + 10, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_while_the_journal_cannot_be_written_nothing_is_answered(open_answerer: Open, trained: Path) -> None:
    answerer, _ = open_answerer()
    with full_disk(trained):
        with pytest.raises(JournalError):
            answerer.answer(dict(REQUEST))
        with pytest.raises(JournalError):
            answerer.answer_many([dict(REQUEST)] * 2)
    assert answerer.answer(dict(REQUEST)).degraded == []


def test_a_project_may_want_answers_that_no_journal_has(
    open_answerer: Open, trained: Path, caplog: pytest.LogCaptureFixture
) -> None:
    answerer, journal = open_answerer(
        PROJECT.replace("    retrain=", "    unlogged=ik.mark(),\n    retrain=")
    )
    with full_disk(trained):
        one = answerer.answer(dict(REQUEST))
        many = answerer.answer_many([dict(REQUEST), {}, dict(REQUEST)])
    assert one.degraded == ["unlogged"]
    assert [isinstance(got, RequestError) or got.degraded == ["unlogged"] for got in many] == [True] * 3
    assert [record.message for record in caplog.records] == ["answers_unlogged"]  # once, not for each
    after = answerer.answer(dict(REQUEST))
    assert after.degraded == []
    journal.close()
    known = {entry.id for entry in scan(trained / ".icekeel" / "journal", kinds=Predicted)}
    assert after.prediction_id in known
    assert one.prediction_id not in known


def test_a_policy_for_what_is_unlogged_is_one_of_two(open_answerer: Open) -> None:
    with pytest.raises(ProjectError) as caught:
        open_answerer(PROJECT.replace("    retrain=", "    unlogged=True,\n    retrain="))
    assert [fault.code for fault in caught.value.faults] == ["wrong_type"]


def test_a_batch_gives_each_row_the_bits_that_it_gets_alone(open_answerer: Open, trained: Path) -> None:
    answerer, _ = open_answerer()
    champion = answerer.router.current.champion
    assert champion is not None
    arms = Arms("salt", (Arm(CHAMPION, 0.5), Arm(CHALLENGER, 0.5)))
    answerer.router.current = replace(
        answerer.router.current, challenger=replace(champion, name="late-2"), arms=arms
    )
    depots = ("north", "south", "moon")
    rows: list[Any] = [{**REQUEST, "parcel_id": f"p{at}", "depot": depots[at % 3]} for at in range(40)]
    rows[3], rows[9] = {}, {**rows[9], "depot": 7}
    alone: list[Any] = []
    for row in rows:
        try:
            alone.append(answerer.answer(row, asked_at=TRAINED_TO))
        except RequestError as error:
            alone.append(error)
    together = answerer.answer_many(rows, asked_at=TRAINED_TO)
    assert [_said(one) for one in together] == [_said(one) for one in alone]
    assert {one.arm for one in together if isinstance(one, Answer)} == {CHAMPION, CHALLENGER}
    assert {one.verdict for one in together if isinstance(one, Answer)} > {"pass"}
    kept = {
        entry.id: replace_in(entry, id="", cpu_us=0, served_at=0)
        for entry in scan(trained / ".icekeel" / "journal")
        if isinstance(entry, Predicted)
    }
    for one, other in zip(together, alone, strict=True):
        if isinstance(one, Answer):
            assert repr(kept[one.prediction_id]) == repr(kept[other.prediction_id])


def _said(answer: Answer | RequestError) -> str:
    if isinstance(answer, RequestError):
        return repr(answer.faults)
    return repr(replace_in(answer, prediction_id=""))
