"""What a training saw, made again, compared, and kept as long as a version needs it."""

from __future__ import annotations

import os
import time
from pathlib import Path

import msgspec
import numpy as np
import pytest

from icekeel.app import App
from icekeel.core.errors import IcekeelError, RequestError, StateError
from icekeel.core.ids import new_id
from icekeel.core.time import DAY, HOUR
from icekeel.journal import Pushed, Value, scan
from icekeel.journal.records import Decided
from icekeel.journal.segments import segment_sizes
from icekeel.operations.snapshots import TRAINING, TableChange
from icekeel.operations.upkeep.retention import Kept, Retention
from icekeel.operations.workshop.workshop import Order
from icekeel.settings import Settings
from icekeel.store import FeatureStore
from icekeel.testing.small import PROJECT, TRAINED_TO, small_world, write_rows, write_small_project
from icekeel.training.dataset import Learnable
from tests.unit.training.test_dataset import answer

LATER = TRAINED_TO + 40 * DAY


def quiet(line: str) -> None:
    del line


def same(one: Learnable, other: Learnable) -> None:
    for before, after in ((one.requests, other.requests), (one.features, other.features)):
        assert list(before) == list(after)
        for name in before:
            np.testing.assert_array_equal(before[name], after[name])
    for part in ("target", "status", "known_at"):
        np.testing.assert_array_equal(getattr(one.outcomes, part), getattr(other.outcomes, part))
    np.testing.assert_array_equal(one.asked_at, other.asked_at)
    np.testing.assert_array_equal(one.flagged, other.flagged)
    assert one.served == other.served


def answered(app: App, at: int, number: int) -> None:
    request = {"parcel_id": f"served-{number}", "depot": "north", "service": "express", "weight": 2.0}
    record = answer(new_id(at), request, at)
    features = {name: 1.0 for name in app.plans["late"].definitions}
    features |= {"depot": "north", "service": "express"}  # type: ignore[dict-item]
    definitions = app.plans["late"].digest
    with app.journal("serve") as journal:
        journal.append(msgspec.structs.replace(record, features=features, definitions=definitions))


def world_goes_on(app: App) -> None:
    """Corrections and deletions of what was learnt from, more rows, another file of questions."""
    world = small_world(62)
    moved: list[dict[str, Value]] = [
        {**row, "backlog": 1e6, "booked_at": TRAINED_TO + HOUR} for row in world.scans[:50]
    ]
    more: list[dict[str, Value]] = [{**row} for row in world.deliveries if row["delivered_at"] >= TRAINED_TO]
    with app.journal("serve") as journal:
        journal.append(Pushed(at=TRAINED_TO + HOUR, table="Scans", rows=moved))
        journal.append(Pushed(at=TRAINED_TO + DAY, table="Deliveries", rows=more))
        gone: list[dict[str, Value]] = [
            {"parcel_id": row["parcel_id"], "_deleted": 1.0} for row in world.deliveries[:20]
        ]
        journal.append(Pushed(at=TRAINED_TO + DAY, table="Deliveries", rows=gone))
    # A file that says what was known all along, and nobody had.
    extra = [{**row, "scan_id": f"extra-{row['scan_id']}", "backlog": 7} for row in world.scans]
    write_rows(app.folder / "scans.csv", extra)
    app.ingest(["Scans"])
    write_rows(app.folder / "questions.csv", world.questions[100:2_000])
    for number in range(3):
        answered(app, TRAINED_TO + number * HOUR, 10 + number)
    app.workspace.compact()


@pytest.fixture
def app(tmp_path: Path) -> App:
    write_small_project(tmp_path)
    app = App(tmp_path, Settings(rehearsal=True), clock=lambda: LATER)
    app.ingest([])
    for number in range(5):
        answered(app, TRAINED_TO - 20 * DAY + number * HOUR, number)
    return app


def trained(app: App, now: int = TRAINED_TO) -> tuple[str, Learnable]:
    registry = app.registry()
    workshop = app.workshop(registry)
    version, _ = workshop.train(Order("late", now, rung="group"), quiet)
    _, data = workshop.prepare("late", now, quiet)
    registry.close()
    return version.name, data


