"""When a process beside the keeper is started."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from icekeel.operations import errands
from icekeel.operations.errands import Errand
from icekeel.registry import Registry, Run


class Clock:
    """Stands for `time`, and is only ever moved by the test."""

    now = 1_000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(errands, "time", made)
    return made


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    opened = Registry(tmp_path / "registry.db", clock=lambda: 0)
    yield opened
    opened.close()


def follower(registry: Registry, tmp_path: Path) -> Errand:
    """One whose process notes that it ran, and ends with the status that a file holds."""
    (tmp_path / "status").write_text("0")
    program = "import sys; open('ran', 'a').write('x'); sys.exit(int(open('status').read()))"
    command = [sys.executable, "-c", f"import os; os.chdir({str(tmp_path)!r}); {program}"]
    return Errand("follow", command, registry.changed, os.environ)


def after(following: Errand, clock: Clock, seconds: float) -> None:
    """Let time pass, whatever was begun end, and what is due begin."""
    clock.now += seconds
    following.poll()
    if following._child is not None:
        following._child.wait()


def test_each_change_is_followed_once(registry: Registry, tmp_path: Path, clock: Clock) -> None:
    following = follower(registry, tmp_path)

    def ran() -> int:
        return len((tmp_path / "ran").read_text())

    after(following, clock, 0)
    assert ran() == 1  # whatever happened before
    for _ in range(3):
        after(following, clock, 11)
    assert ran() == 1
    registry.start_run("train")
    after(following, clock, 11)
    after(following, clock, 11)
    assert ran() == 2
    assert [type(run) for run in registry.runs()] == [Run]
    following.stop()


def test_what_failed_is_tried_again_ever_more_rarely(
    registry: Registry, tmp_path: Path, clock: Clock
) -> None:
    following = follower(registry, tmp_path)
    (tmp_path / "status").write_text("1")
    tried = []
    after(following, clock, 0)
    for turn in range(1, 3_000):
        before = len((tmp_path / "ran").read_text())
        after(following, clock, 11)
        if len((tmp_path / "ran").read_text()) > before:
            tried.append(turn * 11)
        if len(tried) == 9:
            break
    pauses = [later - earlier for earlier, later in zip([0, *tried], tried, strict=False)]
    assert pauses[0] in range(60, 90)
    assert all(later >= earlier for earlier, later in pairwise(pauses))
    assert pauses[-1] in range(3_600, 3_650)
    (tmp_path / "status").write_text("0")
    for _ in range(400):
        after(following, clock, 11)
    ran = (tmp_path / "ran").read_text()
    for _ in range(400):
        after(following, clock, 11)
    assert (tmp_path / "ran").read_text() == ran
    following.stop()


def test_where_there_is_nothing_to_do_nothing_is_started(clock: Clock) -> None:
    idle = Errand("idle", ["false"], lambda: None, {})
    after(idle, clock, 11)
    assert idle._child is None
    idle.stop()
