"""All that is watched of one version, as its bundle holds it: streams, their series, and what is usual for them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

import msgspec
import numpy as np

from icekeel.core.frames import Floats, Ints

from .detectors import Bank, Series, log_bar
from .profiles import Profile, Profiler
from .rates import Heartbeat
from .streams import Cells, Scores, Stream

SHAPES, MINUTES, HEARTBEATS = 0.4, 0.5, 0.1
"""Parts of the yearly budget of false alarms: daily tests of shapes, detectors of minutes, silences."""
PROFILE_DAYS = 120


class Monitored(msgspec.Struct, frozen=True):
    """A stream and what is usual for it.

    Attributes:
        series: Of its columns, in the order of `Stream.drafts`.
        arrivals: Rows a minute; None where that is not watched.
        heartbeat: How long nothing may arrive.
        days: Counts of past days in all cells, for the tests of shapes.
    """

    stream: Stream
    series: tuple[Series, ...]
    arrivals: Series | None = None
    heartbeat: Heartbeat | None = None
    days: tuple[tuple[int, ...], ...] = ()


class Baseline(msgspec.Struct, frozen=True, dict=True):
    """What is watched of one version.

    Attributes:
        monitored: Its streams.
    """

    monitored: tuple[Monitored, ...]

    @cached_property
    def series(self) -> list[Series]:
        """All series, in the order in which a bank has them."""
        return [
            one
            for part in self.monitored
            for one in (*part.series, *([part.arrivals] if part.arrivals is not None else []))
        ]

    def part(self, name: str) -> Monitored | None:
        """The stream of a name; None where it is not watched."""
        return next((part for part in self.monitored if part.stream.name == name), None)

    def owner(self, place: int) -> tuple[Monitored, Cells | None]:
        """The stream and the column of a series by its place; None for arrivals."""
        return self._owners[place]

    @cached_property
    def _owners(self) -> list[tuple[Monitored, Cells | None]]:
        owners: list[tuple[Monitored, Cells | None]] = []
        for part in self.monitored:
            owners += [(part, draft.cells) for draft in part.stream.drafts()]
            owners += [(part, None)] if part.arrivals is not None else []
        return owners

    def bar(self, false_alarms_per_year: float) -> float:
        """Log evidence from which on a series alarms."""
        watched = sum(not one.blind for one in self.series)
        return log_bar(watched, false_alarms_per_year * MINUTES)

    def bank(self, false_alarms_per_year: float) -> Bank:
        """Their detectors."""
        return Bank(self.series, self.bar(false_alarms_per_year))

    @cached_property
    def _scores(self) -> list[Scores]:
        return [Scores(part.stream, part.stream.drafts()) for part in self.monitored]

    def sums(self, counts: Mapping[str, Ints], minutes: float) -> tuple[Floats, Floats]:
        """Rows and sums of all series, for `Bank.look`.

        Args:
            counts: Name of a stream -> rows of a window in all its cells; of others there were none.
            minutes: Length of the window.
        """
        rows, sums = [], []
        for part, scores in zip(self.monitored, self._scores, strict=True):
            mine = counts.get(part.stream.name)
            if mine is None:
                rows.append(np.zeros(len(part.series)))
                sums.append(np.zeros(len(part.series)))
            else:
                n, total = scores(mine)
                rows.append(n)
                sums.append(total)
            if part.arrivals is not None:
                rows.append(np.array([minutes]))
                sums.append(np.array([0.0 if mine is None else float(mine[: part.stream.starts[1]].sum())]))
        return np.concatenate(rows or [np.zeros(0)]), np.concatenate(sums or [np.zeros(0)])

    @cached_property
    def profiler(self) -> Profiler:
        """The cells whose shape is tested every day."""
        return Profiler(
            {f"{part.stream.name}|{cells.key}": cells.binning for part, cells, _, _ in self._shaped()}
        )

    def profile(self, counts: Mapping[str, Ints]) -> Profile:
        """A day as the tests of shapes want it, from counts in all cells by stream."""
        found = {}
        for part, cells, start, end in self._shaped():
            mine = counts.get(part.stream.name)
            size = end - start
            found[f"{part.stream.name}|{cells.key}"] = (
                np.zeros(size, np.int64) if mine is None else np.asarray(mine[start:end])
            )
        return Profile(found)

    def past_days(self) -> list[Profile]:
        """The days of the reference; streams that have fewer have none of the others."""
        most = max((len(part.days) for part in self.monitored), default=0)
        return [
            self.profile(
                {
                    part.stream.name: np.array(part.days[at], dtype=np.int64)
                    for part in self.monitored
                    if at < len(part.days)
                }
            )
            for at in range(most)
        ]

    def _shaped(self) -> list[tuple[Monitored, Cells, int, int]]:
        return [
            (part, cells, start, end)
            for part in self.monitored
            for cells, start, end in zip(
                part.stream.columns, part.stream.starts, part.stream.starts[1:], strict=False
            )
            if cells.where is None and not cells.fixed
        ]
