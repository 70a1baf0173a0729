"""How much comes, and how long nothing may: learnt from the times of past rows."""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec
import numpy as np
from msgspec.structs import replace

from icekeel.core.frames import Bools, Floats, Ints
from icekeel.core.time import HOUR, MINUTE, WEEK

from .detectors import HOURS_OF_WEEK, MEMORY_DAYS, Series
from .learning import FEWEST_WEEKS, MOST_WINDOWS, Past, calm
from .streams import ARRIVALS

HARMLESS_RATE = 0.1
UNKNOWN_RATE = 0.5
"""Change of a rate that is harmless while too few days are known."""
RECENT = 4 * WEEK
"""By what the past of a rate is forgotten: of clocks that have changed, and of growth."""
EVEN, CLEAR = 1.5, 0.5
"""Hours beside each other are alike up to such a quotient; minutes differ where so much of that is no chance."""
FEWEST_GAPS = 20
INCIDENT_EVERY, INCIDENT = 60, 2.0
"""Of so many past days one may have been an incident: with the days beside it, so much further off than all others."""


class Heartbeat(msgspec.Struct, frozen=True):
    """How long nothing may arrive.

    Attributes:
        hours: Deliveries expected in a minute, by hour of the week.
        limit: Expected deliveries that may stay out one after the other.
        longest: Of a punctual source, the longest pause that is ordinary, microseconds; 0 of others.
        blind: Why it is not watched; empty where it is.
    """

    hours: tuple[float, ...]
    limit: float
    longest: int = 0
    blind: str = ""

    def owed(self, since: int, until: int) -> float:
        """Deliveries that were expected in `[since, until)`, microseconds UTC; counted hour by hour."""
        return self._sum(self.hours, since, until)

    def missed(self, since: int, until: int) -> float:
        """Those at least, where the clocks may have changed: an hour has the least of itself and those beside it."""
        before, after = (*self.hours[-1:], *self.hours[:-1]), (*self.hours[1:], *self.hours[:1])
        least = tuple(min(three) for three in zip(before, self.hours, after, strict=True))
        return self._sum(least, since, until)

    @staticmethod
    def _sum(hours: tuple[float, ...], since: int, until: int) -> float:
        if until <= since:
            return 0.0
        weeks = (until - since) // WEEK
        total = weeks * sum(hours) * 60
        at = since + weeks * WEEK
        while at < until:
            end = min(until, (at // HOUR + 1) * HOUR)
            total += hours[(at // HOUR) % HOURS_OF_WEEK] * (end - at) / MINUTE
            at = end
        return total


def learn_rate(subject: str, name: str, at: Ints, bar: float) -> Series:
    """How many rows come in a minute, from the times of past ones in order.

    By the hour of the week, of the day where there are less than three weeks, as the latest weeks have it; and by the
    minute of the hour, where those differ. Days of other traffic are harmless as far as past days differ; of less than
    a week nothing is known of that, and half as much again is harmless.

    Args:
        bar: At which the past, replayed, must stay quiet.
    """
    # The hours in which the past begins and ends may not be whole.
    first, last = (int(at[0]) // HOUR + 1, int(at[-1]) // HOUR) if len(at) else (0, 1)
    at, span = at[(at >= first * HOUR) & (at < last * HOUR)], max(1, last - first)
    counts = np.bincount(at // HOUR - first, minlength=span).astype(np.float64)
    mean = float(counts.sum()) / span
    one = Series(subject, name, ARRIVALS, "rate", mean / 60, math.sqrt(mean / 60), UNKNOWN_RATE)
    if span < FEWEST_WEEKS * 24 or not mean:
        return replace(one, blind="" if span >= 24 and mean else "too short a past")
    hour = (first + np.arange(span)) % HOURS_OF_WEEK
    recent = np.exp((np.arange(span) - span) * HOUR / RECENT)
    usual, variance, times = _usual_hours(counts, hour, recent)
    one = replace(one, hours=tuple(((usual - mean) / 60).tolist()), minutes=_minutes_of_hour(at, span))
    # Hours at whose edges traffic begins or ends say nothing of chance: with the clocks they move.
    beside = np.stack([np.roll(usual, 1), usual, np.roll(usual, -1)])
    even = (beside.max(axis=0) <= EVEN * beside.min(axis=0))[hour]
    even = even if even.sum() >= 24 else np.ones(span, dtype=np.bool_)
    day = (first + np.arange(span)) // 24
    level = _levels(counts, usual[hour], day)
    expected = usual[hour] * level
    plain = _but_incidents(_off(counts, expected, day))[day - day[0]]
    even &= plain
    hourly = _excess(counts[even], expected[even], recent[even]) * times / max(1.0, times - 1)
    between = _days_differ(counts[plain], expected[plain], day[plain], min(hourly, 4.0))
    error = math.sqrt(max(1.0, hourly) * variance)
    one = replace(
        one,
        dispersion=max(1.0, hourly, _minutely(at, first, np.where(even, expected, 0.0), recent, one.minutes)),
        tolerance=HARMLESS_RATE + 2 * error if span >= HOURS_OF_WEEK else UNKNOWN_RATE,
    )
    latest, starts = np.flatnonzero(plain)[-MOST_WINDOWS:], (first + np.arange(span)) * HOUR
    sums = (counts / np.maximum(level, 1e-9))[latest, None]
    return calm([one], np.array([between]), Past(starts[latest], np.full(sums.shape, 60.0), sums), bar)[0]


def _usual_hours(counts: Floats, hour: Ints, weights: Floats) -> tuple[Floats, float, float]:
    """Rows of each hour of the week, the variance of such a mean as a share of its square, and how often each was seen.

    Hours of the week are shrunk towards those of the day as far as they differ from them by chance, wholly where there
    are less than three weeks.
    """
    of_day = hour % 24
    each_day, each = (
        np.bincount(of_day, weights, minlength=24),
        np.bincount(hour, weights, minlength=HOURS_OF_WEEK),
    )
    day = np.tile(np.bincount(of_day, counts * weights, minlength=24) / each_day, 7)
    total = max(1e-9, float((day * np.tile(each_day, 7)).mean()))
    if len(counts) < FEWEST_WEEKS * HOURS_OF_WEEK:
        return day, 1 / total, float((each_day**2 / np.bincount(of_day, weights**2, minlength=24)).mean())
    week = np.bincount(hour, counts * weights, minlength=HOURS_OF_WEEK) / each
    times = float((each**2 / np.bincount(hour, weights**2, minlength=HOURS_OF_WEEK)).mean())
    squares = np.bincount(hour, weights * np.square(counts - week[hour]), minlength=HOURS_OF_WEEK)
    chance = float(squares.sum()) / max(1.0, times - 1) / HOURS_OF_WEEK
    apart = float((each * np.square(week - day)).sum()) / (HOURS_OF_WEEK - 24)
    kept = max(0.0, 1 - chance / max(1e-9, apart))
    return day + kept * (week - day), (kept + (1 - kept) / 7) / max(1e-9, float((week * each).mean())), times


def _excess(counts: Floats, expected: Floats, weights: Floats) -> float:
    """How much more counts vary than independent arrivals would."""
    return float((weights * np.square(counts - expected)).sum() / max(1e-9, (weights * expected).sum()))


def _minutes_of_hour(at: Ints, span: int) -> tuple[float, ...]:
    """By what the rate is multiplied in each minute of the hour, from times in `span` hours; empty where they are alike.

    Shrunk as far as minutes differ by chance, by the variance of their counts over the hours.
    """
    minutes, came = np.unique(at // MINUTE, return_counts=True)
    mean = np.bincount(minutes % 60, came, minlength=60) / span
    chance = float((np.bincount(minutes % 60, came**2, minlength=60) / span - mean**2).mean()) / span
    between = max(0.0, float(mean.var()) - chance * (1 + math.sqrt(2 / 60)))
    kept = between / max(1e-12, between + chance)
    if kept < CLEAR:
        return ()
    shape = 1 + kept * (mean / mean.mean() - 1)
    return tuple(shape.tolist())


def _minutely(at: Ints, first: int, expected: Floats, weights: Floats, shape: Sequence[float]) -> float:
    """The same of single minutes, where `expected` are rows by the hour from the one of number `first`; of 0: left out."""
    minutes, came = np.unique(at // MINUTE, return_counts=True)
    place, parts = minutes // 60 - first, np.array(shape or (1.0,) * 60) / 60
    due = expected[place] * parts[minutes % 60]
    weights_of = np.where(due > 0, weights[place], 0.0)
    # Of the minutes without a row the square is that of what was due.
    squares = float((weights * np.square(expected)).sum() * np.square(parts).sum())
    squares += float((weights_of * (came**2 - 2 * came * due)).sum())
    return squares / max(1e-9, float((weights * expected).sum()))


def _levels(counts: Floats, expected: Floats, day: Ints) -> Floats:
    """The level that the days before have left for each hour, as a bank has it; to begin with that of the first week.

    That is the median of its days on which rows came: one may have been an incident, and many sources rest on some days.
    """
    days = np.unique(day, return_inverse=True)[1]
    told, due = np.bincount(days, counts), np.bincount(days, expected)
    came = np.flatnonzero(told[:7])
    level = float(np.median(told[came] / np.maximum(due[came], 1e-9))) if len(came) else 1.0
    levels = np.zeros(len(told))
    for at, (rows, owed) in enumerate(zip(told, due, strict=True)):
        levels[at] = level
        level += (rows / owed - level) / MEMORY_DAYS if owed >= 1 else 0.0
    return levels[days]


def _days_differ(counts: Floats, expected: Floats, day: Ints, noise: float) -> float:
    """By how much days differ from what is expected of them, as a share of it and beyond chance."""
    days = np.unique(day, return_inverse=True)[1]
    came, owed = np.bincount(days, counts), np.bincount(days, expected)
    came, owed = came[owed >= 1], owed[owed >= 1]
    squares = float((np.square(came - owed) / np.maximum(owed, 1.0)).sum()) - len(owed) * noise
    return math.sqrt(max(0.0, squares - math.sqrt(2 * len(owed)) * noise) / max(1.0, float(owed.sum())))


def _off(counts: Floats, expected: Floats, day: Ints) -> Floats:
    """By what share of it each day was off what was expected."""
    came, owed = np.bincount(day - day[0], counts), np.bincount(day - day[0], expected)
    return np.where(owed >= 1, np.abs(came / np.maximum(owed, 1e-9) - 1), 0.0)


def _but_incidents(off: Floats) -> Bools:
    """Which days, one after the other, are held for usual: all but incidents, as a storm that closes the airports.

    A day of which an alarm would have been right says nothing of what is harmless; but one of sixty at most is left
    out, and only where it stands alone.
    """
    usual = np.ones(len(off), dtype=np.bool_)
    for _ in range(len(off) // INCIDENT_EVERY):
        worst = int(np.where(usual, off, -1.0).argmax())
        others = usual.copy()
        others[max(0, worst - 1) : worst + 2] = False
        if off[worst] <= INCIDENT * off[others].max(initial=0.0):
            break
        usual = others
    return usual


def learn_heartbeat(at: Ints, false_alarms_per_year: float) -> Heartbeat:
    """How many expected deliveries may stay out, from the times of past rows in order.

    What independent arrivals exceed no more often than the budget allows, `P(no arrival while g are expected) = exp(-g)`,
    and more than ever stayed out before. A source that was more regular than that may be so by a timetable that changes.
    """
    minutes = np.unique(at // MINUTE)
    if len(minutes) <= FEWEST_GAPS:
        return Heartbeat((0.0,) * HOURS_OF_WEEK, 1e9, blind=f"no more than {FEWEST_GAPS} past deliveries")
    first, last = int(minutes[0]) // 60, int(minutes[-1]) // 60
    hours = (first + np.arange(last - first + 1)) % HOURS_OF_WEEK
    times = np.bincount(hours, minlength=HOURS_OF_WEEK)
    came = np.bincount((minutes // 60) % HOURS_OF_WEEK, minlength=HOURS_OF_WEEK)
    rate = came / np.maximum(times, 1) / 60
    if last - first < 2 * HOURS_OF_WEEK:
        rate = np.full(HOURS_OF_WEEK, len(minutes) / (last - first + 1) / 60)
    owed = np.concatenate([[0.0], np.cumsum(rate[hours] * 60)])
    place = minutes - first * 60
    reached = owed[place // 60] + rate[hours[place // 60]] * (place % 60)
    gaps = np.diff(reached)
    day = minutes[1:] // (24 * 60)
    worst_of = np.zeros(int(day[-1] - minutes[0] // (24 * 60)) + 1)
    np.maximum.at(worst_of, day - minutes[0] // (24 * 60), gaps)
    longest = float(worst_of[_but_incidents(worst_of)].max())
    yearly = len(minutes) / max(1, last - first) * 24 * 365
    limit = max(math.log(max(math.e, yearly / false_alarms_per_year)), 1.3 * longest)
    pauses = np.diff(minutes)
    usual, worst = float(np.median(pauses)), float(pauses.max())
    punctual = len(pauses) >= 5 * FEWEST_GAPS and worst <= 2 * usual
    pause = math.ceil(worst + 2 * (worst - usual) + 0.02 * usual + 2) * MINUTE if punctual else 0
    return Heartbeat(tuple(rate.tolist()), limit, pause)
