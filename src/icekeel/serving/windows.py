"""The features of requests, and what stands for them where the windows are old or cannot be read."""

from __future__ import annotations

import logging
import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import lmdb
import msgspec

from icekeel.core.errors import Fault, StateError
from icekeel.core.time import FOREVER, SECOND, Clock, format_duration, parse_duration, roughly
from icekeel.define import Fresh, Mark, Model, Refuse
from icekeel.define.nodes import Windowed
from icekeel.features.aggregates import View
from icekeel.features.live import LiveFeatures, State
from icekeel.features.plan import Plan

Value = float | int | str | bool | None
UNREADABLE = (lmdb.Error, StateError, ValueError, struct.error)
"""What reading a damaged store may raise: LMDB where it notices, decoding where that meets other bytes."""
KEEPER_BEHIND = 10 * SECOND
"""Lag of the keeper from which it counts as a problem: more than one that is started again has."""
MOST_NAMED = 3
"""Features that are named where their rows are stale."""
log = logging.getLogger(__name__)


class Served(NamedTuple):
    """Features of one request.

    Attributes:
        values: In the order of the plan.
        state: How far the projections were that the windows were read from. Where they could not be read, the last
            state that could be, under serial 0: no answer is recomputed from it.
        degraded: What the features lacked, as in `Answer`.
        old: What of it is such that `stale=` does not let the model answer.
    """

    values: list[Any]
    state: State
    degraded: list[str]
    old: Sequence[Fault] = ()


class _Key(NamedTuple):
    """A key whose newest row must be fresh.

    Attributes:
        name: `TABLE.COLUMN`.
        features: Names of those that are made of its rows, for people.
        warn, error, reach: Ages in microseconds: the limits, and beyond which none is known.
    """

    name: str
    features: str
    warn: int
    error: int
    reach: int

    @classmethod
    def of(cls, plan: Plan, age: Windowed, fresh: Fresh) -> _Key:
        names = plan.readers(age)
        more = [f"{len(names) - MOST_NAMED} more"] if len(names) > MOST_NAMED else []
        listed = ", ".join([*names[:MOST_NAMED], *more])
        return cls(f"{age.keyed.table}.{'+'.join(fresh.keys)}", listed, *fresh.limits, age.high)

    def too_old(self, age: float) -> bool:
        """Whether it is beyond what counts as an error; NaN is beyond reach."""
        return self.error < FOREVER and not age <= self.error

    def said(self, age: float) -> tuple[str, str]:
        """How old it is, and what was allowed; in words."""
        shown = roughly(age) if age <= self.reach else f"over {roughly(self.reach)}"
        return shown, roughly(self.error if self.too_old(age) else self.warn)


