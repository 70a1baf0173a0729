"""An upper rung that may be chosen instead of LightGBM: gradient-boosted trees by XGBoost.

It is an extra (`pip install icekeel[xgboost]`) and only trains: its trees are served by the engine of all trees. XGBoost adds
leaves up as float32, which differs from their sum in the seventh digit; the engine gives the sum.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import msgspec
import numpy as np

from icekeel.core.errors import Fault, TrainingError
from icekeel.core.frames import Floats, Frame
from icekeel.engines import Encoder, load_engine
from icekeel.engines.encoder import CODED
from icekeel.engines.links import from_link_many

from .boosting import Boosted
from .problem import Problem, TrainingSet
from .rungs import Fitted
from .trees import Tree, bundle_files, float64_thresholds, matrix_of, tree_encoder

_OBJECTIVES = {
    "log_loss": "binary:logistic",
    "mape": "reg:squarederror",
    "mae": "reg:absoluteerror",
    "rmse": "reg:squarederror",
}


@dataclass(frozen=True, slots=True)
class XGBoost(Boosted):
    """Trees of XGBoost's; of flags without `fewest_rows`, its own rule says how small a leaf may be."""

    penalty: float = 1.0
    name: str = "xgboost"

    def fit(self, problem: Problem, data: TrainingSet) -> Fitted:
        """The trees of all rows.

        Raises:
            TrainingError: XGBoost is not installed, or no model can be fitted to these rows.
        """
        problem.check(data)
        data = data.of_kinds(*CODED)
        encoder = tree_encoder(problem, data, nulls=True)

        def best(earlier: TrainingSet, later: TrainingSet) -> int:
            return int(self._train(problem, encoder, earlier, self.most_trees, later).best_iteration) + 1

        trees = self.count(data, best)
        booster = self._train(problem, encoder, data, trees)
        grown, base = exported(booster)
        files = bundle_files(encoder, grown, base, problem.link)

        def reference(frame: Frame) -> Floats:
            found = _library().DMatrix(matrix_of(encoder, frame))
            leaves = booster.predict(found, pred_leaf=True).astype(np.int64).reshape(len(frame), -1)
            score = np.full(len(frame), base)
            for tree, ends in zip(grown, leaves.T, strict=True):
                score += tree.value[ends]
            return from_link_many(problem.link, score)

        return Fitted(files, load_engine(files), reference, replace(self, trees=trees))

    def _least_weight(self, problem: Problem, data: TrainingSet) -> float:
        """Of a leaf: a row weighs 1, of a flag as much as it tells about the rate."""
        rate = float(data.target.mean())
        if problem.task == "probability":
            return self.fewest_rows * rate * (1 - rate) or 1.0
        return self.least(len(data))

    def _train(
        self,
        problem: Problem,
        encoder: Encoder,
        data: TrainingSet,
        trees: int,
        held_out: TrainingSet | None = None,
    ) -> Any:  # XGBoost has no types
        parameters = {
            "objective": _OBJECTIVES[problem.error],
            "tree_method": "hist",
            "grow_policy": "lossguide",
            "max_leaves": self.leaves,
            "max_depth": 0,
            "max_bin": 127,
            "learning_rate": self.learning_rate,
            "min_child_weight": self._least_weight(problem, data),
            "lambda": self.penalty,
            "colsample_bytree": 0.8,
            "seed": problem.seed,
            "nthread": self.threads,
            "verbosity": 0,
        }
        xgboost = _library()
        rows, *held = (
            xgboost.DMatrix(
                matrix_of(encoder, part.frame), np.log(part.target) if problem.log_target else part.target
            )
            for part in ([data] if held_out is None else [data, held_out])
        )
        return xgboost.train(
            parameters,
            rows,
            trees,
            evals=[(one, "later") for one in held],
            early_stopping_rounds=self.patience if held else None,
            verbose_eval=False,
        )


def exported(booster: Any) -> tuple[Sequence[Tree], float]:
    """The trees of a booster, and what their sum is added to: on the log-odds scale for a probability."""
    learner = msgspec.json.decode(bytes(booster.save_raw("json")))["learner"]
    base = float(learner["learner_model_param"]["base_score"].strip("[]"))
    if learner["objective"]["name"].startswith("binary:"):
        base = float(np.log(base / (1 - base)))
    return [_tree(one) for one in learner["gradient_booster"]["model"]["trees"]], base


def _tree(one: Any) -> Tree:  # of XGBoost's JSON
    left = np.array(one["left_children"])
    leaf = left < 0
    # A leaf's value stands where an inner node has its threshold; both are float32.
    numbers = np.array(one["split_conditions"], dtype=np.float32)
    rows = np.array(one["sum_hessian"])
    return Tree(
        feature=np.where(leaf, -1, np.array(one["split_indices"])),
        threshold=float64_thresholds(numbers, strict=True),
        missing_left=np.array(one["default_left"]) != 0,
        left=left,
        right=np.array(one["right_children"]),
        value=np.where(leaf, numbers.astype(np.float64), 0.0),
        count=rows * (1000 / max(float(rows[0]), 1e-9)),
    )


def _library() -> Any:
    try:
        import xgboost  # an extra
    except ImportError as error:
        hint = 'pip install "icekeel[xgboost]"'
        raise TrainingError(Fault("no_xgboost", "XGBoost is not installed", hint=hint)) from error
    return xgboost
