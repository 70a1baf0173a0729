"""Minutes that the keeper looks at: quiet ones say nothing, what changes is found, named and told once."""

from __future__ import annotations

import shutil
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner

import icekeel.examples.quotes
from icekeel.app import _plan
from icekeel.cli.main import cli
from icekeel.core.errors import StateError
from icekeel.core.time import DAY, HOUR, MINUTE
from icekeel.define.project import load_project
from icekeel.features.online.lmdb import writing
from icekeel.journal import Refused
from icekeel.monitoring import Signal
from icekeel.operations.alerts.alerting import Alerting
from icekeel.operations.monitors.monitor import monitor
from icekeel.operations.monitors.streams import REQUESTS, Streams
from icekeel.testing.small import TRAINED_TO

from .shipping import WORLD, Office, at_work, drain, kept, open_app, run_day


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, Signal]]:
    """What was reported, and when."""
    found: list[tuple[int, Signal]] = []
    before = Alerting.report

    def report(self: Alerting, at: int, model: str, signals: Any) -> None:
        found.extend((at, signal) for signal in signals)
        before(self, at, model, signals)

    monkeypatch.setattr(Alerting, "report", report)
    return found


def ask_changed(office: Office, day: int, **changes: Any) -> None:
    """The questions of a day, with other fields from noon on."""
    start = TRAINED_TO + day * DAY
    for row in WORLD.questions:
        if start < row["asked_at"] <= start + DAY:
            request = {name: value for name, value in row.items() if name != "asked_at"}
            late = row["asked_at"] > start + 12 * HOUR
            office.answerers["late"].answer(request | (changes if late else {}), asked_at=row["asked_at"])


def test_quiet_days_say_nothing_and_a_field_that_is_null_is_found_within_hours(
    folder: Path, told: list[tuple[int, Signal]]
) -> None:
    app = open_app(folder)
    with at_work(app) as (keeper, office):
        for day in range(3):
            run_day(keeper, office, day)
        assert told == []
        start = TRAINED_TO + 3 * DAY
        office.push(start, start + DAY)
        drain(keeper)
        ask_changed(office, 3, weight=None)
        for minute in range(1440):  # as a rehearsal's clock ticks
            office.tick(start + (minute + 1) * MINUTE)
        drain(keeper)
        at, first = next((at, one) for at, one in told if one.subject == "field")
        assert (first.name, first.change) == ("weight", "nulls")
        assert start + 12 * HOUR < at < start + 15 * HOUR
        assert start + 12 * HOUR - HOUR < first.since < at
        assert first.examples
        assert all(app.answers().one(one).request["weight"] is None for one in first.examples[:2])
        assert len([one for one in told if one[1].sentence == first.sentence]) <= 12
        with keeper._online.begin() as txn:
            before = keeper._minutes["late"].standing(txn)
    with kept(app) as again:  # nothing is looked at twice
        seen = len(told)
        drain(again)
        with again._online.begin() as txn:
            assert again._minutes["late"].standing(txn) == before
        assert len(told) == seen


def test_the_same_records_make_the_same_evidence_however_they_are_read(folder: Path, tmp_path: Path) -> None:
    found = []
    for name in ("at once", "in parts"):
        app = open_app(Path(shutil.copytree(folder, tmp_path / name)))
        with at_work(app) as (keeper, office):
            office.push(TRAINED_TO, TRAINED_TO + DAY)
            drain(keeper)
            for hour in range(0, 24, 6):
                office.ask(TRAINED_TO + hour * HOUR, TRAINED_TO + (hour + 6) * HOUR)
                if name == "in parts":
                    drain(keeper)
            office.tick(TRAINED_TO + DAY)
            drain(keeper)
            with keeper._online.begin() as txn:
                found.append(keeper._minutes["late"].standing(txn).state)
    assert found[0] == found[1]


def test_what_is_watched_can_be_asked_for(folder: Path) -> None:
    app = open_app(folder)
    with kept(app) as keeper:
        registry = app.registry()
        with pytest.raises(StateError, match="nothing of late-1"):
            monitor(app.workspace, registry, "late", keeper._online, app.clock())
        office = Office(app, keeper._online)
        for day in range(2):
            run_day(keeper, office, day)
        office.close()
        registry.close()
    (told,) = msgspec.json.decode(
        CliRunner().invoke(cli, ["monitor", "late", "--json", "--project", str(folder)]).stdout
    )
    assert told["looked_until"] == TRAINED_TO + 2 * DAY
    watched = [one for one in told["series"] if not one["blind"]]
    assert sum(one["share"] for one in watched) == pytest.approx(told["budget"]["minutes"])
    assert told["budget"]["a_year"] == 4
    assert {"field", "prediction", "guard", "source", "outcome", "traffic"} <= {
        one["subject"] for one in watched
    }
    assert all(one["share"] == 0 for one in told["series"] if one["blind"])
    assert {one["source"] for one in told["sources"]} == {"late", "Scans", "Deliveries"}
    error = told["error"]
    assert error["estimated"] == pytest.approx(error["estimated_usual"], rel=0.3)
    assert "calibrated" in error["assumes"]
    assert error["realised_rows"] > 50
    shown = CliRunner().invoke(cli, ["monitor", "--project", str(folder)]).stdout
    assert "share 2 false alarms a year" in shown


