"""The skew audit: no alarm for what is late, one with feature, rows and cause for every fault that is planted."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from icekeel.compile import compile_row
from icekeel.core.time import DAY, HOUR, MINUTE
from icekeel.data import AVAILABLE, DELETED
from icekeel.data.merging import merge
from icekeel.features.online.lmdb import LmdbWindows
from icekeel.journal import Pushed
from icekeel.operations.loop.keeper import Keeper
from icekeel.operations.skew import skew as audits
from icekeel.operations.skew.skew import Auditor, AuditResult
from icekeel.testing.small import TRAINED_TO, write_rows

from .commands import icekeel
from .shipping import WORLD, Office, at_work, drain, kept, open_app, run_day


@pytest.fixture
def working(folder: Path) -> Iterator[tuple[Keeper, Office]]:
    """A keeper that has read all there is, and an office that pushes and asks."""
    with at_work(open_app(folder)) as (keeper, office):
        drain(keeper)
        yield keeper, office


def audit(keeper: Keeper, limit: int = 200) -> AuditResult:
    return Auditor(keeper._workspace, keeper._online).audit("late", limit)


def sentence(result: AuditResult, feature: str) -> str:
    return next(one for one in result.sentences() if one.startswith(f"{feature}:"))


def scan(name: str, happened: int, backlog: float, known: int) -> dict[str, Any]:
    return {"scan_id": name, "depot": "north", "backlog": backlog, "scanned_at": happened, "booked_at": known}


# No fault, no alarm


def test_all_that_was_served_is_what_history_gives(working: tuple[Keeper, Office]) -> None:
    keeper, office = working
    for day in range(3):
        run_day(keeper, office, day)
    result = audit(keeper)
    assert (result.rows, result.features, result.differences) == (180, 7, ())
    assert (result.late, result.left_out) == (0, {})


def test_a_keeper_that_lags_raises_no_alarm(working: tuple[Keeper, Office]) -> None:
    keeper, office = working
    for hour in range(TRAINED_TO, TRAINED_TO + DAY, 3 * HOUR):
        office.push(hour, hour + 3 * HOUR)
        if hour % (6 * HOUR):
            drain(keeper)
        office.ask(hour, hour + 3 * HOUR)
    drain(keeper)
    result = audit(keeper)
    assert (result.rows, result.differences) == (60, ())
    assert result.late > 10


def test_a_file_that_comes_late_raises_no_alarm_and_is_counted(
    folder: Path, working: tuple[Keeper, Office]
) -> None:
    keeper, office = working
    run_day(keeper, office, 0)
    late = [scan(f"late{n}", TRAINED_TO + n * HOUR, 900.0 + n, TRAINED_TO + n * HOUR) for n in range(20)]
    write_rows(folder / "scans.csv", late)
    office.app.clock = lambda: TRAINED_TO + DAY + HOUR
    assert [one.kept for one in office.app.ingest(["Scans"])] == [20]
    before = audit(keeper)
    drain(keeper)
    after = audit(keeper)
    assert (before.rows, before.differences, after.rows, after.differences) == (60, (), 60, ())
    assert before.late == after.late > 3
    run_day(keeper, office, 1)
    two = audit(keeper)
    assert (two.rows, two.differences) == (120, ())
    history = office.app.history()
    count = len(history.files("Scans"))
    merge(history, 2)
    assert len(history.files("Scans")) < count
    assert audit(keeper) == two  # each row is still seen from when its own file was


def test_servers_that_read_different_commits_at_one_time_are_both_compared(
    working: tuple[Keeper, Office],
) -> None:
    keeper, office = working
    for hour in range(TRAINED_TO + 6 * HOUR, TRAINED_TO + 12 * HOUR, HOUR):
        office.push(hour, hour + HOUR)
        office.ask(TRAINED_TO, TRAINED_TO + DAY, every=7)  # the same times, each time further in the journal
        drain(keeper)
    result = audit(keeper)
    assert (result.rows, result.differences) == (54, ())
    assert result.late > 5


def test_corrections_and_deletions_are_seen_from_their_position_on(working: tuple[Keeper, Office]) -> None:
    keeper, office = working
    office.push(TRAINED_TO, TRAINED_TO + 6 * HOUR)
    drain(keeper)
    office.ask(TRAINED_TO + 7 * HOUR, TRAINED_TO + 9 * HOUR)
    for depot in ("north", "south", "east", "west"):
        moved = scan(f"{depot}-60-3", TRAINED_TO + 2 * HOUR, 77.0, TRAINED_TO + 6 * HOUR)
        assert office.intake.push("Scans", [{**moved, "depot": depot}]).kept == 1
    office.ask(TRAINED_TO + 9 * HOUR, TRAINED_TO + 10 * HOUR)
    drain(keeper)
    office.ask(TRAINED_TO + 10 * HOUR, TRAINED_TO + 12 * HOUR)
    drain(keeper)
    result = audit(keeper)
    assert result.rows > 10
    assert result.differences == ()
    assert result.late > 2


def test_a_file_may_move_an_event_out_of_every_window(folder: Path, working: tuple[Keeper, Office]) -> None:
    keeper, office = working
    office.push(TRAINED_TO, TRAINED_TO + DAY)
    drain(keeper)
    moved = scan("north-60-9", TRAINED_TO - 40 * DAY, 1.0, TRAINED_TO + 10 * HOUR)
    write_rows(folder / "scans.csv", [moved])
    office.app.clock = lambda: TRAINED_TO + DAY
    office.app.ingest(["Scans"])
    drain(keeper)
    office.ask(TRAINED_TO, TRAINED_TO + DAY)
    drain(keeper)
    result = audit(keeper)
    assert (result.rows, result.differences) == (60, ())


def test_an_older_version_that_comes_later_is_never_the_newest(working: tuple[Keeper, Office]) -> None:
    keeper, office = working
    for depot in ("north", "south", "east", "west"):
        newer = scan(depot, TRAINED_TO + 5 * HOUR, 80.0, TRAINED_TO + 6 * HOUR)
        office.intake.push("Scans", [{**newer, "depot": depot}])
    drain(keeper)
    office.ask(TRAINED_TO + 6 * HOUR, TRAINED_TO + 9 * HOUR)
    for depot in ("north", "south", "east", "west"):
        older = scan(depot, TRAINED_TO + 5 * HOUR, 20.0, TRAINED_TO + 5 * HOUR)
        office.intake.push("Scans", [{**older, "depot": depot}])
    drain(keeper)
    office.ask(TRAINED_TO + 9 * HOUR, TRAINED_TO + 12 * HOUR)
    drain(keeper)
    result = audit(keeper)
    assert result.rows > 10
    assert result.differences == ()


# A fault, an alarm with its cause


def tamper(keeper: Keeper, *rows: dict[str, Any]) -> None:
    """Give the online store versions of events that neither journal nor history has."""
    with keeper._online.begin(write=True) as txn:
        keeper._events.apply(txn, [Pushed(at=TRAINED_TO, table="Scans", rows=[dict(row)]) for row in rows])


def version(name: str, happened: int, backlog: float, known: int, *, deleted: bool = False) -> dict[str, Any]:
    return scan(name, happened, backlog, known) | {AVAILABLE: known, DELETED: float(deleted)}


NINE, BOOKED = TRAINED_TO + 9 * HOUR, TRAINED_TO + 9 * HOUR + 10 * MINUTE


def ask_a_day(keeper: Keeper, office: Office) -> AuditResult:
    office.ask(TRAINED_TO, TRAINED_TO + DAY)
    drain(keeper)
    return audit(keeper)


def test_a_row_that_the_store_lost_is_named(working: tuple[Keeper, Office]) -> None:
    keeper, office = working
    office.push(TRAINED_TO, TRAINED_TO + DAY)
    drain(keeper)
    tamper(keeper, version("north-60-9", NINE, 0.0, BOOKED, deleted=True))
    result = ask_a_day(keeper, office)
    cause = result.causes["backlog_trend"]
    assert set(result.counts) == {"backlog", "backlog_trend"}
    assert (cause.kind, cause.todo.split(",")[0]) == ("rows", "Run `icekeel rebuild`")
    text = sentence(result, "backlog_trend")
    assert result.of("backlog_trend")[0].prediction_id in text
    assert "the online windows lack Scans north-60-9 (scanned_at 2024-03-01T09:00:00Z" in text
    assert "known from 2024-03-01T09:10:00Z, projected 20" in text


def test_a_value_that_the_store_changed_is_named(working: tuple[Keeper, Office]) -> None:
    keeper, office = working

    office.push(TRAINED_TO, TRAINED_TO + DAY)
    drain(keeper)
    tamper(keeper, version("north-60-9", NINE, 31.25, BOOKED))
    result = ask_a_day(keeper, office)
    assert "the online windows hold another version of Scans north-60-9" in sentence(result, "backlog")
    assert {row for one in result.differences for row in [one.feature]} == {"backlog", "backlog_trend"}


def test_a_row_that_history_lacks_is_named(working: tuple[Keeper, Office]) -> None:
    keeper, office = working
    tamper(keeper, version("ghost", TRAINED_TO + HOUR, 500.0, TRAINED_TO + HOUR))
    result = ask_a_day(keeper, office)
    assert result.causes["backlog_trend"].kind == "history"
    assert "history lacks Scans ghost (scanned_at 2024-03-01T01:00:00Z)" in sentence(result, "backlog_trend")


def test_a_row_that_was_lacking_and_has_come_since_is_found_by_leaving_it_out(
    working: tuple[Keeper, Office],
) -> None:
    keeper, office = working
    office.push(TRAINED_TO, TRAINED_TO + DAY)
    drain(keeper)
    (pushed,) = [row for row in WORLD.scans if row["scan_id"] == "north-60-9"]
    tamper(keeper, version("north-60-9", NINE, 0.0, BOOKED, deleted=True))
    office.ask(TRAINED_TO, TRAINED_TO + DAY)
    tamper(keeper, version("north-60-9", NINE, pushed["backlog"], BOOKED))
    drain(keeper)
    result = audit(keeper)
    text = sentence(result, "backlog_trend")
    assert "the online windows lacked Scans north-60-9" in text
    assert text.endswith("when it was read")


def test_windows_that_compute_otherwise_are_named(
    working: tuple[Keeper, Office], monkeypatch: pytest.MonkeyPatch
) -> None:
    keeper, office = working
    office.push(TRAINED_TO, TRAINED_TO + DAY)
    drain(keeper)
    plain = LmdbWindows.read

    def wrong(self: LmdbWindows, *arguments: Any) -> list[float]:
        return [value + 1 for value in plain(self, *arguments)]

    monkeypatch.setattr(LmdbWindows, "read", wrong)
    result = ask_a_day(keeper, office)
    assert set(result.counts) >= {"backlog", "late_1d", "delivered_1d"}
    assert {result.causes[name].kind for name in ("backlog", "late_1d", "delivered_1d")} == {"windows"}
    assert "hold the same rows of Deliveries" in sentence(result, "delivered_1d")


def test_an_expression_that_is_compiled_wrongly_is_named(
    working: tuple[Keeper, Office], monkeypatch: pytest.MonkeyPatch
) -> None:
    keeper, office = working
    plain = compile_row

    def wrong(nodes: Any, leaf: Any, arguments: str) -> Any:
        row = plain(nodes, leaf, arguments)
        return lambda *given: [
            value + 0.5 if isinstance(value, float) and node.kind == "num" else value
            for node, value in zip(nodes, row(*given), strict=True)
        ]

    monkeypatch.setattr("icekeel.features.plan.compile_row", wrong)
    office.answerers = office.app.answerers(office.registry, office.journal, keeper._online)
    result = ask_a_day(keeper, office)
    assert {cause.kind for cause in result.causes.values()} == {"expression"}
    assert "its two compilations give" in sentence(result, "weight")
    told = icekeel(office.app.folder, "audit", "late", "--only", "skew", status=1)
    assert told["blocked"]
    said = told["audits"][0]["evidence"]
    assert said["rows"] == 60
    row = next(row for row in said["differences"] if row["feature"] == "weight")
    assert abs(row["served"] - row["recomputed"] - 0.5) < 1e-9
    assert (row["cause"], row["answers"]) == ("code", len(row["prediction_ids"]) + 40)
    monkeypatch.undo()  # as if the server ran other code than the keeper
    result = audit(keeper)
    assert result.causes["weight"].kind == "code"
    assert "Start the servers again" in result.causes["weight"].todo


def test_the_keeper_raises_an_alert_at_the_end_of_the_day(
    working: tuple[Keeper, Office], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("icekeel.operations.loop.keeper.REHEARSED_DAYS", 1)
    keeper, office = working
    run_day(keeper, office, 0)
    assert [alert for alert in keeper._registry.alerts("late") if alert.cause == "skew"] == []
    at = TRAINED_TO + 21 * HOUR
    tamper(keeper, version("north-60-21", at, 0.0, at + 10 * MINUTE, deleted=True))
    run_day(keeper, office, 1)
    (alert,) = [alert for alert in keeper._registry.alerts("late") if alert.cause == "skew"]
    assert alert.todo.startswith("Run `icekeel rebuild`")
    assert "lack Scans north-60-21" in " ".join(alert.evidence["sentences"])


# What cannot be compared is counted


def test_answers_without_a_known_position_are_counted(working: tuple[Keeper, Office]) -> None:
    keeper, office = working
    run_day(keeper, office, 0)
    with keeper._online.begin(write=True) as txn:
        keeper._reach.forget(txn, remembered=1)
    result = audit(keeper)
    assert (result.rows, result.left_out) == (0, {audits.UNKNOWN: 60})


def test_answers_under_other_definitions_are_counted(folder: Path, working: tuple[Keeper, Office]) -> None:
    keeper, office = working
    run_day(keeper, office, 0)
    project = folder / "project.py"
    project.write_text(project.read_text().replace("late_1d = arrived", "late_1d = 2 * arrived"))
    changed = open_app(folder)
    result = Auditor(changed.workspace, keeper._online).audit("late")
    assert (result.rows, result.left_out) == (0, {audits.OTHER: 60})


def test_answers_whose_journal_is_gone_are_counted(folder: Path, working: tuple[Keeper, Office]) -> None:
    keeper, office = working
    office.push(TRAINED_TO, TRAINED_TO + 6 * HOUR)
    drain(keeper)
    audit(keeper)
    other = open_app(folder).journal("other")
    with other:
        rows = [scan("x", TRAINED_TO + HOUR, 5.0, TRAINED_TO + HOUR) | {AVAILABLE: TRAINED_TO + HOUR}]
        other.append(Pushed(at=TRAINED_TO + HOUR, table="Scans", rows=rows))
    drain(keeper)
    (segment,) = (folder / ".icekeel" / "journal").glob("*-other-*")
    segment.unlink()
    asked = office.ask(TRAINED_TO + 6 * HOUR, TRAINED_TO + 12 * HOUR)
    result = audit(keeper)
    assert (result.rows, result.left_out) == (0, {audits.GONE: asked})


def test_a_serial_of_a_commit_that_was_lost_is_not_known(folder: Path) -> None:
    app = open_app(folder)
    with kept(app) as keeper:
        drain(keeper)
        lost = keeper.state.serial + 1
    with kept(app) as keeper:
        drain(keeper)
        assert keeper.state.serial > lost + 1000
        assert set(keeper._reach.at([lost - 1, lost, keeper.state.serial])) == {lost - 1, keeper.state.serial}


def test_without_an_online_state_nothing_is_compared(folder: Path, working: tuple[Keeper, Office]) -> None:
    keeper, office = working
    run_day(keeper, office, 0)
    shutil.rmtree(office.app.places.online)
    assert (result := office.app.audit("late")).rows == 0
    assert result.left_out == {audits.UNKNOWN: 60}
