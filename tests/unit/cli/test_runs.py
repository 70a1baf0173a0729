"""What `icekeel runs` lists."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from icekeel.app import App
from icekeel.core.time import DAY, HOUR, parse_time
from icekeel.http import Server
from icekeel.testing.small import write_small_project

from .conftest import Call

AT = parse_time("2024-04-01")


def test_runs_of_every_kind_with_what_they_did(tmp_path: Path, call: Call) -> None:
    write_small_project(tmp_path)
    registry = App(tmp_path).registry()

    def kept(kind: str, at: int, status: str, **details: object) -> None:
        registry.finish_run(registry.start_run(kind, at=at), status, details=details, at=at + HOUR)

    kept("ingest", AT, "done", of="Scans", did="5 kept")
    kept("ingest", AT + 1, "failed", of="Scans", output="first\ncannot read scans.csv")
    kept("audit", AT + 2, "done", model="late", findings=[{"audit": "leakage", "verdict": "block"}])
    kept("training", AT + 3, "done", model="late", version="late-3", reason="asked for")
    kept("daily", AT + DAY, "done", day=AT // DAY)
    registry.start_run("backup", details={"of": ""}, at=AT + 2 * DAY)
    registry.close()
    rows = msgspec.json.decode(call("runs", "--project", tmp_path, "--json").out)
    assert [(one["kind"], one["of"], one["status"], one["did"]) for one in rows] == [
        ("ingest", "Scans", "done", "5 kept"),
        ("ingest", "Scans", "failed", "cannot read scans.csv"),
        ("audit", "late", "done", "audits: 1, blocked by leakage"),
        ("training", "late", "done", "late-3; reason: asked for"),
        ("daily", "", "done", "duties of 2024-04-01"),
        ("backup", "", "running", ""),
    ]
    assert (rows[0]["started"], rows[0]["ended"], rows[-1]["ended"]) == (
        "2024-04-01T00:00:00Z", "2024-04-01T01:00:00Z", None
    )  # fmt: skip
    one = msgspec.json.decode(call("runs", "ingest", "--latest", "1", "--project", tmp_path, "--json").out)
    assert [run["status"] for run in one] == ["failed"]


def test_a_kind_that_there_is_not_is_refused_with_the_nearest(tmp_path: Path, call: Call) -> None:
    write_small_project(tmp_path)
    said = call("runs", "ingst", "--project", tmp_path)
    assert said.status == 1
    assert 'no kind of run "ingst"' in said.err
    assert "ingest" in said.err


def training(folder: Path) -> list[str]:
    """What the ledger says of trainings, without a look at who lives."""
    with closing(App(folder).registry()) as registry:
        return [run.status for run in registry.runs("training")]


@pytest.fixture
def begun(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A training by hand that is under way, and stands still so that it is not done before it is killed."""
    write_small_project(tmp_path)
    App(tmp_path).ingest([])
    command = [sys.executable, "-m", "icekeel", "train", "late", "--project", str(tmp_path)]
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert child.stderr is not None
    while b"past questions" not in (line := child.stderr.readline()):
        assert line, "it ended"
    child.send_signal(signal.SIGSTOP)
    yield child
    child.kill()
    child.communicate()


@pytest.mark.parametrize("look", ["runs", "doctor", "page"])
def test_a_training_by_hand_that_was_killed_is_told_as_such_by_the_next_look(
    tmp_path: Path, call: Call, begun: subprocess.Popen[bytes], look: str
) -> None:
    where = ("--project", tmp_path, "--json")
    assert [one["status"] for one in call("runs", "training", *where).json] == ["running"]
    begun.kill()
    begun.wait()
    if look == "runs":
        (told,) = call("runs", *where).json
        assert (told["status"], told["of"], "was killed" in told["did"]) == ("killed", "late", True)
        assert told["ended"] is None
    elif look == "doctor":
        (told,) = (one for one in call("doctor", *where).json if one["part"] == "runs")
        assert (told["verdict"], told["found"]) == ("warn", "killed when last tried: training late")
    else:
        server = Server(App(tmp_path))
        assert b"killed" in server._page(None).body
        server.service.close()
    assert training(tmp_path) == ["running"]  # a look changes nothing


def test_a_training_that_ctrl_c_ends_was_interrupted(tmp_path: Path, begun: subprocess.Popen[bytes]) -> None:
    begun.send_signal(signal.SIGINT)
    begun.send_signal(signal.SIGCONT)
    assert begun.wait() == 130
    assert training(tmp_path) == ["interrupted"]
