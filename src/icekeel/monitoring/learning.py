"""What quiet weeks look like, learnt from the past: what to expect, what days differ by, and what cannot be watched."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import msgspec
import numpy as np
from msgspec.structs import replace

from icekeel.core.frames import Array, Floats, Frame, Ints
from icekeel.core.time import DAY, HOUR, MINUTE, WEEK

from .detectors import HOURS_OF_WEEK, MEMORY_DAYS, Bank, Seen, Series, log_moments
from .streams import ARRIVALS, Draft, Stream

MOST_WINDOWS = 12_000
WINDOWS = (MINUTE, 5 * MINUTE, 15 * MINUTE, HOUR, 6 * HOUR)
HARMLESS = 0.03
"""Standard deviations of a row that a level may move and nobody need be told."""
HARMLESS_SHARE, HARMLESS_RATE = 0.002, 0.1
SPREADS = (3.0, 4.5, 7.0, 10.0)
"""Spreads of quiet days and hours that are harmless: as few as keep the past, replayed, quiet."""
FEWEST_WEEKS = 3
FEWEST_GAPS = 20
TOO_WIDE = 0.95
"""A share of all that a series could ever move: where so much is harmless, nothing would be found."""


class Past(NamedTuple):
    """Windows of the past in order: when each began, rows and sums of every series, shape `(windows, series)`."""

    at: Ints
    rows: Floats
    sums: Floats


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
        if until <= since:
            return 0.0
        weeks = (until - since) // WEEK
        total = weeks * sum(self.hours) * 60
        at = since + weeks * WEEK
        while at < until:
            end = min(until, (at // HOUR + 1) * HOUR)
            total += self.hours[(at // HOUR) % HOURS_OF_WEEK] * (end - at) / MINUTE
            at = end
        return total


def learn(stream: Stream, frame: Frame, at: Ints, bar: float) -> list[Series]:
    """The series of a stream's columns, each with what is harmless for it.

    Args:
        frame: Past rows of the stream, in order of `at`, microseconds UTC.
        bar: At which the past, replayed, must stay quiet.
    """
    chosen = stream.drafts()
    fixed = [draft.cells.fixed for draft in chosen]
    plain = [_plain(draft) for draft in chosen]
    if not len(at):
        return plain
    past = _windows(stream, chosen, frame, at)
    usual, hours, error = _profile(plain, past)
    between, dispersion = _between(plain, past, usual, hours)
    learnt = []
    for place, one in enumerate(plain):
        if fixed[place]:
            learnt.append((one, 0.0))
            continue
        within = _scale(one)
        own = replace(
            one,
            expected=float(usual[place]),
            hours=tuple(hours[place].tolist()) if hours[place].any() else (),
            dispersion=float(dispersion[place]),
            tolerance=within + 2 * float(error[place]),
        )
        learnt.append((own, float(between[place])))
    return calm([one for one, _ in learnt], np.array([spread for _, spread in learnt]), past, bar)


def _scale(one: Series) -> float:
    return HARMLESS * one.spread + (HARMLESS_SHARE if one.kind == "share" else 0.0)


def _plain(draft: Draft) -> Series:
    """A series as its reference's cells have it."""
    cells = draft.cells
    counts = np.array(cells.counts, dtype=np.float64) * draft.weights
    rows = max(1.0, float(counts.sum()))
    if draft.kind == "share":
        # Half a row more: what was never seen is not impossible.
        expected = float((counts @ draft.scores + 0.5) / (rows + 1))
        spread, logs = math.sqrt(expected * (1 - expected)), ()
        tolerance = min(expected, 1 - expected) + 0.005 if cells.fixed else HARMLESS * spread + HARMLESS_SHARE
    else:
        expected = float(counts @ draft.scores / rows)
        spread = math.sqrt(max(1e-4, float(counts @ np.square(draft.scores) / rows) - expected**2))
        logs = tuple(log_moments(draft.scores, counts.astype(np.int64), spread).tolist())
        tolerance = HARMLESS * spread
    return Series(
        cells.subject, cells.name, draft.change, draft.kind, expected, spread, tolerance,
        logs=logs, segment=cells.segment, label=draft.label,
    )  # fmt: skip


