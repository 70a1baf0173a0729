"""The keeper: follows the journal, makes every projection, and runs what is due."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

import lmdb
import msgspec

from icekeel.core.errors import BundleError, RegistryError
from icekeel.core.time import Clock
from icekeel.data import History
from icekeel.define import Project
from icekeel.features.live import EventFeed, StateCell
from icekeel.features.online.lmdb import LmdbWindows, TextCodes
from icekeel.features.plan import Lookup, Plan
from icekeel.journal import Ingested, Positions, Predicted, Pushed, Record, Tail, Ticked
from icekeel.registry import Registry
from icekeel.serving import load_version

from .loop import Duty, Loop
from .profiles import DayProfiles
from .projections import AnswerProjection, EventProjection, Shadow, stored_rows
from .workshop import SHADOW

LARGEST_READ = 2 << 20
IDLE_S = 0.05
log = logging.getLogger(__name__)


class Keeper:
    """Makes the projections of a project; exactly one runs at a time.

    Args:
        project, plans, lookups: The definitions.
        journal: Folder of the segments.
        history: Where bulk-ingested files lie.
        online: The environment of all projections.
        registry, bundles: For versions in shadow.
        loop: What is due at the end of each day.
        clock: The time, unless in rehearsal.
        rehearsal: Take the time from the journal.
    """

    def __init__(
        self,
        project: Project,
        plans: Mapping[str, Plan],
        lookups: Sequence[Lookup],
        *,
        journal: Path,
        history: History,
        online: lmdb.Environment,
        registry: Registry,
        bundles: Path,
        loop: Loop,
        clock: Clock,
        rehearsal: bool,
    ) -> None:
        self._online = online
        windows = LmdbWindows(online, [lookup.view for lookup in lookups])
        self._feed = EventFeed(project.tables, lookups, TextCodes(online))
        self._events = EventProjection(self._feed, windows)
        self._answers = {
            name: AnswerProjection(online, model, project) for name, model in project.models.items()
        }
        self._profiles = {name: DayProfiles(online, name) for name in project.models}
        self._windows = windows
        self._cell = StateCell(online)
        self._project = project
        self._plans = plans
        self._history = history
        self._registry = registry
        self._bundles = bundles
        self._loop = loop
        self._clock = clock
        self._rehearsal = rehearsal
        self._shadows: dict[str, tuple[str, Shadow]] = {}
        with online.begin() as txn:
            self.state = self._cell.read(txn)
        positions = Positions.decode(self.state.positions) if self.state.positions else Positions({})
        self._tail = Tail(journal, positions)

    def run(self, stop: threading.Event) -> None:
        """Follow the journal until told to stop; what is begun is finished first."""
        while not stop.is_set():
            if not self.step():
                stop.wait(IDLE_S)

    def step(self) -> int:
        """Project what is new and do what is due; gives the number of records read."""
        records = self._tail.read(LARGEST_READ)
        ticked = [record.at for record in records if isinstance(record, Ticked)]
        now = max([self.state.now, *ticked]) if self._rehearsal else self._clock()
        if records:
            self._project_all(records)
        if now > self.state.now:
            self._do_due(now)
        return len(records)

    def _project_all(self, records: Sequence[Record]) -> None:
        """All projections of a batch and the position behind it, in one transaction."""
        pushed = [record for record in records if isinstance(record, Pushed)]
        with self._online.begin(write=True) as txn:
            newest = self._events.apply(txn, pushed)
            for record in records:
                if isinstance(record, Ingested):
                    newest = max(newest, self._ingested(txn, record))
            for name, answers in self._answers.items():
                mine = [
                    record for record in records if isinstance(record, Predicted) and record.model == name
                ]
                if mine:
                    answers.answered(txn, mine, self._in_shadow(name))
                    self._profiles[name].add(txn, mine, self._loop.profiler(name))
                answers.happened(txn, [record for record in pushed if record.table == answers.table])
            state = msgspec.structs.replace(
                self.state,
                serial=self.state.serial + 1,
                positions=self._tail.positions.encode(),
                known_until=max(self.state.known_until, newest),
                pushed=self.state.pushed + sum(len(record.rows) for record in pushed),
            )
            self._cell.write(txn, state)
        self.state = state

    def _ingested(self, txn: lmdb.Transaction, record: Ingested) -> int:
        """A bulk file into the online windows: the rows that a question may still meet."""
        if not self._feed.reads(record.table):
            return 0
        newest = 0
        table = self._project.tables[record.table]
        file = self._history.folder / record.table / record.file
        for rows in stored_rows(file, table, since=record.at - self._feed.horizon(record.table)):
            newest = max(
                newest, self._events.apply(txn, [Pushed(at=record.at, table=record.table, rows=rows)])
            )
        return newest

    def _in_shadow(self, model: str) -> dict[str, Shadow]:
        """The version in shadow, ready to predict."""
        alias = self._registry.aliases(model).get(SHADOW)
        if alias is None:
            return {}
        if self._shadows.get(model, ("", None))[0] != alias.version:
            try:
                version = self._registry.version(alias.version)
                loaded = load_version(version, self._bundles, self._plans[model].definitions)
            except (BundleError, RegistryError) as error:
                log.error(
                    "shadow_refused", extra={"model": model, "version": alias.version, "why": str(error)}
                )
                return {}
            self._shadows[model] = (alias.version, Shadow(loaded.engine))
        name, shadow = self._shadows[model]
        return {name: shadow}

    def _do_due(self, now: int) -> None:
        """Close outcome windows, and do each duty whose time has come, once and in order."""
        for duty in self._loop.due(self.state.now, now):
            self._do(duty)
        with self._online.begin(write=True) as txn:
            for answers in self._answers.values():
                answers.close(txn, now)
            self.state = msgspec.structs.replace(self.state, serial=self.state.serial + 1, now=now)
            self._cell.write(txn, self.state)

    def _do(self, duty: Duty) -> None:
        with self._online.begin(write=True) as txn:
            for answers in self._answers.values():
                answers.close(txn, duty.at)
        for name, answers in self._answers.items():
            with self._online.begin() as txn:
                settled = answers.settled(txn, 0, duty.at)
                profile = self._profiles[name].read(txn, duty.day, self._loop.profiler(name))
            self._loop.do(duty, name, settled, profile)
