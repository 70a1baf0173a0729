"""A backup made while everything runs gives the same answers back; a killed one is none, a changed one is refused."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from icekeel.app import App
from icekeel.core.errors import StateError
from icekeel.data import Vault
from icekeel.journal import Predicted, Pushed, scan
from icekeel.operations.upkeep import backup
from icekeel.operations.upkeep.backup import Backup, Copied, Shelf, back_up, check, finish_restore, restore
from icekeel.operations.upkeep.doctor import PARTS, Patient, examine
from icekeel.settings import Places, Settings
from icekeel.testing.small import REQUEST, TRAINED_TO, keep_up, train_small, write_small_project

from .commands import call, command, icekeel, refused

KILLS = int(os.environ.get("BACKUP_KILLS", "12"))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with a champion and a journal that holds more than history."""
    folder = tmp_path_factory.mktemp("made") / "project"
    write_small_project(folder)
    train_small(folder)
    app = App(folder, clock=lambda: TRAINED_TO)
    app.access().create("test", ("admin",))
    keep_up(app)
    return folder


@contextmanager
def serving(folder: Path) -> Iterator[int]:
    """The port of the project's server, its keeper having made the projections."""
    with (
        command(folder, "keep", now=TRAINED_TO),
        command(folder, "serve", "--port", "0", now=TRAINED_TO) as (_, said),
    ):
        yield said["listening"]


def predictions(port: int, token: str, requests: list[dict[str, Any]]) -> list[float]:
    answers = [call(port, token, "/v1/predict/late", one) for one in requests]
    return [json.loads(text)["prediction"] for _, text in answers]


def test_what_is_restored_answers_as_before(folder: Path, tmp_path: Path) -> None:
    shelf = tmp_path / "backups"
    token = App(folder).access().create("caller", ("admin",))
    requests = [{**REQUEST, "parcel_id": f"b{number}", "weight": 1.0 + number} for number in range(8)]
    with serving(folder) as port:
        before = predictions(port, token, requests)
        icekeel(folder, "backup", "--to", str(shelf))  # while both run
    copy = tmp_path / "copy"
    icekeel(copy, "restore", str(shelf))
    answered = [record for record in scan(copy / ".icekeel" / "journal", kinds=Predicted)]
    assert [record.prediction for record in answered] == before
    with serving(copy) as port:
        assert predictions(port, token, requests) == before
    assert (copy / ".icekeel").stat().st_mode & 0o777 == 0o700
    assert (copy / ".icekeel" / "tokens.json").stat().st_mode & 0o777 == 0o600


def test_the_second_backup_copies_only_what_is_new(made: Path, tmp_path: Path) -> None:
    places, shelf = Places(made / ".icekeel"), Shelf(tmp_path)
    _, first = back_up(made, places, shelf, at=TRAINED_TO, most=2, say=print)
    inodes = {path.name: path.stat().st_ino for path in (tmp_path / "files").glob("*")}
    history = {file.content for name, file in first.files.items() if name.endswith(".parquet")}
    for later in (1, 2):
        back_up(made, places, shelf, at=TRAINED_TO + later, most=2, say=print)
    assert len(shelf.listed()) == 2
    assert history
    assert all((tmp_path / "files" / name).stat().st_ino == inodes[name] for name in history)


def test_a_killed_backup_is_none_and_the_next_one_is_whole(made: Path, tmp_path: Path) -> None:
    random_, places, shelf = random.Random(5), Places(made / ".icekeel"), Shelf(tmp_path)
    program = (
        "import sys; from pathlib import Path; from icekeel.operations.upkeep.backup import *; from icekeel.settings import Places\n"
        "print('ready', flush=True)\n"
        "for at in range(10_000): back_up(Path(sys.argv[1]), Places(Path(sys.argv[1], '.icekeel')), "
        "Shelf(Path(sys.argv[2])), at=at, most=2, say=print)"
    )
    for _ in range(KILLS):
        child = subprocess.Popen(
            [sys.executable, "-c", program, str(made), str(tmp_path)], stdout=subprocess.PIPE
        )
        assert child.stdout is not None
        child.stdout.readline()
        time.sleep(random_.uniform(0, 0.15))  # a random moment, not one that is waited for
        child.send_signal(signal.SIGKILL)
        child.communicate()
        for _, found in shelf.listed():
            assert check(shelf, found) == []
    name, found = back_up(made, places, shelf, at=TRAINED_TO, most=1, say=print)
    assert [one for one, _ in shelf.listed()] == [name]
    assert {path.name for path in (tmp_path / "files").iterdir()} == {
        file.content for file in found.files.values()
    }


