"""One replay: a copy of the project, a server and a keeper of its own, and what they answered, found and decided."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from icekeel.core.errors import Fault, StateError
from icekeel.core.ids import digest
from icekeel.core.time import DAY, MINUTE, format_time, wall_clock
from icekeel.define.project import PROJECT_FILE
from icekeel.define.rehearsed import rehearsed_text
from icekeel.registry import CHALLENGER, CHAMPION, SHADOW, Alert, Decision, Registry
from icekeel.serving import Access

from .faults import CHALLENGED, KINDS, Change
from .past import Past
from .places import Places
from .plan import Plan
from .replay import PATIENCE_S, Asked, Minutes, Replay
from .rivals import BY, SIMPLEST, Ground
from .stream import Stream
from .system import System

CONNECTIONS = 2
STRUCK_S = 5.0
"""Most real time that a virtual minute takes in which processes are struck, so that they have some to recover in."""
RECOVERY = 30 * MINUTE
Say = Callable[[str], None]


@dataclass(slots=True)
class Course:
    """What one replay showed.

    Attributes:
        changes: The faults as they were, with when each first showed.
        given: Key of each question -> when it was asked and what was answered; None where nothing was.
        targets: Key of each question -> what came of it.
        flagged: When questions were flagged by the guard, and what became of each.
        refused: When questions were refused for a fault of theirs -> how many, and the first fault.
        alerts, decisions: Of the registry, in order of time.
    """

    changes: Sequence[Change]
    given: dict[str, tuple[int, float | None]] = field(default_factory=dict)
    targets: Mapping[str, float] = field(default_factory=dict)
    flagged: list[tuple[int, str]] = field(default_factory=list)
    refused: list[tuple[int, str]] = field(default_factory=list)
    alerts: Sequence[Alert] = ()
    decisions: Sequence[Decision] = ()
    asked: int = 0
    pushed: int = 0
    quarantined: int = 0
    revived: Sequence[str] = ()
    seconds: float = 0.0
    cpu: Mapping[str, float] = field(default_factory=dict)


def prepare(past: Past, folder: Path, at: int, say: Say, *, rung: str, rivals: bool) -> None:
    """A copy of the project as it stood at a time: its events, its past questions, and a version trained on them.

    One that was made before of the same project file and the same past is used again.

    Raises:
        StateError: the copy cannot be made, or no version passes its gates.
    """
    source, marker = past.folder, folder / "made_from"
    made_from = digest((source / PROJECT_FILE).read_bytes() + f"{past.content}/{at}/{rung}/{rivals}".encode())
    if marker.is_file() and marker.read_text() == made_from:
        say("the copy that was made before is used again")
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for file in (PROJECT_FILE, "icekeel.toml"):
        if (source / file).is_file():
            shutil.copy(source / file, folder / file)
    write_project(folder, source, ())
    past.lay_out(folder, at)
    say(f"the project as it stood on {format_time(at)[:16]}: taking its past in")
    shift = f"--shift={at - wall_clock()}"
    run_command(folder, "ingest", shift)
    say("training on it")
    _train(past, folder, at, rung)
    if rivals:
        say("training its challengers")
        _train(past, folder, at - DAY, rung)
        _train(past, folder, at, SIMPLEST)
    run_command(folder, "rebuild", shift)
    marker.write_text(made_from)


def _train(past: Past, folder: Path, at: int, rung: str) -> None:
    """Train a version; nothing but the first one serves."""
    more = ["--rung", rung] if rung else []
    more += ["--now", format_time(at), "--reason", BY, "--by", BY]
    run_command(folder, "train", past.model.name, *more)
    with closing(Registry(folder / ".icekeel" / "registry.db", clock=lambda: at)) as registry:
        for name in (CHALLENGER, SHADOW):
            if name in registry.aliases(past.model.name):
                registry.drop_alias(past.model.name, name, reason="later", by=BY)
        first = registry.versions(past.model.name)[0].name
        if registry.champion(past.model.name).name != first:
            registry.set_alias(past.model.name, CHAMPION, first, reason="the first one", by=BY)


def write_project(folder: Path, source: Path, without: Collection[str]) -> None:
    """Write the copy's project file."""
    text = rehearsed_text((source / PROJECT_FILE).read_text(encoding="utf-8"), without)
    (folder / PROJECT_FILE).write_text(text, encoding="utf-8")


