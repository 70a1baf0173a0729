"""The flights: what a shadow test on the same questions needs, beside a split test that errs as rarely.

Rows of one day share its weather, so days are the observations of both: in shadow a day's sum of differences, in a split
test the difference of its arms' means, judged by the same function. Streams of days are weeks drawn at random from April
to December (moving blocks: Kuensch 1989), so that days keep their neighbours.
"""

from __future__ import annotations

import math
import tempfile
from pathlib import Path
from shutil import copy

import numpy as np

from bench.children import CACHE
from bench.report import Result
from icekeel.app import App
from icekeel.core.frames import Array, Bools, Floats, Ints
from icekeel.core.time import DAY, parse_time
from icekeel.examples.flights import project
from icekeel.examples.flights.prepare import prepare
from icekeel.experiments import Claim
from icekeel.experiments.paired import MINIMUM_DAYS, paired_log_e, paired_score
from icekeel.features.outcomes import Status
from icekeel.operations.workshop.workshop import Order
from icekeel.serving import load_version
from icekeel.settings import Settings
from icekeel.training.problem import action_costs

from .split_tests import rate_of

LEARNT, RETRAINED, END = "2013-04-01", "2013-05-01", "2014-01-05"
TESTS, MOST_DAYS, SPLITS, WEEK = 500, 2_000, 40, 7
CLAIM = Claim()


def paired() -> Result:
    """Days and answers until the better version is found in 80 % of tests; promotions of an equal one."""
    rows = _answers()
    day = rows["asked_at"] // DAY
    rng = np.random.default_rng(50)
    found: Result = {"tests": TESTS, "answers": len(day), "answers_a_day": len(day) / len(np.unique(day))}
    for name, champion, challenger in (
        ("", "static", "engineered"),
        ("retrained_", "engineered", "retrained"),
    ):
        a, b = rows[champion], rows[challenger]
        shadow = _by_day(day, b - a, a)
        streams = _weeks(rng, shadow.shape[1], MOST_DAYS)
        needed = {"shadow": _needed(shadow[:, streams])}
        for share in (0.5, 0.2):
            split = _split_days(rng, day, a, b, share)
            draws = rng.integers(0, SPLITS, streams.shape)
            needed[f"split_{share:.0%}"] = _needed(split[:, draws, streams])
        same = shadow - np.outer([0, (b - a).mean(), 0], shadow[0])  # equal on the whole
        found |= {f"{name}{kind}_days": days for kind, days in needed.items()} | {
            f"{name}gain": needed["split_20%"] / needed["shadow"],
            f"{name}gain_even": needed["split_50%"] / needed["shadow"],
            f"{name}gain_if_rows_were_independent": 2 * (a.var() + b.var()) / (b - a).var(),
            f"{name}effect": float((b - a).mean() / a.mean()),
        }
        found |= rate_of(f"{name}false_promotions", _promoted(rng, same))
    found["false_promotions"] = max(found["false_promotions"], found["retrained_false_promotions"])
    return found


def _needed(days: Floats) -> float:
    """Days until 80 % of the streams, shape `(3, days, tests)`, have found the challenger better; looked at every 4 %."""
    return float(np.quantile(_first(days, 1.04), 0.8))


def _promoted(rng: np.random.Generator, same: Floats) -> Bools:
    """Which of 2,000 streams of 90 days, looked at daily, promote a challenger whose weeks are as often worse as better."""
    streams = _weeks(rng, same.shape[1], 91, tests=2_000)
    signs = rng.choice([-1.0, 1.0], (13, 2_000)).repeat(WEEK, axis=0)
    days = same[:, streams]
    days[1] *= signs
    return np.isfinite(_first(days[:, :90], 1.0))[:, None]


def _first(days: Floats, factor: float) -> Floats:
    """The day of each stream at which it promotes; infinite where none does."""
    first, at = np.full(days.shape[2], np.inf), MINIMUM_DAYS
    while at <= days.shape[1]:
        open_ = np.flatnonzero(~np.isfinite(first))
        better, _ = paired_log_e(CLAIM, paired_score(*days[:, :at, open_]), at)
        first[open_[better >= math.log(1 / CLAIM.alpha)]] = at
        at = max(at + 1, round(at * factor))
    return first


def _weeks(rng: np.random.Generator, days: int, length: int, tests: int = TESTS) -> Ints:
    """Places of days, shape `(length, tests)`: weeks from anywhere, one after the other."""
    starts = rng.integers(0, days, (-(-length // WEEK), 1, tests))
    return ((starts + np.arange(WEEK)[:, None]) % days).reshape(-1, tests)[:length]


def _by_day(day: Ints, change: Floats, control: Floats) -> Floats:
    """Pairs, sum of differences and sum of the champion's costs of each day, shape `(3, days)`."""
    _, place = np.unique(day, return_inverse=True)
    return np.array(
        [np.bincount(place), np.bincount(place, change), np.bincount(place, control)], dtype=np.float64
    )


def _split_days(rng: np.random.Generator, day: Ints, a: Floats, b: Floats, share: float) -> Floats:
    """The same of split tests, shape `(3, SPLITS, days)`: each day's arms drawn anew, their means times its flights."""
    _, place = np.unique(day, return_inverse=True)
    n, drawn = np.bincount(place).astype(np.float64), []
    for _ in range(SPLITS):
        in_b = rng.random(len(a)) < share
        mean_a, mean_b = (
            np.bincount(place[mine], cost[mine]) / np.bincount(place[mine])
            for cost, mine in ((a, ~in_b), (b, in_b))
        )
        drawn.append([n, n * (mean_b - mean_a), n * mean_a])
    return np.array(drawn).transpose(1, 0, 2)


def _answers() -> dict[str, Array]:
    """When each flight was asked about after all was learnt, and what each version's answer cost."""
    with tempfile.TemporaryDirectory(dir=CACHE) as name:
        folder = Path(name)
        copy(str(project.__file__), folder / "project.py")
        prepare(folder, progress=lambda line: None)
        app = App(folder, Settings(threads=2), clock=lambda: parse_time("2015-01-01"))
        app.ingest([])
        registry = app.registry()
        workshop = app.workshop(registry)
        now, later = (parse_time(text) + DAY // 4 for text in (LEARNT, RETRAINED))
        orders = {
            "static": Order("late", now, rung="lightgbm", baseline=True),
            "engineered": Order("late", now, rung="lightgbm"),
            "retrained": Order("late", later, rung="lightgbm"),
        }
        versions = {one: workshop.train(order, lambda line: None)[0] for one, order in orders.items()}
        _, data = workshop.prepare("late", parse_time(END), lambda line: None)
        known = (data.outcomes.status == Status.KNOWN) & (data.asked_at >= later)
        features, late = data.features.take(np.flatnonzero(known)), data.outcomes.target[known]
        rows: dict[str, Array] = {"asked_at": data.asked_at[known]}
        action = app.model("late").action
        if action is None:
            raise RuntimeError("the flights have an action")
        for one, version in versions.items():
            engine = load_version(version, app.places.bundles, app.plans["late"]).engine
            rows[one] = action_costs(action, engine.predict_many(features), late)
        registry.close()
        return rows