def test_a_changed_byte_is_refused_and_nothing_is_put_back(made: Path, tmp_path: Path) -> None:
    shelf, target = Shelf(tmp_path / "b"), tmp_path / "project"
    target.mkdir()
    _, found = back_up(made, Places(made / ".icekeel"), shelf, at=TRAINED_TO, most=1, say=print)
    path = next(name for name in found.files if name.startswith("bundles/"))
    stored = shelf.stored(found.files[path].content)
    stored.write_bytes(stored.read_bytes()[:-1] + b"?")
    assert check(shelf, found) == [path]
    with pytest.raises(StateError) as caught:
        restore(shelf, found, target, Places(target / ".icekeel"), aside=False, vault_key="")
    assert caught.value.code == "damaged_backup"
    assert not list(target.iterdir())


def test_a_state_that_is_there_is_moved_aside_or_nothing_happens(folder: Path, tmp_path: Path) -> None:
    shelf = tmp_path / "backups"
    icekeel(folder, "backup", "--to", str(shelf))
    marker = folder / ".icekeel" / "marker"
    marker.touch()
    assert refused(folder, "restore", str(shelf)) == "state_there"
    assert marker.exists()
    with command(folder, "keep", now=TRAINED_TO):
        assert refused(folder, "restore", str(shelf), "--aside") == "keeper_runs"
    before = icekeel(folder, "restore", str(shelf), "--aside")["before"]
    assert (Path(before) / "marker").exists()
    assert not marker.exists()


DIES = """
import os, signal, sys
from pathlib import Path
from icekeel.operations.upkeep.backup import Shelf, restore
from icekeel.settings import Places
folder, shelf, left = Path(sys.argv[1]), Shelf(Path(sys.argv[2])), [int(sys.argv[3])]
rename = Path.rename
def or_die(path, target):
    if not left[0]:
        os.kill(os.getpid(), signal.SIGKILL)
    left[0] -= 1
    return rename(path, target)
Path.rename = or_die
restore(shelf, shelf.find("")[1], folder, Places(folder / ".icekeel"), aside=True, vault_key="")
"""
"""Restores, and is killed before the rename whose number is given."""


@pytest.mark.parametrize("after", [0, 1, 2])
@pytest.mark.parametrize("then", ["restore", "doctor", "open"])
def test_a_killed_restore_leaves_one_state_whole_and_the_next_command_goes_on(
    made: Path, tmp_path: Path, after: int, then: str
) -> None:
    folder, state, shelf = tmp_path / "project", tmp_path / "project" / ".icekeel", tmp_path / "backups"
    name, found = back_up(made, Places(made / ".icekeel"), Shelf(shelf), at=TRAINED_TO, most=1, say=print)
    shutil.copytree(made, folder)  # with the id that its first backup gave it
    (state / "marker").touch()
    died = subprocess.run([sys.executable, "-c", DIES, str(folder), str(shelf), str(after)], check=False)
    assert died.returncode == -signal.SIGKILL
    assert state.exists() == (after < 2)  # else neither state is in place
    if then == "restore":
        assert icekeel(folder, "restore", str(shelf), "--aside")["backup"] == name
    elif then == "doctor":
        told = {one["part"]: one for one in icekeel(folder, "doctor")}
        assert ("broken off" in told["backup"]["found"]) == (after < 2)
    else:
        App(folder)
    replaced = after == 2 or then == "restore"
    assert (state / "marker").exists() == (not replaced)
    assert (folder / ".icekeel.before-1" / "marker").exists() == replaced
    assert all((state / path).is_file() for path in found.files if not path.startswith("project/"))
    left = {path.name for path in folder.iterdir() if path.name.startswith(".icekeel.rest")}
    assert bool(left) == (not replaced)


@pytest.mark.parametrize("aside", [False, True])
def test_a_restore_that_another_process_finishes_is_left_to_it(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, aside: bool
) -> None:
    places, shelf = Places(tmp_path / "project" / ".icekeel"), Shelf(tmp_path / "backups")
    _, found = back_up(made, Places(made / ".icekeel"), shelf, at=TRAINED_TO, most=1, say=print)
    if aside:
        places.make()
        (places.state / "marker").touch()

    def synced(path: Path) -> None:
        if path == places.state.parent:
            finish_restore(places.state)

    monkeypatch.setattr(backup, "sync", synced)
    before = restore(shelf, found, places.state.parent, places, aside=aside, vault_key="")
    assert (before is not None) == aside
    assert all((places.state / path).is_file() for path in found.files if not path.startswith("project/"))