def run_command(folder: Path, *command: str) -> None:
    """Run a command of Icekeel's on the copy.

    Raises:
        StateError: it failed; with its words.
    """
    line = [sys.executable, "-m", "icekeel", *command, "--project", str(folder)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(line, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        what = f"icekeel {command[0]} failed on the copy"
        raise StateError(Fault("rehearsal_failed", what, str(folder), done.stderr.strip()[-1500:]))


class Player:
    """Plays plans through copies of a prepared project.

    Args:
        past: The history.
        base: The prepared project.
        seed: Of all randomness.
    """

    def __init__(self, past: Past, base: Path, places: Places, seed: int) -> None:
        self._past, self._base, self._places, self._seed = past, base, places, seed

    def play(
        self, plan: Plan, folder: Path, say: Say, *, faults: bool = True, without: Collection[str] = ()
    ) -> Course:
        """One replay of a plan, in a folder of its own.

        Args:
            faults: Whether its faults are injected.
            without: Mechanisms that are left out.
        """
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(self._base, folder)
        write_project(folder, self._past.folder, without)
        changes = [
            KINDS[one.kind].make(one, self._places, np.random.default_rng([self._seed, number]))
            for number, one in enumerate(plan.faults)
        ]
        course = Course(changes if faults else [])
        stream = Stream(self._past, plan.start, plan.end, course.changes)
        token = Access(folder / ".icekeel" / "tokens.json").create("rehearsal", ("admin",))
        with closing(Registry(folder / ".icekeel" / "registry.db", clock=lambda: plan.end)) as registry:
            with System(folder) as system:
                self._play(course, stream, system, token, registry, say, canary="canary" not in without)
            course.alerts = registry.alerts(self._past.model.name)
            course.decisions = registry.decisions(self._past.model.name)
        course.targets = stream.truth.targets
        return course

    def _play(
        self,
        course: Course,
        stream: Stream,
        system: System,
        token: str,
        registry: Registry,
        say: Say,
        *,
        canary: bool,
    ) -> None:
        name = self._past.model.name
        acts = _Acts(course.changes, lambda at: Ground(system, registry, self._past.model, at, canary))

        def on_day(at: int, played: Any) -> None:
            say(f"{format_time(at)[:10]} {played.answered:,} answered, {played.pushed:,} events")

        minutes = Minutes(
            acts.due,
            acts.before,
            partial(_note, course, stream.truth.key),
            system.revive,
            lambda at: self._patience_s(course, registry, at),
        )
        replay = Replay(
            name, system.port, token, alive=system.revive, connections=CONNECTIONS, minutes=minutes
        )
        began = time.monotonic()
        played = replay.play(stream.steps(), on_day)
        course.seconds = time.monotonic() - began
        course.asked, course.pushed, course.quarantined = played.asked, played.pushed, played.quarantined
        course.cpu = {one: system.cpu_seconds(one) for one in ("serve", "keep")}
        course.revived = list(system.revived)

    def _patience_s(self, course: Course, registry: Registry, at: int) -> float:
        """For ever in an experiment, whose end changes who answers; while processes are struck, a part of the minute."""
        if CHALLENGER in registry.aliases(self._past.model.name):
            return PATIENCE_S
        struck = any(
            change.begin is not None
            and change.fault.start
            <= at
            < change.fault.end + (MINUTE if change.fault.kind in CHALLENGED else RECOVERY)
            for change in course.changes
        )
        return STRUCK_S if struck else 0.0


def _note(
    course: Course,
    key: Callable[[dict[str, Any]], str],
    asked: Asked,
    answers: Sequence[Mapping[str, Any]],
) -> None:
    """Write down the questions of one moment and what became of each."""
    for (at, request), answer in zip(asked, answers, strict=True):
        said = answer.get("prediction")
        course.given[key(dict(request))] = (at, said)
        if said is not None and answer["verdict"] != "pass":
            course.flagged.append((at, answer["source"]))
        elif said is None and "prediction_id" in answer:
            course.flagged.append((at, "refused"))
        elif said is None:
            course.refused.append((at, str(answer["faults"][0].get("code", ""))))


class _Acts:
    """What is done to the processes, and what an operator would have done by the time the next fault begins."""

    def __init__(self, changes: Sequence[Change], ground: Callable[[int], Ground]) -> None:
        self._ground = ground
        self._moments = sorted(
            (moment for change in changes for moment in self._of(change)), key=lambda one: one[:2]
        )

    def _of(self, change: Change) -> list[tuple[int, int, Callable[[Ground], None]]]:
        def begin(ground: Ground) -> None:
            for alert in ground.registry.alerts(ground.model.name, open_only=True):
                reason = "rehearsal: the fault before is over"
                ground.registry.resolve(alert.id, resolution=reason, at=ground.at)
            if change.begin is not None:
                change.show(ground.at)
                change.begin(ground)
                ground.system.revive()

        return [(change.fault.start, 1, begin), (change.fault.end, 0, change.end or _nothing)]

    def due(self, at: int) -> bool:
        """Whether a fault begins now: alerts that the keeper still has to open would be taken for its own."""
        return bool(self._moments) and self._moments[0][0] <= at and self._moments[0][1] == 1

    def before(self, at: int) -> None:
        """Do what is due when a minute begins."""
        while self._moments and self._moments[0][0] <= at:
            self._moments.pop(0)[2](self._ground(at))


def _nothing(ground: Ground) -> None:
    del ground
