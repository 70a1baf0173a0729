"""Has a number moved, asked every minute? Detectors whose false alarms fit a yearly budget.

Each watched series says of a minute how many rows it saw and the sum of their scores. What the sum ought to be is
known by hour of the week from quiet past weeks; what it was is weighed by e-values, which hold for one row as for a
thousand and for any number of looks: likelihood ratios against the worst change that is harmless. A
Shiryaev-Roberts sum of them is an e-detector (Shin, Ramdas and Rinaldo 2024, "E-detectors", arXiv 2203.03532): its
mean time to a false alarm is at least its threshold.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import msgspec
import numpy as np

from icekeel.core.frames import Bools, Floats, Ints
from icekeel.core.time import DAY, HOUR, MINUTE

HOURS_OF_WEEK = 168
LOOKS_PER_YEAR = 365 * 1440
MEMORY_DAYS = 15
"""The level of a series follows its quiet days with this memory: seasons and growth are no news."""
LEARN_ROWS, LEARN_LOOKS = 200, 240
"""Rows and looks from which the rate of arrivals is learnt once a system is live: a history may be a sample."""
SAMPLED = 1.5
"""Rows for each that the past expects, from which on that past was a sample."""
_SIZES = {
    "mean": np.array([0.1, 0.2, 0.4, 0.8, 1.6]),
    "share": np.log([1.4, 2.2, 5.0, 20.0, 300.0]),
    "rate": np.log([1.15, 1.4, 2.0, 4.0, 16.0]),
}
"""What is bet on, upwards and downwards: standard deviations of a row, odds, and rates."""
BETS = 10
_SIGN = np.repeat([1.0, -1.0], BETS // 2)
_ABOVE = 4.0
"""Evidence is kept up to so much above its bar: after the change has ended it is below soon."""
Kind = Literal["mean", "share", "rate"]
KINDS: tuple[Kind, ...] = ("mean", "share", "rate")
SHARE, RATE = 1, 2
"""Places among them."""


class Series(msgspec.Struct, frozen=True):
    """One number that is watched.

    Attributes:
        subject, name, segment: What it is about, as in `Signal`.
        change: What a change of it means: `level`, `nulls`, `range`, `category`, `rate`.
        label: The category, where it is the share of one.
        kind: Mean of a score in [0, 1], share of rows, or rows of a minute.
        expected: Of quiet past rows.
        hours: What each hour of the week (UTC) adds to that; empty where hours do not differ.
        minutes: Of a rate: by what it is multiplied in each minute of the hour; empty where they do not differ.
        tolerance: Change that is harmless: what quiet days differ by, and a little. Of a rate, as a share of it.
        dispersion: How much more the sums of quiet minutes vary than independent rows would.
        spread: Standard deviation of one row.
        logs: Of a mean: log of the mean of `exp(bet * score)` for each bet, under the reference.
        blind: Why it cannot be watched within the budget; empty where it is.
        only_up: Less of it is no news: of what is out of range, says the same again, or was at fault.
    """

    subject: str
    name: str
    change: str
    kind: Kind
    expected: float
    spread: float
    tolerance: float
    dispersion: float = 1.0
    hours: tuple[float, ...] = ()
    logs: tuple[float, ...] = ()
    segment: str = ""
    label: str = ""
    blind: str = ""
    minutes: tuple[float, ...] = ()
    only_up: bool = False

    @property
    def key(self) -> str:
        """Names it among the series of a model."""
        return "/".join((self.subject, self.name, self.segment, self.change, self.label))


def bets(kind: Kind, spread: float) -> Floats:
    """Natural parameters that are bet on, shape `(10,)`: five sizes upwards, then the same downwards."""
    sizes = _SIZES[kind] / max(spread, 1e-9) if kind == "mean" else _SIZES[kind]
    return np.concatenate([sizes, -sizes])


def log_moments(scores: Floats, counts: Ints, spread: float) -> Floats:
    """Log of the mean of `exp(bet * score)` over rows with these scores, shape `(10,)`: exact, whatever their shape."""
    theta = bets("mean", spread)
    weights = counts / max(1, counts.sum())
    known = weights > 0
    return np.asarray(
        np.logaddexp.reduce(np.outer(theta, scores[known]) + np.log(weights[known]), axis=1), dtype=np.float64
    )


def log_bar(series: int, false_alarms_per_year: float) -> float:
    """Log threshold at which so many series together keep to a yearly budget.

    An e-detector's mean time to a false alarm is at least its threshold (Shin et al. 2024, theorem 2.4), so the
    threshold is the number of looks of all series for each false alarm that is allowed.
    """
    return math.log(LOOKS_PER_YEAR * max(1, series) / false_alarms_per_year)


class State(msgspec.Struct, array_like=True):
    """What a bank has seen, as raw float64 and int64 arrays.

    Attributes:
        log_m: Log of each detector's sum, shape `(n, 10)`.
        since: When the evidence of each bet last began, microseconds UTC, shape `(n, 10)`.
        level: What is added to the expected (a rate: by what it is multiplied), NaN while it is learnt, shape `(n,)`.
        day: The day being added up.
        rows, sums, looks: Of the day (of a rate being learnt: since it began), shape `(n,)`.
    """

    log_m: bytes
    since: bytes
    level: bytes
    day: int
    rows: bytes
    sums: bytes
    looks: bytes


@dataclass(frozen=True, slots=True)
class Seen:
    """A `State` as arrays."""

    log_m: Floats
    since: Ints
    level: Floats
    day: int
    rows: Floats
    sums: Floats
    looks: Floats

    @classmethod
    def start(cls, series: Sequence[Series], *, learnt: bool) -> Seen:
        """Nothing seen; `learnt`: rates are those of the past, instead of being learnt first."""
        n, rate = len(series), np.array([one.kind == "rate" for one in series], dtype=np.bool_)
        log_m, since, none = np.full((n, BETS), -np.inf), np.zeros((n, BETS), np.int64), np.zeros(n)
        parts: list[Any] = [log_m, since, np.where(rate, 1.0 if learnt else np.nan, 0.0), 0, none, none, none]
        return cls(*parts)

    @classmethod
    def of(cls, state: State) -> Seen:
        """From its bytes."""
        values: list[Any] = [
            np.frombuffer(part, dtype=np.int64 if at == 1 else np.float64)
            for at, part in enumerate(
                (state.log_m, state.since, state.level, state.rows, state.sums, state.looks)
            )
        ]
        log_m, since, level, rows, sums, looks = values
        return cls(log_m.reshape(-1, BETS), since.reshape(-1, BETS), level, state.day, rows, sums, looks)

    def forget(self, place: int) -> None:
        """Drop the evidence of one series."""
        self.log_m[place] = -np.inf

    def state(self) -> State:
        """Its bytes."""
        parts = [
            np.ascontiguousarray(part).tobytes()
            for part in (self.log_m, self.since, self.level, self.rows, self.sums, self.looks)
        ]
        return State(parts[0], parts[1], parts[2], self.day, *parts[3:])


class Bank:
    """Many series, looked at together.

    Args:
        series: What is watched.
        bar: Log evidence from which on a series alarms.
    """

    def __init__(self, series: Sequence[Series], bar: float) -> None:
        self.series, self.bar = series, bar
        n = len(series)
        self._kind = np.array([KINDS.index(one.kind) for one in series], dtype=np.int64)
        self._rate = self._kind == RATE
        self._theta = np.array([bets(one.kind, one.spread) for one in series]).reshape(n, BETS)
        self._odds = np.expm1(self._theta)
        self._mean = np.array([one.expected for one in series])
        self._hours = np.array([one.hours or (0.0,) * HOURS_OF_WEEK for one in series]).reshape(
            n, HOURS_OF_WEEK
        )
        usual = self._mean[:, None] + self._hours
        usual = np.where(self._rate[:, None], np.maximum(usual, 0.0), usual)
        beside = np.stack([np.roll(usual, 1, axis=1), usual, np.roll(usual, -1, axis=1)])
        self._least, self._most = beside.min(axis=0), beside.max(axis=0)
        self._minutes = np.array([one.minutes or (1.0,) * 60 for one in series]).reshape(n, 60)
        self._logs = np.array([one.logs or (0.0,) * BETS for one in series]).reshape(n, BETS)
        self._logs = np.where((self._kind == 0)[:, None], self._logs - self._theta * self._mean[:, None], 0.0)
        self._tolerance = np.array([one.tolerance for one in series])[:, None] * _SIGN
        self._dispersion = np.array([one.dispersion for one in series])[:, None]
        self._only_up = np.array([one.only_up for one in series], dtype=np.bool_)
        self._watched = np.array([not one.blind for one in series], dtype=np.bool_)
        self._top = bar + _ABOVE + math.log(BETS)

    def expected(self, seen: Seen, at: int) -> Floats:
        """What each series ought to be at a time, shape `(n,)`; NaN while it is learnt."""
        usual = self._usual(at, self._shape(at, 1))
        return np.where(self._rate, usual * seen.level, usual + seen.level)

    def _usual(self, at: int, shape: Floats) -> Floats:
        usual: Floats = self._mean + self._hours[:, (at // HOUR) % HOURS_OF_WEEK]
        return np.where(self._rate, np.maximum(usual, 0.0) * shape, usual)

    def _shape(self, at: int, minutes: int) -> Floats:
        """By what rates are multiplied in so many minutes from a time, shape `(n,)`; 1 for all others."""
        first = (at // MINUTE) % 60
        return np.asarray(self._minutes[:, first : first + minutes].mean(axis=1))

    def _bounds(self, at: int, shape: Floats, places: Ints) -> Floats:
        """The least and the most that series are in this hour and those beside it, shape `(len(places), 2)`.

        When the clocks change, people come an hour earlier or later by UTC, and that is no news.
        """
        hour, times = (at // HOUR) % HOURS_OF_WEEK, shape[places]
        return np.stack([self._least[places, hour] * times, self._most[places, hour] * times], axis=1)

    def evidence(self, seen: Seen) -> Floats:
        """Log evidence of each series, shape `(n,)`: the mean over bets is itself an e-detector."""
        return np.asarray(np.logaddexp.reduce(seen.log_m, axis=1) - math.log(BETS))

    def alarms(self, seen: Seen) -> Bools:
        """Which series are above their bar, shape `(n,)`."""
        if not (seen.log_m >= self.bar).any():  # the mean over bets is no larger than the largest
            return np.zeros(len(self.series), dtype=np.bool_)
        return np.asarray(self._watched & (self.evidence(seen) >= self.bar), dtype=np.bool_)

    def since(self, seen: Seen, one: int) -> tuple[int, bool]:
        """When the change of a series seems to have begun, and whether it is upwards."""
        bet = int(seen.log_m[one].argmax())
        return int(seen.since[one, bet]), bet < BETS // 2

    def look(self, seen: Seen, at: int, rows: Floats, sums: Floats) -> Seen:
        """What is known after one more window that began at `at`.

        Args:
            rows, sums: Rows and the sum of their scores of each series, shape `(n,)`; of a rate, looks (minutes) and
                rows. A series with no row is left as it was.
        """
        if at // DAY != seen.day:
            seen = self._turn(seen, at // DAY)
        filled = np.flatnonzero(rows > 0)
        rates = rows[self._rate]
        shape = self._shape(at, int(rates.max()) if len(rates) else 1)
        usual, learning = self._usual(at, shape)[filled], np.isnan(seen.level[filled])
        rate, n, total = self._rate[filled], rows[filled], sums[filled]
        expected = np.where(rate, usual * seen.level[filled], usual + seen.level[filled])
        looked = ~learning & ~(rate & (expected * n < 1e-6) & (total == 0))
        places = filled[looked]
        log_m, since = seen.log_m.copy(), seen.since.copy()
        before = log_m[places]
        level, bounds = seen.level[places][:, None], self._bounds(at, shape, places)
        bounds = np.where(self._rate[places][:, None], bounds * level, bounds + level)
        gain = self._gain(places, n[looked], total[looked], bounds)
        log_m[places] = np.minimum(np.logaddexp(before, 0.0) + gain, self._top)
        since[places] = np.where(before < self.bar / 3, at, since[places])
        day_rows, day_sums, looks = seen.rows.copy(), seen.sums.copy(), seen.looks.copy()
        # Of a rate that is learnt, the most that the clocks may have moved there: else it would seem one of a sample.
        due = np.where(learning, self._bounds(at, shape, filled)[:, 1], usual) if learning.any() else usual
        # What is under suspicion is not learnt from: a fault of an hour would be usual for a fortnight.
        plain = seen.log_m[filled].max(axis=1, initial=-np.inf) < self.bar / 2
        day_rows[filled] += np.where(plain, np.where(rate, n * due, n), 0.0)
        day_sums[filled] += np.where(plain, np.where(rate, total, total - n * usual), 0.0)
        looks[filled] += n
        after = Seen(log_m, since, seen.level, seen.day, day_rows, day_sums, looks)
        return self._learn(after) if learning.any() else after

    def _gain(self, places: Ints, rows: Floats, sums: Floats, bounds: Floats) -> Floats:
        """Log of each bet's e-value of one window, shape `(len(places), 10)`.

        `(bet * sum - rows * log E exp(bet * score)) / dispersion`, the expectation under the harmless mean that fits
        best: exact for scores of the reference's shape, for shares (Bernoulli) and for arrivals (Poisson); with the
        dispersion a quasi-likelihood (McCullagh and Nelder 1989, chapter 9).
        """
        kind, theta, odds, tolerance = (
            part[places] for part in (self._kind, self._theta, self._odds, self._tolerance)
        )
        nearest = np.where(_SIGN > 0, bounds[:, 1:], bounds[:, :1])
        worst = np.where((kind == RATE)[:, None], nearest * (1 + tolerance), nearest + tolerance)
        cost = self._logs[places] + theta * worst
        share, rate = kind == SHARE, kind == RATE
        cost[share] = np.log1p(np.clip(worst[share], 1e-6, 1 - 1e-6) * odds[share])
        cost[rate] = np.maximum(worst[rate], 1e-9) * odds[rate]
        gain: Floats = (theta * sums[:, None] - cost * rows[:, None]) / self._dispersion[places]
        # Where less than nothing is harmless, or more than all, there is nothing to be found that way.
        below = (kind > 0)[:, None] & (np.where(rate[:, None], 1 + tolerance, worst) <= 1e-6)
        below = (below | self._only_up[places][:, None]) & (_SIGN < 0)
        return np.where(below | (share[:, None] & (worst >= 1 - 1e-6) & (_SIGN > 0)), -np.inf, gain)

    def _turn(self, seen: Seen, day: int) -> Seen:
        """At the end of a day the levels of quiet series move a little to what they were."""
        share = 1.0 / MEMORY_DAYS
        quiet = (self.evidence(seen) < self.bar) & (seen.rows > 0) & ~np.isnan(seen.level)
        mean = seen.sums / np.maximum(seen.rows, 1e-9)
        # Little of a day says little: a level moves less where the day is uncertain beside the tolerance.
        noise = np.array([one.spread**2 for one in self.series]) * self._dispersion[:, 0]
        scale = np.where(self._rate, 1.0, noise) / np.maximum(seen.rows, 1e-9)
        weight = share / (1 + scale / np.maximum(np.abs(self._tolerance[:, 0]), 1e-6) ** 2)
        level = np.where(quiet, seen.level + weight * (mean - seen.level), seen.level)
        learning = np.isnan(seen.level)
        zero = [np.where(learning, part, 0.0) for part in (seen.rows, seen.sums, seen.looks)]
        return replace(seen, level=level, day=day, rows=zero[0], sums=zero[1], looks=zero[2])

    def _learn(self, seen: Seen) -> Seen:
        """A rate is known once enough has arrived: that of the past, unless so much more comes that it was a sample."""
        ready = np.isnan(seen.level) & (seen.sums >= LEARN_ROWS) & (seen.looks >= LEARN_LOOKS)
        level = seen.sums / np.maximum(seen.rows, 1e-9)
        level = np.where(level > SAMPLED, level, 1.0)
        zero = [np.where(ready, 0.0, part) for part in (seen.rows, seen.sums, seen.looks)]
        return replace(
            seen, level=np.where(ready, level, seen.level), rows=zero[0], sums=zero[1], looks=zero[2]
        )
