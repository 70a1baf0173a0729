"""History: a manifest that is replaced as a whole, and a snapshot that names a state by its content."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from icekeel.core.errors import StateError
from icekeel.core.ids import digest
from icekeel.data import History, Manifest, Snapshot, StoredFile


def add(history: History, table: str, content: str, source: str = "") -> StoredFile:
    with history.adding() as manifest:
        draft = history.folder / "draft"
        draft.write_text(content)
        file = history.adopt(table, draft, 1, source)
        history.replace(manifest, {table: [file]})
    return file


def test_a_file_is_named_by_its_content_and_listed_once(tmp_path: Path) -> None:
    history = History(tmp_path / "history")
    assert history.manifest() == Manifest()
    first = add(history, "orders", "one")
    add(history, "orders", "one")
    assert first.name == f"{digest(b'one')}.parquet"
    assert [path.read_text() for path in history.files("orders")] == ["one"]
    assert history.manifest().rows("orders") == 1
    assert history.files("nothing") == []


def test_a_file_that_is_not_listed_does_not_count(tmp_path: Path) -> None:
    history = History(tmp_path)
    draft = tmp_path / "draft"
    draft.write_text("orphan")
    history.adopt("orders", draft, 1)
    assert history.files("orders") == []


def test_the_manifest_changes_as_a_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    history = History(tmp_path)
    add(history, "orders", "one")
    before = (tmp_path / "manifest.json").read_bytes()
    replace = os.replace

    def crash(draft: Path, target: Path) -> None:
        if target.name == "manifest.json":
            raise KeyboardInterrupt
        replace(draft, target)

    with monkeypatch.context() as broken, pytest.raises(KeyboardInterrupt):
        broken.setattr("icekeel.data.history.os.replace", crash)
        add(history, "orders", "two")
    assert (tmp_path / "manifest.json").read_bytes() == before
    add(history, "orders", "two")  # the lock is free again
    assert history.manifest().rows("orders") == 2


def test_what_is_listed_outlasts_a_power_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    history = History(tmp_path)
    done: list[str] = []
    replace = os.replace

    def renamed(draft: Path, target: Path) -> None:
        done.append(f"rename {target.suffix}")
        replace(draft, target)

    monkeypatch.setattr("icekeel.data.history.os.replace", renamed)

    def synced(path: Path) -> None:
        done.append(path.name)

    for room in ("data.history", "core.files"):
        monkeypatch.setattr(f"icekeel.{room}.sync", synced)
    add(history, "orders", "one")
    assert done == [
        tmp_path.name, "draft", "rename .parquet", "orders", "rename .json", tmp_path.name
    ]  # fmt: skip


def test_the_position_in_the_journal_is_kept(tmp_path: Path) -> None:
    history = History(tmp_path)
    with history.adding() as manifest:
        history.replace(manifest, {}, journal={"worker-1": 70})
    add(history, "orders", "one")
    assert history.manifest().journal == {"worker-1": 70}


@pytest.mark.parametrize(
    ("content", "code"),
    [(b"{", "bad_manifest"), (b'{"tables": 5}', "bad_manifest"), (b'{"format": 99}', "bad_format")],
)
def test_a_damaged_manifest_is_refused(tmp_path: Path, content: bytes, code: str) -> None:
    (tmp_path / "manifest.json").write_bytes(content)
    with pytest.raises(StateError) as caught:
        History(tmp_path).manifest()
    assert caught.value.code == code


def test_a_pinned_snapshot_outlives_what_the_manifest_forgets(tmp_path: Path) -> None:
    history = History(tmp_path / "history")
    first, second = add(history, "answers/late", "one"), add(history, "answers/late", "two")
    snapshot = Snapshot("late", 5, {"answers/late": [first]})
    assert snapshot.digest == "a6c40a5287bd1cc9fbb5f31918893654116543d93b202c5781cc632bf1d7fcaa"
    assert Snapshot("late", 6, snapshot.tables).digest != snapshot.digest
    with history.adding() as manifest:
        history.pin(snapshot)
        after = history.replace(manifest, {}, without=[first.name, second.name])
        assert history.sweep(after) == len("two")
    assert [path.read_text() for path in history.paths(snapshot.manifest, "answers/late")] == ["one"]
    assert history.snapshots() == [history.snapshot(snapshot.digest[:6])] == [snapshot]
    with history.adding() as manifest:
        history.unpin(snapshot.digest)
        assert history.sweep(manifest) == len("one")
        with pytest.raises(StateError) as caught:
            history.pin(snapshot)
    assert caught.value.code == "file_gone"
    assert history.snapshots() == []
