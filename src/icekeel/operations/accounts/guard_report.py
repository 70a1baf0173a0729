"""What the guard of a model does and cannot see: of what was answered, or before that of its training."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from icekeel.core.errors import Fault, StateError
from icekeel.core.time import DAY, format_time
from icekeel.data.answers import Answers, Wanted
from icekeel.define import Model
from icekeel.guard import KINDS
from icekeel.guard.check import in_words
from icekeel.registry import Registry, Version

WEEK = 7 * DAY
YEAR = 365.25 * DAY
MOST_EXAMPLES = 3
FEWEST = 100
"""Answers from which on the journal is told of, not the later window of training."""


@dataclass(frozen=True, slots=True)
class Rate:
    """How often one kind of finding is made, and some of its reasons."""

    kind: str
    rate: float
    examples: Sequence[str]


@dataclass(frozen=True, slots=True)
class Stretch:
    """A week of answers.

    Attributes:
        since: Its first moment; weeks begin as 1970-01-01 did, on a Thursday.
        flagged: Share of the answers in which the guard found anything.
        kinds: The same by kind.
    """

    since: str
    answers: int
    flagged: float
    kinds: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Gap:
    """A combination that the training data lack, see `icekeel.training.gaps.Missing`.

    Attributes:
        together: The values, in words.
        a_year: Requests with it that are to be expected in a year.
        usd_per_year: Their share of all requests times `error` times what one unit of error costs in a year.
        flagged_as: The kind of finding it is; empty where the guard is blind to it.
    """

    together: str
    a_year: float
    typical: float
    error: float
    usd_per_year: float
    flagged_as: str


@dataclass(frozen=True, slots=True)
class Guarding:
    """What is to be said of the guard of one model.

    Attributes:
        source: `journal`, or `training`: the rows on which the thresholds were set, as held against those before.
        answers: Of which the rates are.
        blind_spots: What does not fit the budget, and what cannot be seen at all.
        growth: Training rows -> share of later requests with something never seen; of twice the rows there are, what
            it comes to if it falls once more as it did with the last doubling.
    """

    model: str
    version: str
    source: str
    since: str
    answers: int
    budget: float
    flagged: float
    kinds: Sequence[Rate]
    weeks: Sequence[Stretch]
    blind_spots: Sequence[str]
    missing: Sequence[Gap]
    growth: Mapping[str, float]


def guarding(model: Model, registry: Registry, answers: Answers, *, since: int, until: int) -> Guarding:
    """What the guard of a model's champion does and cannot see.

    Args:
        since, until: Of the answers that are looked at, microseconds UTC.

    Raises:
        StateError: `no_guard`, the model declares none, or did not when its champion was trained.
        RegistryError: `no_champion`.
    """
    if model.guard is None:
        raise StateError(Fault("no_guard", f"{model.name} declares no guard", hint="guard=ik.Guard(...)"))
    version = registry.champion(model.name)
    report: Mapping[str, Any] | None = version.metrics.get("guard")
    if report is None:
        what, hint = f"{version.name} was trained without a guard", f"icekeel train {model.name}"
        raise StateError(Fault("no_guard", what, hint=hint))
    tally = answers.tally(Wanted(model=model.name, since=since, until=until), WEEK)
    served = sum(tally.values()) >= FEWEST
    kinds = _served(model, answers, tally, since, until) if served else _trained(report)
    total = sum(tally.values()) if served else report["later_rows"]
    flagged = (
        sum(count for (_, found), count in tally.items() if found) / total if served else report["flag_rate"]
    )
    return Guarding(
        model=model.name,
        version=version.name,
        source="journal" if served else "training",
        since=format_time(since) if served else "",
        answers=total,
        budget=model.guard.budget,
        flagged=flagged,
        kinds=kinds,
        weeks=list(_weeks(tally)) if served else [],
        blind_spots=report["blind_spots"],
        missing=[_gap(one, model, version, report["rows"]) for one in report.get("missing", ())],
        growth=growth_of(report.get("growth", ())),
    )


def _trained(report: Mapping[str, Any]) -> list[Rate]:
    return [Rate(one["kind"], one["rate"], one.get("examples", ())) for one in report["kinds"]]


def _served(
    model: Model, answers: Answers, tally: Mapping[tuple[int, frozenset[str]], int], since: int, until: int
) -> list[Rate]:
    wanted = Wanted(model=model.name, since=since, until=until, verdict="flagged", limit=1_000)
    reasons: dict[str, dict[str, None]] = {kind: {} for kind in KINDS}
    for record in answers.find(wanted):
        for code, reason in zip(record.codes, record.reasons, strict=False):
            reasons.setdefault(code.partition(":")[0], {})[reason] = None
    total = sum(tally.values())
    return [
        Rate(
            kind,
            sum(count for (_, found), count in tally.items() if kind in found) / total,
            list(reasons[kind])[:MOST_EXAMPLES],
        )
        for kind in KINDS
    ]


def _weeks(tally: Mapping[tuple[int, frozenset[str]], int]) -> Iterator[Stretch]:
    for week in sorted({week for week, _ in tally}):
        mine = {found: count for (at, found), count in tally.items() if at == week}
        total, kinds = sum(mine.values()), Counter[str]()
        for found, count in mine.items():
            kinds.update(dict.fromkeys(found, count))
        rates: dict[str, float] = {kind: kinds[kind] / total for kind in KINDS}
        yield Stretch(format_time(week), total, 1 - mine.get(frozenset(), 0) / total, rates)


def _gap(found: Mapping[str, Any], model: Model, version: Version, rows: int) -> Gap:
    share = found["expected"] / rows
    years = max(version.trained_to - version.trained_from, DAY) / YEAR
    return Gap(
        together=" + ".join(in_words(name, value) for name, value in found["values"].items()),
        a_year=found["expected"] / years,
        typical=found["typical"],
        error=found["error"],
        usd_per_year=share * found["error"] * 100 * model.choose.within.error_point,
        flagged_as=found["flagged_as"],
    )


def growth_of(points: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """The share of later requests with something unseen by training rows, carried on by one doubling."""
    found = {f"{point['rows']:,}": float(point["unseen"]) for point in points}
    if len(points) > 1:
        before, last = points[-2]["unseen"], points[-1]["unseen"]
        further = min(last, last * last / before) if before else 0.0
        found[f"{2 * points[-1]['rows']:,} (extrapolated)"] = further
    return found
