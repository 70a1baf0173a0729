"""Compiling the guard: what was seen together, what moves the target, and how much may be flagged.

Every kind of verdict gets a threshold on rows later than those counted, so that all kinds together stay within
one budget of flags on ordinary traffic. What does not fit becomes a blind spot of the report. With the thresholds
set, all rows are counted again: what the model learnt from is not to be called unseen.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from msgspec.structs import replace

from icekeel.core.errors import Fault, TrainingError
from icekeel.core.frames import Array, Bools, Column, Floats, Frame, Ints, Kind
from icekeel.guard import KINDS, Category, Evidence, Number, Scale, Tables, VerdictKind
from icekeel.guard.tables import MISSING, ORDINARY, UNSEEN_PAIR, UNSEEN_TRIPLE

SMALLEST_EFFECT = 0.02
"""Effect up to which a value does not move the target: log, log-odds or standard deviations."""
RIDGE = 3.0
"""Rows without effect by which each value's effect is shrunk."""
SWEEPS = 60
"""Most rounds over the columns; the fit is nearly always settled after ten."""
TAIL = 0.001
"""Share of rows below and above the range of a number before its margin."""
ENOUGH_ROWS = 50
"""Rows from which a value of a category gets a range of its own."""


class Step(NamedTuple):
    """One threshold: what it is on, its smallest value, and what stays unseen below it.

    `share` of the budget is what this step and all before it may use together: the surest evidence comes
    first, and what it leaves is passed on.
    """

    kind: VerdictKind
    measure: str
    floor: float
    share: float
    blind: str


PAIR_EXPECTED = Step(
    "unseen_pair", "expected rows", 0, 0.45, "pairs never seen where {:.3g} rows or fewer were expected"
)
PAIR_EFFECT = Step(
    "unseen_pair", "effect", 0, 0.55, "pairs never seen whose smaller effect is {:.3g} or less"
)
TRIPLE_EFFECT = Step(
    "unseen_triple", "effect", 0, 0.8, "triples never seen whose smallest effect is {:.3g} or less"
)
RANGE = Step(
    "out_of_range", "margin", 0.05, 0.95, "numbers outside their range by {:.3g} of its width or less"
)
TRIPLE_EXPECTED = Step(
    "missing_combination",
    "expected rows",
    3,
    1,
    "triples never seen where {:.3g} rows or fewer were expected",
)
STEPS = (PAIR_EXPECTED, PAIR_EFFECT, TRIPLE_EFFECT, RANGE, TRIPLE_EXPECTED)
NEW_VALUES_SHARE = 0.25


@dataclass(frozen=True, slots=True)
class KindReport:
    """How one kind of verdict behaves on the later window.

    Attributes:
        kind: The kind.
        rate: Share of later rows that it flags; a row may be flagged by several kinds.
        thresholds: What is compared -> above which it flags. Effects are on the target's scale.
    """

    kind: VerdictKind
    rate: float
    thresholds: tuple[tuple[str, float], ...]


@dataclass(frozen=True, slots=True)
class GuardReport:
    """What was compiled, what it flags and what it cannot see.

    Attributes:
        rows: Training rows counted, the calibration window among them.
        later_rows: Rows of the calibration window; rates are of these rows, held against the rows before them.
        budget: Share of ordinary requests that may be flagged.
        flag_rate: Share of later rows flagged by any kind.
        kinds: One entry for each kind.
        blind_spots: What goes unseen, in words, with the share of later rows that would have been flagged for it.
    """

    rows: int
    later_rows: int
    budget: float
    flag_rate: float
    kinds: tuple[KindReport, ...]
    blind_spots: tuple[str, ...]