def remove_answers(app: App, keep: int = 30 * DAY) -> None:
    """The end of a day of a keeper that keeps answers for so long."""
    registry = app.registry()
    with app.journal("keep") as journal:
        kept = Kept(journal=30 * DAY, answers=keep, snapshots=30 * DAY)
        retention = Retention(app.workspace, registry, journal, kept=kept)
        retention.remove(segment_sizes(app.places.journal), at=LATER, sync=lambda: None)
    registry.close()


def test_a_training_set_is_made_again_whatever_came_later(app: App) -> None:
    name, learnt = trained(app)
    assert learnt.served == 5
    world_goes_on(app)
    remove_answers(app)
    assert app.history().manifest().rows("answers/late") < 8  # those learnt from are found no more
    registry = app.registry()
    snapshot = app.snapshots(registry).find(name)
    same(learnt, app.workshop(registry).remake(snapshot, quiet))
    _, now = app.workshop(registry).prepare("late", TRAINED_TO, quiet)
    assert len(now.asked_at) != len(learnt.asked_at)  # without the snapshot it would be another
    registry.close()
    with FeatureStore(app) as store:
        rows = store.get_training_set("late", snapshot=snapshot.digest[:12])
        assert len(rows) == len(learnt.asked_at)
        found = rows.order("_asked_at").fetchnumpy()["feature.backlog"]
        np.testing.assert_array_equal(np.ma.filled(found, np.nan), learnt.features["backlog"])


def test_what_a_training_saw_is_kept_also_where_it_failed(app: App) -> None:
    registry = app.registry()
    workshop = app.workshop(registry)
    with pytest.raises(IcekeelError):
        workshop.train(Order("late", TRAINED_TO - 60 * DAY + HOUR, rung="group"), quiet)
    (run,) = registry.runs(TRAINING)
    assert (run.status, run.details["model"]) == ("failed", "late")
    assert run.details["why"]
    (snapshot,) = app.history().snapshots()
    assert run.details["snapshot"] == snapshot.digest
    (listed,) = app.snapshots(registry).listed()
    assert (listed.versions, listed.runs) == ([], [run.id])
    registry.close()


def test_only_what_no_version_needs_may_go(app: App) -> None:
    name, _ = trained(app)
    registry = app.registry()
    app.workshop(registry).snapshot("late", TRAINED_TO - DAY, pin=True)
    answered(app, TRAINED_TO - DAY, 77)  # in a file of its own, which only the next one has
    app.workshop(registry).snapshot("late", TRAINED_TO - HOUR, pin=True)
    snapshots = app.snapshots(registry)
    assert [bool(one.versions) for one in snapshots.listed()] == [False, False, True]
    assert snapshots.prune(0, LATER) == ([], 0)  # the training may still be at work
    for path in (app.places.history / "snapshots").glob("*.json"):
        os.utime(path, (time.time() - 90_000,) * 2)
    assert snapshots.prune(60 * DAY, LATER) == ([], 0)
    with app.journal("keep") as journal:
        remove_answers(app)
        (entry,) = scan(app.places.journal, kinds=Decided)
        assert "2 snapshots that no registered version learnt from" in entry.reason
        assert len(entry.evidence["snapshots"]) == 2
        del journal
    (left,) = snapshots.listed()
    assert left.versions == [name]
    assert left.alone > 0  # the answers that the version learnt from are nobody else's
    assert [one.name for one in app.places.history.glob("answers/late/*.parquet")] == [
        file.name for file in snapshots.find(name).tables["answers/late"]
    ]
    registry.close()


def test_pruning_says_what_it_freed(app: App) -> None:
    registry = app.registry()
    app.workshop(registry).snapshot("late", TRAINED_TO, pin=True)
    (path,) = (app.places.history / "snapshots").glob("*.json")
    os.utime(path, (time.time() - 90_000,) * 2)
    gone, freed = app.snapshots(registry).prune(0, LATER)
    assert [one.digest for one in gone] == [path.stem]
    assert freed > 10_000  # the declared questions; the events are history's
    assert not path.exists()
    assert app.history().manifest().rows("Scans")
    registry.close()


