"""When a model is trained again, and how that is begun."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from icekeel.core.time import DAY, format_time, parse_duration, to_datetime
from icekeel.operations.runs import TRAIN, Runs
from icekeel.registry import Registry

KIND = TRAIN


@dataclass(frozen=True, slots=True)
class Job:
    """What to train: the model, one rung (empty: the whole ladder), the time up to which all is known, and why."""

    model: str
    rung: str
    at: int
    reason: str


class Retraining:
    """Begins trainings.

    Args:
        registry: Its ledger of runs says what was tried.
        runs: What runs them.
        command: The command line of a job.
        limit_s: Seconds after which a training is ended.
        wait: Wait for each training to end, as virtual time demands.
    """

    def __init__(
        self,
        registry: Registry,
        runs: Runs,
        command: Callable[[Job], Sequence[str]],
        *,
        limit_s: float,
        wait: bool,
    ) -> None:
        self._registry = registry
        self._runs = runs
        self._command = command
        self._limit_s = limit_s
        self._wait = wait

    def last(self, model: str, now: int) -> int:
        """When the last training was begun that counts as one: a failed one may be tried again after a day."""
        return max(
            (
                run.started_at
                for run in self._registry.runs(KIND)
                if run.details.get("model") == model
                and (
                    run.status in ("running", "done")
                    or (run.status == "failed" and now - run.started_at < DAY)
                )
            ),
            default=0,
        )

    def begin(self, job: Job) -> bool:
        """Start a training; False, and nothing done, while another is under way."""
        return self._runs.begin(
            KIND, self._command(job), asdict(job), limit_s=self._limit_s, at=job.at, wait=self._wait
        )


def train_command(folder: Path, job: Job) -> list[str]:
    """The command line that trains and admits."""
    command = [sys.executable, "-m", "icekeel", "train", job.model, "--project", str(folder)]
    command += ["--now", format_time(job.at), "--reason", job.reason, "--by", "keeper", "--json"]
    return command + (["--rung", job.rung] if job.rung else [])


def scheduled(every: str, newest: int, now: int) -> bool:
    """Whether a retrain is due at `now`, the last training being from `newest`.

    A month begins on its first day and a week on Monday, at midnight UTC. What was missed is due until it is made up
    for, once; a training of the last days before the beginning (a week, or three days) counts for it.
    """
    if every == "month":
        return newest <= now - now % DAY - (to_datetime(now).day - 1) * DAY - 7 * DAY
    if every == "week":
        return newest <= now - now % DAY - to_datetime(now).weekday() * DAY - 3 * DAY
    return now - newest >= parse_duration(every)
