"""When the schedule begins what, and what follows from how that ends."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from icekeel.app import App
from icekeel.core.time import DAY, HOUR, MINUTE, SECOND, parse_time
from icekeel.operations.alerts.alerting import Alerting
from icekeel.operations.ledger import ALIVE, alive, as_known
from icekeel.operations.loop import schedule as scheduling
from icekeel.operations.loop.schedule import Cadence, Schedule, Task, _audited, _taken_in, tasks_of
from icekeel.operations.runs import AUDIT, BACKUP, COMPACT, INGEST, MIRROR, Ended, Note, Runs
from icekeel.operations.workshop.audits import blocked_by
from icekeel.registry import Registry
from icekeel.registry.records import Json
from icekeel.settings import load_settings
from icekeel.testing.small import write_small_project

from .test_retention import written

NOW = parse_time("2024-04-01")
EVERY = Task(INGEST, "Scans", ("ingest", "Scans"), ("late",), 60.0, HOUR)
ROW = {
    "source": "scans.csv",
    "kept": 5,
    "changed": 0,
    "deleted": 0,
    "quarantined": 0,
    "skipped": 2,
    "reasons": {},
}


class Children:
    """Stands for `Runs`: notes what was begun in the real ledger; each ends as the test says, when it says so."""

    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        self.running: dict[str, tuple[str, Json]] = {}
        self.begun: list[str] = []
        self.ending: list[Ended] = []

    def mine(self, kind: str) -> bool:
        return kind in self.running

    def begin(self, kind: str, command: Sequence[str], details: Json, *, limit_s: float) -> bool:
        self.begun.append(f"{kind} {details['of']}".strip())
        self.running[kind] = (self.registry.start_run(kind, details=details), details)
        return True

    def end(self, kind: str, status: str, at: int, result: Any = None, words: str = "") -> None:
        run, details = self.running.pop(kind)
        began = next(one.started_at for one in self.registry.runs(kind) if one.id == run)
        self.ending.append(Ended(run, kind, details, began, status, result, words, at))

    def poll(self, note: Note) -> list[Ended]:
        ending, self.ending = self.ending, []
        for one in ending:
            self.registry.finish_run(one.run, one.status, details={**one.details, **note(one)}, at=one.at)
        return ending


class World:
    """A schedule over a real registry, in a time that only the test moves."""

    def __init__(self, app: App, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = NOW
        self.app = app
        self.registry = Registry(app.places.registry, clock=lambda: self.now)
        self.watch = Alerting(app.workspace, self.registry, app.journal("test"))
        self.children = Children(self.registry)
        monkeypatch.setattr(scheduling, "time", self)

    def monotonic(self) -> float:
        return self.now / SECOND

    def schedule(self, *tasks: Task) -> Schedule:
        return Schedule(tasks, self.children, self.registry, self.watch, lambda: self.now)  # type: ignore[arg-type]

    def begins(self, schedule: Schedule, after: int = 0) -> list[str]:
        self.now += after
        self.children.begun.clear()
        schedule.poll()
        return list(self.children.begun)

    def open_alerts(self) -> list[tuple[str, str]]:
        return [(one.cause, str(one.evidence["title"])) for one in self.registry.alerts(open_only=True)]


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    write_small_project(tmp_path)
    made = World(App(tmp_path), monkeypatch)
    yield made
    made.registry.close()


def test_what_has_an_interval_is_begun_once_in_it(world: World) -> None:
    schedule = world.schedule(EVERY)
    assert world.begins(schedule) == ["ingest Scans"]
    assert world.begins(schedule, after=HOUR) == []  # it is still under way
    world.children.end(INGEST, "done", world.now, [ROW])
    assert world.begins(schedule) == ["ingest Scans"]
    world.children.end(INGEST, "done", world.now, [ROW])
    assert world.begins(schedule, after=HOUR - SECOND) == []
    assert world.begins(schedule, after=SECOND) == ["ingest Scans"]


def test_what_was_missed_is_done_once_and_what_was_interrupted_at_once(world: World) -> None:
    first = world.schedule(EVERY)
    world.begins(first)
    world.children.end(INGEST, "done", world.now, [ROW])
    first.poll()
    assert world.begins(world.schedule(EVERY), after=MINUTE) == []
    later = world.schedule(EVERY)
    assert world.begins(later, after=9 * HOUR) == ["ingest Scans"]
    world.children.end(INGEST, "interrupted", world.now)
    later.poll()
    assert world.begins(world.schedule(EVERY), after=SECOND) == ["ingest Scans"]


def test_a_clock_that_was_set_back_makes_nothing_wait(world: World) -> None:
    schedule = world.schedule(EVERY)
    world.begins(schedule)
    world.children.end(INGEST, "failed", world.now, words="no")
    schedule.poll()
    world.now -= 300 * DAY
    assert world.begins(world.schedule(EVERY)) == ["ingest Scans"]


def test_what_failed_is_tried_again_ever_more_rarely_and_alarms_until_it_goes_well(world: World) -> None:
    schedule, pauses = world.schedule(EVERY), []
    for _ in range(9):
        began = world.now
        while not world.begins(schedule, after=10 * SECOND):
            assert world.now < began + 2 * HOUR
        pauses.append(world.now - began)
        world.children.end(INGEST, "failed", world.now, words="cannot read scans.csv")
        schedule.poll()
    assert pauses[1:] == [min(MINUTE << n, HOUR) for n in range(8)]
    (alert,) = world.registry.alerts(open_only=True)
    assert (alert.cause, alert.evidence["sentences"], alert.evidence["times"]) == (
        "ingest Scans", ["cannot read scans.csv"], 9
    )  # fmt: skip
    assert "icekeel ingest Scans" in alert.todo
    again = world.schedule(EVERY)  # a keeper that starts anew waits as long
    assert world.begins(again, after=HOUR - SECOND) == []
    assert world.begins(again, after=SECOND) == ["ingest Scans"]
    world.children.end(INGEST, "done", world.now, [ROW])
    again.poll()
    assert world.open_alerts() == []


def test_rows_set_aside_open_an_alert_of_their_source_that_a_good_run_does_not_close(world: World) -> None:
    schedule = world.schedule(replace(EVERY, said=lambda rows: _taken_in("Scans", rows)))
    world.begins(schedule)
    bad = {**ROW, "quarantined": 3, "reasons": {"minutes.at_least": 3}}
    world.children.end(INGEST, "done", world.now, [bad])
    schedule.poll()
    assert world.registry.runs(INGEST)[0].details["did"] == "5 kept, 3 quarantined, 2 skipped"
    (alert,) = world.registry.alerts(open_only=True)
    assert (alert.cause, alert.model) == ("source Scans", "late")
    assert alert.evidence["sentences"] == ["scans.csv: 3 rows set aside (minutes.at_least: 3)"]
    world.begins(schedule, after=HOUR)
    world.children.end(INGEST, "done", world.now, [ROW])
    schedule.poll()
    assert [cause for cause, _ in world.open_alerts()] == ["source Scans"]


def test_a_result_or_a_state_that_cannot_be_read_does_not_end_the_keeper(world: World) -> None:
    def broken() -> int:
        raise OSError("no such folder")

    unreadable = replace(EVERY, of="Orders", kind=COMPACT, state=broken)
    schedule = world.schedule(replace(EVERY, said=lambda rows: _taken_in("Scans", rows)), unreadable)
    assert world.begins(schedule) == ["ingest Scans"]
    world.children.end(INGEST, "done", world.now, [{"table": "Scans"}])
    schedule.poll()
    assert world.registry.runs(INGEST)[0].details["did"] == "table Scans"


def test_a_training_that_was_killed_is_told_from_one_that_lives(world: World) -> None:
    folder = world.app.places.runs
    with alive(folder, NOW) as lock:
        for model, name in (("late", "gone.alive"), ("left", "left.alive"), ("other", lock)):
            world.registry.start_run("training", details={"model": model, ALIVE: name}, at=NOW)
        (folder / "left.alive").touch()
        known = as_known(world.registry.runs("training"), folder)
        assert [run.status for run in known] == ["killed", "killed", "running"]
    assert [run.status for run in as_known(known[2:], folder)] == ["killed"]  # without a word in the ledger
    assert [run.status for run in world.registry.runs("training")] == ["running"] * 3


def test_an_audit_that_blocks_alarms_until_one_does_not(world: World) -> None:
    task = Task(
        AUDIT, "late", ("audit", "late"), ("late",), 60.0, HOUR, said=lambda result: _audited("late", result)
    )
    schedule = world.schedule(task)

    def audited(verdict: str) -> list[tuple[str, str]]:
        assert world.begins(schedule, after=HOUR) == ["audit late"]
        found = {"audit": "leakage", "verdict": verdict, "what": "ghost tells the target", "todo": "drop it"}
        world.children.end(AUDIT, "done", world.now, {"audits": [found]})
        schedule.poll()
        return world.open_alerts()

    assert audited("block") == [("audit late", "leakage block the training of late")]
    assert audited("block") == [("audit late", "leakage block the training of late")]
    assert audited("warn") == []


def test_what_blocks_is_what_each_audit_said_the_last_time(world: World) -> None:
    def kept(at: int, **verdicts: str) -> None:
        findings = [{"audit": name, "verdict": verdict} for name, verdict in verdicts.items()]
        run = world.registry.start_run(AUDIT, details={"model": "late", "findings": findings}, at=at)
        world.registry.finish_run(run, "done", at=at)

    assert blocked_by(world.registry, "late") == (0, [])
    kept(5, leakage="block", labels="pass")
    world.registry.start_run(
        AUDIT, details={"of": "late"}, at=6
    )  # that of the schedule, which holds no findings
    kept(7, labels="block")
    assert blocked_by(world.registry, "late") == (7, ["leakage", "labels"])
    kept(8, leakage="pass")
    assert blocked_by(world.registry, "late") == (8, ["labels"])
    assert blocked_by(world.registry, "other") == (0, [])


def test_what_follows_a_state_runs_when_that_is_another(world: World) -> None:
    state: list[int | None] = [None]
    task = Task(MIRROR, "", ("models", "mirror"), ("late",), 60.0, state=lambda: state[0])
    schedule = world.schedule(task)
    assert world.begins(schedule, after=MINUTE) == []
    state[0] = 4
    assert world.begins(schedule, after=MINUTE) == ["mirror"]
    world.children.end(MIRROR, "done", world.now, [])
    assert world.begins(schedule, after=MINUTE) == []
    state[0] = 5
    assert world.begins(schedule, after=MINUTE) == ["mirror"]


def test_the_tasks_of_a_project(world: World) -> None:
    def names(cadence: Cadence) -> list[str]:
        return [task.name for task in tasks_of(world.app.workspace, world.registry, cadence)]

    sourced = [f"ingest {name}" for name, table in world.app.project.tables.items() if table.source]
    assert sourced
    assert names(Cadence()) == ["compact"]
    assert names(Cadence(ingest=HOUR, audit=DAY, backup=DAY)) == [*sourced, "audit late", "compact"]
    assert names(Cadence(backup=DAY, backup_to="/b", mirrored=True)) == ["compact", "mirror", "backup"]
    (task,) = [
        one for one in tasks_of(world.app.workspace, world.registry, Cadence(audit=DAY)) if one.kind == AUDIT
    ]
    assert task.state() is None  # until a version serves there is nothing to be vouched for


def test_settings_say_how_often(tmp_path: Path) -> None:
    write_small_project(tmp_path)
    (tmp_path / "icekeel.toml").write_text(
        'ingest_every = "15m"\nbackup_to = "../b"\nkeep_backups = 3\nlongest_run = "2h"\n'
    )
    found = App(tmp_path, load_settings(tmp_path)).cadence
    assert (found.ingest, found.audit, found.backup) == (15 * MINUTE, 7 * DAY, DAY)
    assert (found.backup_to, found.keep_backups) == (str(tmp_path.parent / "b"), 3)
    assert (found.ingest_limit_s, found.limit_s) == (3_600, 7_200)


def test_much_in_the_journal_alone_is_moved_by_a_child(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("icekeel.operations.upkeep.retention.MOST_UNMOVED", 1)
    write_small_project(tmp_path)
    app = App(tmp_path)
    written(app)
    registry = app.registry()
    runs = Runs(registry, app.places.runs, {}, clock=app.clock)
    with app.journal("test") as journal:
        watch = Alerting(app.workspace, registry, journal)
        schedule = Schedule(
            list(tasks_of(app.workspace, registry, app.cadence)), runs, registry, watch, app.clock
        )
        end = time.monotonic() + 60
        while [run.status for run in registry.runs(COMPACT)][:1] != ["done"]:
            assert time.monotonic() < end, "it does not come about"
            time.sleep(0.02)
            schedule.poll()
        schedule.stop()
    assert app.history().manifest().rows("answers/late")
    assert BACKUP not in {run.kind for run in registry.runs()}
    registry.close()
