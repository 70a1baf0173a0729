"""What may be removed, and that it is written down."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from icekeel.app import App
from icekeel.core.ids import new_id
from icekeel.core.time import DAY
from icekeel.data.answers import Wanted
from icekeel.journal import Decided, Ticked, Writer, scan
from icekeel.journal.segments import segment_sizes
from icekeel.operations.upkeep.retention import Kept, Retention
from icekeel.testing.small import write_small_project
from tests.unit.journal.examples import PREDICTED

MONTH = 30 * DAY


@pytest.fixture
def app(tmp_path: Path) -> App:
    write_small_project(tmp_path / "small")
    return App(tmp_path / "small", clock=lambda: 400 * DAY)


@pytest.fixture
def retention(app: App) -> Iterator[Retention]:
    registry = app.registry()
    with app.journal("keep") as journal:
        kept = Kept(journal=MONTH, answers=100 * DAY)
        yield Retention(app.workspace, registry, journal, kept=kept)
    registry.close()


def written(app: App, *, days_ago: float = 31, damage: bytes = b"", at: int = 5) -> str:
    with Writer(app.places.journal, "serve", clock=app.clock) as writer:
        writer.append_many(
            [Ticked(at=at), msgspec.structs.replace(PREDICTED, at=at, id=new_id(at), model="late")]
        )
    name = list(segment_sizes(app.places.journal))[-1]
    path = app.places.journal / name
    with path.open("ab") as file:
        file.write(damage)
    then = time.time() - days_ago * 86_400
    os.utime(path, (then, then))
    return name


def remove(app: App, retention: Retention, projected: dict[str, int] | None = None) -> list[str]:
    sizes = segment_sizes(app.places.journal)
    return retention.remove(sizes if projected is None else projected, at=400 * DAY, sync=lambda: None)


def test_an_old_segment_in_history_goes_with_an_entry_and_its_answers_stay(
    app: App, retention: Retention
) -> None:
    old, young = written(app, at=390 * DAY), written(app, days_ago=29, at=391 * DAY)
    assert remove(app, retention) == [old]
    assert young in segment_sizes(app.places.journal)
    assert [one.at for one in app.answers().find(Wanted())] == [391 * DAY, 390 * DAY]
    (entry,) = scan(app.places.journal, kinds=Decided)
    assert entry.kind == "retention"
    assert list(entry.evidence["segments"]) == [old]
    assert entry.reason.startswith("removed 1 segments of the journal (")
    assert remove(app, retention) == []


def test_small_files_are_merged_once_a_day(app: App, retention: Retention) -> None:
    for number in range(9):
        row = {"scan_id": f"s{number}", "depot": "north", "backlog": 1, "scanned_at": 5, "booked_at": 5}
        assert app.ingest_table("Scans", [row]).kept == 1
    before = app.history().files("Scans")
    remove(app, retention)
    (merged,) = app.history().manifest().tables["Scans"]
    assert [f"{one.name}" for one in merged.origins] == [path.name for path in before]
    assert all(path.exists() for path in before)  # for who is reading


def test_answers_stay_as_long_as_their_outcome_may_come(app: App) -> None:
    within = app.project.models["late"].outcome.within
    registry = app.registry()
    with app.journal("keep") as journal:
        kept = Kept(journal=MONTH, answers=DAY)
        retention = Retention(app.workspace, registry, journal, kept=kept)
        for at in (400 * DAY - within, 390 * DAY - within):
            written(app, at=at)
            app.workspace.compact()
        remove(app, retention)
    registry.close()
    assert [one.at for one in app.answers().find(Wanted())] == [400 * DAY - within]


def test_what_the_projections_have_not_read_stays(app: App, retention: Retention) -> None:
    name = written(app)
    assert remove(app, retention, {}) == []
    assert remove(app, retention, {name: 8}) == []
    assert name in segment_sizes(app.places.journal)


def test_a_torn_tail_goes_and_damage_before_records_stays(
    app: App, retention: Retention, caplog: pytest.LogCaptureFixture
) -> None:
    torn, damaged = written(app, damage=b"\x40\x00\x00\x00torn"), written(app, damage=b"\x00" * 8)
    with (app.places.journal / damaged).open("ab") as file:
        whole = (app.places.journal / torn).read_bytes()[8:]
        file.write(whole)
    os.utime(app.places.journal / damaged, (0, 0))
    assert remove(app, retention) == [torn]
    assert damaged in segment_sizes(app.places.journal)
    assert [record.segment for record in caplog.records if record.message == "segment_kept"] == [damaged]  # type: ignore[attr-defined]


def test_a_segment_that_is_written_to_stays(app: App, retention: Retention) -> None:
    with Writer(app.places.journal, "idle", clock=app.clock) as writer:
        writer.append(Ticked(at=1))
        name = list(segment_sizes(app.places.journal))[-1]
        os.utime(app.places.journal / name, (0, 0))
        assert remove(app, retention) == []
        writer.append(Ticked(at=2))
        os.utime(app.places.journal / name, (0, 0))
    assert remove(app, retention) == [name]


def test_answers_go_when_all_of_their_file_are_old(app: App, retention: Retention) -> None:
    history = app.history()
    for at in (299, 301):
        written(app, at=at * DAY)
        app.workspace.compact()
    before = history.files("answers/late")
    remove(app, retention)
    assert [one.at for one in app.answers().find(Wanted())] == [301 * DAY]
    assert [path.exists() for path in before] == [False, True]
    (entry,) = scan(app.places.journal, kinds=Decided)
    assert list(entry.evidence["answers"]) == ["answers/late"]


def test_answers_are_kept_for_ever_unless_told(app: App) -> None:
    written(app, at=5)
    registry = app.registry()
    with app.journal("keep") as journal:
        kept = Kept(journal=MONTH)
        remove(app, Retention(app.workspace, registry, journal, kept=kept))
    registry.close()
    assert len(app.answers().find(Wanted())) == 1


def test_what_a_crash_left_in_history_is_swept(app: App, retention: Retention) -> None:
    written(app, at=390 * DAY)
    app.workspace.compact()
    left = app.places.history / "answers" / "late" / f"{'0' * 64}.parquet"
    left.write_bytes(b"half")
    remove(app, retention)
    assert not left.exists()
    assert len(app.history().files("answers/late")) == 1