def test_a_state_that_is_made_during_a_restore_is_no_success(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    places, shelf = Places(tmp_path / "project" / ".icekeel"), Shelf(tmp_path / "backups")
    _, found = back_up(made, Places(made / ".icekeel"), shelf, at=TRAINED_TO, most=1, say=print)
    monkeypatch.setattr(backup, "sync", lambda path: places.make())
    with pytest.raises(StateError) as caught:
        restore(shelf, found, places.state.parent, places, aside=False, vault_key="")
    assert caught.value.code == "state_in_use"


@pytest.mark.parametrize(
    "name", ["../outside", "journal/../../outside", "/tmp/outside", "bundles//x", "a/./b"]
)
def test_a_list_that_names_files_elsewhere_writes_nothing(made: Path, tmp_path: Path, name: str) -> None:
    shelf, target = Shelf(tmp_path / "b"), tmp_path / "project"
    _, found = back_up(made, Places(made / ".icekeel"), shelf, at=TRAINED_TO, most=1, say=print)
    forged = Backup(found.at, {name: next(iter(found.files.values()))})
    (shelf.folder / f"{forged.name}.json").write_bytes(forged.content)
    with pytest.raises(StateError) as caught:
        shelf.find(forged.name)
    assert (caught.value.code, caught.value.faults[0].got) == ("bad_backup", repr(name))
    assert refused(target, "restore", str(shelf.folder), forged.name) == "bad_backup"
    assert not target.exists()


def test_a_mode_or_content_that_is_none_is_refused(made: Path, tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    for number, file in enumerate((Copied("a" * 64, 1, 0o4755), Copied("../" * 21 + "a", 1, 0o600))):
        forged = Backup(number, {"tokens.json": file})
        (tmp_path / f"{forged.name}.json").write_bytes(forged.content)
        with pytest.raises(StateError, match="do not trust"):
            shelf.find(forged.name)


def test_backups_of_two_projects_do_not_meet(made: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    with closing(Vault(other / ".icekeel")) as vault:
        vault.hide("customer", "ada")
    shelf = Shelf(tmp_path / "b")
    name, _ = back_up(made, Places(made / ".icekeel"), shelf, at=TRAINED_TO, most=1, say=print)
    with pytest.raises(StateError) as caught:
        back_up(other, Places(other / ".icekeel"), shelf, at=TRAINED_TO, most=1, say=print)
    assert caught.value.code == "other_project"
    assert [one for one, _ in shelf.listed()] == [name]
    assert not (shelf.folder / "vault.db").exists()
    copy = tmp_path / "copy"  # what was restored elsewhere is the same project still
    restore(shelf, shelf.find("")[1], copy, Places(copy / ".icekeel"), aside=False, vault_key="")
    back_up(copy, Places(copy / ".icekeel"), shelf, at=TRAINED_TO + 1, most=1, say=print)


def test_nothing_stored_is_no_backup(tmp_path: Path) -> None:
    with pytest.raises(StateError) as caught:
        back_up(
            tmp_path, Places(tmp_path / ".icekeel"), Shelf(tmp_path / "b"), at=TRAINED_TO, most=1, say=print
        )
    assert caught.value.code == "no_state"
    assert not (tmp_path / "b").exists()


def test_the_state_goes_where_the_restored_settings_say(folder: Path, tmp_path: Path) -> None:
    shelf, copy = tmp_path / "b", tmp_path / "copy"
    (folder / ".icekeel").rename(folder / "var")
    (folder / "icekeel.toml").write_text('state = "var"\n')
    icekeel(folder, "backup", "--to", str(shelf))
    icekeel(copy, "restore", str(shelf))
    assert (copy / "var" / "registry.db").exists()
    assert not (copy / ".icekeel").exists()


def test_a_folder_that_cannot_be_written_loses_no_backup(made: Path, tmp_path: Path) -> None:
    shelf = Shelf(tmp_path / "file" / "below")
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(StateError) as caught:
        back_up(made, Places(made / ".icekeel"), shelf, at=TRAINED_TO, most=1, say=print)
    assert caught.value.code == "backup_unwritable"
    inside = Shelf(made / ".icekeel" / "backups")
    with pytest.raises(StateError) as caught:
        back_up(made, Places(made / ".icekeel"), inside, at=TRAINED_TO, most=1, say=print)
    assert caught.value.code == "bad_backup_folder"


def test_pushed_events_are_in_the_backup(folder: Path, tmp_path: Path) -> None:
    token = App(folder).access().create("caller", ("admin",))
    row = {"scan_id": "x", "depot": "north", "backlog": 3.0, "scanned_at": TRAINED_TO - 10}
    with command(folder, "serve", "--port", "0", now=TRAINED_TO) as (_, said):
        assert call(said["listening"], token, "/v1/events/Scans", {"rows": [row]})[0] == 200
        icekeel(folder, "backup", "--to", str(tmp_path / "b"))
    icekeel(tmp_path / "copy", "restore", str(tmp_path / "b"))
    (pushed,) = scan(tmp_path / "copy" / ".icekeel" / "journal", kinds=Pushed)
    assert pushed.rows[0]["scan_id"] == "x"


def test_whom_somebody_forgot_an_old_backup_does_not_bring_back(tmp_path: Path) -> None:
    folder, shelf = tmp_path / "project", Shelf(tmp_path / "backups")
    places = Places(folder / ".icekeel")
    with closing(Vault(places.state)) as vault:
        known = {name: vault.hide("customer", name) for name in ("ada", "charles", "grace")}
        _, old = back_up(folder, places, shelf, at=1, most=5, say=print)
        assert vault.forget("customer", "ada", identifier="r1", at=2, by="test", reason="asked") is not None
        back_up(folder, places, shelf, at=2, most=5, say=print)  # reaches every backup there is
        assert vault.forget("customer", "grace", identifier="r2", at=3, by="test", reason="asked") is not None
    before = restore(
        shelf, old, folder, places, aside=True, vault_key=""
    )  # and the state of before knows the rest
    assert before is not None
    with closing(Vault(places.state)) as vault:
        assert vault.find("customer", "charles") == known["charles"]
        assert vault.find("customer", "ada") is None
        assert vault.find("customer", "grace") is None
    assert (places.state / "vault.key").stat().st_mode & 0o777 == 0o600
    elsewhere = Places(tmp_path / "elsewhere" / ".icekeel")
    restore(shelf, old, tmp_path / "elsewhere", elsewhere, aside=False, vault_key="")
    with closing(Vault(elsewhere.state)) as vault:
        assert vault.find("customer", "ada") is None
        assert vault.find("customer", "charles") == known["charles"]


def patient(folder: Path, *, deep: bool = False) -> Patient:
    app = App(folder, Settings(port=1), clock=lambda: TRAINED_TO)
    return Patient(folder, app.settings, app.places, lambda: app.project, app.freshness, TRAINED_TO, deep)


def test_the_doctor_finds_what_was_broken(folder: Path) -> None:
    sound = {check.part: check.verdict for check in examine(patient(folder, deep=True))}
    assert [part for part, verdict in sound.items() if verdict == "bad"] == []
    state = folder / ".icekeel"
    stored = next((state / "history").rglob("*.parquet"))
    stored.write_bytes(stored.read_bytes()[:-1] + b"?")
    next((state / "bundles").rglob("*.json")).write_bytes(b"{}")
    (state / "tokens.json").chmod(0o644)
    journal = max((state / "journal").glob("*.jnl"), key=lambda path: path.stat().st_size)
    content = bytearray(journal.read_bytes())
    content[3] ^= 0xFF
    journal.write_bytes(content)
    told = {check.part: check for check in examine(patient(folder, deep=True))}
    assert {part for part, check in told.items() if check.verdict == "bad"} == {
        "files",
        "journal",
        "history",
        "registry",
    }
    assert "tokens.json" in told["files"].found
    assert stored.name in told["history"].found


def test_what_a_restore_left_hides_no_damaged_backup(made: Path, tmp_path: Path) -> None:
    places, shelf = Places(tmp_path / "project" / ".icekeel"), Shelf(tmp_path / "backups")
    _, found = back_up(made, Places(made / ".icekeel"), shelf, at=TRAINED_TO, most=1, say=print)
    shelf.stored(found.files["registry.db"].content).write_bytes(b"")
    (tmp_path / "project" / ".icekeel.restoring").mkdir(parents=True)
    asked = replace(patient(made, deep=True), places=places, settings=Settings(backup_to=str(shelf.folder)))
    told = PARTS["backup"]("backup", asked)
    assert (told.verdict, "1 files of" in told.found, ".restoring" in told.found) == ("bad", True, True)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_the_doctor_asks_the_server_itself(made: Path, monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    monkeypatch.setenv("http_proxy", "http://proxy.invalid:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    known = replace(patient(made), settings=Settings(host=host, port=1))
    (server,) = [one for one in examine(known) if one.part == "server"]
    shown = f"[{host}]" if ":" in host else host
    assert (server.verdict, server.found) == ("warn", f"nothing listens at http://{shown}:1")
