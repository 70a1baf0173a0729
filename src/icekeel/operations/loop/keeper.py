"""The keeper: follows the journal, makes every projection, and runs what is due."""

from __future__ import annotations

import logging
import shutil
import struct
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import lmdb
import msgspec

from icekeel.core.errors import BundleError, JournalError, RegistryError, StateError
from icekeel.core.time import DAY, FOREVER, HOUR, MINUTE, SECOND, Clock
from icekeel.data import Manifest
from icekeel.data.compaction import all_records, recorded
from icekeel.features.live import EventFeed, StateCell
from icekeel.features.online import GRACE
from icekeel.features.online.extent import Extent
from icekeel.features.online.lmdb import LmdbWindows, TextCodes, is_disk, writing
from icekeel.journal import (
    Alerted,
    Decided,
    Entry,
    Ingested,
    Positions,
    Predicted,
    Pushed,
    Quarantined,
    Record,
    Refused,
    Reviewed,
    Tail,
    Ticked,
)
from icekeel.monitoring import Baseline
from icekeel.operations.monitors.minutes import Minutes, known_at
from icekeel.operations.monitors.streams import Streams
from icekeel.operations.monitors.watch import Duty, row_errors, shown
from icekeel.operations.projections.past import Past, stored_rows
from icekeel.operations.projections.projections import (
    FAILED,
    UNSCORED,
    EventProjection,
    Results,
    Shadow,
    Struck,
)
from icekeel.operations.projections.reach import Reach
from icekeel.operations.skew.skew import Auditor
from icekeel.operations.trials.trials import shadow_phase
from icekeel.operations.upkeep.retention import Retention
from icekeel.operations.workspace import Workspace
from icekeel.registry import SHADOW, Alias, Registry
from icekeel.serving import load_version

from .loop import Loop
from .reviews import review_of
from .schedule import Schedule

LARGEST_READ = 2 << 20
IDLE_S = 0.05
REHEARSED_IDLE_S = 0.002
"""Pause with nothing to read. Virtual time waits for the keeper, so there it looks again at once."""
HEARTBEAT = SECOND
"""How often the keeper's clock is written while nothing happens."""
SETTLING = 5 * SECOND
"""A day's duties begin so long after its end: what was stamped before midnight is in the journal by then."""
PRUNE_DAYS = 7
REHEARSED_DAYS = 91
PAUSE_S = 2.0
"""Pause before a full environment, or a registry that cannot be read, is tried again."""
LEAST_FREE = 64 << 20
"""Bytes that the disk must have left for the environment to grow."""
_SPAN = struct.Struct(">QQ")
log = logging.getLogger(__name__)


