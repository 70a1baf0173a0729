"""What is watched of a model now: bars, evidence, shares of the budget, what is not seen, and how good its answers are."""

from __future__ import annotations

from typing import Any

import lmdb
import numpy as np

from icekeel.core.errors import Fault, StateError
from icekeel.core.time import DAY, MINUTE
from icekeel.define import Model
from icekeel.monitoring import ASSUMED, HEARTBEATS, MINUTES, SHAPES, Baseline, Seen
from icekeel.operations.workspace import Workspace
from icekeel.registry import Registry

from .minutes import Minutes
from .streams import ANSWERS, INTAKE, OUTCOMES, Streams
from .watch import read_baseline

RECENT_DAYS = 7
Told = dict[str, Any]


def monitor(workspace: Workspace, registry: Registry, name: str, online: lmdb.Environment, now: int) -> Told:
    """All that is watched of a model's champion, as JSON values; times are microseconds UTC.

    Args:
        online: Where the keeper counts.

    Raises:
        RegistryError: `no_champion`.
        BundleError: the champion's bundle is damaged.
        StateError: `not_watched_yet`: the keeper has counted nothing of this version.
    """
    model, champion = workspace.project.models[name], registry.champion(name)
    version, baseline = champion.name, read_baseline(workspace.bundles, champion.digest)
    minutes = Minutes(online, Streams(model, workspace.plans[model.name], workspace.project))
    with online.begin() as txn:
        standing = minutes.standing(txn)
        if standing.version != version:
            hint = "the keeper begins with the first question after a version has become champion"
            raise StateError(
                Fault("not_watched_yet", f"nothing of {version} has been counted yet", hint=hint)
            )
        days = [
            minutes.totals(txn, day, version, baseline)
            for day in range(standing.closed // DAY - RECENT_DAYS + 1, standing.closed // DAY + 1)
        ]
    budget = model.watch.false_alarms_per_year
    return {
        "model": model.name,
        "version": version,
        "looked_until": standing.closed,
        "keeper_behind_s": max(0.0, (now - standing.closed) / 1e6),
        "budget": {"a_year": budget, "minutes": budget * MINUTES, "shapes": budget * SHAPES, "silences": budget * HEARTBEATS},
        "series": _series(baseline, Seen.of(standing.state), standing.closed, budget),
        "sources": [
            _source(part.stream.name.removeprefix(INTAKE), standing.beats[part.stream.name].last, standing.closed, part.heartbeat)
            for part in baseline.monitored
            if part.heartbeat is not None and part.stream.name in standing.beats
        ],
        "error": _error(baseline, days, model),
    }  # fmt: skip


def nearest(
    workspace: Workspace, model: Model, version: str, baseline: Baseline, online: lmdb.Environment
) -> dict[str, float]:
    """Kind of change -> the evidence of the series nearest to its bar, as a share of that; at 1 it alarms.

    `silence` is that of the sources. Empty while nothing of this version has been counted.
    """
    minutes = Minutes(online, Streams(model, workspace.plans[model.name], workspace.project))
    with online.begin() as txn:
        standing = minutes.standing(txn)
    found: dict[str, float] = {}
    if standing.version == version:
        budget = model.watch.false_alarms_per_year
        for row in _series(baseline, Seen.of(standing.state), standing.closed, budget):
            if not row["blind"]:
                found[row["change"]] = max(found.get(row["change"], 0.0), row["evidence"] / row["bar"])
        for part in baseline.monitored:
            beat, heartbeat = standing.beats.get(part.stream.name), part.heartbeat
            if beat is not None and heartbeat is not None and not heartbeat.blind and heartbeat.limit:
                missed = heartbeat.missed(beat.last, standing.closed) / heartbeat.limit
                found["silence"] = max(found.get("silence", 0.0), missed)
    return found


def _series(baseline: Baseline, seen: Seen, at: int, budget: float) -> list[Told]:
    """One entry for each series, those nearest to their bar first; the share is of the budget, in alarms a year."""
    bank = baseline.bank(budget)
    expected, evidence = bank.expected(seen, at), np.maximum(bank.evidence(seen), 0.0)
    watched = max(1, sum(not one.blind for one in baseline.series))
    rows = [
        {
            "subject": one.subject,
            "name": one.name,
            "segment": one.segment,
            "change": one.change,
            "label": one.label,
            "kind": one.kind,
            "expected": None if np.isnan(expected[place]) else float(expected[place]),
            "tolerance": one.tolerance,
            "evidence": float(evidence[place]),
            "bar": bank.bar,
            "share": 0.0 if one.blind else budget * MINUTES / watched,
            "blind": one.blind,
        }
        for place, one in enumerate(baseline.series)
    ]
    return sorted(rows, key=lambda row: (bool(row["blind"]), -float(row["evidence"])))


def _source(name: str, last: int, at: int, heartbeat: Any) -> Told:
    return {
        "source": name,
        "last": last,
        "silent_minutes": (at - last) / MINUTE,
        "missed": heartbeat.missed(last, at),
        "limit": heartbeat.limit,
        "longest_minutes": heartbeat.longest / MINUTE or None,
        "blind": heartbeat.blind,
    }


def _error(baseline: Baseline, days: list[dict[str, Any]], model: Model) -> Told:
    """Means of the last week: what probabilities expect of themselves, what came true, and outcomes beside predictions."""
    names = {
        "estimated": (ANSWERS, ("estimated cost" if model.action is not None else "estimated log_loss")),
        "realised": (OUTCOMES, model.error),
        "actual": (OUTCOMES, "actual"),
        "actual_against_predicted": (OUTCOMES, "actual against predicted"),
        "predicted": (ANSWERS, model.name),
    }
    found: Told = {"days": RECENT_DAYS}
    for name, (stream, column) in names.items():
        found[name], found[f"{name}_rows"], found[f"{name}_usual"] = _mean(baseline, days, stream, column)
    found["estimated_is"] = names["estimated"][1] if found["estimated_usual"] is not None else None
    found["realised_is"] = model.error
    found["assumes"] = ASSUMED if found["estimated_is"] else None
    return found


def _mean(
    baseline: Baseline, days: list[dict[str, Any]], stream: str, name: str
) -> tuple[float | None, int, float | None]:
    """Mean of a column over some days, of how many rows, and what it was in the past; None where there is none."""
    part = baseline.part(stream)
    columns = [] if part is None else part.stream.columns
    place = next((at for at, one in enumerate(columns) if one.name == name and one.where is None), None)
    if part is None or place is None:
        return None, 0, None
    first, end = part.stream.starts[place] + 1, part.stream.starts[place + 1]
    rows, total = 0, 0.0
    for day in days:
        if stream in day:
            counts, values = day[stream]
            rows, total = rows + int(counts[first:end].sum()), total + float(values[place, 0])
    return (total / rows if rows else None), rows, columns[place].mean
