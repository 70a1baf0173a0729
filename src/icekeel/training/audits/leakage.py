"""Does the training set know what it could not have known?

A feature that gives the outcome away, columns that name single rows, the same row on both sides of a cut in
time, and tables whose rows count as available the moment they happened.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from icekeel.core.binning import Binning
from icekeel.core.frames import Array, Column, Floats, Ints
from icekeel.core.kinds import Kind
from icekeel.core.statistics import auc
from icekeel.core.time import MINUTE, format_duration
from icekeel.data.relations import one_row
from icekeel.define.nodes import Windowed, walk
from icekeel.features.offline import historical_features
from icekeel.features.plan import select_features

from ..problem import evenly
from .findings import VERDICTS, Finding, Verdict
from .input import AuditInput

MOST_ROWS = 60_000
LATER = 0.3
"""Share of the rows, the latest, on which what one feature tells is judged."""
CELLS = 42
SMOOTH = 10.0
"""Rows of the mean that every cell is given: a rare value tells nothing."""
CLEAR = 0.98
"""Strength from which on a feature is the outcome: AUC 0.99 of a probability. Numbers must be equal, see `SAME`."""
EXACT = 0.99999
"""Squared correlation from which on a number is the outcome in other units."""
STRONG, ABOVE = 0.6, 0.4
"""Strength, and strength above the median feature, from which on a feature is suspected."""
SAME = 0.5
"""Share of the rows in which a number feature equals the outcome to the last digit."""
DROPPED = 0.5
"""A suspect that loses so much of its strength when rows come later draws on rows that may not have been there."""
DELAYED = 3_000
"""Rows that are computed again with every event available later."""
NEAR_UNIQUE = 0.5
"""Distinct values per row from which on a column names rows."""
MEMORISED = 0.1
"""Strength in the rows learnt from, above that in later ones, from which on categories are memorised."""
FEWEST = 200
TWINS, MANY_TWINS = 0.01, 0.1
"""Share of later rows that are an earlier row again: warns, blocks."""


@dataclass(frozen=True, slots=True)
class Leak:
    """One thing that should not be there.

    Attributes:
        kind: `outcome`, `suspect`, `identifier`, `memorised`, `same_rows`.
        subject: The feature.
    """

    kind: str
    subject: str
    verdict: Verdict
    what: str
    todo: str


@dataclass(frozen=True, slots=True)
class Strength:
    """How well one feature alone tells the outcome, 0 to 1: `2 AUC - 1` of a flag, squared correlation of a number.

    Attributes:
        learnt, later: In the rows it was learnt from, and in later ones.
        same: Share of the rows in which it equals the outcome.
    """

    feature: str
    learnt: float
    later: float
    same: float
    distinct: float


def leakage(given: AuditInput) -> Finding:
    """Everything of the kinds that `Leak` names."""
    rows = len(given.rows)
    if rows < FEWEST:
        return Finding("leakage", "pass", f"too few rows to tell: {rows:,}")
    if not given.columns:
        return Finding("leakage", "pass", "the features are texts alone, which are not looked into")
    thin = evenly(np.arange(rows), MOST_ROWS)
    target, cut = given.rows.target[thin], int(len(thin) * (1 - LATER))
    strengths = [
        _strength(given, one, given.rows.frame[one.name][thin], target, cut) for one in given.columns
    ]
    leaks = [*_outcomes(given, strengths), *_names(given, strengths), *_twins(given)]
    leaks.sort(key=lambda leak: -VERDICTS.index(leak.verdict))
    notes = _availability(given)
    told = [f"{leak.subject}: {leak.what}" for leak in leaks]
    ranked = sorted(strengths, key=lambda one: -one.later)
    if not told:
        first = ranked[0]
        told = [
            f"none of {len(strengths)} features gives the outcome away (the strongest, {first.feature}, {first.later:.2f} of 1)",
            "no row stands on both sides of a cut in time",
        ]
    evidence: dict[str, Any] = {
        "leaks": [asdict(leak) for leak in leaks],
        "strengths": [[one.feature, one.later] for one in ranked],
        "availability": notes,
    }
    verdict: Verdict = leaks[0].verdict if leaks else "pass"
    return Finding("leakage", verdict, "; ".join(told), leaks[0].todo if leaks else "", evidence=evidence)


# What one feature tells


def _strength(given: AuditInput, column: Column, values: Array, target: Floats, cut: int) -> Strength:
    """Means of the outcome by cell, learnt from the rows before the cut and judged after it."""
    binning = Binning.of(column, values[:cut], CELLS if not column.kind.is_text else len(values))
    codes = binning.codes(values)
    heard = np.log(target) if given.problem.log_target else target
    mean, learnt = heard[:cut].mean(), codes[:cut]
    count = np.bincount(learnt, minlength=binning.cells)
    level = (np.bincount(learnt, heard[:cut], minlength=binning.cells) + SMOOTH * mean) / (count + SMOOTH)
    said = level[codes]
    flag = given.problem.task == "probability"
    same = 0.0 if flag or column.kind.is_text else _same(values, target)
    known = values[values != None] if column.kind.is_text else values[~np.isnan(values)]  # noqa: E711
    distinct = len(set(known.tolist())) / max(1, len(known))
    tell = _told_flag if flag else _told_number
    return Strength(column.name, tell(heard[:cut], said[:cut]), tell(heard[cut:], said[cut:]), same, distinct)


def _same(values: Floats, target: Floats) -> float:
    """Share of the rows in which they are equal; 1 where they are equal but for scale and origin."""
    known = ~np.isnan(values)
    if known.mean() >= SAME and _told_number(target[known], values[known]) >= EXACT:
        return 1.0
    return float((values == target).mean())


def _told_flag(truth: Floats, said: Floats) -> float:
    area = auc(truth, said)
    return abs(2 * area - 1) if area == area else 0.0  # noqa: PLR0124 (NaN)


def _told_number(truth: Floats, said: Floats) -> float:
    if np.ptp(truth) == 0 or np.ptp(said) == 0:
        return 0.0
    return float(np.corrcoef(truth, said)[0, 1] ** 2)


def _outcomes(given: AuditInput, strengths: Sequence[Strength]) -> list[Leak]:
    median = float(np.median([one.later for one in strengths])) if len(strengths) > 2 else 0.0
    flag = given.problem.task == "probability"
    found = []
    for one in strengths:
        if one.same >= SAME or (flag and one.later >= CLEAR):
            what = (
                f"alone tells {one.later:.1%} of the outcome"
                if flag
                else f"is the outcome in {one.same:.0%} of the rows"
            )
            todo = f"Take {one.feature} out, or read it from rows as they were when asked."
            found.append(Leak("outcome", one.feature, "block", what, todo))
        elif one.later >= STRONG and one.later - median >= ABOVE and flag:
            found += _suspect(given, one, median)
    return found


def _suspect(given: AuditInput, one: Strength, median: float) -> list[Leak]:
    """A feature far above the others: does its strength come from rows that may not have been there yet?"""
    (feature,) = [each for each in given.plan.features if each.name == one.feature]
    above = f"alone tells {one.later:.0%} of the outcome, the median feature {median:.0%}"
    read = [node for node in walk(feature.node) if isinstance(node, Windowed)]
    if not read:
        todo = f"Make sure that {one.feature} is known when the question is asked, and not filled in later."
        return [Leak("suspect", one.feature, "warn", above, todo)]
    delay = max(MINUTE, int(np.median(given.rows.known_at - given.rows.asked_at)) // MINUTE * MINUTE)
    now, delayed = (_strength_delayed(given, one.feature, by) for by in (0, delay))
    if delayed > now * (1 - DROPPED):
        return []
    tables = ", ".join(dict.fromkeys(node.keyed.table for node in read))
    what = f"{above}, {delayed:.0%} where rows come {format_duration(delay)} later"
    todo = f"Make sure that rows of {tables} are there when it is asked: available= says from when."
    return [Leak("suspect", one.feature, "block", what, todo)]


def _strength_delayed(given: AuditInput, feature: str, delay: int) -> float:
    """The strength of a feature in a sample, computed with every event available so much later."""
    thin = evenly(np.arange(len(given.rows)), DELAYED)
    plan = select_features(given.plan, [feature])
    places = given.known[thin]
    with closing(given.open_store(delay)) as store:
        frame = historical_features(
            plan, given.asked.requests.take(places), given.asked.asked_at[places], store
        )
    (column,) = plan.columns
    target, cut = given.rows.target[thin], int(len(thin) * (1 - LATER))
    return _strength(given, column, frame[feature], target, cut).later


# Columns that name rows


def _names(given: AuditInput, strengths: Sequence[Strength]) -> list[Leak]:
    kinds = {column.name: column.kind for column in given.columns}
    found = []
    for one in strengths:
        values = given.rows.frame[one.feature]
        text = kinds[one.feature].is_text
        if one.distinct >= NEAR_UNIQUE and (text or _counts_on(values, given.rows.asked_at)):
            what = f"names rows: {one.distinct:.0%} of its values are distinct"
            todo = f"Take {one.feature} out: no later row has its values."
            found.append(Leak("identifier", one.feature, "warn", what, todo))
        elif text and one.learnt - one.later >= MEMORISED and one.learnt >= 2 * one.later:
            what = f"is memorised: {one.learnt:.0%} of the outcome in rows learnt from, {one.later:.0%} in later ones"
            todo = f"Read {one.feature} as a window over its past outcomes, or pool its rare values."
            found.append(Leak("memorised", one.feature, "warn", what, todo))
    return found


def _counts_on(values: Floats, asked_at: Ints) -> bool:
    """Whether whole numbers rise with time, as ids that are counted up do."""
    known = np.isfinite(values)
    some = values[known]
    if len(some) < FEWEST or (some != np.round(some)).any() or np.ptp(some) == 0:
        return False
    return bool(abs(np.corrcoef(np.argsort(np.argsort(some)), asked_at[known])[0, 1]) > 0.98)


# Both sides of a cut in time


def _twins(given: AuditInput) -> list[Leak]:
    """Rows that are an earlier row again, with its outcome.

    Told only where rows are otherwise their own: of a few categories every row has its like.
    """
    kinds = (Kind.CAT, Kind.NUM, Kind.FLAG)  # of a request's fields those that are no id and no time
    fields = [one.name for one in given.model.request.icekeel_fields.values() if one.kind in kinds]
    requests, frame = given.requests, given.rows.frame
    columns = [*(frame[one.name] for one in given.columns), *(requests[name] for name in fields)]
    hashes = row_hashes(columns, len(frame))
    cut = int(len(hashes) * (1 - LATER))
    earlier, later = hashes[:cut], hashes[cut:]
    known, first = np.unique(earlier, return_index=True)
    place = np.minimum(np.searchsorted(known, later), len(known) - 1)
    again = known[place] == later
    own = len(np.unique(later[~again])) / max(1, int((~again).sum()))
    if own < 0.9 or not again.any():
        return []
    target = given.rows.target
    twins = target[first[place[again]]]
    agree = float((twins == target[cut:][again]).mean())
    chance = float((np.random.default_rng(0).permutation(twins) == target[cut:][again]).mean())
    share = float(again.mean())
    if share < TWINS or agree < chance + (1 - chance) / 2:
        return []
    verdict: Verdict = "block" if share >= MANY_TWINS else "warn"
    what = f"{share:.1%} of the later rows are an earlier row again, {agree:.0%} of them with its outcome"
    todo = "Take out what was exported twice: a backtest that has seen the row before flatters every model."
    return [Leak("same_rows", "rows", verdict, what, todo)]


def row_hashes(columns: Sequence[Array], rows: int) -> Ints:
    """A number for each row, the same for rows that are equal in every column; texts are object arrays."""
    found = np.zeros(rows, dtype=np.uint64)
    for values in columns:
        if values.dtype == object:
            places: dict[str | None, int] = {}
            codes = [places.setdefault(value, len(places)) for value in values.tolist()]
            bits = np.array(codes, dtype=np.uint64)
        else:
            bits = (np.asarray(values, dtype=np.float64) + 0.0).view(np.uint64)
        # splitmix64 (Steele, Lea and Flood 2014) over the columns, one after the other
        mixed = (found ^ bits) + np.uint64(0x9E3779B97F4A7C15)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        found = mixed ^ (mixed >> np.uint64(31))
    return found.view(np.int64)


def _availability(given: AuditInput) -> list[dict[str, Any]]:
    """Of each table that features read, the share of rows that count as available the moment they happened.

    That is true of a landing, and not of a row that is filled in later: for a person to look at.
    """
    wanted = {column.name for column in given.columns}
    nodes = [node for one in given.plan.features if one.name in wanted for node in walk(one.node)]
    tables = sorted({node.keyed.table for node in nodes if isinstance(node, Windowed)})
    found = []
    with closing(given.open_store(0)) as store:
        for table in tables:
            relation, _ = store.versions(table)
            statement = f"SELECT coalesce(avg(CAST(_start = _time AS DOUBLE)), 0) FROM {relation}"
            (share,) = one_row(store.connection, statement)
            found.append(
                {"table": table, "at_once": share, "holds_outcome": table == given.model.outcome.keyed.table}
            )
    return found
