from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from icekeel.core.time import DAY, parse_time
from icekeel.operations.runs import Runs
from icekeel.operations.workshop.retraining import Job, Retraining, scheduled
from icekeel.registry import Registry

NOW = parse_time("2024-04-01")
JOB = Job("late", "linear", NOW, "scheduled")


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    opened = Registry(tmp_path / "registry.db", clock=lambda: NOW + 5)
    yield opened
    opened.close()


def retraining(registry: Registry, tmp_path: Path, program: str) -> tuple[Retraining, Runs]:
    runs = Runs(registry, tmp_path / "runs", {}, clock=lambda: NOW + 5)
    runs.poll(lambda ended: {})
    command = [sys.executable, "-c", program]
    return Retraining(registry, runs, lambda job: command, limit_s=60, wait=True), runs


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
    work, runs = retraining(registry, tmp_path, "print('{}')")
    assert work.last("late", NOW) == 0
    assert work.begin(JOB)
    runs.poll(lambda ended: {})
    (run,) = registry.runs("train")
    assert (run.status, run.started_at, run.finished_at) == ("done", NOW, NOW)  # virtual time stood still
    assert work.last("late", NOW + 99 * DAY) == NOW
    assert work.last("other", NOW) == 0


def test_a_failure_is_written_down_and_may_be_tried_again_the_next_day(
    registry: Registry, tmp_path: Path
) -> None:
    work, runs = retraining(registry, tmp_path, "raise SystemExit('no rows')")
    assert work.begin(JOB)
    runs.poll(lambda ended: {})
    (run,) = registry.runs("train")
    assert (run.status, run.details["output"], run.details["model"]) == ("failed", "no rows", "late")
    assert work.last("late", NOW) == NOW
    assert work.last("late", NOW + DAY) == 0