def by_table(changes: list[TableChange]) -> dict[str, TableChange]:
    return {one.table: one for one in changes}


def test_two_snapshots_differ_in_rows_columns_and_distributions(app: App) -> None:
    name, _ = trained(app)
    world_goes_on(app)
    more = PROJECT.replace(
        "    depot: ik.Cat\n    backlog", "    depot: ik.Cat\n    gate: ik.Num = ik.optional()\n    backlog"
    )
    (app.folder / "project.py").write_text(more)
    app = App(app.folder, Settings(rehearsal=True), clock=lambda: LATER)
    with app.journal("serve") as journal:
        row: dict[str, Value] = {"scan_id": "n", "depot": "north", "gate": 1.0, "backlog": 1.0, "scanned_at": LATER - DAY, "booked_at": LATER - DAY}  # fmt: skip
        journal.append(Pushed(at=LATER - DAY, table="Scans", rows=[row]))
    registry = app.registry()
    changes = by_table(app.snapshots(registry).diff(name, "now"))
    world = small_world(62)
    scans, deliveries = changes["Scans"], changes["Deliveries"]
    assert (scans.added, scans.removed, scans.corrected) == (len(world.scans) + 1, 0, 50)
    assert scans.columns_added == ["gate"]
    assert deliveries.removed == 20
    assert deliveries.added == sum(row["delivered_at"] >= TRAINED_TO for row in world.deliveries)
    assert deliveries.corrected == 0
    assert deliveries.after == deliveries.before + deliveries.added - 20
    assert changes["answers/late"].added == 3
    questions = changes["questions/late"]
    assert (questions.after, questions.corrected) == (1_900, 0)
    assert questions.before - questions.removed + questions.added == questions.after
    backlog = scans.columns[0]
    assert backlog.column == "backlog"  # half of all rows say 7 now
    assert backlog.distance is not None
    assert backlog.distance > 0.2
    assert backlog.psi is not None
    assert backlog.psi > 0.2
    depot = next(one for one in scans.columns if one.column == "depot")
    assert depot.distance == pytest.approx(0, abs=0.001)
    registry.close()


def test_a_snapshot_equals_itself(app: App) -> None:
    name, _ = trained(app)
    registry = app.registry()
    for one in app.snapshots(registry).diff(name, name):
        assert (one.added, one.removed, one.corrected) == (0, 0, 0)
        assert all(column.distance in (0, None) for column in one.columns)
    registry.close()


def test_what_cannot_be_found_is_an_error_with_what_is_near(app: App) -> None:
    name, _ = trained(app)
    registry = app.registry()
    snapshots = app.snapshots(registry)
    with pytest.raises(RequestError) as caught:
        snapshots.find("late-l")
    assert caught.value.faults[0].hint == 'did you mean "late-1"?'
    with pytest.raises(StateError) as missing:
        snapshots.find("ffff")
    assert missing.value.code == "unknown_snapshot"
    with pytest.raises(RequestError):
        snapshots.diff("now", "now")
    with pytest.raises(RequestError) as other:
        snapshots.find(name, "price")
    assert other.value.code == "other_model"
    path = app.history().pinned(snapshots.find(name).digest)
    path.write_bytes(path.read_bytes().replace(b'"late"', b'"lat3"'))
    with pytest.raises(StateError) as damaged:
        snapshots.find(name)
    assert damaged.value.code == "bad_snapshot"
    stray = app.places.history / "answers" / "late" / "stray.parquet"
    stray.write_bytes(b"x")
    with app.history().adding() as manifest:
        assert app.history().sweep(manifest) == 0  # nobody knows what it would have kept
    assert stray.exists()
    registry.close()


def test_the_same_questions_are_one_file(app: App) -> None:
    registry = app.registry()
    for back in range(3):
        app.workshop(registry).snapshot("late", TRAINED_TO - back * DAY, pin=True)
    assert len(app.history().snapshots()) == 3
    assert len(list(app.places.history.glob("questions/late/*.parquet"))) == 1
    registry.close()
