"""A linear model of texts beside numbers and categories: logistic regression, or ridge, on words and pieces of words.

Numbers become curves and categories levels, as in `icekeel.training.linear`; each text becomes the tokens of
`icekeel.engines.texts`. scikit-learn fits all of it together and stays in training: what serves is plain numbers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import msgspec
import numpy as np

from icekeel.core.frames import Array, Column, Floats, Frame, Kind
from icekeel.core.ids import digest
from icekeel.engines.encoder import CODED
from icekeel.engines.linear import LinearSpec, Term
from icekeel.engines.links import Link, from_link_many
from icekeel.engines.loading import ENGINE_FILE, load_engine
from icekeel.engines.texts import CELLS, Counted, Words, counted, pack, tf_idf, tokens

from .linear import Linear, centre, design_of
from .problem import Problem, TrainingSet
from .rungs import Fitted

MOST_TOKENS = 20_000_000
"""Different tokens of all rows together that are learnt from: of the latest rows, as many as hold so many.

Ten thousand texts of 200 words hold that many.
"""
_NONE = np.zeros(0, dtype=np.int64)
FEWEST_ROWS = 3


class _Counts(dict[str | None, Counted]):
    """The cells of each text, cut up once however often it is asked for, in half of the memory."""

    def __missing__(self, text: str | None) -> Counted:
        found = counted(tokens(text or ""))
        self[text] = Counted(found.cells.astype(np.int32), found.counts.astype(np.int32), _NONE)
        return self[text]


@dataclass(frozen=True, slots=True)
class Texts:
    """Texts, numbers and categories added up.

    Args:
        weight: How far weights of tokens may be from 0, the inverse of a ridge penalty; 0 takes of `tried` the one
            that is best on the latest fifth of the rows.
        fewest_rows: Rows that a token must be in: rare ones name people and teach nothing.
    """

    weight: float = 0.0
    tried: tuple[float, ...] = (1.0, 4.0, 16.0)
    fewest_rows: int = FEWEST_ROWS
    name: str = "text"

    def fit(self, problem: Problem, data: TrainingSet) -> Fitted:
        """The weights of all rows."""
        problem.check(data)
        data, counts = _latest(data), _Counts()
        weight = self.weight or self._best_weight(problem, data, counts)
        model = _Model(problem, data, counts, self.fewest_rows, weight)
        files = model.files()
        counts.clear()
        return Fitted(files, load_engine(files), model.predict, replace(self, weight=weight))

    def _best_weight(self, problem: Problem, data: TrainingSet, counts: _Counts) -> float:
        earlier, later = data.split(0.2)
        if len(earlier) < 100 or len(np.unique(earlier.target)) < 2:
            return self.tried[0]

        def error(weight: float) -> float:
            model = _Model(problem, earlier, counts, self.fewest_rows, weight)
            return problem.error_of(later.target, model.predict(later.frame))

        return min(self.tried, key=error)


class TextEffects(NamedTuple):
    """What the tokens of a text move the target by, on the scale that a model adds on.

    Attributes:
        cells, idf: Of the tokens, as in a bundle.
        weights: What each adds, shape `(n_cells,)`; `null` is what a null does.
        axes: The principal axes of what tokens add together to a text, shape `(n_cells, n_axes)`, as long as lets texts
            lie as far apart along them as in what they add in all.
    """

    column: Column
    cells: Array
    idf: Array
    weights: Floats
    null: float
    axes: Floats


def text_effects(problem: Problem, data: TrainingSet, *, axes: int, most_cells: int) -> list[TextEffects]:
    """Those of each text beside all other columns, by a fit that trusts no single token far.

    Args:
        axes: How many at most.
        most_cells: Tokens at most, those that most rows have.
    """
    from sklearn.utils.extmath import randomized_svd  # type: ignore[import-untyped]  # as in `_Model`

    data, counts = _latest(data), _Counts()
    model = _Model(problem, data, counts, FEWEST_ROWS, Texts().tried[0], most_cells)
    found = []
    for one, weights, null in model.words():
        added = one.matrix(model.counted(data.frame, one.column)).multiply(weights[None, :]).tocsr()
        width = min(axes, *added.shape)
        along = np.zeros((len(one.cells), 0))
        if width:
            along = randomized_svd(added, width, n_iter=4, random_state=problem.seed)[2].T
            apart = np.sqrt((added @ along).var(axis=0).sum())
            along *= added.sum(axis=1).std() / max(float(apart), 1e-300)
        found.append(TextEffects(one.column, one.cells, one.idf[one.cells], weights, null, along))
    return found


@dataclass(frozen=True, slots=True)
class _Vocabulary:
    """The cells of one text column that enough rows have, ascending, and their idf."""

    column: Column
    cells: Array
    idf: Array

    @classmethod
    def of(cls, column: Column, texts: list[Counted], fewest_rows: int, most: int) -> _Vocabulary:
        rows = np.zeros(2 * CELLS, dtype=np.int64)
        for found in texts:
            rows[found.cells] += 1
        cells = np.flatnonzero(rows >= fewest_rows)
        cells = np.sort(cells[np.argsort(-rows[cells], kind="stable")[:most]])
        idf = np.zeros(2 * CELLS, dtype=np.float32)
        idf[cells] = 1.0 + np.log((1.0 + len(texts)) / (1.0 + rows[cells]))
        return cls(column, cells, idf)

    def matrix(self, texts: list[Counted]) -> Any:
        """Sparse, shape `(n_rows, n_cells)`."""
        from scipy.sparse import csr_array  # type: ignore[import-untyped]  # with scikit-learn: half a second that serving does not pay

        indices, sizes, ends = [np.zeros(0, dtype=np.int32)], [np.zeros(0)], [0]
        for found in texts:
            known = self.idf[found.cells] > 0
            indices.append(np.searchsorted(self.cells, found.cells[known]).astype(np.int32))
            sizes.append(tf_idf(found, self.idf)[known])
            ends.append(ends[-1] + len(indices[-1]))
        parts = (np.concatenate(sizes), np.concatenate(indices), np.array(ends, dtype=np.int32))
        return csr_array(parts, shape=(len(texts), len(self.cells)))


class _Model:
    """What was fitted, in the library's own terms: the bundle's engine is held against it."""

    def __init__(
        self,
        problem: Problem,
        data: TrainingSet,
        counts: _Counts,
        fewest_rows: int,
        weight: float,
        most_cells: int = 2 * CELLS,
    ) -> None:
        from sklearn.linear_model import LogisticRegression, Ridge  # type: ignore[import-untyped]

        self.link: Link = problem.link
        self.columns, self.counts = data.columns, counts
        self.rest = data.of_kinds(*CODED)
        self.bases = Linear().bases(self.rest)
        # A level seen in five rows is drawn half-way to zero, as in `Linear`, whatever tokens are.
        self.scale = 1.0 / np.sqrt(Linear().penalty * weight)
        self.vocabularies = [
            _Vocabulary.of(column, self.counted(data.frame, column), fewest_rows, most_cells)
            for column in data.columns
            if column.kind is Kind.TEXT
        ]
        matrix = self.matrix(data.frame)
        if problem.task == "probability":
            self.unit, self.zero = 1.0, 0.0
            self.estimator: Any = LogisticRegression(C=weight, max_iter=1_000, tol=1e-5).fit(
                matrix, data.target
            )
        else:
            y = np.log(data.target) if problem.log_target else data.target
            self.zero = float(np.median(y))
            self.unit = float(np.mean(np.abs(y - self.zero))) or 1.0
            scaled = (y - self.zero) / self.unit
            self.estimator = Ridge(alpha=1.0 / weight, solver="sparse_cg", tol=1e-6).fit(matrix, scaled)
        self.centre()

    def centre(self) -> None:
        """Centre what numbers and categories add, and let what no row had add what the average row does."""
        coefficients = self.estimator.coef_.reshape(-1)
        width, unit = sum(basis.width for basis in self.bases), self.unit * self.scale
        intercept = float(np.ravel(self.estimator.intercept_)[0]) * self.unit + self.zero
        self.weights = np.concatenate([[intercept], coefficients[:width] * unit])
        design = design_of(self.bases, self.rest.frame)
        for basis in self.bases:
            own = slice(basis.start, basis.start + basis.width)
            before = self.weights[0]
            centre(basis, design, self.weights)
            coefficients[own.start - 1 : own.stop - 1] = (self.weights[own] + self.weights[0] - before) / unit

    def counted(self, frame: Frame, column: Column) -> list[Counted]:
        """The cells of each text of a column."""
        return [self.counts[text] for text in frame[column.name]]

    def matrix(self, frame: Frame) -> Any:
        """The design, shape `(n_rows, n_columns)`: curves and levels, a flag for each null text, then tokens."""
        from scipy.sparse import csr_array, hstack

        design = design_of(self.bases, frame)
        n, each = design.places.shape
        ends = np.arange(0, n * each + 1, each)
        whole = csr_array((design.sizes.ravel(), design.places.ravel(), ends), shape=(n, design.width))
        nulls = [np.array([[value is None] for value in frame[v.column.name]]) for v in self.vocabularies]
        parts = [whole[:, 1:] * self.scale]  # without the intercept, which the library adds
        parts += [csr_array(null.reshape(n, 1) * self.scale) for null in nulls]
        parts += [v.matrix(self.counted(frame, v.column)) for v in self.vocabularies]
        return hstack(parts, format="csr")

    def predict(self, frame: Frame) -> Floats:
        """What the library says."""
        if not len(frame):
            return np.zeros(0)
        scores = self.estimator.predict if self.link != "logit" else self.estimator.decision_function
        return from_link_many(self.link, scores(self.matrix(frame)) * self.unit + self.zero)

    def words(self) -> Iterator[tuple[_Vocabulary, Floats, float]]:
        """Of each text what its tokens add, and what a null does."""
        found = np.ravel(self.estimator.coef_) * self.unit
        width = len(self.weights) - 1
        at = width + len(self.vocabularies)
        for i, one in enumerate(self.vocabularies):
            end = at + len(one.cells)
            yield one, found[at:end], float(found[width + i] * self.scale)
            at = end

    def files(self) -> dict[str, bytes]:
        """The files of the bundle."""
        terms: dict[str, Term] = {basis.column.name: basis.term(self.weights) for basis in self.bases}
        files: dict[str, bytes] = {}
        for one, weights, null in self.words():
            file, name = pack(one.cells, one.idf[one.cells], weights), f"text.{one.column.name}.bin"
            terms[one.column.name] = Words(name, digest(file), len(one.cells), null)
            files[name] = file
        ordered = tuple(terms[column.name] for column in self.columns)
        spec = LinearSpec(self.columns, ordered, float(self.weights[0]), self.link)
        return {ENGINE_FILE: msgspec.json.encode(spec), **files}


def _latest(data: TrainingSet) -> TrainingSet:
    """The latest rows whose tokens fit into memory, all of them where they do."""
    letters = np.zeros(len(data), dtype=np.int64)
    for column in data.columns:
        if column.kind is Kind.TEXT:
            letters += [len(value or "") for value in data.frame[column.name]]
    held = np.cumsum(letters[::-1] * 1.5)[::-1]  # with those that come again left out, as measured on English
    return data.take(held <= MOST_TOKENS) if held[0] > MOST_TOKENS else data
