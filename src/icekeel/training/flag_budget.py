"""One budget of flags for all kinds of finding: which thresholds keep it on ordinary requests, and what they hide."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from msgspec.structs import replace

from icekeel.core.frames import Bools, Floats, Frame, Ints
from icekeel.guard import KINDS, Category, Evidence, Number, VerdictKind

from .counting import Counted, values_of
from .ranges import distances


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
class Calibration:
    """Thresholds set one after the other on the later rows, none beyond its share of the budget.

    The budget is that of a longer run: one standard error of the number of flags is kept back.

    Attributes:
        flagged: Whether any kind flags each row; `by_kind` of each kind.
        unwatched: Columns whose new values are not flagged.
        tolerated: New values of other columns that are not.
        thresholds: By step, above which a row is flagged.
        blind_spots: What did not fit, in words.
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
    ) -> Calibration:
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
        """Counts rows as flagged by a kind."""
        self.flagged[:] |= rows
        self.by_kind[kind][:] |= rows

    def watch(self, column: Category | Number, new: Bools, values: Sequence[str | float | None] = ()) -> None:
        """Flags what was never seen, unless it is too common among ordinary rows.

        A few values that are common although nothing could be learnt of them are tolerated, each by name; where that
        does not help, the column is not watched.
        """
        if not column.watched:
            return
        room, odd = self.room(NEW_VALUES_SHARE), new & ~self.flagged
        counts = Counter(values[row] for row in np.flatnonzero(odd).tolist()) if values else Counter()
        common: list[str | float | None] = []
        for value, _ in counts.most_common(MOST_TOLERATED):
            if int(odd.sum()) > room:
                common.append(value)
                odd &= np.array([one != value for one in values])
        if int(odd.sum()) > room:
            self.unwatched.add(column.name)
            self._blind(f"new values of {column.name}", int(new.sum()))
            return
        for value in common:
            self._blind(f"{column.name}={value}, of which nothing could be learnt", counts[value])
        self.tolerated[column.name] = tuple(common)
        self.flag("unseen_value", odd)

    def _blind(self, what: str, rows: int) -> None:
        self.blind_spots.append(f"{what}; {rows / len(self.flagged):.2%} of later requests have one")

    def watches(self, column: Category | Number) -> bool:
        """Whether what was never seen in a column is flagged."""
        return column.watched and column.name not in self.unwatched

    def watched(self, category: Category) -> Category:
        """The category as the budget lets it be watched."""
        tolerated = self.tolerated.get(category.name, ())
        return replace(category, watched=self.watches(category), tolerated=tolerated)

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