def test_requests_that_are_refused_name_the_field(folder: Path, told: list[tuple[int, Signal]]) -> None:
    with at_work(open_app(folder)) as (keeper, office):
        run_day(keeper, office, 0)
        start = TRAINED_TO + DAY
        for minute in range(60):
            office.journal.append(Refused(start + minute * MINUTE, "late", 1, {"missing_field service": 1}))
        office.tick(start + HOUR)
        drain(keeper)
    found = next(one for _, one in told if one.subject == "field")
    assert (found.name, found.change) == ("service", "nulls")


def test_after_a_rebuild_minutes_go_on_from_the_clock(folder: Path) -> None:
    """Minutes of a rebuild count no rows: to look at them would find everything missing, and learn half of every rate."""
    app = open_app(folder)
    noon = TRAINED_TO + 12 * HOUR
    with kept(app) as keeper:
        office = Office(app, keeper._online)
        office.push(TRAINED_TO, TRAINED_TO + DAY)  # a rehearsal pushes ahead of its clock
        office.tick(noon)
        drain(keeper)
        office.close()
        keeper.rebuild()
        with keeper._online.begin() as txn:
            standing = keeper._minutes["late"].standing(txn)
        assert standing.closed == noon
        assert {beat.last for beat in standing.beats.values()} == {noon}
        with keeper._online.begin() as txn:
            ahead = list(keeper._minutes["late"]._under(txn, noon // MINUTE, (TRAINED_TO + DAY) // MINUTE))
        assert len(ahead) > 50


def test_requests_that_are_refused_are_traffic(folder: Path, told: list[tuple[int, Signal]]) -> None:
    with at_work(open_app(folder)) as (keeper, office):
        run_day(keeper, office, 0)
        start = TRAINED_TO + DAY
        for minute in range(0, 2880, 2):
            at = start + minute * MINUTE
            office.journal.append(Refused(at, "late", 1, {"not_allowed service": 1}))
            office.tick(at + MINUTE)
        drain(keeper)
    assert any((one.name, one.change) == ("service", "category") for _, one in told)
    assert not [one for _, one in told if one.subject == "traffic" and one.change == "missing"]


def test_what_has_ended_is_not_told_for_days(folder: Path, told: list[tuple[int, Signal]]) -> None:
    with at_work(open_app(folder)) as (keeper, office):
        run_day(keeper, office, 0)
        start = TRAINED_TO + DAY
        for minute in range(60):
            office.journal.append(Refused(start + minute * MINUTE, "late", 1, {"missing_field service": 1}))
        for day in (1, 2):
            run_day(keeper, office, day)
    times = [at for at, one in told if one.subject == "field"]
    assert start < times[0] < start + HOUR
    assert max(times) <= start + 4 * HOUR
    assert {one.name for _, one in told if one.subject == "field"} == {"service"}


def test_what_follows_from_the_time_alone_is_not_watched() -> None:
    project = load_project(Path(icekeel.examples.quotes.__file__).parent)
    model = project.models["price"]
    streams = Streams(model, _plan(model, project), project)
    assert not {"season_sin", "season_cos"} & {column.name for _, column in streams.columns(REQUESTS)}


def test_a_clock_that_was_ahead_blinds_nobody(folder: Path) -> None:
    with at_work(open_app(folder)) as (keeper, office):
        run_day(keeper, office, 0)
        minutes, known = keeper._minutes["late"], keeper._loop.watch.baseline("late")
        assert known is not None
        right = TRAINED_TO + DAY
        for until in (right + 3_650 * DAY, right + HOUR):  # ten years ahead for a moment, then set right
            with writing(keeper._online) as txn:
                list(minutes.close(txn, until, *known, 4.0))
                assert minutes.standing(txn).closed == until


def test_minutes_of_one_version_are_not_looked_at_by_another(folder: Path) -> None:
    """Between a promotion and the next question what was counted lies in the cells of the version before."""
    with at_work(open_app(folder)) as (keeper, office):
        run_day(keeper, office, 0)
        minutes, known = keeper._minutes["late"], keeper._loop.watch.baseline("late")
        assert known is not None
        with writing(keeper._online) as txn:
            before = minutes.standing(txn).closed
            assert not list(
                minutes.close(
                    txn, TRAINED_TO + 3 * DAY, "late-9", msgspec.structs.replace(known[1], monitored=()), 4.0
                )
            )
            assert minutes.standing(txn).closed == before


def test_what_cannot_be_looked_at_is_told_and_ends_no_keeper(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object, **more: object) -> None:
        raise ValueError("cells of another kind")

    app = open_app(folder)
    with at_work(app) as (keeper, office):
        run_day(keeper, office, 0)
        monkeypatch.setattr("icekeel.operations.monitors.minutes.Minutes._found", fail)
        run_day(keeper, office, 1)
        with keeper._online.begin() as txn:
            assert keeper._minutes["late"].standing(txn).closed == TRAINED_TO + 2 * DAY
    with closing(app.registry()) as registry:
        assert "duty" in {alert.cause for alert in registry.alerts("late", open_only=True)}
