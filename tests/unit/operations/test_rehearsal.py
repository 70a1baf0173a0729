from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from icekeel.app import App
from icekeel.console import render
from icekeel.console.rehearsal import lead, rehearsal_page
from icekeel.core.errors import SettingsError
from icekeel.core.time import DAY, HOUR, MINUTE
from icekeel.data import AVAILABLE
from icekeel.define.project import load_project
from icekeel.define.rehearsed import MECHANISMS, events_file, questions_file, rehearsed_text
from icekeel.operations.rehearsal.course import Course
from icekeel.operations.rehearsal.faults import KINDS, Change, Planned
from icekeel.operations.rehearsal.past import Past, past_of
from icekeel.operations.rehearsal.places import Places
from icekeel.operations.rehearsal.plan import Plan, Wish, Wishes, make_plan, read_plan
from icekeel.operations.rehearsal.result import judged
from icekeel.operations.rehearsal.stream import Stream
from icekeel.registry import Alert
from icekeel.testing.small import TRAINED_TO, write_small_project

START = TRAINED_TO - 3 * DAY
Row = dict[str, Any]


@pytest.fixture(scope="module")
def past(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("rehearsal")
    write_small_project(folder)
    app = App(folder, clock=lambda: TRAINED_TO)
    app.ingest([])
    with past_of(app.workspace, app.model("late"), None, now=TRAINED_TO) as found:
        yield found


@pytest.fixture(scope="module")
def places(past: Past) -> Places:
    return Places(past, START)


def change(places: Places, kind: str, where: str, size: float = 1.0, lasts: int = DAY) -> Change:
    planned = Planned(kind, where, START, START + lasts, size)
    return KINDS[kind].make(planned, places, np.random.default_rng(0))


def played(past: Past, *changes: Change) -> tuple[dict[str, list[Row]], list[tuple[int, Row]]]:
    """The rows by table in the order in which they are sent, and the questions, of a day."""
    rows: dict[str, list[Row]] = {name: [] for name in past.tables}
    asked: list[tuple[int, Row]] = []
    for step in Stream(past, START, START + DAY, changes).steps():
        for name, found in step.events.items():
            rows[name] += map(dict, found)
            assert all(step.start < row[AVAILABLE] <= step.end for row in found)
        asked += [(at, dict(request)) for at, request in step.questions]
        assert all(step.start < at <= step.end for at, _ in step.questions)
    return rows, asked


def test_without_faults_a_day_is_as_it_was(past: Past) -> None:
    rows, asked = played(past)
    assert rows["Scans"] == past.rows("Scans", START, START + DAY)
    assert len(rows["Scans"]) == 32
    assert asked == past.questions(START, START + DAY)
    assert len(asked) == 60


def test_rows_come_late_not_at_all_twice_and_out_of_order(past: Past, places: Places) -> None:
    plain = played(past)[0]["Scans"]
    late = change(places, "feed_late", "Scans", size=120)
    delayed = played(past, late)[0]["Scans"]
    by_id = {row["scan_id"]: row for row in plain}
    assert [row["booked_at"] - by_id[row["scan_id"]]["booked_at"] for row in delayed] == [2 * HOUR] * len(
        delayed
    )
    assert all(row[AVAILABLE] == row["booked_at"] for row in delayed)
    assert late.shown == plain[0][AVAILABLE]
    assert played(past, change(places, "feed_missing", "Scans"))[0]["Scans"] == []
    twice = played(past, change(places, "feed_doubled", "Scans", size=2))[0]["Scans"]
    assert sorted(row["scan_id"] for row in twice) == sorted([*by_id, *by_id])
    mixed = change(places, "feed_reordered", "Scans")
    shuffled = played(past, mixed)[0]["Scans"]
    assert shuffled != plain
    assert sorted(map(str, shuffled)) == sorted(map(str, plain))
    assert mixed.shown


def test_an_outcome_without_a_time_of_availability_comes_late_all_the_same(
    past: Past, places: Places
) -> None:
    plain = {row["parcel_id"]: row for row in played(past)[0]["Deliveries"]}
    rows = played(past, change(places, "outcomes_late", "Deliveries", size=60))[0]["Deliveries"]
    for row in rows:
        before = plain[row["parcel_id"]]
        assert (row["delivered_at"], row[AVAILABLE]) == (before["delivered_at"], before[AVAILABLE] + HOUR)


def test_values_change_in_a_column_and_in_a_field(past: Past, places: Places) -> None:
    plain, asked = played(past)
    unit = played(past, change(places, "feed_unit", "Scans.backlog", size=60))[0]["Scans"]
    assert [row["backlog"] for row in unit] == [row["backlog"] * 60 for row in plain["Scans"]]
    renamed = played(past, change(places, "request_renamed", "depot"))[1]
    common = places.commonest("depot")
    assert {row["depot"] for _, row in renamed} == {f"{common}_v2"} | (
        {row["depot"] for _, row in asked} - {common}
    )
    assert {row["weight"] for _, row in played(past, change(places, "request_nulls", "weight"))[1]} == {None}
    texts = played(past, change(places, "request_type", "weight"))[1]
    assert [row["weight"] for _, row in texts] == [f"{row['weight']:g}" for _, row in asked]
    frozen = played(past, change(places, "feed_stale", "Scans"))[0]["Scans"]
    assert len({row["backlog"] for row in frozen}) == 4  # of each depot what it said first
    slow = played(past, change(places, "clock_skewed", "Scans", size=90))[0]["Scans"]
    assert [row["scanned_at"] for row in slow] == [row["scanned_at"] - 90 * MINUTE for row in plain["Scans"]]


def test_a_changed_truth_is_true_and_a_mixed_up_outcome_is_not(past: Past, places: Places) -> None:
    where = places.outcome_values()[0]
    assert where == "Deliveries.minutes_late"
    truths = []
    for kind, size in (("truth_changed", 1.0), ("outcomes_noisy", 1.0)):
        stream = Stream(past, START, START + DAY, [change(places, kind, where, size)])
        assert sum(1 for _ in stream.steps()) == 24
        truths.append(stream.truth.targets)
    plain = Stream(past, START, START + DAY, [])
    assert sum(1 for _ in plain.steps()) == 24
    assert truths[1] == plain.truth.targets
    assert sum(truths[0].values()) > sum(plain.truth.targets.values())


def test_more_questions_a_segment_and_a_combination(past: Past, places: Places) -> None:
    asked = played(past)[1]
    burst = played(past, change(places, "traffic_burst", "", size=3))[1]
    assert len({row["parcel_id"] for _, row in burst}) == len(burst) == 3 * len(asked)
    (field, _, value) = places.segments()[0].partition("=")
    shifted = played(past, change(places, "segment_shifted", f"{field}={value}", size=2))[1]
    for (_, row), (_, before) in zip(shifted, asked, strict=True):
        times = 2 if row[field] == value else 1
        assert row["weight"] == min(50, before["weight"] * times)  # within its limits
    rare = played(past, change(places, "rare_combination", "depot=east + service=express"))[1]
    assert {(row["depot"], row["service"]) for _, row in rare} == {("east", "express")}


def test_every_kind_strikes_once_one_after_the_other_in_hours_with_traffic(places: Places) -> None:
    plan = make_plan(Wishes(), places, START)
    kinds = [one.kind for one in plan.faults]
    assert sorted([*kinds, *plan.skipped]) == sorted(KINDS)
    assert plan.skipped == ["rare_combination"]  # every pair and triple has come together
    for before, after in zip(plan.faults, plan.faults[1:], strict=False):
        assert before.end + 4 * HOUR <= after.start
    for one in plan.faults:  # nobody asks at night
        assert any(3 <= at // HOUR % 24 < 20 for at in range(one.start, one.end, HOUR))
    assert plan.faults[0].start == START + DAY + 3 * HOUR  # midnight is waited for


def test_a_plan_says_all_that_is_wrong_with_it(tmp_path: Path, places: Places) -> None:
    file = tmp_path / "plan.toml"
    file.write_text(
        'warmth = "1d"\n[[fault]]\nkind = "feed_lat"\nsize = -1\nlasts = "90s"\n[[fault]]\nkind = "disk_full"\nwhen = 1\n'
    )
    with pytest.raises(SettingsError) as caught:
        read_plan(file)
    found = [(fault.code, fault.where) for fault in caught.value.faults]
    assert found == [
        ("unknown_key", "plan.toml"),
        ("unknown_fault", "plan.toml, fault 1"),
        ("wrong_type", "plan.toml, fault 1"),
        ("bad_duration", "plan.toml, fault 1"),
        ("unknown_key", "plan.toml, fault 2"),
    ]
    file.write_text('gap = "2h"\n[[fault]]\nkind = "feed_late"\nat = "1d 6h"\nsize = 30\n')
    assert read_plan(file) == Wishes(DAY, 2 * HOUR, [Wish("feed_late", at=30 * HOUR, size=30)])
    with pytest.raises(SettingsError) as caught:
        make_plan(Wishes(faults=[Wish("feed_late", where="Scan")]), places, START)
    assert (caught.value.code, caught.value.faults[0].hint) == ("unknown_place", 'did you mean "Scans"?')


def test_the_copy_reads_its_own_past_and_leaves_mechanisms_out(past: Past, tmp_path: Path) -> None:
    text = (past.folder / "project.py").read_text()
    (tmp_path / "project.py").write_text(rehearsed_text(text, MECHANISMS))
    project = load_project(tmp_path)
    model = project.models["late"]
    assert (model.guard, model.rollout, model.retrain) == (None, None, None)
    assert model.history.source == questions_file("late")
    assert project.tables["Scans"].source == events_file("Scans")
    (tmp_path / "project.py").write_text(rehearsed_text(text))
    assert load_project(tmp_path).models["late"].guard is not None


def alert(at: int, cause: str) -> Alert:
    return Alert(
        id=f"{at}{cause}", at=at, model="late", cause=cause, todo="", evidence={"title": f"{cause} moved"}
    )


def test_what_was_found_missed_misnamed_and_harmless_is_told_with_its_cost(past: Past) -> None:
    hours = [START + number * HOUR for number in range(1, 24)]
    kinds = [
        ("feed_missing", "Scans"),
        ("request_nulls", "weight"),
        ("keeper_killed", ""),
        ("traffic_burst", ""),
    ]
    faults = [
        Planned(kind, where, START + (4 * n + 4) * HOUR, START + (4 * n + 6) * HOUR, 1)
        for n, (kind, where) in enumerate(kinds)
    ]
    changes = [Change(one, shown=one.start + 5 * MINUTE, touched=1) for one in faults]
    changes[3] = replace(changes[3], shown=0, touched=0)
    plan = Plan(START, START + DAY, faults)
    targets = {str(at): 1.0 for at in hours}
    quiet = Course([], {str(at): (at, 0.9) for at in hours}, targets, alerts=[alert(hours[0], "prediction")])
    given = dict(quiet.given)
    given[str(hours[4])] = (hours[4], 0.1)  # a late parcel that nobody was warned of
    given[str(hours[8])] = (hours[8], None)
    course = Course(
        changes, given, targets, asked=23,
        alerts=[
            alert(hours[0], "prediction"),  # comes without the faults too
            alert(faults[0].start + 35 * MINUTE, "source Scans"),
            alert(faults[1].start + 65 * MINUTE, "source Scans"),
        ],
    )  # fmt: skip
    found = judged(past.model, plan, course, quiet, seed=3, without={"guard": course})
    first, second, third, fourth = found.outcomes
    assert (first.status, first.minutes, first.right, first.cost) == ("found", 30.0, True, 0.0)
    assert (second.status, second.minutes, second.right) == ("found", 60.0, False)
    assert (second.unanswered, third.status, fourth.status) == (1, "absorbed", "not shown")
    assert (found.found, found.cause_right) == (1.0, 0.5)
    assert [one.cause for one in found.false_alarms] == ["prediction"]
    assert found.worth[0].usd == 0
    later = replace(faults[0], start=hours[4] - HOUR)
    early = Course([Change(later, shown=hours[4] - HOUR, touched=1)], given, targets)
    missed = judged(past.model, Plan(START, START + DAY, [later]), early, quiet, seed=3, without={})
    assert (missed.outcomes[0].status, missed.outcomes[0].cost, missed.outcomes[0].differ) == (
        "missed",
        4.0,
        1,
    )
    page = render(rehearsal_page(found))
    assert "called source Scans" in page
    assert lead(found).startswith("3 of 3 faults were found, 1 of them by showing that they did no harm.")
    assert " 1 false alarm in " in lead(found)
    assert "no alert" in render(rehearsal_page(missed))
    told = replace(found.outcomes[0], actions=["watch: look at it."])
    assert "Then watch: look at it.<" in render(rehearsal_page(replace(found, outcomes=[told])))


def test_what_strikes_a_feed_waits_until_the_feed_is_busy(
    places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    hour = np.arange(168) % 24
    hours = {"": (hour >= 8).astype(np.int64), "Scans": (hour >= 20).astype(np.int64)}
    monkeypatch.setattr(places, "_hours", hours)
    day = START // DAY * DAY
    assert places.busy(day, HOUR) == day + 8 * HOUR
    assert places.busy(day, HOUR, "Scans.load") == day + 20 * HOUR
    assert places.busy(day, HOUR, "express") == day + 8 * HOUR
    monkeypatch.setitem(hours, "Scans", (hour == 3).astype(np.int64))  # when nobody asks
    assert places.busy(day, HOUR, "Scans.load") == day + 3 * HOUR
