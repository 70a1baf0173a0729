"""Who is served worse: errors by group and pair of groups, and the worst slices there are.

Every slice of one or two columns is looked at, numbers in fifths. One is told if its error is certainly higher than
elsewhere (days are the evidence; corrected for all slices looked at) *and* `worse=` times that of all rows. The error
of a probability is held against what the predictions themselves expect, its entropy: a group whose outcome is
uncertain is not served worse for that. Errors in units of the target must be worse for their level too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from typing import Any, TypeAlias

import numpy as np

from icekeel.core.frames import Column, Floats, Frame, Ints
from icekeel.core.kinds import Kind
from icekeel.core.statistics import SMALLEST_PROBABILITY
from icekeel.define import Model

from ..days import day_codes, holm, p_above
from ..problem import evenly
from .findings import Finding, Verdict
from .input import AuditInput
from .tally import Group, Tally

MOST_VALUES = 50
FIFTHS = 8
"""Cells of a number: nulls, five in between, and two for what lies outside."""
MOST_PAIRS = 200
"""Cells of two groups that are kept, those with the most rows."""
MOST_ROWS = 100_000
FEWEST_ROWS = 50
FEWEST_SHARE = 0.005
"""Rows, and share of the rows tested, that a slice must hold to be told."""
FEWEST_DAYS = 5
MOST_COLUMNS = 20
CERTAIN = 0.01
"""Chance that any slice is told of a model that errs alike everywhere."""
CHECKED, TOLD = 60, 5
"""Slices whose evidence is weighed by days, the most conspicuous ones, and slices that are told."""


Cell: TypeAlias = tuple[Sequence[Group], tuple[int, ...]]
"""Groups, and a code of each."""


@dataclass(frozen=True, slots=True)
class Slice:
    """Rows that are served worse.

    Attributes:
        share: Of all rows tested.
        error, overall: Its error and that of all rows, in the error's unit.
        p_value: Corrected for all slices that were looked at (Holm 1979).
    """

    words: str
    rows: int
    share: float
    error: float
    overall: float
    p_value: float


@dataclass(frozen=True, slots=True)
class Errors:
    """Row errors, what is expected of them, and the level of the target; each of shape `(n_rows,)`."""

    error: Floats
    excess: Floats
    level: Floats
    target: Floats
    prediction: Floats
    day: tuple[int, Ints]

    @classmethod
    def of(cls, given: AuditInput, rows: Ints) -> Errors:
        """Those of the rows tested."""
        target, prediction, error = given.rows.target[rows], given.predictions[rows], given.errors(rows)
        excess = error
        if given.problem.task == "probability":
            p = np.clip(prediction, SMALLEST_PROBABILITY, 1 - SMALLEST_PROBABILITY)
            excess = error + p * np.log(p) + (1 - p) * np.log1p(-p)
        level = np.abs(target) if given.problem.error == "mae" else np.square(target)
        if given.problem.error in ("log_loss", "mape"):
            level = np.ones(len(rows))
        return cls(error, excess, level, target, prediction, day_codes(given.rows.asked_at[rows]))


def subgroups(given: AuditInput) -> Finding:
    """Errors of the declared groups, and the slices of rows with a prediction that are served worse."""
    rows = evenly(given.tested, MOST_ROWS)
    errors = Errors.of(given, rows)
    if len(rows) < 2 * FEWEST_ROWS or errors.day[0] < FEWEST_DAYS:
        what = f"too few rows were tested to tell groups apart: {len(rows):,} on {errors.day[0]} days"
        return Finding("subgroups", "pass", what)
    groups = groups_of(given.model, given.requests.take(rows))
    tables = [table for group in groups for table in _table(given, (group,), errors)]
    pairs = [table for pair in combinations(groups, 2) for table in _table(given, pair, errors)]
    tables += sorted(pairs, key=lambda table: -table["rows"])[:MOST_PAIRS]
    others = _searched(given, rows, {group.name for group in groups})
    slices = _worst(given, [*groups, *others], errors)
    return _finding(given, tables, slices, len(rows))


def groups_of(model: Model, requests: Frame) -> list[Group]:
    """The declared groups of some requests, or every category of 2 to 50 values that is not private, six at the most."""
    declared = [group.node.name for group in model.audits.groups]
    fields = [field for field in model.request.icekeel_fields.values() if field.kind is Kind.CAT]
    fields = [field for field in fields if (field.name in declared if declared else not field.limits.private)]
    found = [Group.of(Column(field.name, field.kind), requests, MOST_VALUES + 2) for field in fields]
    if declared:
        return found
    few = [one for one in found if 1 < len(set(one.codes.tolist())) <= MOST_VALUES]
    return [one for one in few if not (one.codes == one.binning.cells - 1).any()][:6]


def _table(given: AuditInput, groups: Sequence[Group], errors: Errors) -> Iterator[dict[str, Any]]:
    """Each cell with rows enough: count, rate or mean, prediction, error, with their intervals."""
    series = {"error": errors.error, "target": errors.target, "prediction": errors.prediction}
    tally = Tally.of(groups, series, errors.day)
    rate = given.problem.task == "probability"
    low, high = tally.rate_interval("target") if rate else tally.interval("target")
    least, most = (given.problem.overall(np.maximum(bound, 0.0)) for bound in tally.interval("error"))
    for cell in np.argwhere(tally.count >= FEWEST_ROWS):
        at = tuple(cell.tolist())
        yield {
            "group": tally.words(at),
            "rows": int(tally.count[at]),
            "target": [float(one[at]) for one in (tally.mean("target"), low, high)],
            "prediction": float(tally.mean("prediction")[at]),
            "error": [_whole(given, tally.mean("error")[at]), float(least[at]), float(most[at])],
        }


def _searched(given: AuditInput, rows: Ints, besides: set[str]) -> list[Group]:
    """Features of few values, and numbers in fifths."""
    frame = given.rows.frame.take(rows)
    columns = [column for column in given.columns if column.name not in besides][:MOST_COLUMNS]
    return [Group.of(column, frame, MOST_VALUES if column.kind is Kind.CAT else FIFTHS) for column in columns]


def _worst(given: AuditInput, groups: Sequence[Group], errors: Errors) -> list[Slice]:
    """The slices that are certainly and much worse, the costliest first."""
    combined = [(group,) for group in groups] + list(combinations(groups, 2))
    series = {
        "excess": errors.excess,
        "square": np.square(errors.excess),
        "error": errors.error,
        "level": errors.level,
    }
    rows = len(errors.error)
    fewest = max(FEWEST_ROWS, FEWEST_SHARE * rows)
    looked_at, candidates = 0, []
    for several in combined:
        tally = Tally.of(several, series)
        held = tally.count >= fewest
        looked_at += int(held.sum())
        mean, square = tally.mean("excess"), tally.mean("square")
        with np.errstate(invalid="ignore", divide="ignore"):
            z = (mean - errors.excess.mean()) / np.sqrt((square - mean**2) / tally.count)
            ratio = tally.mean("error") / errors.error.mean()
            level = ratio / (tally.mean("level") / errors.level.mean())
        limit = given.model.audits.worse ** (2 if given.problem.error == "rmse" else 1)
        much = (ratio >= limit) & (level >= limit)
        if given.problem.task == "probability":
            much = mean - errors.excess.mean() >= (limit - 1) * errors.error.mean()
        for cell in np.argwhere(held & much & (z > 3)):
            at = tuple(cell.tolist())
            candidates.append((float(z[at]), several, at))
    candidates.sort(key=lambda one: -one[0])
    cells: list[Cell] = [(several, at) for _, several, at in candidates[:CHECKED]]
    all_rows = np.full(rows, errors.error.mean())
    gap = errors.excess - errors.excess.mean()
    found = [
        replace(one, error=_whole(given, one.error), overall=_whole(given, one.overall))
        for one in _certain(cells, gap, (errors.error, all_rows), errors.day, looked_at)
        if one.p_value <= CERTAIN
    ]
    return sorted(found, key=lambda one: -one.share * (one.error - one.overall))[:TOLD]


def _whole(given: AuditInput, mean_row_error: float) -> float:
    return float(given.problem.overall(np.asarray(mean_row_error)))


def _certain(
    cells: Sequence[Cell], gap: Floats, errors: tuple[Floats, Floats], day: tuple[int, Ints], looked_at: int
) -> list[Slice]:
    """The cells with their means of both errors and the corrected p-value that their mean gap is not above 0."""
    series = {"gap": gap, "error": errors[0], "overall": errors[1]}
    tallies: dict[tuple[str, ...], Tally] = {}
    p_values, found = [], []
    for several, at in cells:
        name = tuple(group.name for group in several)
        tally = tallies[name] = tallies.get(name) or Tally.of(several, series, day)
        deviation = float(np.sqrt(tally.spreads["gap"][at]) / tally.count[at])
        days = int(tally.days[at])
        told = days >= FEWEST_DAYS
        p_values.append(float(p_above(float(tally.mean("gap")[at]), deviation, days)) if told else 1.0)
        rows = int(tally.count[at])
        error, overall = (float(tally.mean(one)[at]) for one in ("error", "overall"))
        found.append(Slice(tally.words(at), rows, rows / len(gap), error, overall, 1.0))
    return [replace(one, p_value=p) for one, p in zip(found, holm(p_values, looked_at), strict=True)]


def _finding(given: AuditInput, tables: list[dict[str, Any]], slices: list[Slice], rows: int) -> Finding:
    verdict: Verdict = "warn" if slices else "pass"
    error = given.problem.error
    told = [table for table in tables if "," not in table["group"]]
    parts, todo, cost = [], "", 0.0
    if slices:
        first = slices[0]
        parts.append(
            f"{first.words} ({first.share:.1%} of the rows) is served worse: {error} {first.error:.3g} against {first.overall:.3g}"
        )
        if len(slices) > 1:
            parts.append(f"and {len(slices) - 1} more slices")
        todo = f"Look for a feature that tells rows of {first.words} apart, or send them to a fall-back."
        cost = max(given.usd_a_year(one.share * max(0.0, one.error - one.overall)) for one in slices)
    else:
        parts.append(
            f"no part of the rows, by one or two columns, has a {error} that is certainly {given.model.audits.worse - 1:.0%} "
            f"or more above that of all {rows:,}"
        )
    if told:
        best, worst = (pick(told, key=lambda table: table["error"][0]) for pick in (min, max))
        parts.append(
            f"{error} from {best['error'][0]:.3g} ({best['group']}) to {worst['error'][0]:.3g} ({worst['group']})"
        )
    evidence = {"rows": rows, "slices": [asdict(one) for one in slices], "groups": tables}
    return Finding("subgroups", verdict, "; ".join(parts), todo, cost, evidence)
