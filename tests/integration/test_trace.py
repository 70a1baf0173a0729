"""From an answer back to everything that stands behind it, and on to what came of it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest

from icekeel.console import trace_page
from icekeel.core.errors import RequestError
from icekeel.core.time import DAY, HOUR
from icekeel.data.answers import Wanted
from icekeel.journal import Predicted
from icekeel.operations.accounts.trace import Trace
from icekeel.operations.accounts.trace_words import told
from icekeel.operations.skew.skew import OTHER, UNKNOWN

from .commands import icekeel
from .shipping import WORLD, drain, kept, open_app, played_project
from .test_retention import remove_segments

PROJECT = "project.py"


@pytest.fixture(scope="module")
def made() -> Iterator[Path]:
    with played_project(2) as folder:
        yield folder


def answer(folder: Path) -> Predicted:
    """One of the challenger's, of the first day: its outcome is known."""
    return [one for one in open_app(folder).find_answers(Wanted(limit=1_000)) if one.arm == "challenger"][40]


def check_windows(found: Trace) -> None:
    """Against the world that was pushed: what was known when it was asked, as plainly as can be."""
    record = found.answer
    at, depot = record.at, record.request["depot"]
    scans = [
        row
        for row in WORLD.scans
        if row["depot"] == depot and row["booked_at"] <= at and at - 6 * HOUR <= row["scanned_at"] < at
    ]
    delivered = [
        row for row in WORLD.deliveries if row["depot"] == depot and at - DAY <= row["delivered_at"] < at
    ]
    windows = {one.window: one for feature in found.features for one in feature.windows}
    backlog = windows["Scans by depot, last 6h: last of backlog"]
    assert (backlog.events, backlog.key) == (len(scans), {"depot": depot})
    newest = max(scans, key=lambda row: (row["scanned_at"], row["scan_id"]))
    assert backlog.newest is not None
    assert backlog.newest["id"] == newest["scan_id"]
    count = windows["Deliveries by depot, last 1d: count"]
    assert count.events == len(delivered) == record.features["delivered_1d"]


@pytest.mark.parametrize("gone", [False, True], ids=["in the journal", "after its segments are gone"])
def test_it_leads_from_the_answer_to_its_data_and_its_outcome(folder: Path, gone: bool) -> None:
    record = answer(folder)
    app = open_app(folder)
    if gone:
        with kept(app) as keeper:
            drain(keeper)
            assert remove_segments(keeper, folder) >= 4
    found = app.trace(record.id)
    assert found.answer == record
    version = found.version
    assert version is not None
    assert (version.name, version.rung, version.rows) == (record.version, "linear", 3_600)
    assert {gate.passed for gate in version.gates} == {True}
    assert version.serving is not None
    assert (version.serving.alias, version.serving.share, version.serving.by) == ("challenger", 0.5, "test")
    assert [one.name for one in found.features] == list(record.features)
    trend = next(one for one in found.features if one.name == "backlog_trend")
    assert trend.definition == (
        "[Scans by depot, last 6h: last of backlog] - [Scans by depot, last 1d: mean of backlog]"
    )
    assert (trend.used, trend.audited, trend.kind) == (True, "equal", "trend")
    assert found.audit.startswith("all 7 features are equal")
    check_windows(found)
    (truth,) = [row for row in WORLD.deliveries if row["parcel_id"] == record.key]
    assert found.outcome is not None
    assert (found.outcome.status, found.outcome.target) == ("known", float(truth["minutes_late"] > 15))
    assert [one.id for one in found.outcome.versions] == [record.key]
    assert found.notes == []


def test_corrections_are_told_in_their_order_and_repetitions_are_not(folder: Path) -> None:
    record = answer(folder)
    app = open_app(folder)
    (row,) = [dict(row) for row in WORLD.deliveries if row["parcel_id"] == record.key]
    with app.journal("later") as journal:
        intake = app.intake(journal)
        for minutes in (99.0, 99.0):
            intake.push("Deliveries", [{**row, "minutes_late": minutes}])
    outcome = app.trace(record.id).outcome
    assert outcome is not None
    said = [one.fields["minutes_late"] for one in outcome.versions if one.fields]
    assert said[-1] == outcome.versions[-1].fields["minutes_late"] == 99.0  # type: ignore[index]
    assert len(said) <= 2
    assert outcome.target == 1.0


def test_a_difference_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = answer(folder)
    app = open_app(folder)
    served = 1.0 + float(record.features["late_1d"] or 0)
    wrong = msgspec.structs.replace(record, features={**record.features, "late_1d": served})
    monkeypatch.setattr("icekeel.data.answers.Answers.one", lambda self, identifier: wrong)
    found = app.trace(record.id)
    assert found.audit == "1 of 7 features were served other than recomputed: late_1d"
    (late,) = [one for one in found.features if one.audited == "differs"]
    assert np.isclose(float(late.recomputed or 0) + 1.0, served)
    assert told(found)[-1].rows[0]["feature"] == "late_1d"
    assert "1 differ" in trace_page(found)


def test_what_is_not_known_any_more_is_said_so(folder: Path) -> None:
    record = answer(folder)
    app = open_app(folder)
    shutil.rmtree(app.places.online)
    found = app.trace(record.id)
    assert found.audit == f"not compared: {UNKNOWN}"
    assert found.notes == [f"windows are shown as all was known when it was asked: {UNKNOWN}"]
    check_windows(found)
    assert found.version is not None
    shutil.rmtree(app.places.bundles / found.version.bundle[:16])
    found = open_app(folder).trace(record.id)
    assert found.version is not None
    assert (found.version.rung, found.features[0].used) == (None, None)
    assert found.notes[0] == f"{record.version}: its bundle cannot be read: the bundle is missing"


def test_a_definition_that_is_another_now_is_not_shown_as_that_of_then(folder: Path) -> None:
    record = answer(folder)
    project = folder / PROJECT
    text = project.read_text(encoding="utf-8")
    changed = text.replace('late_1d = arrived.last("1d")', 'late_1d = arrived.last("2d")')
    project.write_text(changed, encoding="utf-8")
    found = open_app(folder).trace(record.id)
    assert found.audit == f"not compared: {OTHER}"
    shown = {one.name: one.definition for one in found.features}
    assert shown["late_1d"] is None
    assert shown["depot"] == "Parcel.depot"
    values = {one.name: one.value for one in found.features}
    assert values["late_1d"] == record.features["late_1d"]


def test_an_answer_of_a_model_that_is_gone_is_traced_as_far_as_it_goes(folder: Path) -> None:
    record = answer(folder)
    project = folder / PROJECT
    text = project.read_text(encoding="utf-8")
    project.write_text(text.replace('"late",', '"other",'), encoding="utf-8")
    found = open_app(folder).trace(record.id)
    assert found.version is not None
    assert (found.outcome, found.audit) == (None, f"not compared: {OTHER}")
    assert found.notes == ['the project has no model "late" any more: its definitions are not known']


def test_an_id_of_no_answer_says_so(folder: Path) -> None:
    with pytest.raises(RequestError, match="no such answer"):
        open_app(folder).trace("0" * 28)


def test_the_commands_say_the_same(folder: Path) -> None:
    record = answer(folder)
    found = icekeel(folder, "trace", record.id)
    assert found["answer"]["id"] == record.id
    whole = open_app(folder).trace(record.id).as_dict()
    assert json.loads(msgspec.json.encode(whole)) == found
    page = icekeel(folder, "answers", "--limit", "3", "--key", record.key)
    assert [one["id"] for one in page] == [record.id]
