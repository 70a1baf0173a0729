"""What an alert costs, reckoned from what is known when it is raised; and how what it is about went."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np

from icekeel.core.frames import Floats
from icekeel.core.time import DAY, HOUR, format_second
from icekeel.define import Model
from icekeel.journal import Predicted
from icekeel.monitoring import Signal
from icekeel.operations.monitors.watch import Between, costs, row_errors, scored
from icekeel.operations.projections.projections import Settled

MOST = 4_000
"""Answers kept of each model; of the older half every second goes when there are more."""
ROWS = 20_000
"""Settled answers read at the most, before and after."""
FEWEST = 30
"""Answers before and after without which nothing is reckoned."""
SHOWN = 14 * DAY
"""Time before a change that its picture shows."""
BUCKETS = 48
YEAR_DAYS = 365.0


class Recent:
    """The latest answers of one model, the older the sparser, and how many there were in each hour."""

    def __init__(self) -> None:
        self.kept: list[Predicted] = []
        self._hours: Counter[int] = Counter()

    def add(self, records: Iterable[Predicted]) -> None:
        """Take in answers in the order in which they are read."""
        for record in records:
            self.kept.append(record)
            self._hours[record.at // HOUR] += 1
            if len(self.kept) > MOST:
                self.kept = self.kept[: MOST // 2 : 2] + self.kept[MOST // 2 :]
        for hour in sorted(self._hours)[: max(0, len(self._hours) - 24 * 8)]:
            del self._hours[hour]

    def per_day(self, at: int) -> float:
        """Answers a day, by the hours of the last day before `at`; by fewer where there were none before."""
        last = at // HOUR
        asked = {hour: count for hour, count in self._hours.items() if last - 24 <= hour < last}
        return 24.0 * sum(asked.values()) / (last - min(asked)) if asked else 0.0

    def between(self, since: int, until: int, segment: str = "") -> list[Predicted]:
        """Answers asked in `[since, until)`, of one segment where one is given."""
        field, _, value = segment.partition("=")
        return [
            record
            for record in self.kept
            if since <= record.at < until and (not segment or str(record.request.get(field)) == value)
        ]


@dataclass(frozen=True, slots=True)
class Reckoning:
    """Dollars a day, None where they are not known, and how they were reckoned, in a sentence."""

    usd_per_day: float | None
    sentence: str


def reckon(
    model: Model, recent: Recent, between: Between | None, *, since: int, at: int, segment: str = ""
) -> Reckoning:
    """What a change that began at `since` costs a day, as known at `at`.

    By outcomes where those since then cost more than those of the week before, by more than twice the standard error
    of the difference: the gap times the answers of a day. Else by the predictions, where these have moved so: as if all
    the move were error, which is the most it can be. For an action a prediction that is off by d turns the decision of
    those answers that lie within d of the threshold t; each costs (d / 2) * (missed + false) on average, the regret
    |p - t| * (missed + false) (Elkan 2001, section 2) at the mean distance.
    """
    per_day = recent.per_day(at)
    if model.action is None and not model.choose.within.error_point:
        return Reckoning(
            None, "What it costs is not known: the model gives its error no price (choose=, action=)."
        )
    if between is not None and not segment and (found := _by_outcomes(model, between, since, at, per_day)):
        return found
    before, after = recent.between(since - 7 * DAY, since, segment), recent.between(since, at, segment)
    if min(len(before), len(after)) < FEWEST:
        return Reckoning(
            None,
            f"What it costs is not known yet: {len(after)} answers since {format_second(since)} and {len(before)} before are at hand.",
        )
    share = len(after) / max(1, len(recent.between(since, at)))
    return _by_predictions(model, _said(before), _said(after), per_day * share)


def _by_outcomes(model: Model, between: Between, since: int, at: int, per_day: float) -> Reckoning | None:
    usual = scored(model, islice(between(max(0, since - 7 * DAY), since), ROWS))
    now = scored(model, islice(between(since, at), ROWS))
    if min(len(usual), len(now)) < FEWEST:
        return None
    old, new = (costs(model, [row.prediction for row in rows], rows) for rows in (usual, now))
    if not _moved(old, new):
        return None
    if new.mean() < old.mean():
        return Reckoning(
            0.0, "It costs nothing so far: outcomes since then are no worse than those of the week before."
        )
    when = format_second(since)
    if model.action is not None:
        cost = float(new.mean() - old.mean()) * per_day
        told = f"cost ${new.mean():,.2f} an answer against ${old.mean():,.2f} in the week before"
        return Reckoning(
            cost, f"Outcomes since {when} {told}; at {per_day:,.0f} answers a day: ${cost:,.0f} a day."
        )
    was, has = (_overall(model, float(mean)) for mean in (old.mean(), new.mean()))
    cost, point = _yearly(model, has - was) / YEAR_DAYS, model.choose.within.error_point
    told = f"have an error ({model.error}) of {has:.4g} against {was:.4g} in the week before"
    return Reckoning(
        cost, f"Outcomes since {when} {told}; 0.01 of it costs ${point:,.0f} a year: ${cost:,.0f} a day."
    )


def _by_predictions(model: Model, before: Floats, after: Floats, per_day: float) -> Reckoning:
    if not _moved(before, after):
        return Reckoning(
            None, "What it costs is not known yet: the predictions have not moved, and no outcome says more."
        )
    moved = abs(float(after.mean() - before.mean()))
    if model.action is not None:
        act = model.action
        turned = float((np.abs(after - act.threshold) <= moved).mean())
        cost = turned * moved / 2 * (act.missed + act.false) * per_day
        return Reckoning(
            cost,
            f"Predictions moved by {moved:.3g}, which may turn {turned:.0%} of {per_day:,.0f} decisions a day: at the most ${cost:,.0f} a day.",
        )
    if model.error == "log_loss":
        return Reckoning(None, f"Predictions moved by {moved:.3g}; what that costs only outcomes will say.")
    points = moved / abs(float(before.mean())) if model.error == "mape" else moved
    cost, point = _yearly(model, points) / YEAR_DAYS, model.choose.within.error_point
    return Reckoning(
        cost,
        f"Predictions moved by {points:.3g}; were all of it error, at ${point:,.0f} a year for 0.01 that is at the most ${cost:,.0f} a day.",
    )


def _moved(before: Floats, after: Floats) -> bool:
    """Whether the means differ by more than twice the standard error of their difference."""
    error = math.sqrt(before.var() / len(before) + after.var() / len(after))
    return abs(float(after.mean() - before.mean())) > 2 * error


def _overall(model: Model, mean: float) -> float:
    return math.sqrt(mean) if model.error == "rmse" else mean


def _yearly(model: Model, error: float) -> float:
    """Dollars a year that so much error costs."""
    return error / 0.01 * model.choose.within.error_point


def _said(records: Sequence[Predicted]) -> Floats:
    return np.array([record.prediction for record in records], dtype=np.float64)


def course(
    model: Model, signal: Signal, recent: Recent, between: Between | None, *, since: int, at: int
) -> dict[str, Any]:
    """What a signal is about over time, for a picture: mean in each stretch, and the band it keeps to usually.

    Gives `name`, and `at`, `values` of equal length, and `low`, `high`: three standard deviations of the stretches
    before `since` around their mean. Empty where there are no numbers.
    """
    points, name = _points(model, signal, recent, between, since, at)
    points = [(when, value) for when, value in points if when < at and math.isfinite(value)]
    if len(points) < FEWEST:
        return {}
    first = min(when for when, _ in points)
    width = max(1, (at - first) // BUCKETS)
    buckets: dict[int, list[float]] = {}
    for when, value in points:
        buckets.setdefault((when - first) // width, []).append(value)
    means = {
        first + place * width + width // 2: float(np.mean(found)) for place, found in sorted(buckets.items())
    }
    quiet = [value for when, value in means.items() if when < since]
    band: dict[str, Any] = {}
    if len(quiet) >= 5:
        middle, spread = float(np.mean(quiet)), 3 * float(np.std(quiet, ddof=1))
        band = {"low": middle - spread, "high": middle + spread}
    return {
        "name": name,
        "at": list(means),
        "values": [float(f"{one:.6g}") for one in means.values()],
        **band,
    }


def _points(
    model: Model, signal: Signal, recent: Recent, between: Between | None, since: int, at: int
) -> tuple[list[tuple[int, float]], str]:
    if signal.subject == "outcome" and between is not None:
        rows: list[Settled] = scored(model, islice(between(max(0, since - SHOWN), at), ROWS))
        errors = row_errors(model, [row.prediction for row in rows], rows)
        return [(row.settled_at, float(error)) for row, error in zip(rows, errors, strict=True)], model.error
    records, name = recent.between(max(0, since - SHOWN), at, signal.segment), "prediction"
    read: list[Any] = [record.prediction for record in records]
    if signal.subject in ("feature", "field"):
        own = [
            (record.features if signal.subject == "feature" else record.request).get(signal.name)
            for record in records
        ]
        if sum(map(_number, own)) >= FEWEST:
            read, name = own, signal.name
    return [
        (record.at, float(value)) for record, value in zip(records, read, strict=True) if _number(value)
    ], name


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