class Keeper:
    """Makes the projections of a project; exactly one runs at a time.

    Args:
        workspace: The definitions, and where journal and history lie.
        online: The environment of all projections; closed with the keeper.
        registry: For versions in shadow.
        loop: What is due at the end of each day.
        retention: Removes what is spent.
        schedule: What is run beside it.
        clock: The time, unless in rehearsal.
        rehearsal: Take the time from the journal.
    """

    def __init__(
        self,
        workspace: Workspace,
        *,
        online: lmdb.Environment,
        registry: Registry,
        loop: Loop,
        retention: Retention,
        schedule: Schedule,
        clock: Clock,
        rehearsal: bool,
    ) -> None:
        self._workspace = workspace
        self._online = online
        self._registry = registry
        self._loop = loop
        self._retention = retention
        self._schedule = schedule
        self._clock = clock
        self._rehearsal = rehearsal
        self._shadows: dict[str, tuple[str, Callable[[Mapping[str, Any]], float]]] = {}
        self._pressed = False
        self._aliases: dict[str, Alias | None] = {}
        self._reconciled = False
        self._done = loop.done()
        self._again: float | None = None
        self._full: tuple[int, int, int] | None = None
        loop.alerting.settled = lambda name: partial(self._results[name].settled, "")
        self._open()

    def _open(self) -> None:
        """Go on from what the environment holds: at the start, and where a transaction failed."""
        online, project, lookups = self._online, self._workspace.project, self._workspace.lookups
        self._windows = LmdbWindows(online, [lookup.view for lookup in lookups])
        self._feed = EventFeed(project.tables, lookups, TextCodes(online))
        self._events = EventProjection(self._feed, self._windows)
        self._results = {name: Results.of(online, model, project) for name, model in project.models.items()}
        self._answers = {name: found.all()[0] for name, found in self._results.items()}
        self._joined = [one for found in self._results.values() for one in found.all()]
        self._struck = {name: Struck(online, name) for name in project.models}
        self._minutes = {
            name: Minutes(online, Streams(model, self._workspace.plans[name], project))
            for name, model in project.models.items()
        }
        self._told, self._ticks = online.open_db(b"told"), online.open_db(b"ticks")
        self._cell, self._reach, self._extent = StateCell(online), Reach(online), Extent(Path(online.path()))
        with writing(online) as txn:
            self.state = self._reach.begin(txn, self._cell.read(txn))
            self._cell.write(txn, self.state)
            stored = txn.get(b"rehearsed", db=self._ticks)
        self._first_tick, self._ticked = _SPAN.unpack(stored) if stored else (0, 0)
        self._stepped = 0
        positions = Positions.decode(self.state.positions) if self.state.positions else Positions({})
        self._tail = Tail(self._workspace.journal, positions)

    def run(self, stop: threading.Event, *, anew: Callable[[], bool] = lambda: False) -> None:
        """Follow the journal until told to stop; what is begun is finished first, a training is ended.

        Args:
            anew: Whether the projections are to be made anew, which ends this keeper too, though not while a version
                is trained.
        """
        try:
            while not stop.is_set() and not (anew() and not self._schedule.training()):
                if not self.step():
                    stop.wait(REHEARSED_IDLE_S if self._rehearsal else IDLE_S)
        finally:
            self.close()

    def close(self) -> None:
        """End what is run beside it, and close the environment."""
        self._schedule.stop()
        self._online.close()

    def rebuild(self) -> None:
        """Make all projections, into an empty environment, and do nothing that is due.

        Of what was moved into history, since its segments may be gone; then of what is in the journal alone.
        """
        manifest = self._workspace.history.manifest()
        for minutes in self._minutes.values():
            minutes.rebuilding = True
        self._from_history(manifest)
        self._tail = Tail(self._workspace.journal, Positions(manifest.journal))
        seen = self._time_seen()
        while records := self._tail.read(LARGEST_READ):
            self._project_all(records, seen=0)
            seen = self._time_seen()
        with writing(self._online) as txn:
            for answers in self._joined:  # as on the last day whose duties are done
                answers.close(txn, self._done)
            self._commit(txn, now=max(self.state.now, self._done), seen=seen)
            for minutes in self._minutes.values():
                minutes.skip(txn, self._time(self.state.now))
        self._extent.note()

    def _from_history(self, manifest: Manifest) -> None:
        """Project what history holds: events, then the answers that they may decide."""
        past, newest = Past(self._workspace, manifest, since=self.state.now), 0
        for name, found in self._results.items():
            for answers in found.all():
                past.reads(answers.table, answers.within, past.first_asked(name))
        for name in self._workspace.project.tables:
            if self._feed.reads(name):
                past.reads(name, self._feed.horizon(name) + GRACE, FOREVER)
        for pushed in past.events():
            with writing(self._online) as txn:
                newest = max(newest, self._events.apply(txn, [pushed]))
                for answers in self._joined:
                    answers.happened(txn, [pushed] if pushed.table == answers.table else [])
                self._count(txn, [pushed])
        for name in self._answers:
            for records in past.answers(name):
                with writing(self._online) as txn:
                    self._answered(txn, name, records)
                    self._count(txn, [])
        with writing(self._online) as txn:
            for record in recorded(self._workspace.history, manifest, (Decided, Alerted, Ticked)):
                self._note(txn, record)
            positions = Positions(manifest.journal).encode()
            known = max(self.state.known_until, newest)
            serial = self.state.serial + 1
            self._commit(txn, serial=serial, positions=positions, known_until=known, pushed=past.pushed)
            bulk = [file.name for table in manifest.tables for file in manifest.origins(table) if file.source]
            self._reach.note(txn, self.state, bulk)

    def step(self) -> int:
        """Project what is new and do what is due; gives the number of records read.

        Where the environment is full it is made larger, or waited for; the keeper does not end, since the answers
        that go on would then not even be settled once there is room. Without the registry it goes on projecting.
        """
        if self._again is not None and time.monotonic() < self._again:
            return 0
        try:
            if self._again is not None:
                self._open()
                self._again = None
                self._tell_full()
            return self._step()
        except StateError as error:
            if error.code == "state_full":
                self._again = self._make_room(error)
            elif error.code == "registry_unreadable":
                log.error("registry_unreadable", extra={"why": str(error)})
                self._again = time.monotonic() + PAUSE_S
            else:
                raise
            return 0

    def _make_room(self, error: Exception) -> float:
        """Enlarge the map where it was the map that is full; gives the `time.monotonic` of the next try.

        The size of an LMDB map is address space that was asked for, not disk: doubling it costs nothing until pages
        are written, so all that counts is whether the disk has room for some. It can be changed only while this
        process has no transaction open, which is so here: the one that failed has been aborted, and nothing of it is
        in the environment. Readers in other processes take the new size over when they begin their next one.
        """
        size, free = int(self._online.info()["map_size"]), shutil.disk_usage(self._online.path()).free
        if not is_disk(error.__cause__) and free >= LEAST_FREE:
            self._online.set_mapsize(2 * size)
            log.warning("online_state_enlarged", extra={"bytes": 2 * size})
            return 0.0
        log.error("online_state_full", extra={"bytes": size, "free": free, "why": str(error)})
        self._full = self._full or (self._latest(), size, free)
        self._tell_full()
        return time.monotonic() + PAUSE_S

    def _tell_full(self) -> None:
        """Keep an alert of a full disk: at once, or as soon as the registry, which lies on it, can be written."""
        if self._full is None:
            return
        at, size, free = self._full
        try:
            self._loop.full(at, size=size, free=free)
            self._full = None
        except Exception as error:
            log.error("alert_failed", extra={"why": str(error)})

    def tell_damage(self, why: str) -> None:
        """Keep an alert that the environment before this one was damaged."""
        self._loop.damaged(self._latest(), why)

    def _latest(self) -> int:
        """Now; in a rehearsal the newest time seen, which is later than that of the state where a commit failed."""
        return max(self.state.now, self._ticked) if self._rehearsal else self._clock()

    def _step(self) -> int:
        seen = self._time_seen()
        now = self._clock() - SETTLING
        read_all = self._rehearsal or self._tail.behind() <= LARGEST_READ
        self._press(not read_all)
        records = self._tail.read(LARGEST_READ)
        if records:
            self._project_all(records, seen=seen if read_all else self.state.seen)
        if not records and not self._reconciled:
            self._reconcile()
        self._schedule.poll()
        if self._rehearsal:
            now, read_all = self._ticked, self._ticked > self.state.now
        if read_all and (self._rehearsal or now >= self.state.now + HEARTBEAT):
            self._do_due(now, seen)
        elif not self._rehearsal and now < self.state.now - MINUTE and now // MINUTE != self._stepped:
            self._stepped = now // MINUTE
            self._loop.stepped(now, self.state.now - now)
        return len(records)

    def _press(self, pressed: bool) -> None:
        """Score no version in shadow while there is more to read than one step takes."""
        if pressed != self._pressed:
            log.warning("shadows_dropped" if pressed else "shadows_scored_again")
        self._pressed = pressed

    def _time_seen(self) -> int:
        """The time up to which everything will have been read by a read that begins now."""
        return 0 if self._rehearsal else self._clock()

    def _project_all(self, records: Sequence[Record], *, seen: int) -> None:
        """All projections of a batch and the position behind it, in one transaction; `seen` as in `State`."""
        pushed = [record for record in records if isinstance(record, Pushed)]
        with writing(self._online) as txn:
            newest = self._events.apply(txn, pushed)
            rows = sum(len(record.rows) for record in pushed)
            bulk = [record for record in records if isinstance(record, Ingested)]
            for ingested in bulk:
                newest = max(newest, self._ingested(txn, ingested))
            predicted = [record for record in records if isinstance(record, Predicted)]
            for name in self._answers:
                self._answered(txn, name, [record for record in predicted if record.model == name])
            for answers in self._joined:
                answers.happened(txn, [record for record in pushed if record.table == answers.table])
            for record in records:
                self._note(txn, record)
            self._count(txn, records)
            self._commit(
                txn,
                serial=self.state.serial + 1,
                positions=self._tail.positions.encode(),
                known_until=max(self.state.known_until, newest),
                pushed=self.state.pushed + rows,
                seen=seen,
            )
            if pushed or bulk:
                self._reach.note(txn, self.state, [record.file for record in bulk])
        self._extent.note()

    def _answered(self, txn: lmdb.Transaction, model: str, records: Sequence[Predicted]) -> None:
        if records:
            shadows, struck = self._in_shadow(model), self._struck[model]

            def asked(record: Predicted) -> dict[str, float]:
                said = shadows(record)
                for version in (name for name, value in said.items() if value == FAILED):
                    struck.put(
                        txn, shadow_phase(version), "no finite answer", record.unit, share=1.0, second=True
                    )
                return said

            target, *metrics = self._results[model].all()
            target.answered(txn, records, asked)
            for one in metrics:
                one.answered(txn, records, lambda record: {})
            struck.add(txn, records)
            self._loop.alerting.recent[model].add(records)
            if known := self._watched(txn, model, records[0].at):
                self._minutes[model].answered(txn, records, *known)

    def _watched(self, txn: lmdb.Transaction, model: str, at: int) -> tuple[str, Baseline] | None:
        """The champion and what is usual for it, its minutes begun."""
        known = self._loop.watch.baseline(model)
        if known is None or not at:
            return None
        self._minutes[model].begin(txn, *known, self._time(at))
        return known

    def _time(self, at: int) -> int:
        """The time from which minutes count: in a rehearsal that of its clock, though not before `at`."""
        return max(at, self._ticked) if self._rehearsal else self._clock()

    def _count(self, txn: lmdb.Transaction, records: Sequence[Record]) -> None:
        """Rows of event tables, rows set aside and outcomes, in the minutes of each model."""
        pushed = [record for record in records if isinstance(record, Pushed)]
        aside = [record for record in records if isinstance(record, Quarantined | Refused)]
        for name, answers in self._answers.items():
            settled, answers.fresh = answers.fresh, []
            times = [known_at(record) for record in pushed if record.rows] + [
                row.settled_at for row in settled
            ]
            first = min(times, default=self.state.now)
            if not (pushed or aside or settled) or not (known := self._watched(txn, name, first)):
                continue
            version, baseline = known
            self._minutes[name].pushed(txn, pushed, baseline)
            for one in aside:
                if isinstance(one, Refused):
                    self._minutes[name].refused(txn, one, baseline)
                else:
                    ahead = self._rehearsal
                    came = msgspec.structs.replace(one, at=self._ticked) if ahead else one
                    self._minutes[name].set_aside(txn, came, baseline, ahead=ahead)
            model = self._workspace.project.models[name]
            if mine := shown(settled, version):
                error = row_errors(model, [row.prediction for row in mine], mine)
                self._minutes[name].settled(txn, mine, error, baseline)

    def _look_at_minutes(self, until: int) -> None:
        """Look at every minute that is over, in order; the state and what it told are of one transaction."""
        for name, minutes in self._minutes.items():
            known = self._loop.watch.baseline(name)
            if known is None:
                continue
            budget = self._workspace.project.models[name].watch.false_alarms_per_year
            try:
                with writing(self._online) as txn:
                    for at, signals in minutes.close(txn, until, *known, budget):
                        self._loop.watch.report(at, name, signals)
            except (JournalError, StateError, lmdb.Error):
                raise
            except Exception as error:  # as of duties: watching may fail, projecting goes on
                self._loop.failed(Duty(until // DAY, until), name, "watching by the minute", error)
                with writing(self._online) as txn:
                    minutes.skip(txn, until)

    def _note(self, txn: lmdb.Transaction, record: Entry) -> None:
        """Which decisions and alerts the journal has, and how far a rehearsal is."""
        if isinstance(record, Decided | Alerted):
            txn.put(record.id.encode(), b"1", db=self._told)
        elif isinstance(record, Ticked):
            self._first_tick = self._first_tick or record.at
            self._ticked = max(self._ticked, record.at)
            txn.put(b"rehearsed", _SPAN.pack(self._first_tick, self._ticked), db=self._ticks)

    def _commit(self, txn: lmdb.Transaction, **changes: Any) -> None:
        """Write the state; what it says is valid once the transaction is."""
        self.state = msgspec.structs.replace(self.state, **changes)
        self._cell.write(txn, self.state)

    def _ingested(self, txn: lmdb.Transaction, record: Ingested) -> int:
        """A bulk file into the projections: the rows that a question may still meet."""
        table = self._workspace.project.tables.get(record.table)
        readers = [answers for answers in self._joined if answers.table == record.table]
        reaches = [answers.within for answers in readers]
        if self._feed.reads(record.table):
            reaches.append(self._feed.horizon(record.table))
        if table is None or not reaches:
            return 0
        newest = 0
        file, condition = self._workspace.history.holding(record.table, record.file)
        now = min(record.at, self.state.now) if self._rehearsal and self.state.now else record.at
        for rows in stored_rows(file, table, since=now - max(reaches), condition=condition):
            pushed = [Pushed(at=record.at, table=record.table, rows=rows)]
            newest = max(newest, self._events.apply(txn, pushed))
            for answers in readers:
                answers.happened(txn, pushed)
        return newest

    def _in_shadow(self, model: str) -> Callable[[Predicted], dict[str, float]]:
        """What the version in shadow, if there is one, would have answered.

        Under pressure nothing, and that is marked: events come first, since answers wait for them.
        """
        with suppress(StateError):  # without the registry: the one before
            self._aliases[model] = self._registry.aliases(model).get(SHADOW)
        alias = self._aliases.get(model)
        shadow = self._shadow(model, alias.version) if alias is not None else None
        if alias is None or shadow is None:
            return lambda record: {}
        version, since, definitions = alias.version, alias.since, self._workspace.plans[model].digest
        pressed = self._pressed
        return lambda record: (
            {version: UNSCORED if pressed else shadow(record.features)}
            if record.at >= since and record.definitions == definitions
            else {}
        )

    def _shadow(self, model: str, name: str) -> Callable[[Mapping[str, Any]], float] | None:
        """A version in shadow; one that cannot be loaded fails at every question, None while it is not known."""
        if self._shadows.get(model, ("",))[0] != name:
            try:
                version = self._registry.version(name)
                plan = self._workspace.plans[model]
                loaded = load_version(version, self._workspace.bundles, plan)
                self._shadows[model] = (name, Shadow(loaded.engine))
            except (BundleError, RegistryError, StateError) as error:
                log.error("shadow_refused", extra={"model": model, "version": name, "why": str(error)})
                if not isinstance(error, BundleError):
                    return None
                self._shadows[model] = (name, lambda features: FAILED)
        return self._shadows[model][1]

    def _reconcile(self) -> None:
        """Tell the journal, now that all of it is read, of decisions that an earlier crash kept from it.

        Of what people decided the journal knew first: the registry is told.
        """
        with self._online.begin() as txn:
            told = frozenset(bytes(key).decode() for key, _ in txn.cursor(self._told))
        self._loop.tell_missing(told)
        for record in all_records(self._workspace.history, self._workspace.journal, Reviewed):
            self._registry.record(review_of(record))
        self._reconciled = True

    def _do_due(self, now: int, seen: int) -> None:
        """Do each duty whose time has come, in order, then move the clock; `seen` as in `State`."""
        duties = self._loop.due(max(self.state.now, self._done) or self._first_tick, now)
        if duties:  # they take their time, and more where the registry is away
            with writing(self._online) as txn:
                self._commit(txn, serial=self.state.serial + 1, seen=seen)
        for duty in duties:
            self._look_at_minutes(duty.at)
            self._do(duty)
        self._look_at_minutes(now)
        if now // MINUTE > self.state.now // MINUTE:
            hour = now // HOUR > self.state.now // HOUR
            self._loop.look(now // HOUR * HOUR if hour else now // MINUTE * MINUTE, self._results, hour=hour)
        with writing(self._online) as txn:
            self._commit(txn, serial=self.state.serial + 1, now=now, seen=seen)

    def _do(self, duty: Duty) -> None:
        with writing(self._online) as txn:
            for answers in self._joined:
                answers.close(txn, duty.at)
                answers.forget(txn, duty.at)
            self._count(txn, [])
            for name, struck in self._struck.items():
                aliases = self._registry.aliases(name).items()
                keep = [
                    shadow_phase(one.version) if role == SHADOW else f"{one.salt}@" for role, one in aliases
                ]
                struck.forget(txn, keep)
            if duty.day % PRUNE_DAYS == 0:
                self._windows.prune(txn, duty.at)
            self._reach.forget(txn)
        for name in self._answers:
            for step, act in (("watch, judge, retrain", self._look), ("audit", self._audit)):
                try:
                    act(duty, name)
                except (JournalError, lmdb.Error):
                    raise
                except Exception as error:  # one bad outcome, setting or file must not end the keeper
                    self._loop.failed(duty, name, step, error)
        if not self._rehearsal:
            self._retain(duty)
        self._loop.finish(duty)
        self._done = duty.at

    def _retain(self, duty: Duty) -> None:
        """Remove what is spent; its positions are forgotten with the next commit."""
        try:
            sync = partial(self._online.sync, True)
            offsets = self._tail.positions.offsets
            self._tail.forget(self._retention.remove(offsets, at=duty.at, sync=sync))
        except (JournalError, lmdb.Error):
            raise
        except Exception as error:  # as above
            self._loop.failed(duty, next(iter(self._answers)), "retention", error)

    def _look(self, duty: Duty, model: str) -> None:
        with self._online.begin() as txn:
            known = self._loop.watch.baseline(model)
            profile = None if known is None else self._minutes[model].day(txn, duty.day, *known)
        self._loop.do(duty, model, self._results[model], profile)

    def _audit(self, duty: Duty, model: str) -> None:
        """Audit the day's answers; in a rehearsal, whose days are short, those of a quarter at its end."""
        days = REHEARSED_DAYS if self._rehearsal else 1
        if duty.day % days == 0:
            auditor = Auditor(self._workspace, self._online)
            self._loop.audited(duty, model, auditor.audit(model, since=duty.at - days * DAY, until=duty.at))
