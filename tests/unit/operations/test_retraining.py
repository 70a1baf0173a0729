from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from icekeel.core.time import DAY, parse_time
from icekeel.operations.retraining import Job, Retraining, scheduled
from icekeel.registry import Registry

NOW = parse_time("2024-04-01")
JOB = Job("late", "linear", NOW, "scheduled")


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    opened = Registry(tmp_path / "registry.db", clock=lambda: NOW + 5)
    yield opened
    opened.close()


def retraining(registry: Registry, tmp_path: Path, program: str, *, wait: bool = True) -> Retraining:
    return Retraining(registry, tmp_path / "lock", lambda job: [sys.executable, "-c", program], wait=wait)


@pytest.mark.parametrize(
    ("every", "newest", "now", "due"),
    [
        ("month", "2024-03-01", "2024-04-01", True),
        ("month", "2024-03-26", "2024-04-01", False),  # trained within the last week
        ("month", "2024-03-01", "2024-03-31", False),
        ("month", "2024-03-01", "2024-04-17", True),  # made up for after downtime or an experiment
        ("month", "2024-04-17", "2024-04-18", False),  # once
        ("month", "2024-04-17", "2024-05-01", True),
        ("month", "2023-11-01", "2024-04-01", True),
        ("week", "2024-03-25", "2024-04-01", True),
        ("week", "2024-03-25", "2024-03-31", False),
        ("week", "2024-03-30", "2024-04-01", False),
        ("week", "2024-03-25", "2024-04-03", True),
        ("10d", "2024-03-22", "2024-04-01", True),
        ("10d", "2024-03-23", "2024-04-01", False),
    ],
)
def test_when_a_retrain_is_due(every: str, newest: str, now: str, due: bool) -> None:
    assert scheduled(every, parse_time(newest), parse_time(now)) is due


def test_a_success_is_written_down_and_counts(registry: Registry, tmp_path: Path) -> None:
    work = retraining(registry, tmp_path, "print('fine')")
    assert work.last("late", NOW) == 0
    assert work.begin(JOB)
    (run,) = registry.runs("train")
    assert (run.status, run.started_at, run.finished_at, run.details["output"]) == ("done", NOW, NOW, "fine")
    assert work.last("late", NOW + 99 * DAY) == NOW
    assert work.last("other", NOW) == 0


def test_a_failure_is_written_down_and_may_be_tried_again_the_next_day(
    registry: Registry, tmp_path: Path
) -> None:
    work = retraining(registry, tmp_path, "raise SystemExit('no rows')")
    assert work.begin(JOB)
    (run,) = registry.runs("train")
    assert (run.status, run.details["output"], run.details["model"]) == ("failed", "no rows", "late")
    assert work.last("late", NOW) == NOW
    assert work.last("late", NOW + DAY) == 0


def test_one_at_a_time_followed_while_others_work_and_ended_on_stop(
    registry: Registry, tmp_path: Path
) -> None:
    work = retraining(registry, tmp_path, "import time; time.sleep(60)", wait=False)
    assert work.begin(JOB)
    assert work.busy()
    assert not work.begin(JOB)
    work.poll()
    assert [run.status for run in registry.runs("train")] == ["running"]
    # A keeper that starts beside it finds the lock taken, and waits too.
    other = retraining(registry, tmp_path, "pass")
    assert not other.begin(JOB)
    work.stop()
    assert not work.busy()
    assert [run.status for run in registry.runs("train")] == ["interrupted"]
    assert work.last("late", NOW) == 0
    work.stop()


def test_a_training_whose_keeper_died_is_closed_by_the_next(registry: Registry, tmp_path: Path) -> None:
    registry.start_run("train", details={"model": "late"}, at=NOW)
    registry.register(
        "late", "d", snapshot="s", code="c", features="f", metrics={}, gates=[], ladder={},
        trained_from=0, trained_to=1, reason="r", at=NOW + DAY,
    )  # fmt: skip
    registry.start_run("train", details={"model": "late"}, at=NOW + DAY)
    retraining(registry, tmp_path, "pass")
    assert [run.status for run in registry.runs("train")] == ["interrupted", "done"]
