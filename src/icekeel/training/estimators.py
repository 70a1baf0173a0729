"""A rung of the user's own: an estimator of scikit-learn, exported as plain numbers."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np

from icekeel.core.errors import Fault, TrainingError
from icekeel.core.frames import Array, Floats, Frame, Kind
from icekeel.define.estimators import Estimator
from icekeel.engines import Encoder, load_engine
from icekeel.engines.encoder import CODED
from icekeel.engines.linear import MOST, Levels, LinearSpec, Slope, Term
from icekeel.engines.links import from_link_many
from icekeel.engines.loading import ENGINE_FILE

from .problem import Problem, TrainingSet, vocabulary
from .rungs import Fitted
from .trees import Tree, bundle_files, float64_thresholds, matrix_of, tree_encoder

_MODULES = {"DecisionTree": "tree", "ExtraTrees": "ensemble", "RandomForest": "ensemble", "GradientBoosting": "ensemble",
            "HistGradientBoosting": "ensemble"}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Sklearn:
    """What a project names as `model=ik.sklearn(...)`.

    Args:
        estimator: A name and settings that have been checked; `random_state` is the problem's seed unless set.
        threads: Of the fit, where the estimator has a choice.
    """

    estimator: Estimator
    threads: int = 1
    name: str = "sklearn"

    def fit(self, problem: Problem, data: TrainingSet) -> Fitted:
        """The estimator fitted to all rows.

        Raises:
            TrainingError: scikit-learn refuses the settings or the rows.
        """
        problem.check(data)
        data = data.of_kinds(*CODED)
        family = self.estimator.name.removesuffix("Regressor").removesuffix("Classifier")
        library = importlib.import_module(f"sklearn.{_MODULES.get(family, 'linear_model')}")
        target = np.log(data.target) if problem.log_target else data.target
        try:
            made = self._made(getattr(library, self.estimator.name), problem)
            if family not in _MODULES:
                return _fit_linear(made, problem, data, target)
            return _fit_trees(made, family, problem, data, target)
        except (TypeError, ValueError) as error:
            what = f"scikit-learn refuses it: {error}"
            raise TrainingError(Fault("bad_estimator", what, "ik.sklearn", self.estimator.name)) from error

    def _made(self, cls: Any, problem: Problem) -> Any:
        settings = dict(self.estimator.settings)
        known = cls().get_params(deep=False)
        if known.get("random_state", 0) is None and settings.get("random_state") is None:
            settings["random_state"] = problem.seed
        if "bootstrap" in known and settings.get("n_jobs") is None:  # forests alone gain by it
            settings["n_jobs"] = self.threads
        return cls(**settings)


def _fit_trees(made: Any, family: str, problem: Problem, data: TrainingSet, target: Floats) -> Fitted:
    encoder = tree_encoder(problem, data, nulls=family != "GradientBoosting")
    matrix = matrix_of(encoder, data.frame)
    made.fit(matrix, target)
    trees = _EXPORTS.get(family, _averaged)(made, problem)
    link, base = problem.link, 0.0
    if family in ("GradientBoosting", "HistGradientBoosting"):
        # What boosting starts from has no public name: it is what the trees leave over of a score.
        scores = made.decision_function if problem.task == "probability" else made.predict
        base = float(scores(matrix[:1])[0]) * _doubled(made) - sum(tree.leaf_of(matrix[0]) for tree in trees)
    elif problem.task == "probability":
        link = "identity"
    files = bundle_files(encoder, trees, base, link)

    def reference(frame: Frame) -> Floats:
        return _predict(made, problem, matrix_of(encoder, frame))

    return Fitted(files, load_engine(files), reference)


def _predict(made: Any, problem: Problem, matrix: Any) -> Floats:
    if not len(matrix):
        return np.zeros(0)
    if problem.task == "probability":
        return np.asarray(made.predict_proba(matrix)[:, 1], dtype=np.float64)
    found = np.asarray(made.predict(matrix), dtype=np.float64)
    return from_link_many("exp", found) if problem.log_target else found


def _averaged(made: Any, problem: Problem) -> list[Tree]:
    """The trees of a forest, or a single one; leaves are means of the target."""
    each = getattr(made, "estimators_", [made])
    return [_tree(one.tree_, 1 / len(each), flag=problem.task == "probability") for one in each]


def _boosted(made: Any, problem: Problem) -> list[Tree]:
    rate = made.learning_rate * _doubled(made)
    return [_tree(one.tree_, rate, flag=False) for one in made.estimators_.ravel()]


def _doubled(made: Any) -> float:
    """AdaBoost's loss has half of the log-odds as its score (Friedman, Hastie and Tibshirani 2000)."""
    return 2.0 if getattr(made, "loss", "") == "exponential" else 1.0