def _windows(stream: Stream, chosen: Sequence[Draft], frame: Frame, at: Ints) -> Past:
    """The past in the shortest windows of which there are not too many; those without a row are left out."""
    for length in WINDOWS:
        starts, place = np.unique(at // length, return_inverse=True)
        if len(starts) <= MOST_WINDOWS:
            break
    rows, sums = list[Floats](), list[Floats]()
    for cells in stream.columns:
        if cells.fixed:
            rows += [np.zeros(len(starts))] * sum(draft.cells is cells for draft in chosen)
            sums = [*sums, *rows[len(sums) :]]
            continue
        column: Array = frame[cells.key]
        mine = slice(None) if cells.where is None else frame[cells.where[0]] == cells.where[1]
        size, binning = cells.binning.cells, cells.binning
        codes = place[mine] * size + binning.codes(column[mine])
        counts = np.bincount(codes, minlength=len(starts) * size).reshape(len(starts), size)
        for draft in chosen:
            if draft.cells is cells:
                rows.append(counts @ draft.weights)
                sums.append(counts @ draft.scores)
    if not rows:
        return Past(starts * length, np.zeros((len(starts), 0)), np.zeros((len(starts), 0)))
    return Past(starts * length, np.stack(rows, axis=1), np.stack(sums, axis=1))


def _blocks(past: Past, length: int) -> Past:
    """The same in longer windows."""
    starts, first = np.unique(past.at // length, return_index=True)
    return Past(starts * length, np.add.reduceat(past.rows, first), np.add.reduceat(past.sums, first))


def _profile(plain: Sequence[Series], past: Past) -> tuple[Floats, Floats, Floats]:
    """Mean, what hours of the week add to it, shape `(series, 168)`, and the standard error of both together.

    Hours are shrunk towards the mean as far as their differences are no more than rows vary (empirical Bayes: Efron
    and Morris 1973), so a series without a weekly pattern has none.
    """
    total = np.maximum(past.rows.sum(axis=0), 1.0)
    share = np.array([one.kind == "share" for one in plain])
    mean = (past.sums.sum(axis=0) + 0.5 * share) / (total + share)
    variance = np.square([one.spread for one in plain])
    error = np.sqrt(variance / total)
    hour = (past.at // HOUR) % HOURS_OF_WEEK
    weeks = len(np.unique(past.at // WEEK))
    if weeks < FEWEST_WEEKS:
        return mean, np.zeros((len(plain), HOURS_OF_WEEK)), error
    rows, sums = (np.zeros((HOURS_OF_WEEK, len(plain))) for _ in range(2))
    np.add.at(rows, hour, past.rows)
    np.add.at(sums, hour, past.sums)
    away = np.where(rows > 0, sums / np.maximum(rows, 1e-9) - mean, 0.0)
    # Hours lie apart by chance too: by the spread of whole hours where those vary more than rows do.
    each = _blocks(past, HOUR)
    residual = each.sums - each.rows * (mean + away[(each.at // HOUR) % HOURS_OF_WEEK])
    chance = np.square(residual).sum(axis=0) / np.maximum(each.rows.sum(axis=0), 1.0) * weeks / (weeks - 1)
    chance = np.maximum(chance, variance)
    seen = np.maximum((rows > 0).sum(axis=0) - 1, 1)
    between = np.maximum((rows * away**2).sum(axis=0) - seen * chance, 0.0) / total
    kept = between * rows / np.maximum(between * rows + chance, 1e-12)
    left = np.sqrt(np.where(rows > 0, between * (1 - kept), 0.0))
    error = np.maximum(error, np.sqrt((rows * left**2).sum(axis=0) / total))
    return mean, (kept * away).T, error


def _between(plain: Sequence[Series], past: Past, mean: Floats, hours: Floats) -> tuple[Floats, Floats]:
    """By how much whole hours and days differ from what is expected of them, and the dispersion of windows.

    The method of moments: sums over blocks of `rows * deviation^2` expect `blocks * variance + rows * between^2`. Days
    are held against the level that the days before them have left, as in `Bank`.
    """
    variance = np.maximum(np.square([one.spread for one in plain]), 1e-12)
    usual = mean + hours[:, (past.at // HOUR) % HOURS_OF_WEEK].T
    residual = Past(past.at, past.rows, past.sums - past.rows * usual)
    count = np.maximum((past.rows > 0).sum(axis=0), 1)
    weight = residual.sums**2 / np.maximum(past.rows, 1e-9)
    dispersion = np.maximum(np.where(past.rows > 0, weight, 0.0).sum(axis=0) / count / variance, 1.0)
    days, level = _blocks(residual, DAY), np.zeros(len(plain))
    squares, levels = np.zeros(len(plain)), np.zeros((len(days.at), len(plain)))
    typical = np.maximum(days.rows.mean(axis=0), 1e-9)
    for at, (rows, sums) in enumerate(zip(days.rows, days.sums, strict=True)):
        levels[at] = level
        step = np.where(rows > 0, sums / np.maximum(rows, 1e-9) - level, 0.0)
        squares += rows * step**2
        level = level + step / MEMORY_DAYS * np.minimum(1.0, rows / typical)
    total = np.maximum(past.rows.sum(axis=0), 1.0)
    noise = variance * np.minimum(dispersion, 4.0)
    daily = _beyond_chance(squares, days.rows, noise) / total
    each = _blocks(residual, HOUR)
    off = each.sums - each.rows * levels[np.searchsorted(days.at, each.at // DAY * DAY)]
    squares = np.where(each.rows > 0, off**2 / np.maximum(each.rows, 1e-9), 0.0).sum(axis=0)
    hourly = _beyond_chance(squares, each.rows, noise) / total
    return np.sqrt(np.maximum(daily, hourly)), dispersion


def _beyond_chance(squares: Floats, rows: Floats, noise: Floats) -> Floats:
    """What a sum of squares has beyond what rows alone lead to, and a standard deviation of that more."""
    blocks = (rows > 0).sum(axis=0)
    left: Floats = np.maximum(squares - (blocks + np.sqrt(2 * blocks)) * noise, 0.0)
    return left


def calm(series: Sequence[Series], between: Floats, past: Past, bar: float) -> list[Series]:
    """The series with so many spreads of quiet days tolerated that the past, replayed, raises no alarm."""
    tried = [
        [
            replace(one, tolerance=one.tolerance + spreads * float(spread))
            for one, spread in zip(series, between, strict=True)
        ]
        for spreads in SPREADS
    ]
    flat = [one for level in tried for one in level]
    bank, seen = Bank(flat, bar), Seen.start(flat, learnt=True)
    rows, sums = (np.tile(part, len(SPREADS)) for part in (past.rows, past.sums))
    alarmed = np.zeros(len(flat), dtype=np.bool_)
    for at, (n, total) in enumerate(zip(rows, sums, strict=True)):
        seen = bank.look(seen, int(past.at[at]), n, total)
        alarmed |= bank.alarms(seen)
    quiet = ~alarmed.reshape(len(SPREADS), len(series))
    chosen = []
    for place in range(len(series)):
        first = int(quiet[:, place].argmax())
        one = tried[first][place]
        if not quiet[first, place]:
            chosen.append(replace(one, blind="its quiet past would have raised false alarms"))
        elif one.kind == "mean" and one.tolerance >= TOO_WIDE * max(one.expected, 1 - one.expected):
            chosen.append(replace(one, blind="its quiet days differ by nearly all that it could ever move"))
        else:
            chosen.append(one)
    return chosen


def learn_rate(subject: str, name: str, at: Ints) -> Series:
    """How many rows come in a minute, from the times of past ones in order.

    Days of other traffic are harmless as far as past days differ; nothing is known from less than three weeks but the
    mean, and then half as much again is harmless.
    """
    first, last = (int(at[0]) // HOUR, int(at[-1]) // HOUR) if len(at) else (0, 0)
    span = last - first + 1
    counts = np.bincount(at // HOUR - first, minlength=span).astype(np.float64) if len(at) else np.zeros(1)
    hour = (first + np.arange(span)) % HOURS_OF_WEEK
    mean = float(counts.sum()) / span
    one = Series(subject, name, ARRIVALS, "rate", mean / 60, math.sqrt(mean / 60), HARMLESS_RATE)
    if span < FEWEST_WEEKS * HOURS_OF_WEEK or not mean:
        return replace(one, tolerance=0.5, blind="" if span >= 24 and mean else "too short a past")
    cells = np.bincount(hour, minlength=HOURS_OF_WEEK)
    sums = np.bincount(hour, counts, minlength=HOURS_OF_WEEK)
    usual = sums / cells
    expected = usual[hour]
    known = expected > 0
    weeks = span / HOURS_OF_WEEK
    dispersion = max(
        1.0, float((np.square(counts - expected)[known] / expected[known]).mean()) * weeks / (weeks - 1)
    )
    day = (first + np.arange(span)) // 24
    days = np.unique(day, return_inverse=True)[1]
    told, due = np.bincount(days, counts), np.bincount(days, expected)
    level, squares, total, seen, noise = 1.0, 0.0, 0.0, 0, min(dispersion, 4.0)
    for came, owed in zip(told, due, strict=True):
        if owed >= 1:
            step = came / owed - level
            squares += step**2 * owed - noise
            total, seen = total + owed, seen + 1
            level += step / MEMORY_DAYS
    # Beyond what chance leads to, and a standard deviation of that.
    between = math.sqrt(max(0.0, squares - math.sqrt(2 * seen) * noise) / total) if total else 0.0
    error = math.sqrt(dispersion / max(1.0, float(sums[cells > 0].mean())))
    return replace(
        one,
        hours=tuple(((usual - mean) / 60).tolist()),
        dispersion=dispersion,
        tolerance=HARMLESS_RATE + SPREADS[0] * between + 2 * error,
    )


def learn_heartbeat(at: Ints, false_alarms_per_year: float) -> Heartbeat:
    """How many expected deliveries may stay out, from the times of past rows in order.

    What independent arrivals exceed no more often than the budget allows, `P(no arrival while g are expected) = exp(-g)`,
    and more than ever stayed out before; of a source that is more regular, half as many again as ever did.
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
    longest = float(np.diff(reached).max())
    yearly = len(minutes) / max(1, last - first) * 24 * 365
    independent = math.log(max(math.e, yearly / false_alarms_per_year))
    # Independent arrivals leave a longest pause of about log(n): a source that never does is more regular than that.
    regular = longest <= math.log(len(minutes)) / 2
    limit = max(1.5, 1.5 * longest if regular else max(independent, 1.3 * longest))
    pauses = np.diff(minutes)
    usual, worst = float(np.median(pauses)), float(pauses.max())
    punctual = len(pauses) >= 5 * FEWEST_GAPS and worst <= 1.5 * usual
    pause = math.ceil(worst + 2 * (worst - usual) + 0.02 * usual + 2) * MINUTE if punctual else 0
    return Heartbeat(tuple(rate.tolist()), limit, pause)
