"""Does the training set look like what is asked lately?

Feature by feature, by shape; and all together, by a classifier that tells recent questions from earlier ones. A
change counts if it is certain (days are the evidence, not rows), if it is larger than what earlier stretches of
the same length differ by, and, where outcomes let that be told, if it costs more than simplicity is worth.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from icekeel.core.binning import Binning
from icekeel.core.errors import TrainingError
from icekeel.core.frames import NO_TIME, Floats, Frame, Ints
from icekeel.core.kinds import Kind
from icekeel.core.statistics import benjamini_hochberg
from icekeel.core.time import DAY, format_time

from ..boosting import LightGBM
from ..days import Shape, auc_interval, day_codes, moved
from ..importance import permutation_importance
from ..problem import Problem, TrainingSet, evenly
from .findings import Finding, Verdict
from .input import AuditInput

CELLS = 34
FALSE = 0.05
"""False discovery rate over the features."""
EFFECT = 0.03
"""Distance above the usual from which on a change matters, see `monitoring.drift`."""
MOST = 10_000
"""Questions of either side that the classifier sees, evenly spread."""
FOLDS = 3
TOLD_APART = 0.75
"""Area under the ROC curve from which on recent questions are of another kind."""
LOST = 0.5
"""A feature that became null in so many more of the questions has broken."""
FEWEST, FEWEST_DAYS = 100, 5
"""Questions of either side that must be there, and days for an error to be told with its certainty."""
HEAVIEST = 20.0
"""Importance weight at most, so that no few rows stand for all."""
CLASSIFIER = LightGBM(leaves=15, learning_rate=0.1, trees=40)


@dataclass(frozen=True, slots=True)
class Change:
    """One feature, earlier and lately."""

    feature: str
    distance: float
    usual: float
    p_value: float
    nulls: tuple[float, float]
    most: str


@dataclass(frozen=True, slots=True)
class Told:
    """How well recent questions are told from earlier ones.

    Attributes:
        by: The features that give them away, with their shares.
        odds: Of each earlier row of the training set to be recent, by classifiers that had not seen its day; NaN
            where the classifier was not asked.
        strangest: Places in `asked` of the recent questions least like earlier ones.
    """

    auc: float
    low: float
    high: float
    by: list[tuple[str, float]]
    odds: Floats
    strangest: list[int]


def representation(given: AuditInput) -> Finding:
    """Training rows asked before recent production, against all that was asked lately."""
    recent = np.flatnonzero(given.recent)
    earlier = np.flatnonzero(given.rows.asked_at < given.recent_from)
    if min(len(recent), len(earlier)) < FEWEST:
        what = f"too few questions to compare: {len(earlier):,} earlier ones, {len(recent):,} recent ones"
        return Finding("representation", "pass", what)
    changes = _changes(given, earlier, recent)
    certain = benjamini_hochberg(np.array([one.p_value for one in changes]), FALSE)
    flagged = [
        one for one, sure in zip(changes, certain, strict=True) if sure and one.distance >= one.usual + EFFECT
    ]
    flagged.sort(key=lambda one: one.usual - one.distance)
    told = _told(given, earlier, recent) if given.columns else None
    higher = _higher_error(given, told)
    return _finding(given, flagged, told, higher)


def _changes(given: AuditInput, earlier: Ints, recent: Ints) -> list[Change]:
    asked = given.asked
    days, day = day_codes(given.rows.asked_at[earlier])
    recent_days, recent_day = day_codes(asked.asked_at[recent])
    found = []
    for column in given.columns:
        then, now = given.rows.frame[column.name][earlier], asked.features[column.name][recent]
        binning = Binning.of(column, then, CELLS)
        before = Shape.of(binning, then, days, day)
        after = Shape.of(binning, now, recent_days, recent_day)
        gap, usual, p_value = moved(before, after)
        a, b = (shape.counts.sum(axis=0) / shape.counts.sum() for shape in (before, after))
        cell = int(np.abs(b - a).argmax())
        most = f"{binning.label(cell)}: {b[cell]:.1%}, was {a[cell]:.1%}"
        found.append(Change(column.name, gap, usual, p_value, (float(a[0]), float(b[0])), most))
    return found


def _told(given: AuditInput, earlier: Ints, recent: Ints) -> Told | None:
    """The classifier, cross-fitted over days: days it has not seen are what it must tell apart."""
    names = [column.name for column in given.columns]
    rows, asked = evenly(earlier, MOST), evenly(recent, MOST)
    frame = Frame.stack(
        [given.rows.frame.take(rows).select(names), given.asked.features.take(asked).select(names)]
    )
    at = np.concatenate([given.rows.asked_at[rows], given.asked.asked_at[asked]])
    lately = np.repeat([0.0, 1.0], [len(rows), len(asked)])
    problem = Problem("probability", "log_loss", given.problem.seed)
    days, day = day_codes(at)
    fold = given.rng.permutation(days)[day] % FOLDS
    score, by = np.full(len(at), np.nan), dict.fromkeys(names, 0.0)
    classifier = replace(CLASSIFIER, threads=given.threads)
    everything = TrainingSet(given.columns, frame, lately, at, at)
    for one in range(FOLDS):
        learnt, held = np.flatnonzero(fold != one), np.flatnonzero(fold == one)
        try:
            engine = classifier.fit(problem, everything.take(learnt)).engine
        except TrainingError:  # a fold without earlier or without recent days
            return None
        score[held] = engine.predict_many(frame.take(held))
        if one == 0:
            thin = everything.take(evenly(held, 2_000))
            by = dict(permutation_importance(problem, engine, thin, rng=given.rng))
    odds = np.full(len(given.rows), np.nan)
    mine = score[: len(rows)]
    odds[rows] = mine / (1 - mine)
    ranked = sorted(by.items(), key=lambda item: -item[1])[:5]
    strangest = asked[np.argsort(-score[len(rows) :])[:3]].tolist()
    return Told(*auc_interval(lately, score, at, given.rng), ranked, odds, strangest)


def _higher_error(given: AuditInput, told: Told | None) -> tuple[float, float] | None:
    """The error of recent questions less that of all rows tested, and its standard error; None where nobody can tell.

    Of recent rows whose outcome is known, or else of earlier rows weighted to be like recent ones (Shimodaira 2000).
    """
    tested = given.tested
    lately = given.rows.asked_at[tested] >= given.recent_from
    weight = lately.astype(np.float64)
    others = tested[~lately]
    if lately.sum() < FEWEST or len(others) < FEWEST:
        if told is None or lately.any():
            return None
        tested = tested[np.isfinite(told.odds[tested])]
        if len(tested) < FEWEST:
            return None
        weight = np.minimum(told.odds[tested], HEAVIEST)
    errors = given.errors(tested)
    days, day = day_codes(given.rows.asked_at[tested])
    if days < FEWEST_DAYS:
        return None
    plain = np.ones(len(tested)) if weight.min() > 0 else 1.0 - weight
    means = [float((w * errors).sum() / w.sum()) for w in (weight, plain)]
    residual = weight / weight.sum() * (errors - means[0]) - plain / plain.sum() * (errors - means[1])
    by_day = np.bincount(day, residual, minlength=days)
    deviation = math.sqrt(float(np.square(by_day).sum()) * days / max(1, days - 1))
    worse, usual = (float(given.problem.overall(np.asarray(mean))) for mean in means)
    slope = 1.0 if given.problem.error != "rmse" else 1 / max(2 * usual, 1e-12)
    return worse - usual, deviation * slope


def _finding(
    given: AuditInput, flagged: list[Change], told: Told | None, higher: tuple[float, float] | None
) -> Finding:
    lost = [one for one in flagged if one.nulls[1] - one.nulls[0] >= LOST]
    apart = told is not None and told.low >= TOLD_APART
    cost = None if higher is None else max(0.0, given.usd_a_year(higher[0]))
    harmless = higher is not None and higher[0] + 1.64 * higher[1] < given.model.choose.within.tolerance
    verdict: Verdict = "pass"
    if lost:
        verdict = "block"
    elif (flagged or apart) and not harmless:
        verdict = "warn"
    since = format_time(given.recent_from // DAY * DAY)[:10]
    parts = []
    if lost:
        parts.append(
            f"{_listed([one.feature for one in lost])} became null: {lost[0].nulls[1]:.0%} since {since}, was {lost[0].nulls[0]:.0%}"
        )
    elif flagged:
        parts.append(
            f"since {since} {_listed([one.feature for one in flagged])} changed, most {flagged[0].feature} ({flagged[0].most})"
        )
    else:
        parts.append(f"no feature of questions since {since} changed more than stretches before did")
    if told is not None:
        parts.append(
            f"a classifier tells them from earlier ones with AUC {told.auc:.2f} [{told.low:.2f}, {told.high:.2f}]"
        )
    if higher is not None:
        parts.append(f"their error is {higher[0]:+.3g} +- {1.96 * higher[1]:.2g}")
        if verdict == "pass" and (flagged or apart):
            parts.append("which is within the tolerance")
    todo = ""
    if lost:
        todo = f"Find out why {lost[0].feature} is null: its source, its key, its window."
    elif verdict == "warn":
        todo = "Train on rows like these: retrain now and more often, or collect outcomes of such requests."
    evidence = _evidence(given, flagged, told, higher)
    return Finding("representation", verdict, "; ".join(parts), todo, cost, evidence)


def _evidence(
    given: AuditInput, flagged: list[Change], told: Told | None, higher: tuple[float, float] | None
) -> dict[str, Any]:
    found: dict[str, Any] = {
        "recent_from": format_time(given.recent_from),
        "changed": [asdict(one) for one in flagged],
    }
    if told is not None:
        fields = given.model.request.icekeel_fields.values()
        shown = [field for field in fields if not field.limits.private and field.kind is not Kind.TEXT]
        found["classifier"] = {"auc": told.auc, "low": told.low, "high": told.high, "by": told.by}
        found["least_represented"] = [
            {field.name: _plain(given.asked.requests[field.name][place], field.kind) for field in shown}
            for place in told.strangest
        ]
    if higher is not None:
        found["higher_error"] = {"difference": higher[0], "standard_error": higher[1]}
    return found


def _plain(value: Any, kind: Kind) -> Any:
    """A value of a frame as JSON has it."""
    if kind is Kind.TIME:
        return None if value == NO_TIME else format_time(int(value))
    return value if kind.is_text else None if value != value else float(value)  # noqa: PLR0124 (NaN)


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"{', '.join(names[:3])}{more}"