def compile_guard(
    frame: Frame,
    columns: Sequence[Column],
    target: Floats,
    *,
    scale: Scale,
    later: Frame,
    budget: float,
    max_values: int = 64,
    target_name: str = "target",
) -> tuple[bytes, GuardReport]:
    """The guard of these training rows as bytes for `Guard.load`, and what it flags and cannot see.

    Args:
        frame: Earlier training rows.
        columns: Columns to guard, in the order in which `Guard.check` gets their values: categories, flags, numbers.
        target: What is predicted, for every row of `frame` and then of `later`.
        scale: `log` for amounts above 0, `logit` for 0 or 1, `plain` for any number.
        later: Training rows later than all of `frame`; thresholds are set on them before they are counted too.
        budget: Largest share of ordinary requests to be flagged, by all kinds together.
        max_values: Values of a category from which on those that do not move the target are pooled.
        target_name: The target in the sentences.

    Raises:
        TrainingError: with every fault of the arguments.
    """
    _refuse(frame, columns, target, scale=scale, later=later, budget=budget)
    early = _Counted.of(frame, columns, target[: len(frame)], scale, max_values)
    calibration = _Calibration.of(early, later, budget)
    names = [column.name for column in columns]
    every = Frame.stack([frame.select(names), later.select(names)])
    counted = _Counted.of(every, columns, target, scale, max_values)
    margin = calibration.thresholds[RANGE]
    tables = Tables(
        rows=len(every),
        target=target_name,
        scale=scale,
        categories=tuple(replace(c, watched=calibration.watches(c)) for c in counted.categories),
        numbers=tuple(replace(_widen(n, margin), watched=calibration.watches(n)) for n in counted.numbers),
        combinations=counted.evidence.cells.members,
        pair_counts=counted.evidence.pair_counts.astype("<i4").tobytes(),
        flags=_flags(counted.evidence, calibration.thresholds).tobytes(),
    )
    blind = [*_unseeable(counted.evidence), *calibration.blind_spots]
    return tables.encode(), calibration.report(len(every), blind)


def _refuse(
    frame: Frame, columns: Sequence[Column], target: Floats, *, scale: Scale, later: Frame, budget: float
) -> None:
    """Raises all that is wrong with the arguments of `compile_guard` at once."""
    faults = [
        Fault("guard_column", "the guard takes no such column", c.name, got=c.kind, allowed="cat, flag, num")
        for c in columns
        if c.kind not in (Kind.CAT, Kind.FLAG, Kind.NUM)
    ]
    for rows, data in (("training", frame), ("later", later)):
        absent = [c.name for c in columns if c.name not in data]
        faults += [Fault("guard_column", f"no such column in the {rows} rows", name) for name in absent]
    if not len(frame) or not len(later) or len(target) != len(frame) + len(later):
        got = f"{len(frame)} training rows, {len(target)} targets, {len(later)} later rows"
        faults.append(Fault("guard_rows", "expected rows, later rows, and a target for each", got=got))
    if not 0 < budget < 1:
        faults.append(Fault("guard_budget", "expected a share", "budget", f"{budget}", "above 0, below 1"))
    good = {"log": target > 0, "logit": (target == 0) | (target == 1)}.get(scale, True) & np.isfinite(target)
    if not good.all():
        allowed = {"log": "above 0", "logit": "0 or 1", "plain": "finite"}[scale]
        got = f"{int((~good).sum())} others"
        faults.append(Fault("guard_target", f"no targets for scale {scale}", "target", got, allowed))
    if faults:
        raise TrainingError(*faults)


@dataclass(frozen=True, slots=True)
class _Counted:
    """What the tables hold of some rows before any threshold: no margins, all columns watched."""

    categories: Sequence[Category]
    numbers: Sequence[Number]
    evidence: Evidence

    @classmethod
    def of(
        cls, frame: Frame, columns: Sequence[Column], target: Floats, scale: Scale, max_values: int
    ) -> _Counted:
        outcome = np.log(target) if scale == "log" else target
        smallest = SMALLEST_EFFECT * (float(np.std(target)) if scale == "plain" else 1.0)
        effects = _effects(frame, columns, outcome, logistic=scale == "logit")
        categories = [
            _category(frame, at, column, np.where(effect > smallest, effect, 0), max_values)
            for (at, column), effect in zip(_at(columns, Kind.CAT, Kind.FLAG), effects, strict=True)
        ]
        codes = [_encode(category, _values(frame, category.name)) for category in categories]
        numbers = [
            _number(frame[column.name], at, column.name, categories, codes)
            for at, column in _at(columns, Kind.NUM)
        ]
        return cls(categories, numbers, Evidence.count(categories, codes, len(frame)))


# Values, their codes and effects


def _at(columns: Sequence[Column], *kinds: Kind) -> list[tuple[int, Column]]:
    return [(at, column) for at, column in enumerate(columns) if column.kind in kinds]


def _values(frame: Frame, name: str) -> list[str | float | None]:
    return [value if value == value else None for value in frame[name].tolist()]  # noqa: PLR0124 (NaN)


def _vocabulary(values: Sequence[str | float | None]) -> dict[str | float | None, int]:
    """Rows of each value, the most common first."""
    counts = Counter(values)
    return {value: counts[value] for value in sorted(counts, key=lambda value: (-counts[value], repr(value)))}


