"""All that one serving process holds open, and what it says of itself."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import lmdb

from icekeel.app import App
from icekeel.core.errors import Fault, IcekeelError, JournalError, StateError
from icekeel.core.time import DAY, SECOND
from icekeel.define import Refuse
from icekeel.features.live import State
from icekeel.features.online.extent import Extent
from icekeel.journal import Positions
from icekeel.monitoring import Baseline
from icekeel.operations.accounts.trace import Standing
from icekeel.operations.monitors.monitor import nearest
from icekeel.operations.monitors.watch import read_baseline
from icekeel.registry import GRADES
from icekeel.serving import KEEPER_BEHIND, Answerer, Asked, AskedIndex, OnlineReader, Outcomes
from icekeel.store import FeatureStore

from .counters import Counters, Gauges, Labelled, exposition
from .workers import Told, Workers, alive

AGAIN = 25
"""A version that could not be loaded is tried again at every so many refreshes."""
ANEW_PAUSE_S = 600.0
"""Least time between two requests to make the online state anew."""
log = logging.getLogger(__name__)


class Service:
    """The rooms behind one server, opened; what is missing is tried again, what worked before goes on.

    Args:
        app: The project.
        worker: Name of this process among the workers of a server; empty where it is alone.

    Raises:
        IcekeelError: the registry, the journal or the tokens cannot be opened.
    """

    def __init__(self, app: App, *, worker: str = "") -> None:
        self.app = app
        self._workers = Workers(app.places.state / "workers", worker)
        self.counters = Counters(self._workers.former())
        self._closing = ExitStack()
        self.registry = app.registry()
        self._closing.callback(self.registry.close)
        self.journal = app.journal("serve")
        self._closing.callback(self.journal.close)
        self.intake = app.intake(self.journal)
        self.answers = app.answers()
        self.outcomes = Outcomes(app.project, self.intake, app.vault.seek if app.vault else None)
        self._index: AskedIndex | None = None
        self.access = app.access()
        self.reviews = app.reviews(self.registry)
        self.store = FeatureStore(app)  # for history alone: what is online is opened here
        self._answerers = app.answerers(self.registry, self.journal, None)
        self._readers = app.readers(None)
        self._online: lmdb.Environment | None = None
        self._stamp, self._missed = 0, False
        self._lock = threading.Lock()
        self._refreshes = 0
        self._asked_anew = -ANEW_PAUSE_S
        self._troubles: dict[str, Sequence[Fault]] = {}
        self._rehearsal = app.settings.rehearsal
        self._baselines: dict[str, tuple[str, Baseline]] = {}
        self._meant = app.settings.workers if worker else 1
        self.refresh()

    def close(self) -> None:
        """Sync the journal and close everything."""
        self.tell_others()
        with self._lock:
            self._answerers, self._readers = {}, {}
            if self._online is not None:
                self._online.close()
            self._closing.close()

    def answerer(self, name: str) -> Answerer:
        """What answers for a model of the project."""
        return self._answerers[name]

    def reader(self, name: str) -> OnlineReader:
        """What reads the features of a model of the project."""
        return self._readers[name]

    def asked(self, identifiers: Collection[str]) -> dict[str, Asked]:
        """The answers of some ids, as far as the keeper has them at hand."""
        return {} if self._index is None else self._index.find(identifiers)

    def looking_for(self, identifiers: Collection[str]) -> Callable[[], dict[str, Asked]]:
        """What finds answers wherever they are, in any thread; called in the one that answers."""
        # Before the index is asked: what that lacks then has come since, or long ago.
        read = self.state().positions
        known = self.asked(identifiers)
        others = [one for one in identifiers if one not in known]
        since = Positions.decode(read) if read else None
        return lambda: known | self.outcomes.found(self.answers, others, since)

    def standing(self, serial: int) -> Standing:
        """How far the projections were at a serial; in the thread that answers."""
        return Standing.of(self._online, serial)

    def refresh(self) -> None:
        """Take over what the registry, the token file and the keeper say now."""
        self.follow_files()
        self.follow_registry()

    def follow_files(self) -> None:
        """The online state and the tokens; only in the thread that answers."""
        self._try("online", self._follow_online)
        self._try("tokens", self.access.refresh)
        self._mend_online()

    def _mend_online(self) -> None:
        """Have the online state made anew where requests meet damage in it: a keeper need not come across it itself."""
        damaged = [name for name, answerer in self._answerers.items() if answerer.windows.damaged()]
        now = time.monotonic()
        if damaged and now >= self._asked_anew + ANEW_PAUSE_S:
            self._asked_anew = now
            log.error("online_state_damaged", extra={"then": "the keeper is asked to make it anew"})
            damage = f"requests of {', '.join(damaged)} met damage in it"
            self._try("rebuild", lambda: self.app.ask_anew(damage))

    def follow_registry(self) -> None:
        """The versions that serve; in any thread, since loading one takes longer than an answer may."""
        with self._lock:
            self._refreshes += 1
            self._try("registry", self._follow_registry)

    def _try(self, part: str, step: Callable[[], object]) -> None:
        try:
            step()
        except Exception as error:  # a process boundary: what serves goes on serving
            own = error.faults if isinstance(error, IcekeelError) else ()
            faults = own or (Fault("error", "it cannot be followed", got=f"{type(error).__name__}: {error}"),)
            if self._troubles.get(part) != faults:
                log.error("refresh_failed", extra={"part": part, "why": str(error)})
            self._troubles[part] = faults
        else:
            self._troubles.pop(part, None)

    def _follow_online(self) -> None:
        """Read the online state once it is there, and again once it was made anew; let go of one that is damaged.

        Between an old one and a new one there is a moment without: it is missing only if it is not there twice.
        """
        folder = self.app.places.online
        path = folder / "data.mdb"
        stamp = path.stat().st_ino if path.exists() else 0
        self._missed, missed = not stamp, self._missed
        if self._online is not None and not stamp and not missed:
            return
        try:
            Extent(folder).check()
            if self._online is None or stamp != self._stamp:
                self._connect(self.app.online(readonly=True))
                self._stamp = stamp
        except IcekeelError as error:
            self._connect(None, str(error))
            raise

    def _connect(self, online: lmdb.Environment | None, why: str = "") -> None:
        """Have all models read from another environment, and close the one before."""
        try:
            for answerer in self._answerers.values():
                answerer.windows.connect(online, why)
            readers = self.app.readers(online)
            index = None if online is None else AskedIndex(online)
        except BaseException:
            if online is not None:
                online.close()
            raise
        before, self._online, self._readers, self._index = self._online, online, readers, index
        if before is not None:
            before.close()

    def _follow_registry(self) -> None:
        for name, answerer in list(self._answerers.items()):
            if answerer.router.refresh(again=self._refreshes % AGAIN == 0):
                self.counters.swapped(name)

    def state(self) -> State:
        """How far the keeper is; a fresh state where there is none."""
        for answerer in self._answerers.values():
            return answerer.state()
        return State()

    def tell_others(self) -> None:
        """Let the other workers know how it is here."""
        self._try("workers", self.tell)

    def tell(self) -> list[Told]:
        """Let the other workers know how it is here; gives what all say of themselves."""
        serving = {
            name: champion.name if (champion := answerer.router.current.champion) else ""
            for name, answerer in self._answerers.items()
        }
        return self._workers.tell(serving, self.counters.tally)

    def metrics(self) -> bytes:
        """The metrics of all workers, in Prometheus' text format."""
        told = self.tell()
        return exposition([dict(one.tally) for one in told], self.gauges([one for one in told if alive(one)]))

    def status(self) -> dict[str, Any]:
        """What serves, how far the keeper is, what is wrong."""
        state = self.state()
        workers = [one for one in self.tell() if alive(one)]
        return {
            "now": self.app.clock(),
            "models": {
                name: {**serving, "workers": f"{_alike(name, serving, workers)} of {self._meant}"}
                for name, serving in ((one, _serving(by)) for one, by in self._answerers.items())
            },
            "workers": [{"pid": one.pid, "serving": one.serving} for one in workers],
            "keeper": {
                "now": state.now,
                "seen": state.seen,
                "known_until": state.known_until,
                "pushed": state.pushed,
                "serial": state.serial,
            },
            "problems": [f"{part}: {fault}" for part, faults in self._wrong(state) for fault in faults],
        }

    def _wrong(self, state: State) -> Iterator[tuple[str, Sequence[Fault]]]:
        """Parts that do not work as they should, and why, in full."""
        yield from self._troubles.items()
        try:
            self.journal.check()
        except JournalError as error:
            yield "journal", error.faults
        now = self.app.clock()
        for name, answerer in self._answerers.items():
            for alias, why in (answerer.router.current.problems or {}).items():
                yield f"{name}, {alias}", [Fault("version_refused", "its version cannot be loaded", got=why)]
            if self._online is not None and answerer.windows.trouble:
                what = "the windows of some requests cannot be read"
                yield name, [Fault("windows_unreadable", what, got=answerer.windows.trouble)]
            for table, newest in answerer.windows.stale(now).items() if not self._rehearsal else ():
                since = f"for {(now - newest) // SECOND:,} s" if newest else "yet"
                yield name, [Fault("stale_source", f"nothing new of {table} has come {since}")]
        missing = self._meant - 1 - sum(map(alive, self._workers.others))
        if missing > 0:
            yield "workers", [Fault("workers_missing", f"{missing} of {self._meant} do not answer")]
        behind = now - state.seen
        if not self._rehearsal and behind > KEEPER_BEHIND:
            what = f"behind by {behind // SECOND:,} s, features are as old as that"
            yield "keeper", [Fault("keeper_behind", what if state.seen else "it has not run yet")]

    def ready(self) -> list[str]:
        """What is degraded, while every model can be answered for.

        Raises:
            StateError: a model has no champion, or no request of it is answered with its windows as they are.
            JournalError: nothing can be journaled, so a model that refuses then is not answered for.
        """
        if any(isinstance(answerer.model.unlogged, Refuse) for answerer in self._answerers.values()):
            self.journal.check()
        faults: list[Fault] = []
        for answerer in self._answerers.values():
            try:
                answerer.check()
            except StateError as error:
                faults += error.faults
        if faults:
            raise StateError(*faults, *(fault for trouble in self._troubles.values() for fault in trouble))
        # In words that name no place of this machine: anybody may read them.
        return [f"{part}: {fault.what}" for part, faults in self._wrong(self.state()) for fault in faults]

    def _alert_gauges(self) -> Gauges:
        """Open alerts and what was told of alerts; nothing of them while the registry cannot be read."""
        now = self.app.clock()
        try:
            alerts = self.registry.alerts(open_only=True)
            last = {line.message: line.status for line in self.registry.deliveries(now - 7 * DAY)}
        except StateError:
            return {}
        models = self.app.project.models
        none = [((name, grade), 0.0) for name in models for grade in GRADES]
        return {
            "alerts_open": (
                "Alerts that are not resolved, by model and severity.",
                _by_label(("model", "severity"), [*none, *(((one.model, one.grade), 1.0) for one in alerts)]),
            ),
            "alerts_usd_per_day": (
                "What the open alerts cost, dollars a day, as far as that is known.",
                _by_label(
                    ("model",),
                    [
                        *(((name,), 0.0) for name in models),
                        *(((one.model,), one.cost or 0.0) for one in alerts),
                    ],
                ),
            ),
            "training_blocked": (
                "Whether an open alert about bad data keeps a model from being trained.",
                _by_label(
                    ("model",), [((name,), float(bool(self.registry.blocks(name)))) for name in models]
                ),
            ),
            "notices_undelivered": (
                "Messages about alerts whose last attempt failed.",
                sum(status in ("failed", "given up") for status in last.values()),
            ),
        }

    def _evidence(self) -> Iterator[tuple[tuple[str, ...], float]]:
        """Model and kind of change -> how near the detectors are to an alarm; nothing of what cannot be read."""
        if self._online is None:
            return
        for name, model in self.app.project.models.items():
            try:
                version = self.registry.champion(name)
                if self._baselines.get(name, ("",))[0] != version.name:
                    baseline = read_baseline(self.app.places.bundles, version.digest)
                    self._baselines[name] = (version.name, baseline)
                known = self._baselines[name][1]
                found = nearest(self.app.workspace, model, version.name, known, self._online)
            except (IcekeelError, lmdb.Error):
                continue
            yield from (((name, kind), share) for kind, share in found.items())

    def gauges(self, workers: Sequence[Told]) -> Gauges:
        """What is measured when somebody looks."""
        state = self.state()
        try:
            self.ready()
            ready = 1.0
        except IcekeelError:
            ready = 0.0
        return {
            "ready": ("Whether every model can be answered for.", ready),
            "problems": ("Things that do not work as they should.", len(list(self._wrong(state)))),
            "known_until_seconds": (
                "Availability of the newest event the features can see, Unix time.",
                state.known_until / 1e6,
            ),
            "keeper_now_seconds": (
                "Time up to which the keeper has done its duties, Unix time.",
                state.now / 1e6,
            ),
            "keeper_seen_seconds": (
                "Time up to which the keeper has read the journal, Unix time; 0 in a rehearsal.",
                state.seen / 1e6,
            ),
            "workers": ("Workers that have given a sign of life in the last seconds.", len(workers)),
            "workers_meant": ("Workers that there should be.", self._meant),
            "workers_apart": (
                "Workers that serve another version of a model than the worker that was asked.",
                max(
                    (
                        len(workers) - _alike(one, _serving(by), workers)
                        for one, by in self._answerers.items()
                    ),
                    default=0,
                ),
            ),
            "keeper_lag_seconds": (
                "How far the keeper is behind this process's clock, 0 in a rehearsal.",
                0.0 if self._rehearsal else max(0, self.app.clock() - state.seen) / 1e6,
            ),
            **self._alert_gauges(),
            "detector_evidence": (
                "Evidence of the watched series nearest to its bar, as a share of that, by kind of change.",
                _by_label(("model", "kind"), self._evidence()),
            ),
            "keeper_rows": ("Pushed rows in the online state.", state.pushed),
        }


def _by_label(labels: tuple[str, ...], found: Iterable[tuple[tuple[str, ...], float]]) -> Labelled:
    total: Counter[tuple[str, ...]] = Counter()
    for key, number in found:
        total[key] += number  # type: ignore[assignment]  # numbers, not only whole ones
    return labels, total


def _alike(model: str, serving: Mapping[str, Any], workers: Sequence[Told]) -> int:
    """How many have told that they serve the champion that is named here."""
    return sum(one.serving.get(model) == (serving["champion"] or "") for one in workers)


def _serving(answerer: Answerer) -> dict[str, Any]:
    routing = answerer.router.current
    return {
        "champion": routing.champion.name if routing.champion else None,
        "challenger": routing.challenger.name if routing.challenger else None,
        "problems": dict(routing.problems or {}),
    }
