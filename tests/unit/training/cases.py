"""Small training sets with a known truth, the same for every test."""

from __future__ import annotations

import numpy as np

from icekeel.core.frames import Column, Frame, Kind
from icekeel.core.time import DAY, HOUR
from icekeel.training import Problem, TrainingSet

COLUMNS = (
    Column("size", Kind.NUM),
    Column("load", Kind.NUM),
    Column("rush", Kind.FLAG),
    Column("route", Kind.CAT),
    Column("carrier", Kind.CAT),
)
ROUTES = {"a": -1.0, "b": 0.0, "c": 1.5}

LATE = Problem("probability", "log_loss")
PRICE = Problem("number", "mape")
DELAY = Problem("number", "mae")
LEVEL = Problem("number", "rmse")
PROBLEMS = (LATE, PRICE, DELAY, LEVEL)


def training_set(problem: Problem, n_rows: int = 1_500, *, seed: int = 1) -> TrainingSet:
    """Forty days of rows whose outcome, known three hours later, depends on size, rush and route."""
    rng = np.random.default_rng(seed)
    size = rng.gamma(2.0, size=n_rows)
    size[rng.random(n_rows) < 0.1] = np.nan
    route = rng.choice(np.array([*ROUTES, None], dtype=object), n_rows)
    rush = (rng.random(n_rows) < 0.3).astype(float)
    truth = np.where(np.isnan(size), 0.0, size - 2) + rush + np.array([ROUTES.get(r, 0.5) for r in route])
    frame = Frame(
        {
            "size": size,
            "load": rng.normal(size=n_rows),
            "rush": rush,
            "route": route,
            "carrier": rng.choice(np.array(["x", "y"], dtype=object), n_rows),
        }
    )
    if problem.task == "probability":
        target = (rng.random(n_rows) < 1 / (1 + np.exp(-truth))).astype(float)
    elif problem.log_target:
        target = np.exp(0.5 * truth + rng.normal(0, 0.1, n_rows))
    else:
        target = truth + rng.normal(0, 0.3, n_rows)
    asked_at = np.sort(rng.integers(0, 40 * DAY, n_rows))
    return TrainingSet(COLUMNS, frame, target, asked_at, asked_at + 3 * HOUR)
