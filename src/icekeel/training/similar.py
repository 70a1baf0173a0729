"""A lower rung, and the similar cases of every bundle, see `icekeel.engines.similar`: the metric, the boxes, how many cases are best."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np

from icekeel.core.errors import TrainingError
from icekeel.core.frames import Array, Column, Floats, Frame, Ints, Kind
from icekeel.core.ids import digest
from icekeel.engines.encoder import CODED
from icekeel.engines.lightgbm import MODEL_FILE, LightGBMEngine, LightGBMSpec
from icekeel.engines.loading import ENGINE_FILE
from icekeel.engines.similar import (
    COMPANY,
    SIMILAR,
    SIMILAR_FILE,
    Boxes,
    Metric,
    SimilarCases,
    SimilarEngineSpec,
    SimilarSpec,
    TextMoves,
    TextPoints,
    case_field,
    typical,
)
from icekeel.engines.texts import Words, pack

from .boosting import LightGBM
from .problem import Problem, TrainingSet, evenly
from .rungs import Fitted
from .texts import TextEffects, text_effects

SURROGATE = LightGBM(leaves=15, learning_rate=0.1, most_trees=150, patience=10)
MOST_CASES = 100_000
MOST_BYTES = 25_000_000
MOST_TEXTS, MOST_TEXT_CASES = 10_000, 20_000
"""Rows that it is learnt from where there are texts, and cases: a search along so many axes opens most boxes."""
TEXT_AXES, TEXT_CELLS = 32, 20_000
"""Axes of a text, and its tokens: three megabytes."""
TEXT_WEIGHT = 3.0
"""How far its axes count beside what it adds in all, which flatters those that it was learnt from."""
MOST_TRIED = 400
"""Later requests on which the number of cases is chosen and their error measured."""
MOST_LEARNT = 30_000
"""Rows that the metric is learnt from, evenly spread."""
NUMBERS = (10, 20, 50, 100)
"""Numbers of cases that are tried."""
BOX = 400
"""Cases in a box at most."""
NEAR = 0.99
"""Share of later requests whose cases count as near."""
SUM_WEIGHT = 3.0
"""How much the sum of what columns add counts beside each of them: cases that come to the same total for like reasons
are better company than those that are alike in each part and come to another."""
KEPT = 0.99
"""Part of the variance that the axes kept hold; with few of them a search is twice as fast."""


@dataclass(frozen=True, slots=True)
class Similarity:
    """How well similar cases tell what comes of later requests.

    Attributes:
        k: How many together do best.
        error: Theirs, of cases known before, in the model's error.
        model_error: The model's in the backtest, on the same requests.
        tried: Requests that were judged on; the errors are NaN where there were none.
    """

    cases: int
    k: int
    error: float
    model_error: float
    tried: int


@dataclass(frozen=True, slots=True)
class Past:
    """Past requests as they are shown: some of their fields, and what each was called."""

    requests: Frame
    fields: Sequence[Column]
    ids: Sequence[str]


@dataclass(frozen=True, slots=True)
class Similar:
    """A rung: what came of the past cases most like a request."""

    cases: int = MOST_CASES
    name: str = SIMILAR

    def fit(self, problem: Problem, data: TrainingSet) -> Fitted:
        """The cases; the same rows give those of `similar_cases`, which may be shown too."""
        problem.check(data)
        spec, _ = _cases(problem, data, self.cases)
        files = {
            ENGINE_FILE: msgspec.json.encode(SimilarEngineSpec()),
            SIMILAR_FILE: msgspec.msgpack.encode(spec),
        }
        engine = SimilarCases.load(files)

        def reference(frame: Frame) -> Floats:
            """A search through all cases instead of boxes."""
            points, outcomes, asked_at = (
                np.frombuffer(held, dtype=kind)
                for held, kind in ((spec.points, "<f4"), (spec.outcomes, "<f8"), (spec.asked_at, "<i8"))
            )
            found = []
            for point in engine.metric.many(frame):
                gaps = points.reshape(-1, spec.axes) - point
                nearest = np.lexsort((np.arange(len(gaps)), -asked_at, np.einsum("ij,ij->i", gaps, gaps)))
                found.append(float(typical(outcomes[nearest[: spec.k]], spec.error, spec.mean)))
            return np.array(found)

        return Fitted(files, engine, reference)


def similar_cases(
    problem: Problem, rows: TrainingSet, past: Past, *, predictions: Floats
) -> tuple[bytes, Similarity]:
    """The cases as a bundle holds them, the newest ones, and how well they do.

    The metric is learnt from what was known when the latest fifth of the rows was asked, and the number of cases
    chosen on these, whose outcomes it has not seen; then all rows are cases.

    Args:
        rows: Past requests with outcomes, and `past` as many.
        predictions: The model's in the backtest for each row, NaN for those it did not test.
    """
    spec, made = _cases(problem, rows, MOST_CASES)
    shown = msgspec.structs.replace(
        spec,
        ids=[past.ids[place] for place in made.places.tolist()],
        fields=[case_field(column, past.requests[column.name][made.places]) for column in past.fields],
    )
    both = ~np.isnan(predictions[made.late])
    late, said = made.late[both], made.said[both]
    error = model_error = math.nan
    if len(late):
        error, model_error = (problem.error_of(rows.target[late], one) for one in (said, predictions[late]))
    found = Similarity(len(made.places), spec.k, error, model_error, len(late))
    return msgspec.msgpack.encode(shown), found


@dataclass(frozen=True, slots=True)
class _Made:
    """Places among the rows of the cases in their order, and of the later requests that were tried, with what was said."""

    places: Ints
    late: Ints
    said: Floats


def _cases(problem: Problem, rows: TrainingSet, most: int) -> tuple[SimilarSpec, _Made]:
    """The newest cases, without what may be shown of them."""
    texts = len(rows.of_kinds(Kind.TEXT).columns)
    most = min(most, MOST_TEXT_CASES) if texts else most
    # Bytes of a case, with a dozen fields that are shown.
    width = 4 * (len(rows.columns) + 1 + TEXT_AXES * texts) + 140
    newest = np.arange(len(rows))[-min(most, MOST_BYTES // width) :]
    rows = rows.take(newest)
    since = int(rows.asked_at[int(len(rows) * 0.8)])
    early, late = np.flatnonzero(rows.known_before(since)), np.flatnonzero(rows.asked_at >= since)
    late = evenly(late, MOST_TRIED)
    metric, files = _metric(problem, rows, early)
    points = metric.many(rows.frame)
    k, far, said = _tried(problem, points, rows, early, late)
    order, ends = boxed(points)
    spec = SimilarSpec(
        surrogate=msgspec.json.decode(files[ENGINE_FILE], type=LightGBMSpec) if files else None,
        trees=files.get(MODEL_FILE, b""),
        texts=[text.moves for text in metric.texts],
        axes=metric.effects.shape[1],
        effects=metric.effects.tobytes(),
        first_leaf=metric.first_leaf.tolist(),
        points=points[order].tobytes(),
        box_ends=ends,
        outcomes=rows.target[order].tobytes(),
        asked_at=rows.asked_at[order].tobytes(),
        ids=[""] * len(order),
        fields=[],
        error=problem.error,
        k=k,
        far=far,
        mean=float(rows.target.mean()),
    )
    return spec, _Made(newest[order], newest[late[: len(said)]], said)


def _metric(problem: Problem, rows: TrainingSet, early: Ints) -> tuple[Metric, Mapping[str, bytes]]:
    """The metric of the early rows, or of all where those are too few to learn from; and its surrogate's files."""
    reads_texts = bool(rows.of_kinds(Kind.TEXT).columns)
    most = MOST_TEXTS if reads_texts else MOST_LEARNT
    places = np.linspace(0, len(early) - 1, min(len(early), most)).astype(int)
    some = rows.take(early[places])
    try:
        problem.check(some)
    except TrainingError:
        some = rows.thinned(most)
    files, engine = dict[str, bytes](), None
    effects, first_leaf = np.zeros((0, 0)), list[int]()
    coded = some.of_kinds(*CODED)
    if coded.columns:
        fitted = SURROGATE.fit(problem, coded)
        if not isinstance(fitted.engine, LightGBMEngine):
            raise TypeError(fitted.engine)
        engine, files = fitted.engine, fitted.files
        effects, first_leaf = leaf_effects(files[MODEL_FILE].decode(), len(coded.columns))
    texts = text_effects(problem, some, axes=TEXT_AXES, most_cells=TEXT_CELLS) if reads_texts else []
    # A number for each column, for each axis of a text, and for all that is added.
    ends = np.cumsum([len(coded.columns), *(text.axes.shape[1] for text in texts)])
    width = int(ends[-1]) + 1
    leaves = np.zeros((len(effects), width))
    leaves[:, : ends[0]], leaves[:, -1] = effects, math.sqrt(SUM_WEIGHT) * effects.sum(axis=1)
    starts = ends[:-1].tolist()

    def along(axes: Floats) -> Metric:
        points = [TextPoints(_moves(text, start, axes)) for text, start in zip(texts, starts, strict=True)]
        return Metric(engine, (leaves @ axes).astype("<f4"), first_leaf, points)

    return along(_axes(along(np.eye(width)).many(some.frame))), files


