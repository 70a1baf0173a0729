"""Every part that can break, broken for real under a server and a keeper that run: each row of docs/serving.md.

The rows are read from the page. A scenario breaks something, and mends it when it is left; the system must then be well
again by itself, with every answer and every event that it accepted.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from icekeel.app import App
from icekeel.core.errors import JournalError
from icekeel.core.time import HOUR, SECOND, wall_clock
from icekeel.features.online.lmdb import open_environment
from icekeel.journal import Predicted, Pushed, Ticked, Writer, scan
from icekeel.testing.small import PROJECT, REQUEST, TRAINED_TO, train_small, write_small_project

from .commands import PATIENCE_S, call, command, run

PAGE = Path(__file__).parents[2] / "docs" / "serving.md"
FRESH = PROJECT.replace('source="scans.csv"', 'source="scans.csv", fresh="4h"')
NOW = TRAINED_TO + 10 * SECOND
TMPFS_MB = 64


class Row(NamedTuple):
    """What the page says: a status and words, of a request and of `/readyz`."""

    answer: tuple[int, frozenset[str]]
    ready: tuple[int, list[str]]


def documented() -> dict[str, Row]:
    rows = {}
    lines = PAGE.read_text(encoding="utf-8").partition("## When things break")[2].splitlines()
    for line in (line for line in lines if re.match(r"\| [a-z]", line)):
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if cells[1][:3].isdigit():
            (answer, words), (ready, said) = (
                (int(cell[:3]), re.findall(r"`([^`]+)`", cell)) for cell in cells[1:3]
            )
            rows[cells[0]] = Row((answer, frozenset(words)), (ready, said))
    return rows


@contextmanager
def small_disk(folder: Path) -> Iterator[bool]:
    """A file system of its own in a folder, which can be filled; whether that could be had."""
    folder.mkdir()
    called = ["mount", "-t", "tmpfs", "-o", f"size={TMPFS_MB}m", "tmpfs", str(folder)]
    mounted = (
        bool(shutil.which("mount"))
        and subprocess.run(called, capture_output=True, check=False).returncode == 0
    )
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", "-l", str(folder)], check=True)


class Stage:
    """A server and a keeper at work on a project, and one who asks them."""

    def __init__(self, folder: Path, *, own_disk: bool) -> None:
        self.folder, self.own_disk = folder, own_disk
        self.state = folder / ".icekeel"
        self.online = App(folder).places.online / "data.mdb"
        self.token = App(folder).access().create("test", ("admin",))
        self.shift = NOW - wall_clock()
        self.running: dict[str, tuple[ExitStack, subprocess.Popen[str]]] = {}
        self.port = 0
        self.given: set[str] = set()
        self.kept = self.rows = 0

    def start(self, name: str) -> None:
        stack = ExitStack()
        arguments = ("--port", "0") if name == "serve" else ()
        now = wall_clock() + self.shift
        process, said = stack.enter_context(command(self.folder, name, *arguments, now=now))
        self.running[name] = stack, process
        self.port = said.get("listening", self.port)

    def stop(self, name: str) -> None:
        self.running.pop(name)[0].close()

    def stop_all(self) -> None:
        for name in list(self.running):
            self.stop(name)

    def kill(self, name: str, number: signal.Signals) -> None:
        self.running[name][1].send_signal(number)

    def call(self, path: str, body: Any = None) -> tuple[int, Any]:
        status, text = call(self.port, self.token, path, body)
        assert str(self.folder) not in text or path == "/v1/status", text
        return status, text if path == "/metrics" else json.loads(text)

    def ask(self) -> tuple[int, frozenset[str]]:
        status, said = self.call("/v1/predict/late", dict(REQUEST))
        if status == 200:
            self.given.add(said["prediction_id"])
            return status, frozenset(said["degraded"])
        return status, frozenset(fault["code"] for fault in said["faults"])

    def push(self) -> int:
        row = {"parcel_id": f"pushed-{self.kept}", "depot": "north", "minutes_late": 1.0}
        status, _ = self.call("/v1/events/Deliveries", {"rows": [{**row, "delivered_at": NOW - SECOND}]})
        self.kept += status == 200
        self.rows += status == 200
        return status

    def ready(self) -> tuple[int, list[str]]:
        status, said = self.call("/readyz")
        if status == 200:
            return status, said["degraded"]
        return status, [f"{fault['code']}: {fault['what']}" for fault in said["faults"]]

    def metric(self, name: str) -> float:
        (line,) = [line for line in self.call("/metrics")[1].splitlines() if line.startswith(name + " ")]
        return float(line.split()[-1])

    def wait(self, what: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not what():
            assert time.monotonic() < deadline, (self.ask(), self.ready())
            time.sleep(0.02)

    def well(self) -> bool:
        projected = self.call("/v1/status")[1]["keeper"]["pushed"]
        return self.ask() == (200, frozenset()) and self.ready() == (200, []) and projected == self.rows


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with small_disk(tmp_path_factory.mktemp("disk") / "own") as own_disk, ExitStack() as closing:
        folder = tmp_path_factory.getbasetemp() / "disk0" / "own" / "small"
        write_small_project(folder, FRESH)
        train_small(folder)
        one = Stage(folder, own_disk=own_disk)
        closing.callback(one.stop_all)
        for name in ("keep", "serve"):
            one.start(name)
        yield one


# What breaks


@contextmanager
def no_keeper(stage: Stage) -> Iterator[None]:
    """Stopped in its tracks, then killed."""
    stage.kill("keep", signal.SIGSTOP)
    lag = -1.0
    while lag < 3:  # it grows from the start, long before it is called degraded
        status, said = stage.call("/v1/features/late/online", {"rows": [dict(REQUEST)]})
        assert (status, said["rows"][0]["degraded"]) == (200, [])
        assert said["rows"][0]["features_lag_s"] > lag
        lag = said["rows"][0]["features_lag_s"]
        time.sleep(0.2)
    stage.push()
    stage.kill("keep", signal.SIGKILL)
    yield
    stage.stop("keep")
    stage.start("keep")


@contextmanager
def no_state(stage: Stage) -> Iterator[None]:
    stage.stop("keep")
    shutil.rmtree(stage.online.parent)
    yield
    stage.start("keep")


@contextmanager
def short_state(stage: Stage) -> Iterator[None]:
    stage.stop("keep")
    os.truncate(stage.online, stage.online.stat().st_size // 2)
    time.sleep(0.5)  # the server looks five times a second; a request before that may end it
    yield
    stage.start("keep")


@contextmanager
def damaged_state(stage: Stage) -> Iterator[None]:
    """The records of one depot's windows cut, as a page that was half written would be."""
    other = {**REQUEST, "depot": "unheard of"}
    stage.stop("keep")
    with open_environment(stage.online.parent) as online:
        records = online.open_db(b"windows")
        with online.begin(write=True) as txn:
            for key, value in list(txn.cursor(records)):
                if bytes(key[:1]) == b"h":
                    txn.put(key, bytes(value)[:20], db=records)
    stage.ask()
    assert stage.ready()[0] == 503  # for all that is known: the only request before was of that depot
    assert stage.call("/v1/predict/late", other)[0] == 200
    yield
    stage.wait((stage.state / "rebuild").exists)
    stage.start("keep")


