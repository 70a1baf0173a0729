"""What is measured of a unit, and the way from rows of answers to units."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from icekeel.core.errors import Fault, ProjectError
from icekeel.core.frames import Array, Bools, Floats, Ints

from .evidence import Claim, refuse

Kind = Literal["conversion", "mean", "ratio", "capped", "quantile"]


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric, its direction, and how much of it may be lost. All of it is fixed before the test starts.

    Attributes:
        name: As it appears in reasons and reports.
        kind: `conversion`: each unit's value counts as 0 or 1. `mean`: the unit's sum. `ratio`: sum of all values by
            number of all answers, although units are drawn and not answers. `capped`: the mean of values cut at `cap`,
            for revenue, of which a few units would else decide. `quantile`: how many answers lie beyond `level`.
        lower_is_better: Costs, errors, latencies; False: conversion, revenue.
        margin: Loss that is tolerated, as a share of the champion's value: 0 asks for "better".
        cap: Largest value that a unit may have, of `capped`; a quantile of past data, never of this test's.
        level: Where past data have the quantile, of `quantile`. The champion's answers beyond it are compared with the
            challenger's beyond `level * (1 + margin)` (or below `level * (1 - margin)`, where higher is better):
            "p95 no more than 10 % longer" is a level at the past p95 and a margin of 0.1.

    Raises:
        ProjectError: an unknown kind, a margin outside [0, 1), a cap or a level missing or given in vain; all at once.
    """

    name: str
    kind: Kind = "mean"
    lower_is_better: bool = True
    margin: float = 0.0
    cap: float | None = None
    level: float | None = None

    def __post_init__(self) -> None:
        cap, level = (
            given is not None and given > 0 if self.kind == kind else given is None
            for given, kind in ((self.cap, "capped"), (self.level, "quantile"))
        )
        refuse(
            f"metric {self.name}",
            (
                ("kind", self.kind in get_args(Kind), self.kind, ", ".join(get_args(Kind))),
                ("margin", 0 <= self.margin < 1, self.margin, "0 or more, below 1"),
                ("cap", cap, self.cap, "above 0, of `capped`"),
                ("level", level, self.level, "above 0, of `quantile`"),
            ),
        )

    def claim(
        self, alpha: float = 0.05, alpha_harm: float | None = None, tuned_for: float | None = None
    ) -> Claim:
        """What is asked of its tally; a quantile's margin is in its level already."""
        quantile = self.kind == "quantile"
        return Claim(
            self.lower_is_better or quantile,
            0.0 if quantile else self.margin,
            alpha,
            alpha if alpha_harm is None else alpha_harm,
            tuned_for,
            binary=self.kind == "conversion",
        )

    def of_answers(self, value: Floats, in_b: Bools) -> Floats:
        """What each answer adds to its unit: of a quantile 1 where it lies beyond the level, else the value itself."""
        if self.level is None:
            return value
        if self.lower_is_better:
            beyond = value > self.level * np.where(in_b, 1 + self.margin, 1.0)
        else:
            beyond = value < self.level * np.where(in_b, 1 - self.margin, 1.0)
        return np.where(np.isnan(value), np.nan, beyond.astype(np.float64))

    def of_units(self, value: Floats) -> Floats:
        """What each unit counts as: cut at the cap, 0 or 1 for a conversion."""
        if self.kind == "conversion":
            return (value > 0).astype(np.float64)
        return value if self.cap is None else np.clip(value, -self.cap, self.cap)

    @property
    def by_answers(self) -> bool:
        """Whether it divides by the number of a unit's answers."""
        return self.kind in ("ratio", "quantile")


@dataclass(frozen=True, slots=True)
class Answers:
    """What came of the answers of one test, a row each, in any order; arrays of shape `(n_rows,)`.

    Attributes:
        unit: Whom chance put into an arm.
        in_b: Whether the challenger was assigned, also where another had to answer.
        asked_at: Microseconds.
        value: The metric of this answer; NaN while it is not known.
        phase: Name of the stretch in which the shares stood still; None: one phase, `""`.
        outcome_at: When the outcome happened, microseconds; None: after the answer.
        segment: Group of the unit, known before the answer; None: one segment, `""`.
        covariate: What the unit was worth before it took part, NaN where nothing is known; None: not used.
    """

    unit: Array
    in_b: Bools
    asked_at: Ints
    value: Floats
    phase: Array | None = None
    outcome_at: Ints | None = None
    segment: Array | None = None
    covariate: Floats | None = None


@dataclass(frozen=True, slots=True)
class Units:
    """One row for each unit that counts; arrays of shape `(n_units,)`.

    Attributes:
        value: Sum over the unit's answers.
        answers: How many there were.
        phase, segment, covariate: Those of its first answer that counts; of the covariate None where none was given.
        crossed: Units left out since they were seen in both arms.
        early: Answers left out since their outcome happened before them.
        unknown: Answers left out since their outcome is not known.
    """

    in_b: Bools
    value: Floats
    answers: Floats
    phase: Array
    segment: Array
    covariate: Floats | None = None
    crossed: int = 0
    early: int = 0
    unknown: int = 0


def gather(metric: Metric, rows: Answers) -> Units:
    """Answers by unit; those that cannot be vouched for are left out and counted.

    A unit belongs to the phase of its first answer that counts.

    Raises:
        ProjectError: columns of different lengths.
    """
    columns = [getattr(rows, name) for name in rows.__dataclass_fields__]
    if len({len(column) for column in columns if column is not None}) > 1:
        lengths = ", ".join(str(len(column)) for column in columns if column is not None)
        raise ProjectError(
            Fault("bad_rows", "expected columns of one length", f"metric {metric.name}", lengths)
        )
    names, unit = np.unique(rows.unit, return_inverse=True)
    crossed = np.zeros((len(names), 2), dtype=bool)
    crossed[unit, rows.in_b.astype(np.int64)] = True
    both = crossed[:, 0] & crossed[:, 1]
    known: Bools = np.isfinite(rows.value)
    early: Bools = np.zeros(len(unit), dtype=np.bool_)
    if rows.outcome_at is not None:
        early[:] = rows.outcome_at < rows.asked_at
    used = np.flatnonzero(known & ~early & ~both[unit])
    used = used[np.argsort(rows.asked_at[used], kind="stable")]
    kept, first, place = np.unique(unit[used], return_index=True, return_inverse=True)
    head = used[first]
    blank = np.full(len(unit), "", dtype=object)
    values = metric.of_answers(rows.value, rows.in_b)[used]
    value = np.bincount(place, values, minlength=len(kept)).astype(np.float64)
    return Units(
        rows.in_b[head],
        metric.of_units(value),
        np.bincount(place, minlength=len(kept)).astype(np.float64),
        (blank if rows.phase is None else rows.phase)[head],
        (blank if rows.segment is None else rows.segment)[head],
        None if rows.covariate is None else rows.covariate[head],
        int(both.sum()),
        int((early & known).sum()),
        int((~known).sum()),
    )