def _encode(category: Category, values: Sequence[str | float | None]) -> Ints:
    """Codes of the rows, 0 where the value was never seen."""
    lookup = dict(zip(category.values, category.codes, strict=True))
    return np.array([lookup.get(value, 0) for value in values], dtype=np.int64)


def _category(frame: Frame, at: int, column: Column, effect: Floats, max_values: int) -> Category:
    """The category with these effects; beyond `max_values` the rarest values that move nothing share a code.

    The more common half of `max_values` is never pooled.
    """
    vocabulary = _vocabulary(_values(frame, column.name))
    surplus = len(vocabulary) - max_values + 1
    still = [index for index in range(max_values // 2, len(vocabulary)) if not effect[index]]
    pooled = set(still[-surplus:]) if surplus > 1 and len(still) > 1 else set()
    kept = [index for index in range(len(vocabulary)) if index not in pooled]
    code = {index: number for number, index in enumerate(kept, start=1)}
    codes = np.array([code.get(index, len(kept) + 1) for index in range(len(vocabulary))])
    rows = np.bincount(codes, list(vocabulary.values())).astype(np.int64)
    effects = [0.0, *effect[kept].tolist(), *([0.0] if pooled else [])]
    return Category(
        column.name,
        column.kind,
        at,
        tuple(vocabulary),
        tuple(codes.tolist()),
        tuple(rows.tolist()),
        tuple(effects),
        True,
    )


def _effects(frame: Frame, columns: Sequence[Column], outcome: Floats, *, logistic: bool) -> list[Floats]:
    """By how much each value surely moves the outcome, all else held: absolute effect less two standard errors.

    One array per category, in the order of `_vocabulary`. Additive ridge (logistic: on the log-odds) on one-hot
    values and tenths of the numbers, by block coordinate descent with one Newton step per column and sweep
    (Hastie, Tibshirani and Friedman 2009, sections 3.4 and 9.1); each column's effects are centred on their mean
    over the rows. Memory is linear in the number of values.
    """
    codes = [_tenths(frame[column.name]) for _, column in _at(columns, Kind.NUM)]
    for _, category in reversed(_at(columns, Kind.CAT, Kind.FLAG)):
        values = _values(frame, category.name)
        index = {value: position for position, value in enumerate(_vocabulary(values))}
        codes.insert(0, np.array([index[value] for value in values], dtype=np.int64))
    mean = float(outcome.mean())
    mean = min(max(mean, 1e-6), 1 - 1e-6) if logistic else mean
    fit = np.full(len(outcome), math.log(mean / (1 - mean)) if logistic else mean)
    ridge = RIDGE * (mean * (1 - mean) if logistic else 1.0)
    effects = [np.zeros(int(column.max()) + 1) for column in codes]
    errors = [np.zeros(0)] * len(codes)
    for _ in range(SWEEPS):
        largest = 0.0
        for at, column in enumerate(codes):
            predicted = 1 / (1 + np.exp(-fit)) if logistic else fit
            weight = np.bincount(column, predicted * (1 - predicted) if logistic else None) + ridge
            step = (np.bincount(column, outcome - predicted) - ridge * effects[at]) / weight
            step = np.clip(step, -2, 2) if logistic else step
            effects[at] += step
            fit += step[column]
            errors[at] = 1 / np.sqrt(weight)
            largest = max(largest, float(np.abs(step).max()))
        if largest < 1e-3 * float(np.std(outcome)):
            break
    noise = 1.0 if logistic else float(np.std(outcome - fit))
    centred = [effect - effect[column].mean() for effect, column in zip(effects, codes, strict=True)]
    sure = [np.maximum(np.abs(e) - 2 * noise * error, 0) for e, error in zip(centred, errors, strict=True)]
    return sure[: len(_at(columns, Kind.CAT, Kind.FLAG))]


def _tenths(values: Floats) -> Ints:
    """The tenth of the rows that each number falls in, 10 for null."""
    known = values[~np.isnan(values)]
    edges = np.quantile(known, np.linspace(0.1, 0.9, 9)) if len(known) else np.zeros(0)
    return np.where(np.isnan(values), 10, np.searchsorted(edges, values)).astype(np.int64)


# What was never seen together


def _scores(evidence: Evidence, codes: Sequence[Ints], n_rows: int) -> dict[Step, Floats]:
    """The most unusual combination of each row, by step; zeros for the other steps."""
    found = {step: np.zeros(n_rows) for step in STEPS}
    for members, effect, expected in evidence.unseen():
        at = tuple(codes[member] for member in members)
        pair = len(members) == 2
        by_effect = found[PAIR_EFFECT if pair else TRIPLE_EFFECT]
        by_expected = found[PAIR_EXPECTED if pair else TRIPLE_EXPECTED]
        np.maximum(by_effect, effect[at], out=by_effect)
        np.maximum(by_expected, expected[at], out=by_expected)
    return found


def _flags(evidence: Evidence, thresholds: Mapping[Step, float]) -> Array:
    """The verdict of every cell."""
    table = np.full(evidence.cells.starts[-1], ORDINARY, dtype=np.uint8)
    views = evidence.cells.split(table)
    for members, effect, expected in evidence.unseen():
        if len(members) == 2:
            unseen = (effect > thresholds[PAIR_EFFECT]) | (expected > thresholds[PAIR_EXPECTED])
            views[members][unseen] = UNSEEN_PAIR
        else:
            views[members][expected > thresholds[TRIPLE_EXPECTED]] = MISSING
            views[members][effect > thresholds[TRIPLE_EFFECT]] = UNSEEN_TRIPLE
            # A flagged pair says it all: the triples around it would only repeat it.
            i, j, k = members
            pairs = views[i, j][:, :, None] | views[i, k][:, None, :] | views[j, k][None, :, :]
            views[members][pairs != ORDINARY] = ORDINARY
    return table


def _unseeable(evidence: Evidence) -> Iterator[str]:
    """What no budget would let the tables see."""
    for category in evidence.categories:
        pooled = len(category.values) - len(set(category.codes))
        if pooled:
            yield f"which of {pooled + 1} rare values of {category.name}, that do not move the target, is in a combination"
    if evidence.skipped:
        named = ", ".join(" + ".join(names) for names in evidence.skipped[:3])
        yield f"{len(evidence.skipped)} combinations of columns with too many values, such as {named}"


# Ranges of numbers


class _Ranges(NamedTuple):
    """Ranges by code without margin, and their mean width over the rows."""

    low: Floats
    high: Floats
    own: Bools
    width: Floats
    mean_width: float

    @classmethod
    def of(cls, x: Floats, codes: Ints, size: int) -> _Ranges:
        """Quantiles `TAIL` and `1 - TAIL` of each code with enough rows, of all rows for the others."""
        low, high = np.full(size, -np.inf), np.full(size, np.inf)
        if not len(x):
            return cls(low, high, np.zeros(size, dtype=np.bool_), np.ones(size), np.inf)
        every = np.sort(x)
        cut = int(TAIL * (len(x) - 1))
        low[:], high[:] = every[cut], every[-1 - cut]
        whole = max(float(high[0] - low[0]), 1e-300)
        order = np.lexsort((x, codes))
        ends = np.cumsum(np.bincount(codes, minlength=size))
        rows = np.diff(ends, prepend=0)
        own = rows >= ENOUGH_ROWS
        own[0] = False
        cuts = (TAIL * (rows - 1)).astype(np.int64)[own]
        low[own] = x[order[(ends - rows)[own] + cuts]]
        high[own] = x[order[ends[own] - 1 - cuts]]
        width = np.maximum(high - low, whole / 20)
        return cls(low, high, own, width, float(np.average(width, weights=rows)))


def _number(
    values: Floats, at: int, name: str, categories: Sequence[Category], codes: Sequence[Ints]
) -> Number:
    """The ranges of one column of numbers, without margin, by the category that narrows it most."""
    known = ~np.isnan(values)
    x = values[known]
    logarithmic = len(x) > 0 and bool(x.min() > 0) and _skew(np.log(x)) < _skew(x)
    x = np.log(x) if logarithmic else x
    best, group = _Ranges.of(x, np.zeros(len(x), dtype=np.int64), 1), -1
    for index, category in enumerate(categories):
        ranges = _Ranges.of(x, codes[index][known], len(category.counts))
        if ranges.mean_width < 0.95 * best.mean_width:
            best, group = ranges, index
    return Number(
        name=name,
        at=at,
        group=group,
        low=tuple((np.exp(best.low) if logarithmic else best.low).tolist()),
        high=tuple((np.exp(best.high) if logarithmic else best.high).tolist()),
        own=tuple(best.own.tolist()),
        width=tuple(best.width.tolist()),
        logarithmic=bool(logarithmic),
        watched=bool(known.all()),
    )


def _skew(x: Floats) -> float:
    low, middle, high = np.quantile(x, (0.01, 0.5, 0.99))
    return abs(low + high - 2 * middle) / (high - low) if high > low else 0.0


def _distances(number: Number, values: Floats, codes: Sequence[Ints]) -> Floats:
    """`Number.distance` of every row; 0 for null."""
    at = codes[number.group] if number.group >= 0 else np.zeros(len(values), dtype=np.int64)
    found = [
        0.0 if math.isnan(value) else number.distance(value, code)
        for value, code in zip(values.tolist(), at.tolist(), strict=True)
    ]
    return np.array(found)


def _widen(number: Number, margin: float) -> Number:
    """The number with `margin` widths added below and above."""
    # A hair wider than the threshold, so that the row that set it is not flagged by a rounding error.
    low, high, width = (
        np.array(number.low),
        np.array(number.high),
        margin * (1 + 1e-9) * np.array(number.width),
    )
    if number.logarithmic and math.isfinite(margin):
        with np.errstate(over="ignore"):
            low, high = low / np.exp(width), high * np.exp(width)
    else:
        low, high = low - width, high + width
    return replace(number, low=tuple(low.tolist()), high=tuple(high.tolist()))


# The budget


@dataclass(frozen=True, slots=True)
class _Calibration:
    """Thresholds set one after the other on the later rows, none beyond its share of the budget.

    The budget is that of a longer run: one standard error of the number of flags is kept back.
    """

    budget: float
    flagged: Bools
    by_kind: Mapping[VerdictKind, Bools]
    unwatched: set[str]
    thresholds: dict[Step, float]
    blind_spots: list[str]

    @classmethod
    def of(cls, early: _Counted, later: Frame, budget: float) -> _Calibration:
        """The thresholds at which a guard of the early rows keeps the budget on the later ones."""
        masks: dict[VerdictKind, Bools] = {kind: np.zeros(len(later), dtype=np.bool_) for kind in KINDS}
        made = cls(budget, np.zeros(len(later), dtype=np.bool_), masks, set(), {}, [])
        codes = [_encode(category, _values(later, category.name)) for category in early.categories]
        for category, code in zip(early.categories, codes, strict=True):
            made.watch(category, code == 0)
        scores = _scores(early.evidence, codes, len(later))
        for number in early.numbers:
            made.watch(number, np.isnan(later[number.name]))
            np.maximum(scores[RANGE], _distances(number, later[number.name], codes), out=scores[RANGE])
        for step in STEPS:
            made.add(step, scores[step])
        return made

    def room(self, share: float) -> int:
        """Later rows that may still be flagged when `share` of the budget may be used."""
        expected = self.budget * len(self.flagged)
        return max(int(share * (expected - math.sqrt(expected))) - int(self.flagged.sum()), 0)

    def flag(self, kind: VerdictKind, rows: Bools) -> None:
        self.flagged[:] |= rows
        self.by_kind[kind][:] |= rows

    def watch(self, column: Category | Number, new: Bools) -> None:
        """Flags what was never seen, unless it is too common among ordinary rows: then it is not watched."""
        if not column.watched or not new.any():
            return
        if int((new & ~self.flagged).sum()) > self.room(NEW_VALUES_SHARE):
            self.blind_spots.append(f"new values of {column.name}; {new.mean():.2%} of later rows have one")
            self.unwatched.add(column.name)
        else:
            self.flag("unseen_value", new)

    def watches(self, column: Category | Number) -> bool:
        return column.watched and column.name not in self.unwatched

    def add(self, step: Step, scores: Floats) -> None:
        """Sets the threshold of a step: the smallest that its share of the budget allows."""
        threshold = step.floor
        above = np.sort(scores[~self.flagged & (scores > threshold)])[::-1]
        room = self.room(step.share)
        if len(above) > room:
            threshold = float(above[room])
            rate = (len(above) - room) / len(scores)
            self.blind_spots.append(f"{step.blind.format(threshold)}; {rate:.2%} of later rows have one")
        self.thresholds[step] = threshold
        self.flag(step.kind, scores > threshold)

    def report(self, rows: int, blind: Sequence[str]) -> GuardReport:
        kinds = tuple(
            KindReport(
                kind,
                float(mask.mean()),
                tuple((step.measure, t) for step, t in self.thresholds.items() if step.kind == kind),
            )
            for kind, mask in self.by_kind.items()
        )
        return GuardReport(
            rows, len(self.flagged), self.budget, float(self.flagged.mean()), kinds, tuple(blind)
        )
