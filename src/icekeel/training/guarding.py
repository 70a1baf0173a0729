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
from icekeel.guard import KINDS, Category, Evidence, Guard, Number, Scale, Tables, Verdict, VerdictKind
from icekeel.guard.tables import MISSING, ORDINARY, UNSEEN_PAIR, UNSEEN_TRIPLE

from .counting import Counted, values_of
from .gaps import Growth, Missing, growth, missing
from .ranges import distances, number_ranges, widened

SEASON = 0.2
"""Widths by which the probabilities of a segment may leave their range: they move with the seasons, as numbers do not."""
MOST_EXAMPLES = 3
"""Reasons kept for each kind."""


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
    "out_of_range", "margin", 0.05, 0.9, "numbers outside their range by {:.3g} of its width or less"
)
PREDICTION = Step(
    "odd_prediction", "margin", 0.05, 0.95, "predictions outside their range by {:.3g} of its width or less"
)
TRIPLE_EXPECTED = Step(
    "missing_combination",
    "expected rows",
    3,
    1,
    "triples never seen where {:.3g} rows or fewer were expected",
)
STEPS = (PAIR_EXPECTED, PAIR_EFFECT, TRIPLE_EFFECT, RANGE, PREDICTION, TRIPLE_EXPECTED)
NEW_VALUES_SHARE = 0.25
MOST_TOLERATED = 8
"""Values never seen of one column that may be tolerated by name."""


