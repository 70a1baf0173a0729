"""The middle rung: ridge, logistic or median regression on linear splines and one-hot categories.

Every number becomes hat functions on knots at its quantiles plus a flag for null, every category one flag per
value: in each row few entries differ from 0, and a fitted weight *is* the height of the curve at its knot.
All three regressions are one iteratively re-weighted ridge regression, exported as plain numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import msgspec
import numpy as np

from icekeel.core.frames import Array, Column, Floats, Frame, Kind
from icekeel.engines.encoder import CODED
from icekeel.engines.linear import Curve, Levels, LinearSpec
from icekeel.engines.links import from_link_many
from icekeel.engines.loading import ENGINE_FILE, load_engine

from .problem import Problem, TrainingSet, vocabulary
from .rungs import Fitted

_BLOCK = 8_192
"""Rows whose dense design is in memory at a time."""


@dataclass(frozen=True, slots=True)
class Linear:
    """An additive model, fitted by penalised least squares, likelihood or absolute deviations.

    Args:
        knots: Of each number's curve, at quantiles; flat beyond the 0.1 % and 99.9 % quantiles.
        penalty: Ridge penalty: a level seen in that many rows is drawn half-way to zero.
        most_levels: Values of a category that get a level of their own.
    """

    knots: int = 6
    penalty: float = 5.0
    most_levels: int = 100
    name: str = "linear"

    def fit(self, problem: Problem, data: TrainingSet) -> Fitted:
        """The weights of all rows."""
        problem.check(data)
        data = data.of_kinds(*CODED)
        bases = self.bases(data)
        design = design_of(bases, data.frame)
        if problem.task == "probability":
            weights = _regress(design, data.target, _logistic, self.penalty, steps=25)
        else:
            weights = self._fit_number(problem, design, data.target)
        for basis in bases:
            centre(basis, design, weights)
        link = problem.link
        terms = tuple(basis.term(weights) for basis in bases)
        spec = LinearSpec(data.columns, terms, float(weights[0]), link)
        files = {ENGINE_FILE: msgspec.json.encode(spec)}

        def reference(frame: Frame) -> Floats:
            return from_link_many(link, _scores(design_of(bases, frame), weights))

        return Fitted(files, load_engine(files), reference)

    def _fit_number(self, problem: Problem, design: _Design, target: Floats) -> Floats:
        """Weights for a centred, scaled target, so that the penalty means the same in every unit."""
        y = np.log(target) if problem.log_target else target
        centre = float(np.median(y))
        scale = float(np.mean(np.abs(y - centre))) or 1.0
        loss, steps = (_absolute, 10) if problem.error == "mae" else (_squared, 1)
        weights = _regress(design, (y - centre) / scale, loss, self.penalty, steps=steps) * scale
        weights[0] += centre
        return weights

    def bases(self, data: TrainingSet) -> list[_Basis]:
        """What becomes of each column, all of which are numbers, flags or categories."""
        bases: list[_Basis] = []
        start = 1  # the intercept is entry 0
        for column in data.columns:
            values = data.frame[column.name]
            if column.kind is Kind.CAT:
                found = vocabulary(values, most=self.most_levels, fewest_rows=10)
                basis = _Basis(column, start, levels=found)
            else:
                shares = np.linspace(0.001, 0.999, self.knots)
                known = values[~np.isnan(values)]
                basis = _Basis(
                    column, start, knots=np.unique(np.quantile(known, shares)) if len(known) else np.zeros(1)
                )
            bases.append(basis)
            start += basis.width
        return bases


@dataclass(frozen=True, slots=True)
class _Basis:
    """Where the entries of one column start and what they are: knots, then null; or levels, null, other."""

    column: Column
    start: int
    knots: Floats | None = None
    levels: tuple[str, ...] = ()

    @property
    def width(self) -> int:
        return len(self.levels) + 2 if self.knots is None else len(self.knots) + 1

    @property
    def null(self) -> int:
        """Position of the entry for null."""
        return self.start + (len(self.levels) if self.knots is None else len(self.knots))

    def entries(self, values: Array) -> list[tuple[Array, Floats]]:
        """Positions and sizes of the entries that differ from 0: two for a number, one for a category."""
        if self.knots is None:
            places: dict[str | None, int] = {value: self.start + i for i, value in enumerate(self.levels)}
            places[None] = self.null
            found = [places.get(value, self.null + 1) for value in values]
            return [(np.array(found, dtype=np.int64), np.ones(len(values)))]
        knots = self.knots
        x = np.clip(values, knots[0], knots[-1])
        i = np.searchsorted(knots[1:-1], x, side="right")
        after = knots[np.minimum(i + 1, len(knots) - 1)]
        share = (x - knots[i]) / np.where(after > knots[i], after - knots[i], 1.0)
        null = np.isnan(x)
        return [
            (np.where(null, self.null, self.start + i), np.where(null, 1.0, 1.0 - share)),
            (np.where(null, self.start, self.start + i + 1), np.where(null, 0.0, share)),
        ]

    def term(self, weights: Floats) -> Curve | Levels:
        """The exported term: weights are heights."""
        own = weights[self.start : self.null].tolist()
        null = float(weights[self.null])
        if self.knots is None:
            return Levels(dict(zip(self.levels, own, strict=True)), null, float(weights[self.null + 1]))
        return Curve(tuple(self.knots.tolist()), tuple(own), null)


class _Design(NamedTuple):
    """A sparse matrix with equally many entries in each row, all at different positions.

    Attributes:
        places: Shape `(n_rows, n_entries)`.
        sizes: Shape `(n_rows, n_entries)`.
        width: Number of positions.
    """

    places: Array
    sizes: Floats
    width: int


def design_of(bases: list[_Basis], frame: Frame) -> _Design:
    """The rows of a frame as what is added up; its first entry is the intercept."""
    places: list[Array] = [np.zeros(len(frame), dtype=np.int32)]
    sizes: list[Floats] = [np.ones(len(frame))]
    for basis in bases:
        for place, size in basis.entries(frame[basis.column.name]):
            places.append(place.astype(np.int32))
            sizes.append(size)
    return _Design(np.stack(places, axis=1), np.stack(sizes, axis=1), 1 + sum(basis.width for basis in bases))


def _scores(design: _Design, weights: Floats) -> Floats:
    return np.asarray(np.einsum("ij,ij->i", weights[design.places], design.sizes))


def centre(basis: _Basis, design: _Design, weights: Floats) -> None:
    """Move what a column adds on average into the intercept: what is left is how a value differs from it.

    A null or another value that no row had then adds nothing.
    """
    sums = np.bincount(design.places.ravel(), design.sizes.ravel(), minlength=design.width)
    own = slice(basis.start, basis.start + basis.width)
    average = sums[own] @ weights[own] / max(1.0, sums[own].sum())
    weights[own] -= average
    weights[0] += average
    for place in range(basis.null, basis.start + basis.width):
        if not sums[place]:
            weights[place] = 0.0


_Loss = Callable[[Floats, Floats], tuple[float, Floats, Floats]]
"""Of scores and targets: the total loss, minus its slope and its curvature in each row."""


def _squared(scores: Floats, target: Floats) -> tuple[float, Floats, Floats]:
    gaps = target - scores
    return float(gaps @ gaps) / 2, gaps, np.ones(len(gaps))


def _logistic(scores: Floats, target: Floats) -> tuple[float, Floats, Floats]:
    p = from_link_many("logit", scores)
    return float(np.sum(np.logaddexp(0.0, scores) - target * scores)), target - p, p * (1 - p)


def _absolute(scores: Floats, target: Floats) -> tuple[float, Floats, Floats]:
    """Absolute deviations by the quadratic that touches them from above (Schlossmacher 1973)."""
    gaps = target - scores
    curvature = 1.0 / np.maximum(np.abs(gaps), 0.01)
    return float(np.abs(gaps).sum()), gaps * curvature, curvature


def _regress(design: _Design, target: Floats, loss: _Loss, penalty: float, *, steps: int) -> Floats:
    """Weights that minimise the loss plus `penalty / 2` times their squares, the intercept's excepted.

    Newton's method with step halving, that is iteratively re-weighted least squares (McCullagh and Nelder
    1989, section 2.5), until a step gains less than one part in ten thousand (near
    the optimum a Newton step leaves the square of that).
    """
    ridge = np.full(design.width, penalty)
    ridge[0] = 1e-9
    weights = np.zeros(design.width)
    if steps > 1 and len(target) > _BLOCK:  # the way to the optimum is cheap on every eighth row
        part = _Design(design.places[::8], design.sizes[::8], design.width)
        weights = _regress(part, target[::8], loss, penalty / 8, steps=steps)
    total, slope, curvature = loss(_scores(design, weights), target)
    total += float(ridge @ weights**2) / 2
    for _ in range(steps):
        gradient = np.bincount(
            design.places.ravel(), (design.sizes * slope[:, None]).ravel(), minlength=design.width
        )
        step = np.linalg.solve(_gram(design, curvature) + np.diag(ridge), gradient - ridge * weights)
        before = total
        for _ in range(6):
            moved = weights + step
            total, slope, curvature = loss(_scores(design, moved), target)
            total += float(ridge @ moved**2) / 2
            if total <= before:
                break
            step = step / 2
        weights = moved
        if before - total <= 1e-4 * before:
            break
    return weights


def _gram(design: _Design, curvature: Floats) -> Floats:
    """`X' diag(curvature) X`, from dense blocks of rows."""
    gram = np.zeros((design.width, design.width))
    roots = np.sqrt(curvature)[:, None]
    for start in range(0, len(roots), _BLOCK):
        rows = slice(start, start + _BLOCK)
        block = np.zeros((len(roots[rows]), design.width))
        np.put_along_axis(
            block, design.places[rows].astype(np.int64), design.sizes[rows] * roots[rows], axis=1
        )
        gram += block.T @ block
    return gram
