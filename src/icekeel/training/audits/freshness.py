"""Whether what the features read is as fresh as the project says it must be."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import numpy as np

from icekeel.core.frames import Frame, Ints
from icekeel.core.time import FOREVER, SECOND, roughly
from icekeel.define import Fresh
from icekeel.features.events import EventStore
from icekeel.features.freshness import TableAge, key_ages, table_age
from icekeel.features.plan import Plan

from .findings import VERDICTS, Finding, Verdict
from .input import AuditInput

LATEST = 5_000
"""Questions whose keys are looked up: keys count by how often they were asked about of late."""
SOME, MANY = 0.01, 0.1
"""Shares of the latest questions with a stale key from which the audit warns, and blocks."""
Part = tuple[Verdict, str, dict[str, Any]]


def freshness(given: AuditInput) -> Finding:
    """How old the rows are that the features read, as of `now`, of tables that say how old they may be.

    A table whose newest row came before its `error=` blocks, before its `warn=` warns. Of keys it is the share of the latest
    questions that counts, with the age of what they would read now, beside the age of what they read when they were asked.
    """
    with closing(given.open_store(0)) as store:
        return _judged(given.plan, given.asked.requests, given.asked.asked_at, store, given.now)


def _judged(plan: Plan, requests: Frame, asked_at: Ints, store: EventStore, now: int) -> Finding:
    tables = [store.table(name) for name in dict.fromkeys(lookup.view.table for lookup in plan.lookups)]
    limited = [table for table in tables if min(table.fresh.limits) < FOREVER]
    if not limited:
        return Finding("freshness", "pass", "no table that the features read says how fresh it must be")
    parts = [_of_table(table_age(store, table, now), table.fresh) for table in limited]
    latest = np.arange(max(0, len(asked_at) - LATEST), len(asked_at))
    parts += _of_keys(plan, requests.take(latest), asked_at[latest], store, now)
    verdict = max((one for one, _, _ in parts), key=VERDICTS.index)
    told = [what for one, what, _ in parts if one == verdict]
    todo = "see icekeel freshness; bring the source up to date, then train" if verdict != "pass" else ""
    evidence = {"parts": [one for _, _, one in parts]}
    return Finding("freshness", verdict, "; ".join(told), todo, evidence=evidence)


def _of_table(found: TableAge, fresh: Fresh) -> Part:
    age = "has no rows" if found.age is None else f"got its newest row {roughly(found.age)} ago"
    verdict: Verdict = "pass" if found.state == "fresh" else "warn" if found.state == "warn" else "block"
    limit = fresh.warn if found.state == "warn" else fresh.error or fresh.warn
    age_s = None if found.age is None else found.age / SECOND
    limits = {"warn": fresh.warn, "error": fresh.error}
    evidence = {"table": found.table, "state": found.state, **limits, "age_s": age_s}
    return verdict, f"{found.table} {age} (limit {limit})", evidence


def _of_keys(plan: Plan, requests: Frame, asked_at: Ints, store: EventStore, now: int) -> Iterator[Part]:
    for age in plan.ages:
        table = store.table(age.keyed.table)
        name = f"{table.name}.{'+'.join(table.fresh.keys)}"
        warn, error = table.fresh.limits
        then, ages = (
            key_ages(plan, age, requests, at, store) for at in (asked_at, np.full(len(asked_at), now))
        )
        shares = {"warn": float((ages > warn).mean()), "error": float((ages > error).mean())}
        before = {"warn": float((then > warn).mean()), "error": float((then > error).mean())}
        verdict: Verdict = "pass"
        if shares["error"] > MANY:
            verdict = "block"
        elif max(shares.values()) > SOME:
            verdict = "warn"
        level = "error" if shares["error"] > SOME else "warn"
        what = (
            f"{shares[level]:.1%} of the latest {len(asked_at):,} questions are about a {name} with nothing newer than "
            f"{getattr(table.fresh, level) or table.fresh.error} now; {before[level]:.1%} when they were asked"
        )
        evidence = {"key": name, "now": shares, "then": before, "questions": len(asked_at)}
        evidence |= {f"median_age_s_{when}": _median_s(one) for when, one in (("now", ages), ("then", then))}
        yield verdict, what, evidence


def _median_s(ages: Any) -> float | None:
    middle = float(np.median(ages))
    return middle / SECOND if np.isfinite(middle) else None
