"""Trees of other libraries in LightGBM's text format, so that one engine runs them all, and explains them.

That engine compares float64 numbers. Libraries that compare float32 ones get other thresholds: the largest float64 that
rounds to a float32 which goes left, so that every number takes the branch it takes there. Two things are read alike in
training and in serving: what is nearer to 0 than 1e-35 is 0, as LightGBM's library has it, and what is beyond
the largest float32 is that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np

from icekeel.core.frames import Array, Bools, Floats, Frame, Ints, Kind
from icekeel.core.ids import digest
from icekeel.engines import Encoder
from icekeel.engines.lightgbm import MODEL_FILE, LightGBMSpec
from icekeel.engines.linear import MOST
from icekeel.engines.links import Link
from icekeel.engines.loading import ENGINE_FILE

from .boosting import usual_values
from .problem import Problem, TrainingSet, vocabulary

NEAR_ZERO = 1.0000000180025095e-35
"""`kZeroThreshold` of LightGBM's `meta.h`, a float32."""
_LARGEST = 1.7976931348623157e308
_LEFT, _RIGHT = 10, 8
"""Decision types of LightGBM's `tree.h`: numerical, a missing value is NaN and goes to this side."""


@dataclass(frozen=True, slots=True)
class Tree:
    """One tree as arrays over its nodes; node 0 is the root.

    Attributes:
        feature: Column that decides, -1 for a leaf.
        threshold: A value of at most this goes left.
        missing_left: Whether a missing value goes left.
        value: What a leaf adds.
        count: Rows that came by in training, at least 1; what explanations weigh branches by.
    """

    feature: Ints
    threshold: Floats
    missing_left: Bools
    left: Ints
    right: Ints
    value: Floats
    count: Floats

    def leaf_of(self, row: Floats) -> float:
        """What the tree says to one vector."""
        node = 0
        while self.feature[node] >= 0:
            value = row[self.feature[node]]
            left = self.missing_left[node] if np.isnan(value) else value <= self.threshold[node]
            node = int(self.left[node] if left else self.right[node])
        return float(self.value[node])


def float64_thresholds(thresholds: Array, *, strict: bool) -> Floats:
    """For each threshold `t` the largest float64 `x` with `float32(x) <= t`, or `< t` where `strict`.

    Rounding never reverses an order, so that the numbers that go left are those up to some number: half-way between the
    last float32 that does and the next, itself included where ties go to the former (IEEE 754: to the even one).
    """
    exact = np.asarray(thresholds, dtype=np.float64)
    last = exact.astype(np.float32)
    beyond = last >= exact if strict else last > exact
    with np.errstate(over="ignore"):  # nothing finite comes next to the largest
        last = np.where(beyond, np.nextafter(last, np.float32(-np.inf)), last).astype(np.float32)
        after = np.nextafter(last, np.float32(np.inf))
    middle = last.astype(np.float64) / 2 + after.astype(np.float64) / 2
    even = (last.view(np.uint32) & 1) == 0
    found = np.where(even, middle, np.nextafter(middle, -np.inf))
    return np.clip(np.where(np.isinf(exact) & (exact > 0), _LARGEST, found), -_LARGEST, _LARGEST)


def tree_encoder(problem: Problem, data: TrainingSet, *, nulls: bool) -> Encoder:
    """Numbers as they are; a category by its place among all when ordered by their mean target.

    A tree that may cut that order anywhere loses nothing: the best of all ways to part the categories in two is such a cut
    (Fisher 1958; Breiman et al. 1984, theorem 4.5, for a squared error or two classes).

    Args:
        nulls: Whether the library takes NaN. Otherwise a null counts as the usual number, a null or unknown category as
            one between those below and above the mean of all rows.
    """
    target = np.log(data.target) if problem.log_target else data.target
    overall, fills = float(target.mean()), usual_values(data)
    categories: dict[str, tuple[str, ...]] = {}
    for column in data.columns:
        values = data.frame[column.name]
        if column.kind is not Kind.CAT:
            if not nulls and column.name not in fills:
                known = values[~np.isnan(values)]
                fills[column.name] = float(np.median(known)) if len(known) else 0.0
            continue
        means = {
            value: float(target[values == value].mean())
            for value in vocabulary(values, most=250, fewest_rows=10)
        }
        categories[column.name] = tuple(sorted(means, key=lambda value: (means[value], value)))
        if not nulls:
            fills[column.name] = sum(mean <= overall for mean in means.values()) - 0.5
    return Encoder(data.columns, categories, fills, most=MOST)


