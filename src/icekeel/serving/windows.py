"""The features of requests, and what stands for them where the windows are old or cannot be read."""

from __future__ import annotations

import logging
import struct
from collections.abc import Sequence
from typing import Any, NamedTuple

import lmdb

from icekeel.core.errors import Fault, StateError
from icekeel.core.time import SECOND, Clock, format_duration, parse_duration
from icekeel.define import Model, Refuse
from icekeel.features.aggregates import View
from icekeel.features.live import LiveFeatures, State
from icekeel.features.plan import Plan

Value = float | int | str | bool | None
UNREADABLE = (lmdb.Error, StateError, ValueError, struct.error)
"""What reading a damaged store may raise: LMDB where it notices, decoding where that meets other bytes."""
KEEPER_BEHIND = 60 * SECOND
"""Lag of the keeper's last commit from which it counts as a problem; far more than a keeper that runs ever has."""
log = logging.getLogger(__name__)


class Served(NamedTuple):
    """Features of one request.

    Attributes:
        values: In the order of the plan.
        state: How far the projections were that the windows were read from. Where they could not be read, the last
            state that could be, under serial 0: no answer is recomputed from it.
        degraded: What the features lacked, as in `Answer`.
    """

    values: list[Any]
    state: State
    degraded: list[str]


class Windows:
    """Reads one model's features as its `stale=` policy says.

    Args:
        model, plan: The definitions.
        views: Every view of the project, as the keeper keeps them.
        clock: The machine's time, or a shifted one.
        rehearsal: Whether history is replayed: the keeper's time is then no measure of its lag.
    """

    def __init__(
        self, model: Model, plan: Plan, views: Sequence[View], *, clock: Clock, rehearsal: bool
    ) -> None:
        self._plan = plan
        self._views = views
        self._clock = clock
        self._rehearsal = rehearsal
        self._after = parse_duration(model.stale.after)
        self._refuses_old = isinstance(model.stale.otherwise, Refuse)
        self._refuses_unreadable = isinstance(model.stale.unreadable, Refuse)
        self._compute = plan.compile()
        self._environment: lmdb.Environment | None = None
        self._live: LiveFeatures | None = None
        self._last = State()
        self.trouble = "it is being opened"

    def connect(self, environment: lmdb.Environment | None, why: str = "") -> None:
        """Read from another environment from now on, or from none, and why.

        Raises:
            StateError: it holds other windows, or none; what was read from before goes on.
        """
        live = None if environment is None else self._follow(environment)
        self._environment, self._live, self.trouble = environment, live, why

    def _follow(self, environment: lmdb.Environment) -> LiveFeatures:
        try:
            return LiveFeatures(environment, self._plan, self._views)
        except lmdb.MapResizedError:  # the keeper has enlarged it
            environment.set_mapsize(0)
            return LiveFeatures(environment, self._plan, self._views)

    def state(self) -> State:
        """How far the keeper is; a fresh state where that cannot be read."""
        try:
            return State() if self._live is None else self._live.state()
        except UNREADABLE:
            return State()

    def check(self) -> None:
        """Raise what any request now would raise.

        Raises:
            StateError: as `read`.
        """
        if self._live is None:
            self._refuse_unreadable()
        else:
            self._degraded(self.state())

    def read(self, request: Sequence[Value], asked_at: int) -> Served:
        """The features of a request as known at `asked_at`.

        Raises:
            StateError: the windows are older than the project allows, or cannot be read, and it says to refuse.
        """
        if self._live is not None:
            try:
                read = self._read(self._live, request, asked_at)
            except UNREADABLE as error:
                self._note(f"{type(error).__name__}: {error}")
            else:
                self._last, self.trouble = read.state, ""
                return Served(read.values, read.state, self._degraded(read.state))
        self._refuse_unreadable()
        values = self._compute(request, asked_at, self._plan.unseen())
        last = State(known_until=self._last.known_until, now=self._last.now)
        return Served(values, last, ["windows_unreadable"])

    def _read(self, live: LiveFeatures, request: Sequence[Value], asked_at: int) -> Any:
        try:
            return live.read(request, asked_at)
        except lmdb.MapResizedError:  # the keeper has enlarged it
            if self._environment is not None:
                self._environment.set_mapsize(0)
            return live.read(request, asked_at)

    def _note(self, trouble: str) -> None:
        if trouble != self.trouble:
            log.error("windows_unreadable", extra={"why": trouble})
        self.trouble = trouble

    def _refuse_unreadable(self) -> None:
        if self._refuses_unreadable:
            hint = "is the keeper running? icekeel up starts it; stale= says what happens meanwhile"
            raise StateError(
                Fault("no_online_state", f"the windows cannot be read: {self.trouble}", hint=hint)
            )

    def _degraded(self, state: State) -> list[str]:
        found = [] if state.known_until else ["no_events"]
        behind = self._clock() - state.now
        if self._rehearsal or behind <= self._after:
            return found
        if self._refuses_old:
            got = f"{behind // SECOND:,} s" if state.now else "it has never run"
            what = "the keeper is behind, so the windows are older than the project allows"
            raise StateError(Fault("keeper_behind", what, "", got, format_duration(self._after)))
        return [*found, "keeper_behind"]