def _moves(text: TextEffects, start: int, axes: Floats) -> TextMoves:
    """How far the tokens of a text move a point on some axes of the numbers of a case; its own begin at `start`."""
    total = math.sqrt(SUM_WEIGHT) * axes[-1]
    own = TEXT_WEIGHT * text.axes @ axes[start : start + text.axes.shape[1]]
    effects, null = text.weights[:, None] * (own + total), text.null * total
    weights = pack(text.cells, text.idf, text.weights)
    term = Words(f"text.{text.column.name}.bin", digest(weights), len(text.cells), text.null)
    return TextMoves(
        text.column, term, weights, effects.astype("<f4").tobytes(), null.astype("<f4").tobytes()
    )


def _axes(points: Array) -> Floats:
    """The principal axes of some points, as many as hold `KEPT` of their variance: one for each column given back."""
    strength, axes = np.linalg.eigh(np.atleast_2d(np.cov(points.T.astype(np.float64))))
    held = np.cumsum(strength[::-1]) / max(float(strength.sum()), 1e-300)
    return np.asarray(axes[:, ::-1][:, : int(np.searchsorted(held, KEPT)) + 1])


def _tried(
    problem: Problem, points: Array, rows: TrainingSet, early: Ints, late: Ints
) -> tuple[int, float, Floats]:
    """How many early cases do best for later requests, how far off the tenth lies, and what that many say to them."""
    numbers = [k for k in NUMBERS if k <= len(early)]
    if not numbers or not len(late):
        return NUMBERS[0], math.inf, np.empty(0)
    order, ends = boxed(points[early])
    boxes = Boxes(points[early][order], ends, rows.asked_at[early][order])
    found = [boxes.nearest(points[place], numbers[-1]) for place in late.tolist()]
    outcomes = rows.target[early][order][np.stack([at for at, _ in found])]
    away = np.sqrt(np.stack([distances for _, distances in found]))
    mean, truth = float(rows.target[early].mean()), rows.target[late]
    said = {k: typical(outcomes[:, :k], problem.error, mean) for k in numbers}
    best = min(numbers, key=lambda k: problem.error_of(truth, said[k]))
    return best, float(np.quantile(away[:, min(COMPANY, numbers[-1]) - 1], NEAR)), said[best]