@contextmanager
def silent_source(stage: Stage) -> Iterator[None]:
    for name in ("serve", "keep"):
        stage.stop(name)
    stage.shift += 2 * HOUR
    for name in ("keep", "serve"):
        stage.start(name)
    yield
    scan = {"scan_id": "new", "depot": "north", "backlog": 1.0, "scanned_at": NOW + HOUR}
    assert stage.call("/v1/events/Scans", {"rows": [scan]})[0] == 200
    stage.rows += 1


@contextmanager
def locked_registry(stage: Stage) -> Iterator[None]:
    connection = sqlite3.connect(stage.state / "registry.db", isolation_level=None)
    connection.execute("BEGIN EXCLUSIVE")
    yield
    connection.close()


@contextmanager
def away(path: Path) -> Iterator[None]:
    elsewhere = path.with_name("away")
    path.rename(elsewhere)
    yield
    elsewhere.rename(path)


@contextmanager
def damaged(path: Path) -> Iterator[None]:
    with away(path):
        path.write_bytes(b"not what it was" * 300)
        yield
        path.unlink()


def no_registry(stage: Stage) -> AbstractContextManager[None]:
    return away(stage.state / "registry.db")


def damaged_registry(stage: Stage) -> AbstractContextManager[None]:
    return damaged(stage.state / "registry.db")


def model_file(stage: Stage) -> Path:
    (file,) = stage.state.glob("bundles/*/engine.json")
    return file


def no_bundle(stage: Stage) -> AbstractContextManager[None]:
    return away(model_file(stage).parent)


@contextmanager
def at_start(stage: Stage, broken: AbstractContextManager[None]) -> Iterator[None]:
    stage.stop("serve")
    with broken:
        stage.start("serve")
        yield


@contextmanager
def changed_project(stage: Stage) -> Iterator[None]:
    path = stage.folder / "project.py"
    text = path.read_text()
    path.write_text(text.replace("    weight = Parcel.weight\n", "    heavy = Parcel.weight\n"))
    yield
    path.write_text(text)
    stage.stop("serve")
    stage.start("serve")


