from __future__ import annotations

import math
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from icekeel.app import App
from icekeel.core.errors import Fault, JournalError
from icekeel.core.time import DAY, HOUR
from icekeel.data import AVAILABLE, History
from icekeel.experiments import RolloutPlan, RolloutState, Verdict
from icekeel.journal import Decided, Ingested, Pushed, scan
from icekeel.operations.loop import keeper as keepers
from icekeel.operations.loop import loop as loops
from icekeel.operations.monitors.watch import Duty
from icekeel.operations.skew.skew import Auditor
from icekeel.operations.trials import trials as trialing
from icekeel.registry import CHALLENGER, CHAMPION, SHADOW, Decision, Registry
from icekeel.testing.small import TRAINED_TO, train_small, write_small_project

from .shipping import (
    SETTINGS,
    WORLD,
    Office,
    at_work,
    drain,
    kept,
    open_app,
    run_day,
    settled,
    windows,
)


class Crash(BaseException):
    """The end of the process, which no handler of errors sees."""


def crash(*_: Any, **__: Any) -> None:
    raise Crash


def alias_changes(registry: Registry) -> list[tuple[str, str, str, int]]:
    return [(change.alias, change.action, change.version, change.at) for change in registry.history("late")]


def told(folder: Path) -> Counter[str]:
    return Counter(record.id for record in scan(open_app(folder).places.journal, kinds=Decided))


PLACES = {
    "before the alias": (Registry, "set_alias"),
    "between promoting and dropping": (Registry, "drop_alias"),
    "before the retraining": (loops.Loop, "_retrain"),
    "before the day is done": (loops.Loop, "finish"),
}


def after_three_days(plan: RolloutPlan, state: RolloutState) -> Verdict:
    return Verdict("promote" if state.days >= 3 else "continue", f"{state.primary}", {})


