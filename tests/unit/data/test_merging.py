"""Small files become larger ones: the same rows in the same order, and what a snapshot names stays as it is."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import pytest

import icekeel as ik
from icekeel.core.ids import file_digest
from icekeel.core.time import DAY
from icekeel.data import History, Snapshot, history, ingest_table, merging
from icekeel.data.batches import known_of
from icekeel.data.merging import merge
from icekeel.data.quarantine import set_aside


class Sales(ik.Events, time="moment", id="sale"):
    sale: ik.Id
    net: ik.Num = ik.at_least(0)


class Wider(ik.Events, time="moment", id="sale"):
    sale: ik.Id
    net: ik.Num = ik.at_least(0)
    note: ik.Text = ik.optional()


TABLE = Sales.icekeel_table
WIDER = replace(Wider.icekeel_table, name=TABLE.name)
"""The same table once its definition was changed."""


def fill(folder: Path, batches: int, rows: int = 3, begin: int = 0) -> History:
    """Batches of good rows, and one bad one in each."""
    place = History(folder)
    for batch in range(begin, begin + batches):
        given = [{"sale": f"{batch}-{at}", "net": at, "moment": "2025-03-01"} for at in range(rows)]
        ingest_table(
            place, TABLE, [*given, {"sale": f"{batch}-bad", "net": -batch - 1, "moment": "2025-03-01"}]
        )
    return place


def stored(place: History, table: str = "Sales") -> list[tuple[Any, ...]]:
    files = [str(path) for path in place.files(table)]
    names = "sale, net, _available, _deleted, _sequence"
    with duckdb.connect() as connection:
        return connection.execute(
            f"SELECT {names} FROM read_parquet({files}, union_by_name = true)"
        ).fetchall()


def test_many_small_files_become_one_and_the_rows_stay_as_they_were(tmp_path: Path) -> None:
    place = fill(tmp_path, 9)
    before, aside = stored(place), list(set_aside(place, tmp_path / "journal", "Sales"))
    was = known_of(place, place.manifest(), TABLE, "json")
    assert merge(place) == {"Sales": 8, "quarantine/Sales": 8}
    assert [len(place.files(table)) for table in ("Sales", "quarantine/Sales")] == [1, 1]
    assert stored(place) == before
    assert (
        list(set_aside(place, tmp_path / "journal", "Sales")) == aside
    )  # ids too, which name a row for ever
    assert len({one.id for one in aside}) == 9
    assert list(known_of(place, place.manifest(), TABLE, "json").volumes) == list(was.volumes) == [4] * 9
    kept = place.manifest()
    assert merge(place) == {}
    assert place.manifest() == kept
    fill(tmp_path, 8, begin=9)
    assert merge(place)["Sales"] == 8
    assert stored(place)[:27] == before
    assert len({row[-1] for row in stored(place)}) == 51
    assert [one.rows for one in place.manifest().origins("Sales")] == [3] * 17


def test_a_pinned_snapshot_stays_readable_to_the_byte(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = fill(tmp_path, 8)
    snapshot = Snapshot("late", 1, place.manifest().tables)
    with place.adding():
        place.pin(snapshot)
    merge(place)
    monkeypatch.setattr(history, "LINGER", -DAY)
    with place.adding() as manifest:
        assert place.sweep(manifest) == 0
    paths = [path for table in snapshot.tables for path in place.paths(snapshot.manifest, table)]
    assert [file_digest(path) for path in paths] == [path.stem for path in paths]
    assert place.snapshots() == [snapshot]
    place.unpin(snapshot.digest)
    with place.adding() as manifest:
        assert place.sweep(manifest) > 0
    assert not any(path.exists() for path in paths)
    assert len(stored(place)) == 24


def test_who_has_read_the_manifest_finds_its_files_for_a_day(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = fill(tmp_path, 8)
    manifest = place.manifest()
    merge(place)
    with place.adding() as now:
        assert place.sweep(now) == 0
    assert all(path.exists() for path in place.paths(manifest, "Sales"))
    name = manifest.tables["Sales"][3].name
    assert place.holding("Sales", name) == (tmp_path / "Sales" / name, "true")
    monkeypatch.setattr(history, "LINGER", -DAY)
    with place.adding() as now:
        assert place.sweep(now) > 0
    assert not any(path.exists() for path in place.paths(manifest, "Sales"))
    merged, condition = place.holding("Sales", name)  # as a keeper that lagged finds what it was told of
    with duckdb.connect() as connection:
        found = connection.execute(f"SELECT sale FROM '{merged}' WHERE {condition}").fetchall()
    assert found == [("3-0",), ("3-1",), ("3-2",)]
    fill(tmp_path, 8, begin=8)
    merge(place)
    assert place.manifest().replaced.keys().isdisjoint({f"Sales/{name}"})


def test_what_is_told_by_files_is_told_of_those_that_were_merged(tmp_path: Path) -> None:
    place, rows = History(tmp_path), [{"sale": "a", "net": 1, "moment": "2025-03-01"}]
    ingest_table(place, TABLE, rows)
    fill(tmp_path, 8)
    merge(place)
    assert (ingest_table(place, TABLE, rows).skipped, len(place.files("Sales"))) == (1, 1)
    bad = [{"sale": "0-bad", "net": -1, "moment": "2025-03-01"}, *rows]  # known, both, in another file
    assert (ingest_table(place, TABLE, bad).skipped, len(place.files("Sales"))) == (2, 1)


def test_files_of_other_columns_and_of_a_source_half_read_are_not_merged(tmp_path: Path) -> None:
    place = fill(tmp_path, 4)
    for at in range(4):
        ingest_table(place, WIDER, [{"sale": f"w{at}", "net": 1, "note": "n", "moment": "2025-03-01"}])
    assert merge(place, 5) == {}
    with place.adding() as manifest:
        begun = manifest.tables["Sales"][2].source
        place.replace(manifest, {}, sources={"Sales": {begun: "300"}})
    before = stored(place)
    assert merge(place, 2)["Sales"] == 4  # the first two, and the four wider ones
    assert stored(place) == before
    assert [len(file.origins) for file in place.manifest().tables["Sales"]] == [2, 1, 1, 4]


def test_a_large_file_is_not_written_again_for_a_few_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = fill(tmp_path, 1, rows=20_000)
    fill(tmp_path, 8, begin=1)
    large = place.manifest().tables["Sales"][0]
    assert merge(place)["Sales"] == 7
    assert [large.name] == [file.name for file in place.manifest().tables["Sales"][:1]]
    monkeypatch.setattr(merging, "LARGE", 1)
    fill(tmp_path, 9, begin=9)
    assert merge(place) == {}


def test_a_file_that_is_damaged_leaves_all_as_it_was(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    place = fill(tmp_path, 9)
    listed = place.manifest().tables["Sales"]
    path = place.files("Sales")[4]
    path.write_bytes(path.read_bytes()[:-40])
    assert merge(place) == {"quarantine/Sales": 8}
    assert place.manifest().tables["Sales"] == listed
    assert "not_merged" in caplog.text


def test_a_crash_before_the_manifest_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place, rename = fill(tmp_path, 8), os.replace
    before = stored(place)

    def crash(draft: Path, target: Path) -> None:
        if target.name == "manifest.json":
            raise KeyboardInterrupt
        rename(draft, target)

    with monkeypatch.context() as broken, pytest.raises(KeyboardInterrupt):
        broken.setattr("icekeel.data.history.os.replace", crash)
        merge(place)
    assert (stored(place), len(place.files("Sales"))) == (before, 8)
    with place.adding() as manifest:
        assert place.sweep(manifest) > 0  # what it had written already
    assert merge(place)["Sales"] == 7
    assert stored(place) == before
