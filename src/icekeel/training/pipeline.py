"""The whole way from a model's definition to a registered version."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import msgspec
import numpy as np

from icekeel.core.frames import Floats, Frame, Ints
from icekeel.core.kinds import Column, Kind
from icekeel.core.time import DAY, format_time
from icekeel.define import Model
from icekeel.define.features import Feature
from icekeel.engines import GOLDEN_FILE, Engine
from icekeel.engines.similar import SIMILAR_FILE
from icekeel.features.outcomes import Status
from icekeel.guard.tables import Scale
from icekeel.registry import GUARD_FILE, INTERVAL_FILE, Contents

from .audits import Finding, gates_of
from .backtest import FIRST_FOLDS, Backtest, backtest, cuts_of
from .catalog import TUNED, settings_of, with_settings
from .conformal import conformal_interval, later_coverage
from .dataset import Learnable
from .gates import (
    Gate,
    better_than_simplest,
    calibration,
    groups_no_worse,
    guard_budget,
    latency,
    no_worse_than,
    parity,
    requirement,
    size,
)
from .golden import build_golden
from .guarding import compile_guard
from .importance import permutation_importance
from .ladder import Ladder, climb
from .mistakes import example, mistakes, public_columns, public_keys
from .problem import Problem, TrainingSet, evenly
from .recalibration import calibrated, put_right
from .rungs import Fitted, Rung
from .similar import Past, similar_cases
from .tuning import tune
from .worth import compared_rungs, worth_of

MOST_BYTES = 50_000_000
SLOWEST_US = 1_000.0
LADDER_FOLDS = (5, 0.5)
RETRAIN_FOLDS = (1, 0.15)
"""Folds and share of the rows they test: of the whole ladder, and of one rung that is fitted again."""
FEWEST_COMPARED = 100
WORST_CALIBRATION = 0.05
MOST_SHUFFLED = 10_000
"""Later rows on which the importance of features is measured."""
Say = Callable[[str], None]
Describe = Callable[[Ints, TrainingSet, Floats, Mapping[str, Any]], Mapping[str, bytes]]
Examine = Callable[[Ints, TrainingSet, Floats], Sequence[Finding]]
"""Audits: places of the questions with an outcome, their rows, what the backtest said to each (NaN where untested)."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """What to train.

    Attributes:
        rungs: Candidates from simple to complex.
        rung: The one to take whatever the ladder says; empty for the ladder's winner.
        threads: Of the fits: several backtests at a time, or one fit on so many.
        core_hour: Dollars that an hour of one core costs.
    """

    model: Model
    feature_set: str
    features: Sequence[Feature]
    rungs: Sequence[Rung]
    rung: str = ""
    seed: int = 0
    threads: int = 1
    core_hour: float = 0.05


@dataclass(frozen=True, slots=True)
class Standing:
    """The champion that a candidate is held against, on questions later than `trained_to` only."""

    engine: Engine
    trained_to: int


@dataclass(frozen=True, slots=True)
class Trained:
    """A candidate: its bundle's files and meta, and all that was measured.

    Attributes:
        metrics: JSON values: counts, errors, importance, guard report.
    """

    files: Mapping[str, bytes]
    contents: Contents
    ladder: Ladder
    gates: Sequence[Gate]
    metrics: Mapping[str, Any]


def train(
    recipe: Recipe,
    data: Learnable,
    *,
    say: Say,
    champion: Standing | None = None,
    describe: Describe | None = None,
    audit: Examine | None = None,
) -> Trained:
    """Climb the ladder, refit the winner on all rows, and put it through every gate.

    Args:
        data: Past questions; those with known outcomes are learnt from.
        champion: What serves now, to be compared with on the latest rows.
        describe: Makes further files of the bundle from places of the questions with an outcome, their rows, what the
            backtest said to each (NaN where untested), and the metrics so far.
        audit: Looks at the rows learnt from; what blocks is a failed gate.

    Raises:
        TrainingError: no model can be trained on these data.
    """
    model = recipe.model
    known, rows = rows_with_outcome(recipe.features, data)
    problem = Problem(model.task, model.error, recipe.seed)  # type: ignore[arg-type]  # checked with the project
    metrics: dict[str, Any] = {"counts": _counted(data, say)}
    problem.check(rows)
    rng = np.random.default_rng(recipe.seed)
    climbed = _climb(recipe, problem, rows, data, rng, say)
    ladder, winner = climbed.ladder, recipe.rung or climbed.ladder.winner
    rung = next(rung for rung in climbed.rungs if rung.name == winner)
    metrics |= climbed.metrics | {
        "ladder_winner": ladder.winner,
        "rung": winner,
        "settings": settings_of(rung),
    }
    curve, trial, told = calibrated(climbed.trial, winner, rng=rng)
    again = with_settings(trial.fitted[winner].again or rung, {"threads": recipe.threads})
    fitted = again.fit(problem, rows)
    if told:
        say(told)
        metrics["calibration"] = told
    if curve is not None:
        fitted = put_right(fitted, curve)
    golden = build_golden(fitted, rows.frame)
    files, said = {**fitted.files, GOLDEN_FILE: golden}, trial.predicted(winner, len(rows))
    if model.guard is not None:
        files[GUARD_FILE], metrics["guard"] = _guard(model, data, known, said)
    if describe:
        files |= describe(known, rows, said, metrics)
    if problem.task == "number":
        files[INTERVAL_FILE], metrics["interval"] = _interval(trial, winner, say)
    if rows.columns:
        files[SIMILAR_FILE], metrics["similar"] = _similar(model, data, known, rows, trial, winner, say)
    metrics |= _measured(model, data, known, trial, winner, rng)
    metrics["errors"] = {step.rung: step.error for step in ladder.steps}
    findings = audit(known, rows, said) if audit else []
    metrics["audits"] = [asdict(one) for one in findings]
    gates = [
        better_than_simplest(ladder, winner),
        parity(fitted.engine, golden),
        latency(fitted.engine, rows.frame, limit_us=SLOWEST_US),
        size(files, limit_bytes=MOST_BYTES),
        *_later_gates(model, trial, winner, champion, data.requests.take(known[-len(trial.rows) :])),
    ]
    if report := metrics.get("guard"):
        gates.append(guard_budget(report["flag_rate"], report["budget"], report["later_rows"]))
    gates += gates_of(findings)
    for gate in gates:
        say(f"gate {gate.name}: {'passed' if gate.passed else 'FAILED'}, {gate.why}")
    return Trained(files, _contents(recipe, rows, fitted, winner), ladder, gates, metrics)


def _contents(recipe: Recipe, rows: TrainingSet, fitted: Fitted, winner: str) -> Contents:
    return Contents(
        model=recipe.model.name,
        rung=winner,
        task=recipe.model.task,
        feature_set=recipe.feature_set,
        features=[column.name for column in fitted.engine.columns],
        definitions={feature.name: feature.digest for feature in recipe.features},
        trained_from=int(rows.asked_at[0]),
        trained_to=int(rows.asked_at[-1]),
        rows=len(rows),
    )


class _Climbed(NamedTuple):
    rungs: Sequence[Rung]
    ladder: Ladder
    trial: Backtest
    metrics: dict[str, Any]


def _climb(
    recipe: Recipe, problem: Problem, rows: TrainingSet, data: Learnable, rng: np.random.Generator, say: Say
) -> _Climbed:
    """The backtests: of one rung, or of all, tuned if so declared, with what each step is worth."""
    model, tolerance = recipe.model, recipe.model.choose.within.tolerance
    folds, tested = RETRAIN_FOLDS if recipe.rung else LADDER_FOLDS
    workers = recipe.threads if folds > 1 else 1
    # Several are fitted at a time, each on one thread.
    rungs = [with_settings(rung, {"threads": 1}) if folds > 1 else rung for rung in recipe.rungs]
    metrics: dict[str, Any] = {}
    if model.ladder.tune_s and not recipe.rung and hasattr(rungs[-1], TUNED[0]):
        start, _ = cuts_of(rows.asked_at, folds, tested)[0]
        found = tune(
            problem, rows.take(rows.known_before(start)), rungs[-1], budget_s=model.ladder.tune_s, rng=rng
        )
        rungs[-1] = with_settings(rungs[-1], found.settings)
        metrics["tuning"] = asdict(found)
        better = ", ".join(f"{name}={value:g}" for name, value in found.settings.items())
        say(f"{found.tried} settings of {rungs[-1].name} tried: {better or 'none surely better'}")
    ladder, trial = climb(
        problem, rows, rungs, tolerance=tolerance, rng=rng, folds=folds, tested=tested, workers=workers
    )
    for name, why in trial.stopped.items():
        say(f"{name} was stopped after {FIRST_FOLDS} of {folds} backtests: {why}")
    say(ladder.reason)
    if recipe.rung:
        return _Climbed(rungs, ladder, trial, metrics)
    raw = None
    if model.baseline is not None and recipe.features == model.features.icekeel_features:
        _, fewer = rows_with_outcome(model.baseline.icekeel_features, data)
        some = [rung for rung in rungs if rung.name in compared_rungs(ladder)]
        raw = backtest(problem, fewer, some, folds=folds, tested=tested, workers=workers)
    worth = worth_of(model, ladder, trial, raw, asked_at=data.asked_at, core_hour=recipe.core_hour, rng=rng)
    for line in (worth.next, worth.features, worth.stack):
        if line is not None:
            say(line.told)
    return _Climbed(rungs, ladder, trial, metrics | {"worth": asdict(worth)})


def _counted(data: Learnable, say: Say) -> dict[str, int]:
    counts = data.counts()
    say(
        f"{counts['questions']:,} questions: {counts['known']:,} with outcome, {counts['absent']:,} without, {counts['pending']:,} pending"
    )
    return counts


def rows_with_outcome(features: Sequence[Feature], data: Learnable) -> tuple[Ints, TrainingSet]:
    """Places of the past questions whose outcome is known, and what can be learnt from them."""
    known = np.flatnonzero(data.outcomes.status == Status.KNOWN)
    rows = TrainingSet(
        tuple(feature.column for feature in features),
        data.features.take(known),
        data.outcomes.target[known],
        data.asked_at[known],
        data.outcomes.known_at[known],
    )
    return known, rows


def _measured(
    model: Model, data: Learnable, known: Ints, trial: Backtest, winner: str, rng: np.random.Generator
) -> dict[str, Any]:
    last = trial.last_fold()
    later = trial.rows.take(evenly(last, MOST_SHUFFLED))
    shares = permutation_importance(trial.problem, trial.fitted[winner].engine, later, rng=rng)
    return {
        "importance": [[name, share] for name, share in shares],
        "tested_from": format_time(int(trial.rows.asked_at[0])),
        "tested_rows": len(trial.rows),
        "daily_loss": _by_day(trial, winner),
        "mistakes": asdict(mistakes(model, trial.rows.target[last], trial.predictions[winner][last])),
        "example": asdict(example(model, data.requests, known, trial, winner)),
    }


def _by_day(trial: Backtest, rung: str) -> list[tuple[int, float]]:
    """Day since 1970 UTC and mean row error of each day tested: what monitoring takes for a quiet past."""
    errors = trial.problem.row_errors(trial.rows.target, trial.predictions[rung])
    days, place, counts = np.unique(trial.rows.asked_at // DAY, return_inverse=True, return_counts=True)
    means = np.bincount(place, errors) / counts
    return list(zip(days.tolist(), means.tolist(), strict=True))


def _later_gates(
    model: Model, trial: Backtest, winner: str, champion: Standing | None, requests: Frame
) -> list[Gate]:
    """Those on the latest rows, beside the champion where there are enough that it has not learnt from.

    Args:
        requests: Of the rows of the trial.
    """
    problem, last, gates = trial.problem, trial.last_fold(), []
    if model.choose.at_most is not None:
        truth, said = trial.rows.target[last], trial.predictions[winner][last]
        gates.append(requirement(problem, truth, said, at_most=model.choose.at_most))
    # What the champion has learnt from would flatter it.
    unseen = last if champion is None else last[trial.rows.asked_at[last] > champion.trained_to]
    compared = champion is not None and len(unseen) >= FEWEST_COMPARED
    window = unseen if compared else last
    truth, prediction = trial.rows.target[window], trial.predictions[winner][window]
    standing = champion.engine.predict_many(trial.rows.frame.take(window)) if champion and compared else None
    if problem.task == "probability":
        # A rate that moves spoils every model's calibration; a candidate need not be better than what serves.
        allowed = WORST_CALIBRATION if standing is None else calibration(truth, standing).measured
        gates.append(calibration(truth, prediction, limit=max(WORST_CALIBRATION, allowed)))
    if standing is not None:
        margin = 0.02 * problem.error_of(truth, standing)
        gates.append(no_worse_than(problem, truth, prediction, standing, margin=margin))
        own, former = (problem.row_errors(truth, said) for said in (prediction, standing))
        # What is private tells no groups.
        groups = {one.name: requests[one.name][window] for one in public_columns(model, Kind.CAT)}
        asked_at, worse = trial.rows.asked_at[window], model.choose.group_worse
        gates.append(groups_no_worse(problem, own, former, asked_at, groups, margin=worse))
    return gates


def _interval(trial: Backtest, winner: str, say: Say) -> tuple[bytes, dict[str, Any]]:
    """The interval of the latest fold, and what intervals have held of what they promised."""
    last = trial.last_fold()
    interval = conformal_interval(trial.problem, trial.rows.target[last], trial.predictions[winner][last])
    later = later_coverage(trial, winner, coverage=interval.coverage)
    shares = ", ".join(f"{share:.1%}" for share in later)
    say(f"intervals that promise {interval.coverage:.0%} held {shares} of the outcomes of the next fold")
    made = {"coverage": interval.coverage, "half_width": interval.half_width, "later_coverage": later}
    return msgspec.json.encode(interval), made


def guarded_columns(model: Model) -> tuple[Column, ...]:
    """The request fields that the guard checks: categories and numbers, never ids or times."""
    fields = model.request.icekeel_fields.values()
    return tuple(Column(field.name, field.kind) for field in fields if field.kind in (Kind.CAT, Kind.NUM))


def _similar(
    model: Model, data: Learnable, known: Ints, rows: TrainingSet, trial: Backtest, winner: str, say: Say
) -> tuple[bytes, dict[str, Any]]:
    """The past cases that requests are likened to: what is private of them is not among what is shown."""
    requests = data.requests.take(known)
    keys = [requests[name] for name in public_keys(model)]
    ids = ["/".join(map(str, parts)) for parts in zip(*keys, strict=True)]
    past = Past(requests, public_columns(model, Kind.CAT, Kind.NUM), ids or [""] * len(rows))
    said = trial.predicted(winner, len(rows))
    found, made = similar_cases(trial.problem, rows, past, predictions=said)
    if made.tried:
        say(
            f"{made.k} similar cases: {model.error} {made.error:.4g} against {made.model_error:.4g} of {winner}, "
            f"on {made.tried:,} later requests"
        )
    return found, asdict(made)


def _guard(model: Model, data: Learnable, known: Ints, said: Floats) -> tuple[bytes, dict[str, Any]]:
    """The guard of all rows known, its thresholds set on all that was asked in the time of the latest fifth of them.

    Args:
        said: What the backtest predicted for each of these rows, NaN for those it did not test.
    """
    cut = max(1, len(known) * 4 // 5)
    early, later = data.requests.take(known[:cut]), data.requests.take(known[cut:])
    # What was flagged and has no outcome is nothing ordinary: it would talk the guard into letting it pass.
    ordinary = ~data.flagged
    ordinary[known] = True
    asked = np.flatnonzero(ordinary[known[cut] :]) + known[cut]
    predictions = np.full(len(asked), np.nan)
    predictions[np.searchsorted(asked, known[cut:])] = said[cut:]
    target = data.outcomes.target[known]
    scale: Scale = "logit" if model.task == "probability" else "log" if target.min() > 0 else "plain"
    budget = model.guard.budget if model.guard else 0.01
    columns = guarded_columns(model)
    names = [column.name for column in columns]
    data_bytes, report = compile_guard(
        early.select(names),
        columns,
        target,
        scale=scale,
        later=later.select(names),
        budget=budget,
        asked=data.requests.take(asked).select(names),
        predictions=np.concatenate([said[:cut], predictions]),
        target_name=model.name,
    )
    return data_bytes, asdict(report)