@pytest.fixture(autouse=True, scope="module")
def decided_soon() -> Iterator[None]:
    """Whether evidence suffices is proven elsewhere; here every experiment ends after three days."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trialing, "judge", after_three_days)
        yield


def play(folder: Path, days: int = 6) -> list[Any]:
    with at_work(open_app(folder)) as (keeper, office):
        for day in range(days):
            run_day(keeper, office, day)
        drain(keeper)
        registry = keeper._registry
        decisions = [(one.kind, one.version, one.reason, one.at) for one in registry.decisions()]
        return [
            alias_changes(registry),
            decisions,
            [alert.id for alert in registry.alerts()],
            settled_facts(keeper),
        ]


def settled_facts(keeper: Any) -> list[Any]:
    return sorted(
        (row.unit, row.settled_at, row.version, row.prediction, row.target) for row in settled(keeper)
    )


@pytest.fixture(scope="module")
def smooth(made: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """What six days without a crash come to."""
    return play(Path(shutil.copytree(made, tmp_path_factory.mktemp("smooth") / "small")))


def test_six_days_decide_the_experiment(smooth: list[Any]) -> None:
    assert [kind for kind, *_ in smooth[1]] == ["promote", "start_experiment", "promote"]
    assert len(smooth[3]) > 300


@pytest.mark.parametrize("where", PLACES)
def test_a_day_that_broke_off_is_done_once_more_and_comes_to_the_same(
    folder: Path, smooth: list[Any], where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner, name = PLACES[where]
    app = open_app(folder)
    crashes = 0
    for day in range(6):
        with at_work(app) as (keeper, office), monkeypatch.context() as patch:
            patch.setattr(owner, name, crash)
            try:
                run_day(keeper, office, day)
            except Crash:
                crashes += 1
        with kept(app) as keeper:
            drain(keeper)
    with kept(app) as keeper:
        drain(keeper)
        drain(keeper)
        registry = keeper._registry
        decisions = [(one.kind, one.version, one.reason, one.at) for one in registry.decisions()]
        again = [
            alias_changes(registry),
            decisions,
            [alert.id for alert in registry.alerts()],
            settled_facts(keeper),
        ]
        ids = Counter(decision.id for decision in registry.decisions())
    assert crashes >= 1
    assert again[1] == smooth[1]
    assert again[0] == smooth[0]
    assert again[2:] == smooth[2:]
    assert told(folder) == ids


def test_a_duty_that_fails_raises_an_alert_and_the_rest_is_done(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def bad(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError("a bad outcome")

    with at_work(open_app(folder)) as (keeper, office):
        monkeypatch.setattr(keeper._loop, "do", bad)
        for day in range(2):
            run_day(keeper, office, day)
        drain(keeper)
        (alert,) = [one for one in keeper._registry.alerts("late") if one.cause == "duty"]
        assert alert.evidence["title"] == "watch, judge, retrain of late failed"
        assert alert.evidence["sentences"] == ["ZeroDivisionError: a bad outcome"]
        assert keeper._loop.done() == keeper.state.now == TRAINED_TO + 2 * DAY
        monkeypatch.setattr(
            keeper._loop, "do", lambda *_: (_ for _ in ()).throw(JournalError(Fault("full", "full")))
        )
        with pytest.raises(JournalError):
            keeper._do(Duty(TRAINED_TO // DAY + 2, TRAINED_TO + 3 * DAY))


def test_the_journal_hears_of_a_decision_that_a_crash_kept_from_it(folder: Path) -> None:
    app = open_app(folder)
    registry = app.registry()
    registry.record(Decision(id="left", at=5, model="late", kind="block", version="late-1", reason="r"))
    registry.close()
    for _ in range(2):
        with kept(app) as keeper:
            drain(keeper)
            drain(keeper)
    assert told(folder)["left"] == 1


def test_an_ingest_that_breaks_off_hides_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_small_project(tmp_path / "small")
    app = open_app(tmp_path / "small")
    with monkeypatch.context() as patch:
        patch.setattr(History, "replace", crash)
        with pytest.raises(Crash):
            app.ingest(["Scans"])
    app.ingest([])
    assert len(list(scan(app.places.journal, kinds=Ingested))) == 3
    listed = {file.name for files in app.history().manifest().tables.values() for file in files}
    assert {record.file for record in scan(app.places.journal, kinds=Ingested)} == listed


def test_ingested_outcomes_settle_answers(folder: Path) -> None:
    app = open_app(folder)
    with at_work(app) as (keeper, office):
        drain(keeper)
        office.ask(TRAINED_TO, TRAINED_TO + DAY)
        drain(keeper)
        assert settled(keeper) == []
        rows = [row for row in WORLD.deliveries if TRAINED_TO <= row["delivered_at"] < TRAINED_TO + DAY]
        lines = ["parcel_id,depot,minutes_late,delivered_at"]
        lines += [f"{r['parcel_id']},{r['depot']},{r['minutes_late']},{r['delivered_at']}" for r in rows]
        (folder / "deliveries.csv").write_text("\n".join(lines))
        app.clock = lambda: TRAINED_TO + DAY
        app.ingest(["Deliveries"])
        drain(keeper)
        assert len(settled(keeper)) > 40


def test_other_windows_get_an_environment_of_their_own(folder: Path) -> None:
    app = open_app(folder)
    with at_work(app) as (keeper, office):
        run_day(keeper, office, 0)
        before, state = windows(app, keeper._online), keeper.state
    project = folder / "project.py"
    project.write_text(project.read_text().replace('here.last("6h")', 'here.last("5h")'))
    changed = open_app(folder)
    assert changed.places.online != app.places.online
    with kept(changed) as keeper:
        assert keeper.state.pushed == state.pushed
        drain(keeper)
        assert keeper.state.now == TRAINED_TO + DAY
        assert len(list(app.places.online.parent.iterdir())) == 1
    project.write_text(project.read_text().replace('here.last("5h")', 'here.last("6h")'))
    with kept(open_app(folder)) as keeper:
        assert windows(app, keeper._online) == before


def test_served_features_equal_recomputed_ones_with_late_and_corrected_rows(folder: Path) -> None:
    app = open_app(folder)
    with at_work(app) as (keeper, office):
        for hour in range(TRAINED_TO, TRAINED_TO + DAY, 3 * HOUR):
            office.push(hour, hour + 3 * HOUR)
            late = {
                "scan_id": f"late-{hour}",
                "depot": "north",
                "backlog": 99.5,
                "scanned_at": hour - 5 * HOUR,
                "booked_at": hour + HOUR,
            }
            corrected = {
                **late,
                "scan_id": "north-59-21",
                "backlog": float(hour % 71),
                "scanned_at": hour - 2 * HOUR,
            }
            assert office.intake.push("Scans", [late, corrected]).kept == 2
            drain(keeper)
            office.ask(hour, hour + 3 * HOUR)
        drain(keeper)
    result = app.audit("late", 200)
    assert (result.rows, result.features, result.differences) == (60, 7, ())


def test_a_difference_is_found_with_its_feature_and_cause(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("icekeel.operations.loop.keeper.REHEARSED_DAYS", 7)
    never_journaled: dict[str, float | int | str | bool | None] = {
        "scan_id": "ghost",
        "depot": "north",
        "backlog": 500.0,
        "scanned_at": TRAINED_TO + DAY - HOUR,
        AVAILABLE: TRAINED_TO + DAY - HOUR,
    }
    with at_work(open_app(folder)) as (keeper, office):
        run_day(keeper, office, 0)
        with keeper._online.begin(write=True) as txn:
            keeper._events.apply(txn, [Pushed(at=TRAINED_TO + DAY, table="Scans", rows=[never_journaled])])
        for day in range(1, 8):
            run_day(keeper, office, day)
        alert = next(alert for alert in keeper._registry.alerts("late") if alert.cause == "skew")
    text = " ".join(alert.evidence["sentences"])
    assert "backlog" in text
    assert "history lacks Scans ghost" in text or "by no single row" in text
    assert "delivered_1d" not in text


def test_an_answer_that_was_behind_is_compared_with_what_had_been_projected(folder: Path) -> None:
    app = open_app(folder)
    with at_work(app) as (keeper, office):
        drain(keeper)
        office.push(TRAINED_TO, TRAINED_TO + 6 * HOUR)
        drain(keeper)
        asked = office.ask(TRAINED_TO + 7 * HOUR, TRAINED_TO + 12 * HOUR)
        office.push(TRAINED_TO + 6 * HOUR, TRAINED_TO + DAY)
        drain(keeper)
        result = Auditor(app.workspace, keeper._online).audit("late")
    assert (result.rows, result.differences, result.left_out) == (asked, (), {})
    assert result.late > 5


def test_the_same_snapshot_code_and_seed_give_the_same_bundle(tmp_path: Path) -> None:
    digests = []
    for name in ("one", "two"):
        write_small_project(tmp_path / name)
        digests.append(train_small(tmp_path / name, settings=SETTINGS, rung="lightgbm").digest)
    assert digests[0] == digests[1]


def test_a_retrain_runs_in_a_child_and_its_version_goes_into_shadow(folder: Path) -> None:
    app = open_app(folder)
    registry = app.registry()
    registry.set_alias("late", CHAMPION, "late-2", reason="test", by="test", at=TRAINED_TO)
    registry.drop_alias("late", CHALLENGER, reason="test", by="test", at=TRAINED_TO)
    registry.close()
    april = TRAINED_TO + 31 * DAY
    with at_work(app) as (keeper, office):
        office.tick(april - DAY)
        drain(keeper)
        office.tick(april)
        drain(keeper)
        (run,) = keeper._registry.runs("train")
        assert run.status == "done", run.details["output"]
        assert [one.kind for one in keeper._registry.decisions()][-1] in (
            "start_shadow",
            "unchanged",
            "block",
        )


def test_under_pressure_events_come_first_and_what_is_not_asked_in_shadow_is_marked(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More waits than one step reads: the keeper scores no version in shadow until it has caught up."""
    app = open_app(folder)
    registry = app.registry()
    registry.drop_alias("late", CHALLENGER, reason="test", by="test", at=TRAINED_TO)
    registry.set_alias("late", SHADOW, "late-2", share=0.0, reason="test", by="test", at=TRAINED_TO)
    registry.close()
    monkeypatch.setattr(keepers, "LARGEST_READ", 4_000)
    with kept(app) as keeper:
        keeper._rehearsal = False  # virtual time waits for the keeper, so there is never any pressure
        monkeypatch.setattr(keeper, "_do_due", lambda now, seen: None)
        said: list[float] = []
        monkeypatch.setattr(
            keeper._answers["late"],
            "answered",
            lambda txn, records, shadows: said.extend(shadows(record)["late-2"] for record in records),
        )
        office = Office(app, keeper._online)
        office.push(TRAINED_TO, TRAINED_TO + DAY)
        drain(keeper)
        office.ask(TRAINED_TO, TRAINED_TO + DAY)
        drain(keeper)
        office.close()
    assert math.isnan(said[0])
    assert not math.isnan(said[-1])


def test_a_clock_that_was_set_back_is_told_and_nothing_is_done_twice(tmp_path: Path) -> None:
    folder, now = tmp_path / "project", [TRAINED_TO + 2 * DAY]
    write_small_project(folder)
    train_small(folder)
    app = App(folder, clock=lambda: now[0])
    registry = app.registry()
    with app.journal("keep") as journal:
        keeper = app.keeper(registry, journal)
        drain(keeper)
        decisions, state = registry.decisions(), keeper.state
        now[0] -= DAY
        for _ in range(3):
            keeper.step()
        assert [(one.cause, one.diagnosis) for one in registry.alerts(open_only=True)] == [("clock", "code")]
        assert keeper.state.now == state.now
        assert [one for one in registry.decisions() if one.kind != "repair"] == decisions
        now[0] += DAY + HOUR
        keeper.step()
        assert keeper.state.now > state.now
        keeper.close()
    registry.close()