def boxed(points: Array) -> tuple[Ints, list[int]]:
    """An order of the points in which those of a box follow each other, and where each box ends, open.

    Halved at the median of the widest column until a box is small enough.
    """
    done: list[Ints] = []
    waiting = [np.arange(len(points))]
    while waiting:
        rows = waiting.pop()
        if len(rows) <= BOX:
            done.append(rows)
            continue
        held = points[rows]
        column = held[:, int(np.argmax(held.max(axis=0) - held.min(axis=0)))]
        halves = np.argpartition(column, len(rows) // 2)
        waiting += [rows[halves[len(rows) // 2 :]], rows[halves[: len(rows) // 2]]]
    return np.concatenate(done), np.cumsum([len(rows) for rows in done]).tolist()


def leaf_effects(model: str, width: int) -> tuple[Floats, list[int]]:
    """What the steps to each leaf of a LightGBM text model put to the account of each column, and where trees begin.

    Shape `(n_leaves, width)`, the leaves of all trees one after the other.
    """
    found: list[Floats] = []
    first_leaf = []
    for block in model.split("\nTree=")[1:]:
        tree = dict(line.split("=", 1) for line in block.split("\n\n")[0].splitlines() if "=" in line)
        first_leaf.append(sum(map(len, found)))
        found.append(_effects(tree, width))
    return np.concatenate(found), first_leaf


def _effects(tree: dict[str, str], width: int) -> Floats:
    leaves = [float(value) for value in tree["leaf_value"].split()]
    found = np.zeros((len(leaves), width))
    if len(leaves) == 1:
        return found
    values = [float(value) for value in tree["internal_value"].split()]
    columns, *children = (
        [int(value) for value in tree[name].split()]
        for name in ("split_feature", "left_child", "right_child")
    )
    steps: list[tuple[int, Floats]] = [(0, np.zeros(width))]
    while steps:
        node, so_far = steps.pop()
        if node < 0:
            found[~node] = so_far
            continue
        for child in (children[0][node], children[1][node]):
            step = so_far.copy()
            step[columns[node]] += (leaves[~child] if child < 0 else values[child]) - values[node]
            steps.append((child, step))
    return found
