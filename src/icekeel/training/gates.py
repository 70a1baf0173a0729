"""Checks that a candidate must pass before it may serve. A failed gate is a reason, in a sentence."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from icekeel.core.errors import BundleError
from icekeel.core.frames import Array, Floats, Frame, Ints
from icekeel.engines import Engine, check_golden

from .backtest import Stopwatch
from .days import day_codes, special
from .ladder import Ladder, predict_us
from .problem import Problem

FEWEST_OF_GROUP = 200
FEWEST_DAYS = 5


@dataclass(frozen=True, slots=True)
class Gate:
    """One check and what it found.

    Attributes:
        measured: What was found, in the unit that `why` names; finite.
        required: The most that was allowed.
    """

    name: str
    passed: bool
    measured: float
    required: float
    why: str


def better_than_simplest(ladder: Ladder, rung: str) -> Gate:
    """The backtest error lies below the simplest rung's, unless it is the simplest."""
    measured, simplest = ladder.step(rung).error, ladder.steps[0]
    passed, against = measured < simplest.error, f"against {simplest.error:.4g} of {simplest.rung}"
    if rung == simplest.rung:
        passed, against = True, "is the simplest"
    why = f"{ladder.error} {measured:.4g} of {rung} {against}"
    return Gate("better_than_simplest", passed, measured, simplest.error, why)


def no_worse_than(
    problem: Problem, truth: Floats, candidate: Floats, champion: Floats, *, margin: float
) -> Gate:
    """The candidate's error on the same rows exceeds the champion's by at most `margin` (error's unit)."""
    measured, standing = problem.error_of(truth, candidate), problem.error_of(truth, champion)
    why = (
        f"{problem.error} {measured:.4g} against the champion's {standing:.4g} "
        f"on the same {len(truth)} rows, margin {margin:.4g}"
    )
    return Gate("no_worse_than_champion", measured <= standing + margin, measured, standing + margin, why)


def requirement(problem: Problem, truth: Floats, candidate: Floats, *, at_most: float) -> Gate:
    """The error on the latest rows is at most what the project demands whatever is simplest."""
    measured = problem.error_of(truth, candidate)
    why = f"{problem.error} {measured:.4g} on the latest {len(truth):,} rows, {at_most:.4g} required"
    return Gate("requirement", measured <= at_most, measured, at_most, why)


def groups_no_worse(
    problem: Problem,
    candidate: Floats,
    champion: Floats,
    asked_at: Ints,
    groups: Mapping[str, Array],
    *,
    margin: float,
) -> Gate:
    """No group's error is surely higher than the champion's on the same rows by more than `margin`, a share of it.

    Surely: by a one-sided 95 % bound on the ratio of both errors (delta method, Student's t with days as clusters),
    for all groups together (Bonferroni). Groups of fewer than `FEWEST_OF_GROUP` rows or `FEWEST_DAYS` days tell nothing.

    Args:
        candidate, champion: Errors of each row, shape `(n_rows,)`.
        groups: Category -> its value in each row.
    """
    cells = {
        f"{name}={value}": rows
        for name, values in groups.items()
        for value in sorted({one for one in values if one is not None})
        if (rows := np.flatnonzero(values == value)).size >= FEWEST_OF_GROUP
        and day_codes(asked_at[rows])[0] >= FEWEST_DAYS
    }
    worst, where = -1.0, ""
    for name, rows in cells.items():
        first, second = candidate[rows], champion[rows]
        if not second.mean() > 0:
            continue
        ratio = float(first.mean() / second.mean())
        held, day = day_codes(asked_at[rows])
        by_day = np.bincount(day, first - ratio * second)
        deviation = float(np.sqrt(np.square(by_day).sum() * held / (held - 1)) / second.sum())
        t = float(special().stdtrit(held - 1, 1 - 0.05 / len(cells)))
        low = float(problem.overall(np.asarray(max(0.0, ratio - t * deviation)))) - 1
        if low > worst:
            worst, where = low, name
    if not cells:
        return Gate("subgroups", True, 0.0, margin, "no group is large enough to tell")
    why = (
        f"of {len(cells)} groups {where} comes off worst: its {problem.error} is surely {worst:+.1%} or more against the "
        f"champion's, {margin:+.0%} allowed"
    )
    return Gate("subgroups", worst <= margin, worst, margin, why)


def guard_budget(flag_rate: float, budget: float, rows: int) -> Gate:
    """The guard flags no more of ordinary later requests than the budget allows.

    Its thresholds were set to keep the budget on these very requests, so this fails where nothing could: it is no
    forecast of what will be flagged, which monitoring watches.
    """
    why = f"the guard flags {flag_rate:.2%} of {rows:,} later requests, {budget:.2%} allowed"
    return Gate("guard_budget", flag_rate <= budget, flag_rate, budget, why)


def parity(engine: Engine, golden: bytes) -> Gate:
    """The serving engine, one row and many, agrees with the training library on every golden row.

    Measured are the disagreements, of which at most five are counted; golden rows that cannot be read are one.
    """
    try:
        worst = check_golden(engine, golden)
    except BundleError as error:
        return Gate("parity", False, float(len(error.faults)), 0.0, str(error.faults[0]))
    return Gate("parity", True, 0.0, 0.0, f"largest disagreement on golden rows {worst:.1g}")


def latency(
    engine: Engine, frame: Frame, *, limit_us: float, stopwatch: Stopwatch = time.process_time
) -> Gate:
    """Median CPU microseconds of one prediction."""
    measured = predict_us(engine, frame, stopwatch=stopwatch)
    why = f"one prediction takes {measured:.0f} us of CPU, {limit_us:.0f} us allowed"
    return Gate("latency", measured <= limit_us, measured, limit_us, why)


def calibration(truth: Floats, prediction: Floats, *, limit: float = 0.05, bins: int = 10) -> Gate:
    """How far probabilities lie from rates, on average over bins of equally many rows.

    The expected calibration error (Naeini et al. 2015), which is at least `|mean prediction - rate|`. By chance
    alone it is about `0.8 * sqrt(rate * (1 - rate) * bins / n_rows)`, so much more than `limit` is allowed.
    """
    parts = [part for part in np.array_split(np.argsort(prediction, kind="stable"), bins) if len(part)]
    gaps = [abs(prediction[part].mean() - truth[part].mean()) * len(part) for part in parts]
    measured, rate = float(sum(gaps) / len(truth)), float(truth.mean())
    allowed = limit + 0.8 * float(np.sqrt(rate * (1 - rate) * bins / len(truth)))
    why = (
        f"probabilities lie {measured:.4f} from rates on average, {allowed:.4f} allowed; "
        f"mean {prediction.mean():.4f}, rate {rate:.4f}"
    )
    return Gate("calibration", measured <= allowed, measured, allowed, why)


def size(files: Mapping[str, bytes], *, limit_bytes: int) -> Gate:
    """Bytes of a bundle: all that serving may have to load."""
    measured = sum(map(len, files.values()))
    why = f"the files hold {measured:,} bytes, {limit_bytes:,} allowed"
    return Gate("size", measured <= limit_bytes, float(measured), float(limit_bytes), why)