class Windows:
    """Reads one model's features as its `stale=` policy says.

    Args:
        model, plan: The definitions.
        views: Every view of the project, as the keeper keeps them.
        fresh: How old rows of a table may be, of those that the plan reads.
        clock: The machine's time, or a shifted one.
        rehearsal: Whether history is replayed: the keeper's time is then no measure of its lag.

    Attributes:
        trouble: Why the windows, or those of some requests, cannot be read; empty where nothing is known to be wrong.
    """

    def __init__(
        self,
        model: Model,
        plan: Plan,
        views: Sequence[View],
        *,
        fresh: Mapping[str, Fresh],
        clock: Clock,
        rehearsal: bool,
    ) -> None:
        self._plan = plan
        self._views = views
        self._fresh = {table: one.limits for table, one in fresh.items() if min(one.limits) < FOREVER}
        self._keys = [_Key.of(plan, age, fresh[age.keyed.table]) for age in plan.ages]
        self._clock = clock
        self._rehearsal = rehearsal
        self._after = parse_duration(model.stale.after)
        self._marks_old = isinstance(model.stale.otherwise, Mark)
        self._refuses_old = isinstance(model.stale.otherwise, Refuse)
        self._refuses_unreadable = isinstance(model.stale.unreadable, Refuse)
        self._compute = plan.compile()
        self._environment: lmdb.Environment | None = None
        self._live: LiveFeatures | None = None
        self._last = State()
        self._serial, self._newest, self._until = -1, dict[str, int](), FOREVER
        self._sound: Sequence[Value] | None = None
        self._failed: Sequence[Value] | None = None
        self.trouble = "it is being opened"

    def connect(self, environment: lmdb.Environment | None, why: str = "") -> None:
        """Read from another environment from now on, or from none, and why.

        Raises:
            StateError: it holds other windows, or none; what was read from before goes on.
        """
        live = None if environment is None else self._follow(environment)
        self._environment, self._live, self.trouble = environment, live, why
        self._serial, self._sound, self._failed = -1, None, None

    def _follow(self, environment: lmdb.Environment) -> LiveFeatures:
        try:
            return LiveFeatures(environment, self._plan, self._views)
        except lmdb.MapResizedError:  # the keeper has enlarged it
            environment.set_mapsize(0)
            return LiveFeatures(environment, self._plan, self._views)

    def state(self) -> State:
        """How far the keeper is; a fresh state where that cannot be read."""
        try:
            return self._look()
        except UNREADABLE:
            return State()

    def _look(self) -> State:
        if self._live is None:
            return State()
        state = self._live.state()
        if state.serial != self._serial:
            self._date(self._live, state)
        return state

    def stale(self, at: int) -> dict[str, int]:
        """When the newest event of each source became available that is not fresh, microseconds UTC; 0 before any."""
        return {
            table: self._newest.get(table, 0)
            for table, limits in self._fresh.items()
            if at - self._newest.get(table, 0) > min(limits)
        }

    def check(self) -> None:
        """Raise what any request now would raise.

        Where some requests find damage, one that found none before is asked again.

        Raises:
            StateError: as `read`.
        """
        now = self._clock()
        try:
            state = self._look()
        except UNREADABLE as error:
            self._note(error)
            self._refuse_unreadable()
            return
        if self._live is None or (self.trouble and not self._reads(self._sound or self._failed, now)):
            self._refuse_unreadable()
        else:
            self._degraded(state, now)

    def damaged(self) -> bool:
        """Whether a request that found damage finds it still."""
        if self._failed is None:
            return False
        if self._reads(self._failed, self._clock()):
            self._failed, self.trouble = None, ""
        return self._failed is not None

    def _reads(self, request: Sequence[Value] | None, now: int) -> bool:
        try:
            if self._live is not None and request is not None:
                self._read(self._live, request, now)
        except UNREADABLE:
            return False
        return True

    def read(self, request: Sequence[Value], asked_at: int) -> Served:
        """The features of a request as known at `asked_at`.

        Raises:
            StateError: the windows are older than the project allows, or cannot be read, and it says to refuse.
        """
        if self._live is not None:
            try:
                read = self._read(self._live, request, asked_at)
                if read.state.serial != self._serial:
                    self._date(self._live, read.state)
            except UNREADABLE as error:
                self._failed = request
                self._note(error)
            else:
                self._last = read.state
                if self.trouble or self._sound is None:
                    self._sound = request
                degraded, old = self._degraded(read.state, asked_at)
                if self._keys:
                    degraded, old = self._judge(read.ages, degraded, old)
                return Served(read.values, read.state, degraded, old)
        self._refuse_unreadable()
        values = self._compute(request, asked_at, self._plan.unseen())
        return Served(values, msgspec.structs.replace(self._last, serial=0), ["windows_unreadable"])

    def read_many(self, requests: Sequence[Sequence[Value]], asked_at: int) -> list[Served]:
        """What `read` gives for each of several requests; where they cannot be read together, each is read alone.

        Raises:
            StateError: as `read`.
        """
        if self._live is not None and requests:
            try:
                reads = self._live.read_many(requests, asked_at)
                state = reads[0].state
                if state.serial != self._serial:
                    self._date(self._live, state)
            except UNREADABLE:
                pass
            else:
                self._last = state
                found = self._degraded(state, asked_at)
                return [Served(one.values, state, *self._judge(one.ages, *found)) for one in reads]
        return [self.read(request, asked_at) for request in requests]

    def _read(self, live: LiveFeatures, request: Sequence[Value], asked_at: int) -> Any:
        try:
            return live.read(request, asked_at)
        except lmdb.MapResizedError:  # the keeper has enlarged it
            if self._environment is not None:
                self._environment.set_mapsize(0)
            return live.read(request, asked_at)

    def _note(self, error: Exception) -> None:
        trouble = f"{type(error).__name__}: {error}"
        if trouble != self.trouble:
            log.error("windows_unreadable", extra={"why": trouble})
        self.trouble = trouble

    def _refuse_unreadable(self) -> None:
        if self._refuses_unreadable:
            hint = "is the keeper running? icekeel up starts it; stale= says what happens meanwhile"
            raise StateError(
                Fault("no_online_state", "the windows cannot be read", got=self.trouble, hint=hint)
            )

    def _date(self, live: LiveFeatures, state: State) -> None:
        """Look up, once for each state, until when every source is fresh."""
        self._newest = live.newest(self._fresh)
        self._until = min(
            (self._newest[table] + min(limits) for table, limits in self._fresh.items()), default=FOREVER
        )
        self._serial = state.serial

    def _degraded(self, state: State, at: int) -> tuple[list[str], Sequence[Fault]]:
        """What every request lacks now, and what of it does not let the model answer."""
        found = [] if state.known_until else ["no_events"]
        behind = not self._rehearsal and at - state.seen > self._after
        if not behind and at <= self._until:
            return found, ()
        stale = self.stale(at)
        old = [] if self._marks_old else list(self._too_old(state, at, behind=behind, stale=stale))
        if old and self._refuses_old:
            raise StateError(*old)
        return [*found, *(["keeper_behind"] if behind else []), *map("stale:{}".format, stale)], old

    def _too_old(self, state: State, at: int, *, behind: bool, stale: Mapping[str, int]) -> Iterator[Fault]:
        if behind:
            since = f"for {(at - state.seen) // SECOND:,} s" if state.seen else "yet"
            what = f"the windows are too old: the keeper has read nothing {since}"
            yield Fault("keeper_behind", what, allowed=format_duration(self._after))
        for table, newest in stale.items():
            _, error = self._fresh[table]
            if at - newest > error:
                what = f"the windows are too old: nothing new of {table} has come"
                yield Fault("stale_source", what, allowed=format_duration(error))

    def _judge(
        self, ages: Sequence[float], degraded: list[str], old: Sequence[Fault]
    ) -> tuple[list[str], Sequence[Fault]]:
        """The same with what the keys of one request lack."""
        for key, age in zip(self._keys, ages, strict=True):
            if age <= key.warn and age <= key.error:
                continue
            shown, limit = key.said(age)
            degraded = [*degraded, f"stale:{key.name}: {key.features} {shown} old, limit {limit}"]
            if key.too_old(age) and not self._marks_old:
                what = f"what it rests on is too old: {key.features}"
                old = [*old, Fault("stale_value", what, key.name, shown, limit)]
        return degraded, old
