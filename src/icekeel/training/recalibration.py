"""Whether probabilities should be put right, and by which curve: chosen on earlier folds, judged on the last."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import numpy as np

from icekeel.core.frames import Floats, Frame
from icekeel.engines.calibration import CALIBRATION_FILE, Calibration
from icekeel.engines.links import to_link
from icekeel.engines.loading import load_engine

from .backtest import Backtest
from .ladder import difference
from .rungs import Fitted

HELPS = 0.005
"""Part of the error that a curve must save, and surely more than nothing: it is one more thing to keep."""
FEWEST_ROWS = 500
MOST_POINTS = 50
EDGE = 40.0
"""Log-odds beyond those of any probability that differs from 0 and 1."""


def calibrated(
    trial: Backtest, rung: str, *, rng: np.random.Generator
) -> tuple[Calibration | None, Backtest, str]:
    """The curve for all that a rung says, if one helps; the trial with its latest rows put right; and what was found.

    Curves are fitted to the folds before the last one (the first half of the rows where there is one fold) and judged
    on the rows after; the one that is shipped is fitted to all of them.
    """
    start = trial.last_fold()[0] if len(trial.folds) > 1 else len(trial.rows) // 2
    said, truth = trial.predictions[rung], trial.rows.target
    if trial.problem.task != "probability" or min(start, len(said) - start) < FEWEST_ROWS:
        return None, trial, ""
    errors = trial.problem.row_errors(truth[start:], said[start:])
    found = []
    for fit in (platt, isotonic):
        curve = fit(said[:start], truth[:start])
        meant = curve.of_many(said[start:])
        having = trial.problem.row_errors(truth[start:], meant)
        gap = difference(trial.problem, errors, having, trial.rows.asked_at[start:], rng=rng)
        found.append((gap, fit, meant))
    gap, fit, meant = max(found, key=lambda one: one[0].gain)
    if gap.low <= 0 or gap.gain < HELPS * errors.mean():
        return None, trial, f"calibration gains {gap.gain:.2g} at best: left out"
    predictions = {**trial.predictions, rung: np.append(said[:start], meant)}
    told = f"{fit.__name__} calibration gains {gap.gain:.2g} ({gap.low:.2g} to {gap.high:.2g}) on the latest rows"
    return fit(said, truth), replace(trial, predictions=predictions), told


def put_right(fitted: Fitted, curve: Calibration) -> Fitted:
    """The fit with the curve behind it."""
    files = {**fitted.files, CALIBRATION_FILE: msgspec.json.encode(curve)}

    def reference(frame: Frame) -> Floats:
        return curve.of_many(fitted.reference(frame))

    return replace(fitted, files=files, engine=load_engine(files), reference=reference)


def platt(said: Floats, truth: Floats) -> Calibration:
    """A logistic regression on log-odds by Newton's method, drawn towards no change by a row's worth (Platt 1999)."""
    x = _scores(said)
    weights = np.array([0.0, 1.0])
    design = np.column_stack([np.ones(len(x)), x])
    for _ in range(25):
        p = 1 / (1 + np.exp(-np.clip(design @ weights, -EDGE, EDGE)))
        slope = design.T @ (truth - p) - (weights - (0.0, 1.0))
        step = np.linalg.solve((design * (p * (1 - p))[:, None]).T @ design + np.eye(2), slope)
        weights = weights + np.clip(step, -1.0, 1.0)
        if np.abs(step).max() < 1e-9:
            break
    low, high = (float(weights[0] + weights[1] * end) for end in (-EDGE, EDGE))
    return Calibration("platt", (-EDGE, EDGE), (low, high))


def isotonic(said: Floats, truth: Floats) -> Calibration:
    """Ascending rates of bins of equally many rows, by pooling neighbours that do not ascend (Ayer et al. 1955)."""
    x = _scores(said)
    order = np.argsort(x, kind="stable")
    pools: list[list[float]] = []  # rows, sum of outcomes, sum of log-odds
    for part in np.array_split(order, min(MOST_POINTS, len(order))):
        pools.append([float(len(part)), float(truth[part].sum()), float(x[part].sum())])
        while len(pools) > 1 and pools[-2][1] / pools[-2][0] >= pools[-1][1] / pools[-1][0]:
            last = pools.pop()
            pools[-1] = [a + b for a, b in zip(pools[-1], last, strict=True)]
    points: list[tuple[float, float]] = []
    for rows, hits, total in pools:
        if not points or total / rows > points[-1][0] + 1e-9:  # bins of equal probabilities are one point
            points.append((total / rows, to_link("logit", (hits + 0.5) / (rows + 1))))
    return Calibration("isotonic", *zip(*points, strict=True))


def _scores(said: Floats) -> Floats:
    return np.array([to_link("logit", one) for one in said.tolist()])
