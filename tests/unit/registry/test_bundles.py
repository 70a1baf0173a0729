from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from icekeel.core.errors import BundleError
from icekeel.core.ids import digest as sha256
from icekeel.registry import Bundle, read, write

FILES = {"trees.txt": b"tree", "guard.json": b"{}"}
META = {"engine": "lightgbm", "columns": ["a", "b"], "rate": 0.1}


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    bundle = write(tmp_path, FILES, META)
    assert bundle == read(tmp_path, bundle.digest) == Bundle(bundle.digest, bundle.path, FILES, META)
    assert bundle.path == tmp_path / bundle.digest[:16]


def test_the_digest_follows_from_files_and_meta_alone(tmp_path: Path) -> None:
    first = write(tmp_path / "a", FILES, META).digest
    assert first == write(tmp_path / "b", dict(reversed(FILES.items())), dict(reversed(META.items()))).digest
    assert first != write(tmp_path, {**FILES, "guard.json": b"[]"}, META).digest
    assert first != write(tmp_path, FILES, {**META, "rate": 0.2}).digest


def test_writing_again_changes_nothing_on_disk(tmp_path: Path) -> None:
    path = write(tmp_path, FILES, META).path
    before = {file.name: file.stat().st_ino for file in path.iterdir()}
    write(tmp_path, FILES, META)
    assert {file.name: file.stat().st_ino for file in path.iterdir()} == before
    assert list(tmp_path.iterdir()) == [path]


def _remove(path: Path) -> None:
    (path / "trees.txt").unlink()


def _change(path: Path) -> None:
    (path / "trees.txt").write_bytes(b"Tree")


def _add(path: Path) -> None:
    (path / "notes.txt").write_bytes(b"")


def _remove_manifest(path: Path) -> None:
    (path / "manifest.json").unlink()


def _forge(path: Path) -> None:
    """A manifest that agrees with the changed file, but not with the digest the registry holds."""
    _change(path)
    manifest = (path / "manifest.json").read_bytes()
    (path / "manifest.json").write_bytes(manifest.replace(sha256(b"tree").encode(), sha256(b"Tree").encode()))


def _nest(path: Path) -> None:
    (path / "trees.txt").unlink()
    (path / "trees.txt").mkdir()


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (_remove, {("missing", "trees.txt")}),
        (_change, {("changed", "trees.txt")}),
        (_add, {("extra", "notes.txt")}),
        (_remove_manifest, {("missing", "manifest.json")}),
        (_forge, {("changed", "manifest.json")}),
        (_nest, {("missing", "trees.txt"), ("extra", "trees.txt")}),
    ],
)
def test_damage_is_named_and_mended_by_writing_again(
    tmp_path: Path, damage: Callable[[Path], None], expected: set[tuple[str, str]]
) -> None:
    bundle = write(tmp_path, FILES, META)
    damage(bundle.path)
    with pytest.raises(BundleError) as caught:
        read(tmp_path, bundle.digest)
    assert {(fault.code, Path(fault.where).name) for fault in caught.value.faults} == expected
    assert write(tmp_path, FILES, META) == bundle


def test_all_damage_is_reported_at_once(tmp_path: Path) -> None:
    bundle = write(tmp_path, FILES, META)
    (bundle.path / "guard.json").write_bytes(b"[]")
    _remove(bundle.path)
    _add(bundle.path)
    with pytest.raises(BundleError) as caught:
        read(tmp_path, bundle.digest)
    assert [fault.code for fault in caught.value.faults] == ["missing", "changed", "extra"]


def test_an_absent_bundle_is_missing(tmp_path: Path) -> None:
    with pytest.raises(BundleError) as caught:
        read(tmp_path, "0" * 64)
    assert caught.value.code == "missing"


@pytest.mark.parametrize(
    ("manifest", "got"), [({"format": 2, "parts": []}, "2"), ({"format": 1}, ""), ([], ""), ({}, "")]
)
def test_another_format_is_refused(tmp_path: Path, manifest: object, got: str) -> None:
    data = msgspec.json.encode(manifest)
    folder = tmp_path / sha256(data)[:16]
    folder.mkdir()
    (folder / "manifest.json").write_bytes(data)
    with pytest.raises(BundleError) as caught:
        read(tmp_path, sha256(data))
    assert (caught.value.code, caught.value.faults[0].got) == ("bad_format", got)


def test_names_that_could_leave_the_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError) as caught:
        write(tmp_path, {"../a": b"", "manifest.json": b"", ".hidden": b"", "fine": b""}, {})
    assert [fault.got for fault in caught.value.faults] == ["../a", "manifest.json", ".hidden"]
    assert not list(tmp_path.iterdir())


def test_a_file_is_checked_when_it_is_read_and_must_be_there_always(tmp_path: Path) -> None:
    bundle = write(tmp_path, FILES, META)
    (bundle.path / "trees.txt").write_bytes(b"twig")
    assert dict(read(tmp_path, bundle.digest, but=["trees.txt"]).files) == {"guard.json": b"{}"}
    assert dict(read(tmp_path, bundle.digest, only=["guard.json"]).files) == {"guard.json": b"{}"}
    with pytest.raises(BundleError) as caught:
        read(tmp_path, bundle.digest, only=["trees.txt"])
    assert [fault.code for fault in caught.value.faults] == ["changed"]
    _remove(bundle.path)
    with pytest.raises(BundleError) as caught:
        read(tmp_path, bundle.digest, but=["trees.txt"])
    assert [fault.code for fault in caught.value.faults] == ["missing"]