@contextmanager
def full_disk(stage: Stage) -> Iterator[None]:
    if not stage.own_disk:
        pytest.skip("no file system could be mounted: the full disk is NOT tested")
    filler = stage.folder / "filler"
    with filler.open("wb", buffering=0) as file:
        size = 1 << 20
        while size:
            try:
                file.write(b"\0" * size)
            except OSError as error:
                assert error.errno == errno.ENOSPC
                size //= 2
    try:
        stage.wait(lambda: stage.ask()[0] == stage.push() == 503)  # the page that is begun still takes some
        yield
    finally:
        filler.unlink()


def damaged_tokens(stage: Stage) -> AbstractContextManager[None]:
    return damaged(stage.state / "tokens.json")


SCENARIOS: dict[str, Callable[[Stage], AbstractContextManager[None]]] = {
    "the keeper is dead or hangs": no_keeper,
    "the keeper has never run, or its state is gone": no_state,
    "the online state is cut short": short_state,
    "part of the online state is damaged": damaged_state,
    "the registry is locked": locked_registry,
    "the registry is gone": no_registry,
    "the registry is damaged": damaged_registry,
    "the registry is damaged when the server starts": lambda stage: at_start(stage, damaged_registry(stage)),
    "a bundle is gone or changed": no_bundle,
    "a bundle is changed when the server starts": lambda stage: at_start(stage, damaged(model_file(stage))),
    "a feature that the champion reads is gone or changed when the server starts": lambda stage: at_start(
        stage, changed_project(stage)
    ),
    "the disk is full": full_disk,
    "the tokens' file is damaged": damaged_tokens,
    "a source is silent": silent_source,
}


def test_every_row_of_the_page_is_broken_here() -> None:
    assert sorted(documented()) == sorted(SCENARIOS)


@pytest.mark.parametrize("what", SCENARIOS)
def test_what_breaks_is_told_and_mended(stage: Stage, what: str) -> None:
    row = documented()[what]

    def as_documented() -> bool:
        status, said = stage.ready()
        words = all(any(word in one for one in said) for word in row.ready[1])
        return (
            stage.ask() == row.answer
            and status == row.ready[0]
            and words
            and bool(said) == bool(row.ready[1])
        )

    stage.wait(stage.well)
    with SCENARIOS[what](stage):
        stage.wait(as_documented)
        for _ in range(10):
            assert as_documented()
        assert stage.metric("icekeel_ready") == (row.ready[0] == 200)
        assert bool(stage.metric("icekeel_problems")) == bool(row.ready[1])
        status, said = stage.call("/v1/status")
        assert status == 200
        assert bool(said["problems"]) == bool(row.ready[1])
    stage.wait(stage.well)
    assert stage.push() == 200


def test_nothing_was_lost(stage: Stage) -> None:
    stage.wait(stage.well)
    journal = list(scan(stage.state / "journal"))
    answered = [record.id for record in journal if isinstance(record, Predicted)]
    assert len(answered) == len(set(answered))
    assert stage.given <= set(answered)
    rows = [row for record in journal if isinstance(record, Pushed) for row in record.rows]
    pushed = {row["parcel_id"] for row in rows if str(row.get("parcel_id", "")).startswith("pushed")}
    assert len(pushed) == stage.kept > 10
    assert len(rows) == stage.rows


# The journal's folder


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    called = ["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", str(folder)]
    if not shutil.which("mount") or subprocess.run(called, capture_output=True, check=False).returncode:
        pytest.skip("no file system could be mounted: the read-only journal is NOT tested")
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_journal_that_becomes_read_only_goes_on_until_its_segment_ends(tmp_path: Path) -> None:
    writer = Writer(tmp_path, "test", clock=lambda: 1, roll_bytes=100)
    with read_only(tmp_path):
        writer.append(Ticked(at=1))
        with pytest.raises(JournalError) as caught:
            for _ in range(100):
                writer.append(Ticked(at=1))
        assert caught.value.faults[0].got == "Read-only file system"
        with pytest.raises(JournalError):
            writer.check()
    writer.check()
    writer.append(Ticked(at=2))
    writer.close()
    assert next(iter(scan(tmp_path))) == Ticked(at=1)
    assert list(scan(tmp_path))[-1] == Ticked(at=2)


def test_a_server_whose_journal_cannot_be_written_says_so_and_ends(tmp_path: Path) -> None:
    write_small_project(tmp_path)
    journal = tmp_path / ".icekeel" / "journal"
    journal.mkdir(parents=True)
    with read_only(journal):
        done = run(tmp_path, "serve", "--port", "0")
    assert done.returncode == 1
    assert "the journal cannot be written" in done.stderr