def matrix_of(encoder: Encoder, frame: Frame) -> Floats:
    """The vectors of all rows as libraries get them, shape `(n_rows, n_columns)`."""
    matrix = encoder.encode_many(frame)
    matrix[np.abs(matrix) <= NEAR_ZERO] = 0.0
    return matrix


def bundle_files(encoder: Encoder, trees: Sequence[Tree], base: float, link: Link) -> dict[str, bytes]:
    """The files of trees whose leaves, added to `base`, make the score."""
    whole = [*trees, _leaf(base)] if base else list(trees)
    model = _text(whole, len(encoder.columns)).encode()
    spec = LightGBMSpec(encoder.columns, encoder.categories, encoder.fills, link, digest(model), encoder.most)
    return {ENGINE_FILE: msgspec.json.encode(spec), MODEL_FILE: model}


def _leaf(value: float) -> Tree:
    none, one = np.array([-1]), np.ones(1)
    return Tree(none, one, one > 0, none, none, np.array([value]), one)


def _text(trees: Sequence[Tree], width: int) -> str:
    names = " ".join(f"Column_{i}" for i in range(width))
    head = ["tree", "version=v4", "num_class=1", "num_tree_per_iteration=1", "label_index=0"]
    head += [f"max_feature_idx={width - 1}", f"feature_names={names}", f"feature_infos={'none ' * width}"]
    blocks = [f"Tree={i}\n{_block(tree)}" for i, tree in enumerate(trees)]
    return "\n".join([*head, "", *blocks, "end of trees", ""])


def _block(tree: Tree) -> str:
    """One tree: LightGBM counts inner nodes from 0 and leaves from -1 downwards."""
    inner = tree.feature >= 0
    place = np.where(inner, np.cumsum(inner) - 1, np.negative(np.cumsum(~inner)))
    if not inner[0]:
        return f"num_leaves=1\nnum_cat=0\nleaf_value={_floats(tree.value[:1])}\nis_linear=0\nshrinkage=1\n\n"
    # Explanations start from the mean of the leaves, weighed by whole rows.
    counts = np.maximum(1, np.rint(tree.count)).astype(np.int64)
    lines = {
        "num_leaves": str(int((~inner).sum())),
        "num_cat": "0",
        "split_feature": _ints(tree.feature[inner]),
        "split_gain": _ints(np.zeros(int(inner.sum()), dtype=np.int64)),
        "threshold": _floats(np.clip(tree.threshold[inner], -_LARGEST, _LARGEST)),
        "decision_type": _ints(np.where(tree.missing_left[inner], _LEFT, _RIGHT)),
        "left_child": _ints(place[tree.left[inner]]),
        "right_child": _ints(place[tree.right[inner]]),
        "leaf_value": _floats(tree.value[~inner]),
        "leaf_weight": _ints(counts[~inner]),
        "leaf_count": _ints(counts[~inner]),
        "internal_value": _floats(tree.value[inner]),
        "internal_weight": _ints(counts[inner]),
        "internal_count": _ints(counts[inner]),
        "is_linear": "0",
        "shrinkage": "1",
    }
    return "\n".join([*(f"{key}={value}" for key, value in lines.items()), "", ""])


def _ints(values: Array) -> str:
    return " ".join(map(str, values.tolist()))


def _floats(values: Floats) -> str:
    return " ".join(map(repr, np.asarray(values, dtype=np.float64).tolist()))