def _tree(one: Any, times: float, *, flag: bool) -> Tree:
    """A tree of scikit-learn's, which compares float32 with float64."""
    leaf = one.children_left < 0
    value = one.value[:, 0, 1] / one.value[:, 0, :].sum(axis=1) if flag else one.value[:, 0, 0]
    return Tree(
        feature=np.where(leaf, -1, one.feature),
        threshold=float64_thresholds(one.threshold, strict=False),
        missing_left=np.asarray(one.missing_go_to_left) != 0,
        left=one.children_left,
        right=one.children_right,
        value=np.where(leaf, value * times, 0.0),
        count=one.weighted_n_node_samples,
    )


def _histograms(made: Any, _problem: Problem) -> list[Tree]:
    """Trees on histograms compare float64. Their arrays have no public name; `check_model` holds this to account."""
    return [_histogram(one.nodes) for (one,) in made._predictors]


def _histogram(nodes: Array) -> Tree:
    leaf = nodes["is_leaf"].astype(bool)
    return Tree(
        feature=np.where(leaf, -1, nodes["feature_idx"]).astype(np.int64),
        threshold=nodes["num_threshold"],
        missing_left=nodes["missing_go_to_left"].astype(bool),
        left=nodes["left"].astype(np.int64),
        right=nodes["right"].astype(np.int64),
        value=np.where(leaf, nodes["value"], 0.0),
        count=nodes["count"].astype(np.float64),
    )


_EXPORTS = {"GradientBoosting": _boosted, "HistGradientBoosting": _histograms}


def _fit_linear(made: Any, problem: Problem, data: TrainingSet, target: Floats) -> Fitted:
    numbers = [column for column in data.columns if column.kind is not Kind.CAT]
    levels = {
        column.name: vocabulary(data.frame[column.name], most=100, fewest_rows=10)
        for column in data.columns
        if column.kind is Kind.CAT
    }
    known = {column.name: data.frame[column.name][~np.isnan(data.frame[column.name])] for column in numbers}
    fills = {name: float(np.median(values)) if len(values) else 0.0 for name, values in known.items()}
    encoder = Encoder(numbers, {}, fills, most=MOST)
    raw = encoder.encode_many(data.frame)
    centre, width = raw.mean(axis=0), raw.std(axis=0)
    width[width == 0] = 1.0

    def design(frame: Frame) -> Floats:
        parts = [(encoder.encode_many(frame) - centre) / width]
        for name, names in levels.items():
            places = {value: place for place, value in enumerate(names)}
            flags = np.zeros((len(frame), len(names) + 1))  # the last is of null and of any other
            flags[np.arange(len(frame)), [places.get(value, len(names)) for value in frame[name]]] = 1.0
            parts.append(flags[:, :-1])
        return np.concatenate(parts, axis=1)

    made.fit(design(data.frame), target)
    weights = np.ravel(made.coef_).tolist()
    terms: dict[str, Term] = {}
    for i, column in enumerate(numbers):
        slope = weights[i] / float(width[i])
        terms[column.name] = Slope(slope, float(centre[i]), slope * (fills[column.name] - float(centre[i])))
    at = len(numbers)
    for name, names in levels.items():
        terms[name] = Levels(dict(zip(names, weights[at : at + len(names)], strict=True)), 0.0, 0.0)
        at += len(names)
    ordered = tuple(terms[column.name] for column in data.columns)
    spec = LinearSpec(data.columns, ordered, float(np.ravel(made.intercept_)[0]), problem.link)
    files = {ENGINE_FILE: msgspec.json.encode(spec)}
    return Fitted(files, load_engine(files), lambda frame: _predict(made, problem, design(frame)))
