"""What the replay showed: errors by month, cost, speed, skew, alarms and decisions, all from what was kept."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import duckdb
import numpy as np

from icekeel.app import App
from icekeel.compile import quote
from icekeel.core.frames import Array, Column, Floats, Frame, Ints
from icekeel.core.statistics import auc, log_loss
from icekeel.core.time import to_datetime
from icekeel.data import Ingested
from icekeel.data.answers import ANSWER_COLUMNS, ANSWERS, FEATURE
from icekeel.data.relations import fetch, parquet
from icekeel.define import Model
from icekeel.features.offline import historical_features
from icekeel.features.outcomes import Status, historical_outcomes
from icekeel.operations.rehearsal.replay import Played
from icekeel.operations.rehearsal.result import costs
from icekeel.registry import Alert, Decision, Registry, Version
from icekeel.serving import load_version
from icekeel.training.dataset import event_store

from .prepare import Prepared


@dataclass(frozen=True, slots=True)
class Month:
    """One month of answers whose outcome is known, by the living system and by versions never retrained.

    Attributes:
        loss, auc, cost: Name (`living` or a version) -> mean log loss, area under the ROC curve, mean cost.
    """

    name: str
    rows: int
    late_rate: float
    loss: dict[str, float]
    auc: dict[str, float]
    cost: dict[str, float]


@dataclass(frozen=True, slots=True)
class Skew:
    """Served features held against recomputed ones.

    Attributes:
        values: Feature values compared.
        differences: How many differ by more than the rules of arithmetic allow, by feature.
    """

    values: int
    differences: dict[str, int]


@dataclass(frozen=True, slots=True)
class Findings:
    """All that the report tells of the replay."""

    months: Sequence[Month]
    total: Month
    skew: Skew
    decisions: Sequence[Decision]
    alerts: Sequence[Alert]
    answered_by: dict[str, int]
    cpu_us: float


@dataclass(frozen=True, slots=True)
class Run:
    """All that the report tells.

    Attributes:
        seconds: Phase -> wall seconds.
        cpu: Process -> CPU seconds during the replay.
    """

    prepared: Prepared
    ingested: list[Ingested]
    notebook: Version
    engineered: Version
    played: Played
    findings: Findings
    seconds: dict[str, float]
    cpu: dict[str, float]


def measure(app: App, name: str, registry: Registry, *, now: int, frozen: Sequence[str]) -> Findings:
    """Everything from the journal's answers, the history's outcomes and the registry.

    Args:
        frozen: Versions to be compared with, as if they had answered every request alone.
    """
    model, plan = app.model(name), app.plans[name]
    manifest = app.workspace.compact()
    files = app.history().paths(manifest, f"{ANSWERS}/{name}")
    logged = [Column(FEATURE + column.name, column.kind) for column in plan.columns]
    columns = [*ANSWER_COLUMNS, *plan.inputs, *logged]
    with duckdb.connect(config={"threads": 2}) as connection:
        listed = ", ".join(quote(column.name) for column in columns)
        answers = fetch(connection, f"SELECT {listed} FROM {parquet(files)} ORDER BY _asked_at, _id", columns)
    features = Frame({column.name: answers[FEATURE + column.name] for column in plan.columns})
    requests = answers.select([column.name for column in plan.inputs])
    asked_at = answers["_asked_at"]
    with closing(event_store(app.project.tables, app.history(), manifest)) as store:
        outcomes = historical_outcomes(model.target, model.outcome, requests, asked_at, store, now=now)
        again = historical_features(plan, requests, asked_at, store)
    known = outcomes.status == Status.KNOWN
    predictions = {"living": answers["_prediction"]}
    for version in frozen:
        engine = load_version(registry.version(version), app.places.bundles, plan).engine
        predictions[version] = engine.predict_many(features)
    target = outcomes.target
    months = _months(asked_at)
    rows = [
        _month(label, known & (months == label), target, predictions, model)
        for label in np.unique(months[known])
    ]
    return Findings(
        months=rows,
        total=_month("all", known, target, predictions, model),
        skew=_skew(features, again),
        decisions=registry.decisions(name),
        alerts=registry.alerts(name),
        answered_by=_counts(answers["_version"]),
        cpu_us=float(np.median(answers["_cpu_us"])),
    )


def _months(asked_at: Ints) -> Array:
    hours = asked_at // 3_600_000_000
    different, place = np.unique(hours, return_inverse=True)
    names = np.array([to_datetime(int(hour) * 3_600_000_000).strftime("%Y-%m") for hour in different])
    return np.asarray(names[place])


def _month(label: str, rows: Array, target: Floats, predictions: dict[str, Floats], model: Model) -> Month:
    truth = target[rows]
    given = {name: values[rows] for name, values in predictions.items()}
    return Month(
        name=str(label),
        rows=int(rows.sum()),
        late_rate=float(truth.mean()),
        loss={name: float(log_loss(truth, values).mean()) for name, values in given.items()},
        auc={name: auc(truth, values) for name, values in given.items()},
        cost={name: float(costs(model, values, truth, 1.0).mean()) for name, values in given.items()},
    )


def _counts(values: Array) -> dict[str, int]:
    names, counts = np.unique(values.astype(str), return_counts=True)
    return dict(zip(names.tolist(), counts.tolist(), strict=True))


def _skew(served: Frame, again: Frame) -> Skew:
    """Texts, counts and extremes must be identical; sums and what follows from them agree to 1e-9 relative."""
    differences: dict[str, int] = {}
    for name in served:
        a, b = served[name], again[name]
        if a.dtype == object:
            differs = a != b
        else:
            both = ~np.isnan(a) & ~np.isnan(b)
            gap = np.zeros(len(a))
            gap[both] = np.abs(a[both] - b[both]) / np.maximum(1.0, np.abs(b[both]))
            differs = (np.isnan(a) != np.isnan(b)) | (gap > 1e-9)
        if differs.any():
            differences[name] = int(differs.sum())
    return Skew(len(served) * len(list(served)), differences)


def by_month(findings: Findings, pick: str, name: str) -> list[float]:
    """One line of a chart: `loss`, `auc` or `cost` of `living` or of a version, month by month."""
    values: list[Any] = [getattr(month, pick)[name] for month in findings.months]
    return values
