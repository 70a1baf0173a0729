"""The past cases most like a request, and what came of them.

Cases are alike where the same things move the target by as much. A small model of trees is walked for each case, and
every step from a node to its child is put to the account of the column that decided it (Saabas 2014, "Interpreting
random forests"). So a case becomes one number for each column, and their sum; `icekeel.training.similar` turns these
to their principal axes. They tell similar cases apart as well as Shapley values do, at a thirtieth of the time. A text is
taken apart likewise, by a linear model: what each of its tokens adds counts along the axes of what tokens add together.

Points lie in boxes of neighbours; a search opens boxes from the nearest on until no unopened one can hold a nearer
point, so it is exact. No library is imported for it: scipy's tree takes a quarter of a second to load.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import msgspec
import numpy as np

from icekeel.core.errors import BundleError, Fault
from icekeel.core.frames import Array, Column, Floats, Frame, Ints, Kind

from .encoder import Value
from .explained import Explained
from .lightgbm import MODEL_FILE, LightGBMEngine, LightGBMSpec
from .links import Link, to_link
from .texts import Words, WordsTerm, counted, tf_idf, tokens

SIMILAR_FILE = "similar.bin"
SIMILAR = "similar"
"""Name of the rung whose engine these cases are."""
FIRST_BOXES = 4
ENDS = (0.05, 0.95)
COMPANY = 10
"""The case so many places off tells whether a request has company."""
_BLOCK = 4_096
"""Rows whose leaves are in memory at a time."""
_SCALES: Mapping[str, Link] = {"log_loss": "logit", "mape": "exp"}


class CaseField(msgspec.Struct, frozen=True):
    """A field of the past requests, to be shown: numbers as float64, texts as codes (int32, -1 for null)."""

    name: str
    values: bytes
    texts: list[str] | None = None


class TextMoves(msgspec.Struct, frozen=True):
    """How far the tokens of a text move a point.

    Attributes:
        term, weights: What each adds, as in a linear model.
        effects: How far each moves a point, float32 of shape `(n_cells, axes)`.
        null: How far a null does, float32 of shape `(axes,)`.
    """

    column: Column
    term: Words
    weights: bytes
    effects: bytes
    null: bytes


class SimilarSpec(msgspec.Struct, frozen=True):
    """All of it as it is stored; arrays are little-endian bytes in the order of the cases.

    Attributes:
        surrogate, trees: The model whose steps are counted; None where all columns are texts.
        axes: Width of `effects` and `points`.
        effects: How far each of its leaves moves a point, float32 of shape `(n_leaves, axes)`.
        first_leaf: Row of `effects` at which each tree begins.
        points: Float32, shape `(n_cases, axes)`.
        box_ends: Last case of each box, open; the cases of a box follow each other.
        outcomes, asked_at: Float64, int64.
        ids: What each case was called by whoever asked.
        error: Says what is typical of outcomes: their mean for `rmse` and `log_loss`, their median else.
        k: How many cases together were closest to what came of later requests.
        far: Distance beyond which the tenth case is farther off than for 99 in 100 later requests.
        mean: Mean outcome of all cases.
    """

    surrogate: LightGBMSpec | None
    trees: bytes
    axes: int
    effects: bytes
    first_leaf: list[int]
    points: bytes
    box_ends: list[int]
    outcomes: bytes
    asked_at: bytes
    ids: list[str]
    fields: list[CaseField]
    error: str
    k: int
    far: float
    mean: float
    texts: list[TextMoves] = []
    format: Literal[1] = 1


class Case(NamedTuple):
    """A past case: how far off it is, what came of it, and the request."""

    id: str
    asked_at: int
    outcome: float
    distance: float
    request: dict[str, Value]


class Typical(NamedTuple):
    """What is typical of some cases: the answer, and the ends between which 90 in 100 of their outcomes lie.

    Not the least and the greatest: callers see these, and each is what one of the others paid.
    """

    value: float
    low: float
    high: float


class TextPoints:
    """How far a text moves a point: the sum of what its tokens do."""

    def __init__(self, moves: TextMoves) -> None:
        self.moves, self.column = moves, moves.column
        self.term = WordsTerm(moves.term, moves.weights)
        self._cells = np.flatnonzero(self.term.idf)
        self._null = np.frombuffer(moves.null, dtype="<f4")
        self._effects = np.frombuffer(moves.effects, dtype="<f4").reshape(len(self._cells), len(self._null))

    def one(self, value: Value) -> Array:
        """How far it moves, shape `(n_axes,)`, float32."""
        if not isinstance(value, str):
            return self._null
        found = counted(tokens(value))
        sizes = tf_idf(found, self.term.idf)
        known = sizes > 0
        rows = np.searchsorted(self._cells, found.cells[known])
        return np.asarray(sizes[known].astype(np.float32) @ self._effects.take(rows, axis=0))


class Metric:
    """Where a row lies among others: the sum of what its leaves and its texts say.

    Args:
        engine: Of the trees, which read every column but texts; None where there are none.
        effects: A row for each leaf, those of a tree after each other.
        first_leaf: Row at which each tree begins.
    """

    def __init__(
        self,
        engine: LightGBMEngine | None,
        effects: Array,
        first_leaf: Sequence[int],
        texts: Sequence[TextPoints] = (),
    ) -> None:
        self.engine, self.texts = engine, texts
        self.columns = (*(engine.columns if engine else ()), *(text.column for text in texts))
        self.effects = effects
        self.first_leaf = np.array(first_leaf, dtype=np.int64)

    def one(self, values: Sequence[Value]) -> Array:
        """The point of one row, shape `(n_axes,)`, float32."""
        coded = len(values) - len(self.texts)
        if self.engine is None:
            found = np.zeros(self.effects.shape[1], dtype=np.float32)
        else:
            leaves = self.engine.leaves_one(values[:coded]).astype(np.int64) + self.first_leaf
            found = np.asarray(self.effects.take(leaves, axis=0).sum(axis=0))
        for text, value in zip(self.texts, values[coded:], strict=True):
            found = found + text.one(value)
        return found

    def many(self, frame: Frame) -> Array:
        """The points of all rows, shape `(n_rows, n_axes)`."""
        found = np.zeros((len(frame), self.effects.shape[1]), dtype=np.float32)
        for start in range(0, len(frame) if self.engine else 0, _BLOCK):
            rows = np.arange(start, min(start + _BLOCK, len(frame)))
            leaves = self.engine.leaves_many(frame.take(rows)).astype(np.int64) + self.first_leaf  # type: ignore[union-attr]  # no block without
            for tree in leaves.T:
                found[rows] += self.effects.take(tree, axis=0)
        for text in self.texts:
            for place, value in enumerate(frame[text.column.name]):
                found[place] += text.one(value)
        return found

    def explain(self, values: Sequence[Value], scale: Link) -> Explained:
        """What each column adds, of a text each word."""
        coded = len(values) - len(self.texts)
        told = self.engine.explain(values[:coded]) if self.engine else Explained(scale, 0.0, ())
        for text, value in zip(self.texts, values[coded:], strict=True):
            told = told._replace(added=(*told.added, *text.term.added(text.column.name, value)))
        return told


class Boxes:
    """Points in boxes of neighbours.

    Args:
        points: Shape `(n, width)`, those of a box after each other.
        ends: Where each box ends, open.
        asked_at: When each was asked: of equally near ones the newest comes first.
    """

    def __init__(self, points: Array, ends: Sequence[int], asked_at: Ints) -> None:
        self._points, self._asked_at = points, asked_at
        self._ends = np.array(ends, dtype=np.int64)
        self._starts = np.concatenate([[0], self._ends[:-1]]).astype(np.int64)
        self._low = np.minimum.reduceat(points, self._starts)
        self._high = np.maximum.reduceat(points, self._starts)

    def nearest(self, point: Array, k: int) -> tuple[Ints, Array]:
        """Positions of the `k` nearest points and their squared distances, nearest first."""
        gaps = np.maximum(self._low - point, point - self._high)
        np.maximum(gaps, 0, out=gaps)
        bounds = np.einsum("ij,ij->i", gaps, gaps)
        order = np.argsort(bounds, kind="stable")
        at, distances = np.empty(0, dtype=np.int64), np.empty(0, dtype=np.float32)
        opened, size = 0, FIRST_BOXES
        while opened < len(order):
            boxes = order[opened : opened + size]
            rows = np.concatenate([np.arange(self._starts[box], self._ends[box]) for box in boxes])
            away = self._points.take(rows, axis=0) - point
            at, distances = np.append(at, rows), np.append(distances, np.einsum("ij,ij->i", away, away))
            if len(at) > k:
                kept = distances <= np.partition(distances, k - 1)[k - 1]
                at, distances = at[kept], distances[kept]
            opened, size = opened + size, size * 2
            # A hair of room, as bounds and distances are rounded differently.
            if len(at) >= k and opened < len(order) and bounds[order[opened]] > distances.max() * (1 + 1e-5):
                break
        chosen = np.lexsort((at, -self._asked_at[at], distances))[:k]
        return at[chosen], distances[chosen]


class SimilarEngineSpec(
    msgspec.Struct, frozen=True, tag_field="kind", tag="similar", forbid_unknown_fields=True
):
    """An engine that answers with what came of the cases in `similar.bin`."""

    format: Literal[1] = 1

    def engine(self, files: Mapping[str, bytes]) -> SimilarCases:
        """The cases."""
        return SimilarCases.load(files)


class SimilarCases:
    """Past cases that can be searched, and an engine. Immutable, so threads may share it."""

    def __init__(self, spec: SimilarSpec) -> None:
        engine = spec.surrogate.engine({MODEL_FILE: spec.trees}) if spec.surrogate else None
        effects, points = (
            np.frombuffer(data, dtype="<f4").reshape(-1, spec.axes) for data in (spec.effects, spec.points)
        )
        self.metric = Metric(engine, effects, spec.first_leaf, [TextPoints(text) for text in spec.texts])
        self.columns: tuple[Column, ...] = self.metric.columns
        self.k, self._far, self._error, self._mean = spec.k, spec.far, spec.error, spec.mean
        self._outcomes = np.frombuffer(spec.outcomes, dtype="<f8")
        self._asked_at = np.frombuffer(spec.asked_at, dtype="<i8")
        self._boxes = Boxes(points, spec.box_ends, self._asked_at)
        self._ids = spec.ids
        self._fields = {field.name: _reader(field) for field in spec.fields}

    @classmethod
    def load(cls, files: Mapping[str, bytes]) -> SimilarCases:
        """The cases in the files of a bundle.

        Raises:
            BundleError: there are none, or they are of another format.
        """
        if SIMILAR_FILE not in files:
            raise BundleError(Fault("missing_file", "no similar cases in this bundle", SIMILAR_FILE))
        try:
            return cls(msgspec.msgpack.decode(files[SIMILAR_FILE], type=SimilarSpec))
        except (msgspec.MsgspecError, ValueError) as error:
            raise BundleError(Fault("bad_similar", str(error), SIMILAR_FILE)) from error

    def __len__(self) -> int:
        return len(self._outcomes)

    def typical(self, values: Sequence[Value], k: int = 0) -> Typical | None:
        """What is typical of the `k` most similar cases; None where they are too few or not really similar.

        Args:
            values: In the order of `columns`.
            k: How many; 0 for as many as were best.
        """
        k = k or self.k
        at, distances = self._boxes.nearest(self.metric.one(values), min(k, len(self)))
        if len(at) < k or math.sqrt(float(distances[:COMPANY][-1])) > self._far:
            return None
        outcomes = self._outcomes[at]
        value = float(typical(outcomes, self._error, self._mean))
        low, high = np.quantile(outcomes, ENDS)
        return Typical(value, min(float(low), value), max(float(high), value))

    def nearest(self, values: Sequence[Value], k: int) -> list[Case]:
        """The `k` most similar cases, the most similar first."""
        at, distances = self._boxes.nearest(self.metric.one(values), min(k, len(self)))
        return [
            Case(
                self._ids[place],
                int(self._asked_at[place]),
                float(self._outcomes[place]),
                math.sqrt(float(distance)),
                {name: read(place) for name, read in self._fields.items()},
            )
            for place, distance in zip(at.tolist(), distances.tolist(), strict=True)
        ]

    def predict_one(self, values: Sequence[Value]) -> float:
        """What is typical of the `k` most similar cases, however far off they are."""
        return self._said(self.metric.one(values))

    def predict_many(self, frame: Frame) -> Floats:
        """The same for all rows, shape `(n_rows,)`."""
        return np.array([self._said(point) for point in self.metric.many(frame)], dtype=np.float64)

    def _said(self, point: Array) -> float:
        at, _ = self._boxes.nearest(point, min(self.k, len(self)))
        return float(typical(self._outcomes[at], self._error, self._mean))

    def explain(self, values: Sequence[Value]) -> Explained:
        """What each column adds by the models that tell which cases are alike.

        What these cases come to beyond that is put to the base, so that the sum is the prediction.
        """
        told = self.metric.explain(values, _SCALES.get(self._error, "identity"))
        return told.ending_at(to_link(told.scale, self.predict_one(values)))

    def far(self, cases: Sequence[Case]) -> bool:
        """Whether these are farther off than the most similar cases of a request usually are."""
        return not cases or cases[:COMPANY][-1].distance > self._far


def typical(outcomes: Floats, error: str, mean: float) -> Any:
    """What is typical of the outcomes along the last axis.

    A rate counts one average case besides, so that ten cases alike do not make a certainty.
    """
    if error == "log_loss":
        return (outcomes.sum(axis=-1) + mean) / (outcomes.shape[-1] + 1)
    return outcomes.mean(axis=-1) if error == "rmse" else np.median(outcomes, axis=-1)


def case_field(column: Column, values: Array) -> CaseField:
    """A field of past requests as it is stored."""
    if column.kind is not Kind.CAT:
        return CaseField(column.name, values.astype("<f8").tobytes())
    texts = sorted({value for value in values if value is not None})
    codes: dict[str | None, int] = {text: code for code, text in enumerate(texts)}
    codes[None] = -1
    return CaseField(column.name, np.array([codes[value] for value in values], dtype="<i4").tobytes(), texts)


def _reader(field: CaseField) -> Any:
    """`read(place)`: the value of one case."""
    texts = field.texts
    if texts is None:
        numbers = np.frombuffer(field.values, dtype="<f8")
        return lambda place: None if math.isnan(numbers[place]) else float(numbers[place])
    codes = np.frombuffer(field.values, dtype="<i4")
    return lambda place: None if codes[place] < 0 else texts[codes[place]]
