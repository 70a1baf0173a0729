"""Commands beside the keeper: one of a kind at a time, written down, ended in time, and never in its way."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from icekeel.operations.ledger import told
from icekeel.operations.runs import INGEST, TRAIN, Ended, Runs
from icekeel.registry import Registry, Run

NOW = 1_000_000
PATIENCE_S = 30.0
SAYS = "print('{\"kept\": 3}')"


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    opened = Registry(tmp_path / "registry.db", clock=lambda: NOW)
    yield opened
    opened.close()


@pytest.fixture
def runs(registry: Registry, tmp_path: Path) -> Iterator[Runs]:
    made = keeper(registry, tmp_path)
    yield made
    made.stop()


def keeper(registry: Registry, tmp_path: Path) -> Runs:
    """The runs of a keeper that has looked for those of an earlier one."""
    made = Runs(registry, tmp_path / "runs", {"MADE_BY": "keeper"}, clock=lambda: NOW + 5)
    made.poll(lambda ended: {})
    return made


def python(program: str) -> list[str]:
    return [sys.executable, "-c", program]


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < end, "it does not come about"
        time.sleep(0.01)


def followed(runs: Runs) -> Ended:
    """The next run to end."""
    found: list[Ended] = []
    end = time.monotonic() + PATIENCE_S
    while not found:
        assert time.monotonic() < end, "it does not end"
        time.sleep(0.01)
        found += runs.poll(lambda ended: {"did": "noted"})
    (one,) = found
    return one


def test_what_it_said_is_its_result_and_what_it_told_people_is_kept(registry: Registry, runs: Runs) -> None:
    program = f"import os, sys; print(os.environ['MADE_BY'], file=sys.stderr); {SAYS}"
    assert runs.begin(INGEST, python(program), {"of": "Orders"}, limit_s=60)
    ended = followed(runs)
    assert (ended.status, ended.result, ended.words) == ("done", {"kept": 3}, "keeper")
    (run,) = registry.runs(INGEST)
    assert (run.status, run.finished_at) == ("done", NOW + 5)
    assert run.details == {"of": "Orders", "output": "keeper", "did": "noted"}
    assert told(run) == "noted"


def test_an_audit_that_blocks_ends_with_status_1_and_has_done_its_work(runs: Runs) -> None:
    runs.begin(INGEST, python(f"{SAYS}; raise SystemExit(1)"), {}, limit_s=60)
    assert followed(runs).status == "done"


def test_a_failure_keeps_its_last_words(registry: Registry, runs: Runs) -> None:
    runs.begin(INGEST, python("raise SystemExit('cannot read orders.csv')"), {"of": "Orders"}, limit_s=60)
    assert followed(runs).status == "failed"
    (run,) = registry.runs(INGEST)
    assert (run.status, run.details["output"]) == ("failed", "cannot read orders.csv")


def test_a_command_that_cannot_be_started_has_failed(registry: Registry, runs: Runs) -> None:
    assert runs.begin(INGEST, ["/no/such/program"], {}, limit_s=60)
    ended = followed(runs)
    assert (ended.status, "No such file" in ended.words) == ("failed", True)
    assert runs.begin(INGEST, python(SAYS), {}, limit_s=60)
    assert followed(runs).status == "done"


def test_one_that_hangs_ends_itself_though_nobody_watches_it(registry: Registry, tmp_path: Path) -> None:
    first = keeper(registry, tmp_path)
    command = [sys.executable, "-c", "from icekeel.cli.main import main; import sys, time; sys.argv[1:] = ['--help']; "
               "import icekeel.cli.main as m; m.cli = lambda: time.sleep(600); main()"]  # fmt: skip
    first.begin(INGEST, command, {}, limit_s=2)
    (child,) = first._children.values()  # which its keeper, as if it had been killed, follows no longer
    second = Runs(registry, tmp_path / "runs", {}, clock=lambda: NOW + 5)
    until(lambda: not second.busy(INGEST))
    assert child.process.wait() == -signal.SIGALRM
    second.poll(lambda ended: {})
    assert [run.status for run in registry.runs(INGEST)] == ["interrupted"]


def test_one_that_took_too_long_has_failed_and_says_so(runs: Runs) -> None:
    runs.begin(INGEST, python("import os, signal, time; signal.alarm(1); time.sleep(600)"), {}, limit_s=1)
    ended = followed(runs)
    assert (ended.status, ended.words) == ("failed", "it took longer than 1s and was ended")


def test_kinds_go_beside_each_other_but_one_of_a_kind_at_a_time(
    registry: Registry, tmp_path: Path, runs: Runs
) -> None:
    assert runs.begin(INGEST, python("import time; time.sleep(600)"), {}, limit_s=900)
    assert not runs.begin(INGEST, python(SAYS), {}, limit_s=900)
    assert runs.begin(TRAIN, python("import time; time.sleep(600)"), {}, limit_s=900)
    other = keeper(registry, tmp_path)  # a second one, which waits too and leaves the ledger alone
    assert not other.begin(INGEST, python(SAYS), {}, limit_s=900)
    assert [run.status for run in registry.runs()] == ["running", "running"]
    runs.stop()
    assert [run.status for run in registry.runs()] == ["interrupted", "interrupted"]
    assert not runs.busy(INGEST)


def test_what_became_of_a_child_whose_keeper_was_killed(registry: Registry, tmp_path: Path) -> None:
    """It lives on, keeps its lock, and is noted, result and all, by the keeper after it."""
    gate = tmp_path / "gate"
    waits = f"import pathlib, time\nwhile not pathlib.Path({str(gate)!r}).exists(): time.sleep(0.01)\n{SAYS}"
    script = (
        "import sys; from pathlib import Path; from icekeel.registry import Registry; "
        "from icekeel.operations.runs import Runs; registry = Registry(Path(sys.argv[1]), clock=lambda: 7); "
        "runs = Runs(registry, Path(sys.argv[2]), {}, clock=lambda: 7); runs.poll(lambda ended: {}); "
        "runs.begin('ingest', [sys.executable, '-c', sys.argv[3]], {'of': 'Orders'}, limit_s=60); "
        "print('begun', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "registry.db"), str(tmp_path / "runs"), waits]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        os.kill(process.pid, signal.SIGKILL)
    noted: list[Ended] = []

    def note(ended: Ended) -> dict[str, object]:
        noted.append(ended)
        return {"did": "taken in"}

    following = Runs(registry, tmp_path / "runs", {}, clock=lambda: NOW)
    following.poll(note)
    assert not following.begin(INGEST, python(SAYS), {}, limit_s=60)
    assert noted == []
    gate.touch()
    until(lambda: bool(following.poll(note) or noted))
    assert [(one.status, one.result) for one in noted] == [("done", {"kept": 3})]
    (run,) = registry.runs(INGEST)
    assert (run.status, run.details) == ("done", {"of": "Orders", "did": "taken in"})
    assert [path.name for path in (tmp_path / "runs").iterdir() if path.suffix != ".lock"] == []
    assert following.begin(INGEST, python(SAYS), {}, limit_s=60)
    assert followed(following).status == "done"


def test_a_run_whose_keeper_and_child_both_died_was_interrupted(registry: Registry, tmp_path: Path) -> None:
    registry.start_run(TRAIN, details={"model": "late"})
    (tmp_path / "runs").mkdir()
    half = json.dumps({"kept": 3})[:-2]
    (tmp_path / "runs" / f"{registry.runs()[0].id}.out").write_text(half)
    keeper(registry, tmp_path)
    assert [run.status for run in registry.runs(TRAIN)] == ["interrupted"]


def test_the_ledger_forgets_what_is_done_every_few_minutes_but_nothing_that_goes_on(
    registry: Registry,
) -> None:
    for at in range(3):
        registry.finish_run(registry.start_run(INGEST, at=at), "done", at=at)
    registry.start_run(INGEST, at=0)
    registry.finish_run(registry.start_run(TRAIN, at=0), "done", at=0)
    registry.forget_runs(INGEST, before=2)
    found: list[Run] = registry.runs()
    assert [(run.kind, run.started_at, run.status) for run in found] == [
        (INGEST, 0, "running"), (TRAIN, 0, "done"), (INGEST, 2, "done")
    ]  # fmt: skip
    assert [run.started_at for run in registry.runs(INGEST, latest=1)] == [2]
