"""What the training rows lack: combinations whose parts they have, and how fast more rows would fill them in."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from icekeel.core.frames import Array, Floats, Ints
from icekeel.guard import Evidence, Scale, VerdictKind
from icekeel.guard.check import KIND_OF

from .counting import Counted

MOST_MISSING = 20
SHARES = (0.25, 0.5, 1.0)
"""Parts of the training rows, the latest ones, of which the growth of knowledge is measured."""


@dataclass(frozen=True, slots=True)
class Missing:
    """A combination of values that no training row has.

    Attributes:
        expected: Rows that were to be expected among the training rows: of a pair as if its values were independent,
            of a triple given its pairs.
        typical: What is answered to it: the additive model's outcome, in the target's unit.
        effect: The smallest of its values' effects, on the target's scale.
        error: The error to be expected of an answer, if that effect does not apply as it does elsewhere: relative for
            amounts, in the target's unit for other numbers, the divergence of the two probabilities for those.
        flagged_as: The kind of verdict that it gets; empty where the guard is blind to it.
    """

    values: Mapping[str, str | float | None]
    expected: float
    typical: float
    effect: float
    error: float
    flagged_as: VerdictKind | str


@dataclass(frozen=True, slots=True)
class Growth:
    """How many ordinary requests held something never seen, had there been fewer rows.

    Attributes:
        rows: Training rows, the latest before the later window.
        unseen: Share of the later window's rows with a value, pair or triple that none of them had.
    """

    rows: int
    unseen: float


def missing(counted: Counted, scale: Scale, flags: Array) -> list[Missing]:
    """The combinations that are missing, those with the largest expected error of all requests first."""
    found: list[tuple[float, tuple[int, ...], tuple[int, ...], float, float]] = []
    for members, effect, expected in counted.evidence.unseen():
        harm = (expected * _error(effect, scale, counted.constant)).ravel()
        best = np.argsort(-harm, kind="stable")[:MOST_MISSING]
        for place in best[harm[best] > 0].tolist():
            cell = tuple(int(code) for code in np.unravel_index(place, effect.shape))
            found.append((float(harm[place]), members, cell, float(effect[cell]), float(expected[cell])))
    found.sort(key=lambda one: (-one[0], one[1], one[2]))
    views = counted.evidence.cells.split(flags)
    return [
        _missing(counted, members, cell, scale, effect, expected, int(views[members][cell]))
        for _, members, cell, effect, expected in found[:MOST_MISSING]
    ]


def _missing(
    counted: Counted,
    members: tuple[int, ...],
    cell: tuple[int, ...],
    scale: Scale,
    effect: float,
    expected: float,
    flag: int,
) -> Missing:
    outcome = counted.constant + sum(
        float(counted.signed[member][code]) for member, code in zip(members, cell, strict=True)
    )
    error = float(_error(np.array(effect), scale, outcome))
    typical = {"log": math.exp, "logit": _logistic}.get(scale, float)(outcome)
    values = {
        category.name: category.values[category.codes.index(code)]
        for category, code in zip((counted.categories[m] for m in members), cell, strict=True)
    }
    return Missing(values, expected, typical, effect, error, KIND_OF.get(flag, ""))


def _error(effect: Floats, scale: Scale, outcome: float) -> Floats:
    """What is wrong with an answer that is off by `effect`; a divergence (Kullback and Leibler 1951) for `logit`."""
    if scale == "plain":
        return effect
    if scale == "log":
        return np.expm1(effect)
    said, true = _logistic(outcome), 1 / (1 + np.exp(-outcome - effect))
    return np.asarray(true * np.log(true / said) + (1 - true) * np.log((1 - true) / (1 - said)))


def _logistic(log_odds: float) -> float:
    return 1 / (1 + math.exp(-log_odds))


def growth(early: Counted, later: Sequence[Ints], n_rows: int) -> Iterator[Growth]:
    """The share of later rows with something unseen, by how many of the earlier rows were known.

    Args:
        later: Codes of the later rows.
    """
    for share in SHARES:
        rows = max(1, int(share * early.rows))
        codes = [code[-rows:] for code in early.codes]
        evidence = Evidence.count(early.categories, codes, rows)
        unseen = np.zeros(n_rows, dtype=np.bool_)
        for code, known in zip(later, codes, strict=True):
            unseen |= ~np.isin(code, known)
        for members, seen in evidence.cells.split(evidence.seen).items():
            unseen |= ~seen[tuple(later[member] for member in members)]
        yield Growth(rows, float(unseen.mean()))