@dataclass(frozen=True, slots=True)
class KindReport:
    """How one kind of verdict behaves on the later window.

    Attributes:
        kind: The kind.
        rate: Share of later rows that it flags; a row may be flagged by several kinds.
        thresholds: What is compared -> above which it flags. Effects are on the target's scale.
        examples: Reasons that were given to later rows.
    """

    kind: VerdictKind
    rate: float
    thresholds: tuple[tuple[str, float], ...]
    examples: tuple[str, ...]


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
        missing: Combinations that the rows lack although they have their parts, the most harmful first.
        growth: How many ordinary requests held something never seen, had there been fewer rows.
    """

    rows: int
    later_rows: int
    budget: float
    flag_rate: float
    kinds: tuple[KindReport, ...]
    blind_spots: tuple[str, ...]
    missing: tuple[Missing, ...]
    growth: tuple[Growth, ...]


def compile_guard(
    frame: Frame,
    columns: Sequence[Column],
    target: Floats,
    *,
    scale: Scale,
    later: Frame,
    budget: float,
    asked: Frame | None = None,
    predictions: Floats | None = None,
    max_values: int = 64,
    target_name: str = "target",
) -> tuple[bytes, GuardReport]:
    """The guard of these training rows as bytes for `Guard.load`, and what it flags and cannot see.

    Args:
        frame: Earlier training rows.
        columns: Columns to guard, in the order in which `Guard.check` gets their values: categories, flags, numbers.
        target: What is predicted, for every row of `frame` and then of `later`.
        scale: `log` for amounts above 0, `logit` for 0 or 1, `plain` for any number.
        later: Training rows later than all of `frame`; they are counted too once the thresholds are set.
        budget: Largest share of ordinary requests to be flagged, by all kinds together.
        asked: All requests of that later time, in order, whatever came of them: thresholds are set on these. The
            same as `later` where not given.
        predictions: What a model said to each row of `frame` and then of `asked` that it had not learnt from; NaN
            for the others. Without any, predictions are not checked.
        max_values: Values of a category from which on those that do not move the target are pooled.
        target_name: The target in the sentences.

    Raises:
        TrainingError: with every fault of the arguments.
    """
    asked = later if asked is None else asked
    _refuse(frame, columns, target, scale=scale, later=later, budget=budget)
    names = [column.name for column in columns]
    early = Counted.of(frame, columns, target[: len(frame)], scale, max_values)
    whole = Frame.stack([frame.select(names), later.select(names)])
    every = Counted.of(whole, columns, target, scale, max_values)
    said = np.full(len(frame) + len(asked), np.nan) if predictions is None else predictions
    codes = early.encode(asked)
    far = _beyond(early, codes, target[: len(frame)], said, scale)
    trial = _Calibration.of(early, asked, codes, far, budget)
    odd = None
    if not np.isnan(said).all():
        margin = trial.thresholds[PREDICTION] + _season(scale)
        odd = widened(
            _predicted(every, early.rows, asked, target, said, scale=scale, name=target_name), margin
        )
    made = trial.tables(every, odd, scale, target_name)
    rows = [asked[name].tolist() for name in names]
    flagged = [
        Guard(trial.tables(early, None, scale, target_name)).check_many(rows),
        Guard(made).check_many(rows, said[len(frame) :]),
    ]
    report = GuardReport(
        rows=len(whole),
        later_rows=len(asked),
        budget=budget,
        flag_rate=float(trial.flagged.mean()),
        kinds=trial.kinds([verdict for found in flagged for row in found.values() for verdict in row]),
        blind_spots=(*_unseeable(every.evidence), *trial.blind_spots),
        missing=tuple(missing(every, scale, np.frombuffer(made.flags, dtype=np.uint8))),
        growth=tuple(growth(early, codes, len(asked))),
    )
    return made.encode(), report


def _beyond(early: Counted, codes: Sequence[Ints], target: Floats, said: Floats, scale: Scale) -> Floats:
    """How far each later prediction lies outside what was ordinary before; NaN where nothing can be said.

    A number ordinarily lies where outcomes have lain, a probability where earlier probabilities have; where there are
    only later ones, those of the first half of them.

    Args:
        codes: Of the later rows.
        target, said: Of the earlier rows; of these, then of the later ones.
    """
    before, after = said[: early.rows], said[early.rows :].copy()
    ordinary, where = (before, early.codes) if scale == "logit" else (target, early.codes)
    if scale == "logit" and np.isnan(before).all():
        known = np.flatnonzero(~np.isnan(after))
        first = known[: len(known) // 2]
        ordinary, where = after[first], [code[first] for code in codes]
        after[first] = np.nan
    if np.isnan(ordinary).all():
        return np.full(len(after), np.nan)
    number = number_ranges(ordinary, 0, "", early.categories, where)
    return np.where(np.isnan(after), np.nan, distances(number, after, codes) - _season(scale))


def _predicted(
    every: Counted,
    n_early: int,
    asked: Frame,
    target: Floats,
    said: Floats,
    *,
    scale: Scale,
    name: str,
) -> Number:
    """Where predictions ordinarily lie, by all there is now; its position is that behind all columns."""
    values, codes = target, every.codes
    if scale == "logit":
        later = every.encode(asked)
        values = said
        codes = [np.concatenate([one[:n_early], new]) for one, new in zip(every.codes, later, strict=True)]
    at = len(every.categories) + len(every.numbers)
    return replace(number_ranges(values, at, name, every.categories, codes), watched=False)


def _season(scale: Scale) -> float:
    return SEASON if scale == "logit" else 0.0


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
    tolerated: dict[str, tuple[str | float | None, ...]]
    thresholds: dict[Step, float]
    blind_spots: list[str]

    @classmethod
    def of(
        cls, early: Counted, asked: Frame, codes: Sequence[Ints], far: Floats, budget: float
    ) -> _Calibration:
        """The thresholds at which a guard of the early rows keeps the budget on the requests asked later.

        Args:
            codes: Of the requests.
            far: How far the prediction of each lies outside its range; NaN where nothing was predicted.
        """
        masks: dict[VerdictKind, Bools] = {kind: np.zeros(len(asked), dtype=np.bool_) for kind in KINDS}
        made = cls(budget, np.zeros(len(asked), dtype=np.bool_), masks, set(), {}, {}, [])
        for category, code in zip(early.categories, codes, strict=True):
            made.watch(category, code == 0, values_of(asked, category.name))
        scores = _scores(early.evidence, codes, len(asked))
        scores[PREDICTION] = far
        for number in early.numbers:
            made.watch(number, np.isnan(asked[number.name]))
            np.maximum(scores[RANGE], distances(number, asked[number.name], codes), out=scores[RANGE])
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

    def watch(self, column: Category | Number, new: Bools, values: Sequence[str | float | None] = ()) -> None:
        """Flags what was never seen, unless it is too common among ordinary rows.

        A few values that are common although nothing could be learnt of them are tolerated, each by name; where that
        does not help, the column is not watched.
        """
        room = self.room(NEW_VALUES_SHARE)
        odd = new & ~self.flagged
        counts = Counter(values[row] for row in np.flatnonzero(odd).tolist()) if values else Counter()
        common: list[str | float | None] = []
        for value, rows in counts.most_common(MOST_TOLERATED):
            if int(odd.sum()) <= room:
                break
            common.append(value)
            odd &= np.array([one != value for one in values])
            self._blind(f"{column.name}={value}, of which nothing could be learnt", rows)
        if int(odd.sum()) > room:
            self.unwatched.add(column.name)
            self._blind(f"new values of {column.name}", int(odd.sum()))
            return
        self.tolerated[column.name] = tuple(common)
        self.flag("unseen_value", odd)

    def _blind(self, what: str, rows: int) -> None:
        self.blind_spots.append(f"{what}; {rows / len(self.flagged):.2%} of later requests have one")

    def watches(self, column: Category | Number) -> bool:
        return column.watched and column.name not in self.unwatched

    def watched(self, category: Category) -> Category:
        """The category as the budget lets it be watched."""
        tolerated = self.tolerated.get(category.name, ())
        return replace(category, watched=self.watches(category), tolerated=tolerated)

    def tables(self, counted: Counted, prediction: Number | None, scale: Scale, target_name: str) -> Tables:
        """What was counted, with these thresholds."""
        margin = self.thresholds[RANGE]
        return Tables(
            rows=counted.rows,
            target=target_name,
            scale=scale,
            categories=tuple(self.watched(category) for category in counted.categories),
            numbers=tuple(replace(widened(n, margin), watched=self.watches(n)) for n in counted.numbers),
            combinations=counted.evidence.cells.members,
            pair_counts=counted.evidence.pair_counts.astype("<i4").tobytes(),
            flags=_flags(counted.evidence, self.thresholds).tobytes(),
            prediction=prediction,
        )

    def add(self, step: Step, scores: Floats) -> None:
        """Sets the threshold of a step: the smallest that its share of the budget allows.

        Where only some rows have a score, they stand for all.
        """
        threshold, scored = step.floor, ~np.isnan(scores)
        above = np.sort(scores[scored & ~self.flagged & (scores > threshold)])[::-1]
        room = int(self.room(step.share) * scored.mean())
        if len(above) > room:
            threshold = float(above[room])
            self._blind(step.blind.format(threshold), len(above) - room)
        self.thresholds[step] = threshold
        self.flag(step.kind, scored & (scores > threshold))

    def kinds(self, verdicts: Sequence[Verdict]) -> tuple[KindReport, ...]:
        """One report for each kind, with reasons from these."""
        return tuple(
            KindReport(
                kind,
                float(mask.mean()),
                tuple((step.measure, t) for step, t in self.thresholds.items() if step.kind == kind),
                tuple(dict.fromkeys(v.reason for v in verdicts if v.kind == kind))[:MOST_EXAMPLES],
            )
            for kind, mask in self.by_kind.items()
        )
