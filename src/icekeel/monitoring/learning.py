"""What quiet weeks look like, learnt from the past: what to expect, what days differ by, and what cannot be watched."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from msgspec.structs import replace

from icekeel.core.frames import Array, Floats, Frame, Ints
from icekeel.core.time import DAY, HOUR, MINUTE, WEEK

from .detectors import HOURS_OF_WEEK, MEMORY_DAYS, Bank, Seen, Series, log_moments
from .streams import REPEATED, Draft, Stream

MOST_WINDOWS = 12_000
WINDOWS = (MINUTE, 5 * MINUTE, 15 * MINUTE, HOUR, 6 * HOUR)
HARMLESS = 0.03
"""Standard deviations of a row that a level may move and nobody need be told."""
HARMLESS_SHARE = 0.002
SPREADS = (3.0, 4.5, 7.0, 10.0)
"""Spreads of quiet days and hours that are harmless: as few as keep the past, replayed, quiet."""
FEWEST_WEEKS = 3
TOO_WIDE = 0.95
"""A share of all that a series could ever move: where so much is harmless, nothing would be found."""


class Past(NamedTuple):
    """Windows of the past in order: when each began, rows and sums of every series, shape `(windows, series)`."""

    at: Ints
    rows: Floats
    sums: Floats


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
        only_up=cells.fixed or draft.change == "range" or cells.name.endswith(f".{REPEATED}"),
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
