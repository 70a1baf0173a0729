"""What `icekeel up` does by itself and when: ingest, audit, back up, compact, mirror, tell of alerts; and what follows from its end.

What is due is read from the ledger of runs: what was missed while nothing ran is done once, what was interrupted at
once, what failed after 1, 2, 4 ... minutes, at most an hour.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from icekeel.core.errors import StateError
from icekeel.core.time import DAY, HOUR, MINUTE, Clock
from icekeel.operations.alerts.alerting import Alerting
from icekeel.operations.alerts.notices import Teller
from icekeel.operations.runs import AUDIT, BACKUP, COMPACT, INGEST, MIRROR, TELL, TRAIN, Ended, Runs
from icekeel.operations.upkeep.retention import unmoved
from icekeel.operations.workspace import Workspace
from icekeel.registry import CHAMPION, Registry
from icekeel.registry.records import Json

MOST_SAID = 500
LOOK_S = 1.0
STATE_LOOK_S = 10.0
FIRST_PAUSE, LONGEST_PAUSE = MINUTE, HOUR
TELL_LIMIT_S = 120.0
KEPT = 90 * DAY
"""How long the ledger keeps the runs of what is done again and again."""
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Cadence:
    """How often what is done, in microseconds, 0 for never; and after how many seconds each is ended.

    Attributes:
        backup_to: Where back-ups go; without it there are none.
        keep_backups: So many of them.
        mirrored: Whether an MLflow follows the registry.
    """

    ingest: int = 0
    audit: int = 0
    backup: int = 0
    backup_to: str = ""
    keep_backups: int = 7
    mirrored: bool = False
    ingest_limit_s: float = 3_600.0
    limit_s: float = 43_200.0


@dataclass(frozen=True, slots=True)
class Trouble:
    """What a person should know of a run: an alert in the making."""

    cause: str
    title: str
    sentences: tuple[str, ...]
    todo: str


@dataclass(frozen=True, slots=True)
class Task:
    """A command that is run again and again.

    Attributes:
        kind, of: What it does, and with which table or model, if with one.
        arguments: Of `icekeel`.
        models: Those whom it concerns.
        limit_s: Seconds after which it is ended.
        every: Microseconds from one beginning to the next; 0: whenever `state` is another than what was done.
        state: None while there is nothing to do.
        said: What it did, in words, of its JSON; and what is wrong with that.
    """

    kind: str
    of: str
    arguments: tuple[str, ...]
    models: tuple[str, ...]
    limit_s: float
    every: int = 0
    state: Callable[[], int | None] = lambda: 0
    said: Callable[[Any], tuple[str, Trouble | None]] = lambda result: (_plain(result), None)

    @property
    def name(self) -> str:
        """The command as people call it, and the cause of the alert while it fails."""
        return f"{self.kind} {self.of}".strip()


@dataclass(slots=True)
class _Pace:
    """When a task was last begun and ended, how often in a row it has failed, and what state was done."""

    begun: int = 0
    ended: int = 0
    failures: int = 0
    trying: int | None = None
    done: int | None = None
    next_look: float = 0.0

    def note(self, status: str, begun: int, ended: int) -> None:
        if status == "interrupted":
            return
        self.begun, self.ended = begun, ended
        self.failures = self.failures + 1 if status == "failed" else 0
        self.done = self.trying if status == "done" else self.done

    def pausing(self, now: int) -> bool:
        pause = min(FIRST_PAUSE << min(self.failures - 1, 9), LONGEST_PAUSE) if self.failures else 0
        return self.ended <= now < self.ended + pause


class Schedule:
    """Begins what is due, and sees to what follows from it.

    Args:
        tasks: What is done; the first comes first.
        runs: What runs them.
        registry: Its ledger says what was done when.
        alerting: Keeps alerts.
        clock: The time.
    """

    def __init__(
        self, tasks: Sequence[Task], runs: Runs, registry: Registry, alerting: Alerting, clock: Clock
    ) -> None:
        self._tasks = {(task.kind, task.of): task for task in tasks}
        self._runs = runs
        self._registry = registry
        self._alerting = alerting
        self._clock = clock
        self._paces: dict[tuple[str, str], _Pace] = {}
        self._next = 0.0

    def poll(self) -> None:
        """Note what has ended, and begin what is due."""
        for ended in self._runs.poll(self._note):
            self._next = 0.0
            if ended.kind == TRAIN:
                self._alerting.trainings(str(ended.details["model"]))
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + LOOK_S
        if not self._paces:
            self._paces = self._remembered()
        for key, task in self._tasks.items():
            if not self._runs.mine(task.kind) and self._due(task, self._paces[key]):
                command = [sys.executable, "-m", "icekeel", *task.arguments]
                self._runs.begin(task.kind, command, {"of": task.of}, limit_s=task.limit_s)

    def training(self) -> bool:
        """Whether a version is being trained."""
        return self._runs.busy(TRAIN)

    def stop(self) -> None:
        """End what is under way; it goes on the next time."""
        self._runs.stop()

    def _remembered(self) -> dict[tuple[str, str], _Pace]:
        paces = {key: _Pace() for key in self._tasks}
        for kind in dict.fromkeys(kind for kind, _ in self._tasks):
            for run in self._registry.runs(kind):
                pace = paces.get((kind, str(run.details.get("of"))))
                if pace is not None:
                    pace.note(run.status, run.started_at, run.finished_at or run.started_at)
        return paces

    def _due(self, task: Task, pace: _Pace) -> bool:
        now = self._clock()
        if time.monotonic() < pace.next_look or pace.pausing(now):
            return False
        # A clock that was set back makes nothing wait for it.
        if task.every and not pace.failures and pace.begun <= now < pace.begun + task.every:
            return False
        pace.next_look = time.monotonic() + STATE_LOOK_S
        try:
            pace.trying = task.state()
        except StateError:
            raise
        except Exception as error:  # nor a file that cannot be looked at
            log.error("state_not_read", exc_info=error, extra={"task": task.name})
            return False
        return pace.trying is not None and bool(task.every or pace.trying != pace.done)

    def _note(self, ended: Ended) -> Json:
        """An alert where there is something to be said, the end of one where all is well again."""
        task = self._tasks.get((ended.kind, str(ended.details.get("of"))))
        if task is None:
            return {}
        self._registry.forget_runs(ended.kind, before=ended.at - KEPT)
        did, trouble = "", None
        if ended.status == "failed":
            said = ended.words or "it said nothing"
            command = f"icekeel {' '.join(task.arguments)}".replace(" --json", "")
            todo = f"Run `{command}` and read the error; it is tried again by itself."
            trouble = Trouble(task.name, f"{task.name} failed", (said,), todo)
        elif ended.status == "done":
            did, trouble = self._said(task, ended.result)
        for model in task.models:
            if trouble is not None:
                sentences = list(trouble.sentences)
                self._alerting.warn(ended.at, model, trouble.cause, trouble.title, sentences, trouble.todo)
            if ended.status == "done" and (trouble is None or trouble.cause != task.name):
                self._over(model, task.name, ended.at)
        if self._paces:
            self._paces[task.kind, task.of].note(ended.status, ended.started_at, ended.at)
        return {"did": did} if did else {}

    def _said(self, task: Task, result: Any) -> tuple[str, Trouble | None]:
        try:
            return task.said(result)
        except Exception as error:  # a result of another shape must not end the keeper
            log.error("result_not_read", exc_info=error, extra={"task": task.name})
            return _plain(result)[:MOST_SAID], None

    def _over(self, model: str, cause: str, at: int) -> None:
        for alert in self._registry.alerts(model, open_only=True):
            if alert.cause == cause:
                self._registry.resolve(alert.id, resolution="it went well the next time", at=at)


def tasks_of(
    workspace: Workspace, registry: Registry, cadence: Cadence, teller: Teller | None = None
) -> Iterator[Task]:
    """What is done for a project."""
    project, here = workspace.project, ("--project", str(workspace.project.folder), "--json")
    every_model = tuple(project.models)
    one, limit_s = every_model[:1], cadence.limit_s
    for name, table in project.tables.items() if cadence.ingest else ():
        if table.source:
            readers = tuple(model for model in every_model if _reads(workspace, model, name)) or one
            yield Task(
                INGEST,
                name,
                ("ingest", name, *here),
                readers,
                cadence.ingest_limit_s,
                cadence.ingest,
                said=partial(_taken_in, name),
            )
    for model in every_model if cadence.audit else ():
        ready = partial(_champion, registry, model)
        said = partial(_audited, model)
        yield Task(AUDIT, model, ("audit", model, *here), (model,), limit_s, cadence.audit, ready, said)
    moved = partial(unmoved, workspace)
    yield Task(COMPACT, "", ("compact", *here), one, limit_s, state=moved)
    if teller is not None:
        yield Task(TELL, "", ("alerts", "tell", *here), one, TELL_LIMIT_S, state=teller.state)
    if cadence.mirrored:
        arguments = ("models", "mirror", *here)
        yield Task(MIRROR, "", arguments, one, limit_s, state=registry.changed)
    if cadence.backup and cadence.backup_to:
        kept = ("backup", "--to", cadence.backup_to, "--keep", str(cadence.keep_backups), *here)
        yield Task(BACKUP, "", kept, one, limit_s, cadence.backup)


def _reads(workspace: Workspace, model: str, table: str) -> bool:
    views = {lookup.view.table for lookup in workspace.plans[model].lookups}
    return table in views | {workspace.project.models[model].outcome.keyed.table}


def _champion(registry: Registry, model: str) -> int | None:
    return 0 if CHAMPION in registry.aliases(model) else None


def _taken_in(table: str, rows: Any) -> tuple[str, Trouble | None]:
    """What an ingestion did; rows that it set aside are for a person."""
    counts = {
        name: sum(one[name] for one in rows)
        for name in ("kept", "changed", "deleted", "quarantined", "skipped")
    }
    did = ", ".join(f"{count:,} {name}" for name, count in counts.items() if count) or "nothing new"
    if not counts["quarantined"]:
        return did, None
    sentences = tuple(
        f"{one['source']}: {one['quarantined']:,} rows set aside ({', '.join(f'{rule}: {count:,}' for rule, count in one['reasons'].items())})"
        for one in rows
        if one["quarantined"]
    )
    todo = f"Look at them: `icekeel quarantine list {table}`; repair them at their source, or export, mend and admit them."
    return did, Trouble(f"source {table}", f"rows of {table} break their contract", sentences, todo)


def _audited(model: str, result: Any) -> tuple[str, Trouble | None]:
    """What audits found; one that blocks is for a person."""
    blocking = [one for one in result["audits"] if one["verdict"] == "block"]
    if not blocking:
        return f"{len(result['audits'])} audits, none blocks", None
    names = ", ".join(one["audit"] for one in blocking)
    sentences = tuple(f"{one['audit']}: {one['what']}" for one in blocking)
    todo = blocking[0]["todo"] or f"Run `icekeel audit {model}`."
    return f"blocked by {names}", Trouble(
        f"audit {model}", f"{names} block the training of {model}", sentences, todo
    )


def _plain(result: Any) -> str:
    """The plain values of a result, in words."""
    if isinstance(result, list):
        return "; ".join(map(_plain, result[:5]))
    if isinstance(result, dict):
        plain = {name: value for name, value in result.items() if isinstance(value, str | int | float)}
        return ", ".join(f"{name} {value}" for name, value in plain.items())
    return str(result)
