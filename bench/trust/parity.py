"""Whether what serves says what the training library says, on rows made to tell them apart."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable, Iterator, Mapping

import numpy as np

from bench.report import Result
from icekeel.core.frames import Array, Floats, Frame, Kind
from icekeel.define.estimators import sklearn
from icekeel.engines.encoder import CODED
from icekeel.engines.links import from_link_many
from icekeel.testing.model_checks import PROBLEMS, example_rows, odd_rows
from icekeel.training import Fitted, LightGBM, Linear, Problem, Rung, TrainingSet
from icekeel.training.estimators import Sklearn
from icekeel.training.texts import Texts
from icekeel.training.trees import NEAR_ZERO, matrix_of, tree_encoder
from icekeel.training.xgboost import XGBoost

ROWS = 100_000
"""For each engine, all its models together."""
BLOCK = 5_000
LEAST = 1e-6
"""What differences are relative to at least."""
NUMBERS = {"mape", "rmse"}


def rungs() -> Mapping[str, list[tuple[Rung, Problem]]]:
    """The models of each engine."""
    flag, *numbers = [one for one in PROBLEMS if one.error in {"log_loss", *NUMBERS}]
    both = (flag, *numbers)
    flags = (
        "HistGradientBoostingClassifier",
        "GradientBoostingClassifier",
        "RandomForestClassifier",
        "LogisticRegression",
    )
    others = (
        "HistGradientBoostingRegressor",
        "GradientBoostingRegressor",
        "ExtraTreesRegressor",
        "DecisionTreeRegressor",
        "Ridge",
    )
    estimators: list[tuple[Rung, Problem]] = [(Sklearn(sklearn(name)), flag) for name in flags]
    estimators += [(Sklearn(sklearn(name)), numbers[1]) for name in others]
    found: dict[str, list[tuple[Rung, Problem]]] = {
        "lightgbm": [(LightGBM(), problem) for problem in both],
        "sklearn": estimators,
        "linear": [(Linear(), problem) for problem in both],
        "text": [(Texts(weight=2.0), problem) for problem in both],
    }
    if importlib.util.find_spec("xgboost") is not None:
        found["xgboost"] = [(XGBoost(), problem) for problem in both]
    return found


def parity() -> Result:
    """The largest difference of each engine to the library that trained it, relative."""
    found: dict[str, float] = {}
    own = 0.0
    for name, models in rungs().items():
        worst = 0.0
        for rung, problem in models:
            data = example_rows(problem, 2_000)
            fitted = rung.fit(problem, data)
            itself = _xgboost_itself(problem, data, fitted.again) if isinstance(rung, XGBoost) else None
            for frame in _odd(fitted, data.frame, ROWS // len(models)):
                got = fitted.engine.predict_many(frame)
                with np.errstate(
                    invalid="ignore"
                ):  # scikit-learn adds up what it is given, to find infinities
                    worst = max(worst, _gap(got, fitted.reference(frame)))
                if itself is not None:
                    own = max(own, _gap(got, itself(frame), least=1.0))
        found[name] = worst
    return {"worst": max(found.values()), **found, "xgboost_float32": own, "rows": ROWS}


def _xgboost_itself(problem: Problem, data: TrainingSet, rung: Rung | None) -> Callable[[Frame], Floats]:
    """What XGBoost answers by itself: the same leaves added up as float32."""
    import xgboost

    if not isinstance(rung, XGBoost):
        raise TypeError("a fit of XGBoost says how many trees it has")
    rows = data.of_kinds(*CODED)
    encoder = tree_encoder(problem, rows, nulls=True)
    booster = rung._train(problem, encoder, rows, rung.trees)

    def predict(frame: Frame) -> Floats:
        found = booster.predict(xgboost.DMatrix(matrix_of(encoder, frame))).astype(np.float64)
        return from_link_many("exp", found) if problem.log_target else np.asarray(found)

    return predict


def _odd(fitted: Fitted, known: Frame, n_rows: int) -> Iterator[Frame]:
    """Rows with values at thresholds and next to them, as float64 and as float32, besides those of `odd_rows`."""
    rng = np.random.default_rng(3)
    text = fitted.files.get("model.txt", b"").decode()
    lines = re.findall(r"^threshold=(.+)$", text, re.MULTILINE)
    near: Array = np.unique([float(one) for line in lines for one in line.split()] or [0.0])
    near = near[np.abs(near) < 1e300]
    single = np.clip(near, -3e38, 3e38).astype(np.float32)
    ends = [np.nextafter(single, np.float32(end)).astype(np.float64) for end in (-np.inf, np.inf)]
    tiny = np.array([NEAR_ZERO, np.nextafter(NEAR_ZERO, 1), 1e-300, -5e-324])
    pool = np.concatenate(
        [near, np.nextafter(near, np.inf), np.nextafter(near, -np.inf), single, *ends, tiny]
    )
    numbers = [column.name for column in fitted.engine.columns if column.kind is Kind.NUM]
    for start in range(0, n_rows, BLOCK):
        frame = odd_rows(fitted.engine.columns, known, BLOCK, seed=start)
        mixed = {
            name: np.where(rng.random(BLOCK) < 0.5, rng.choice(pool, BLOCK), frame[name]) for name in numbers
        }
        yield frame.with_columns(mixed)


def _gap(got: Floats, expected: Floats, least: float = LEAST) -> float:
    return float((np.abs(got - expected) / np.maximum(least, np.abs(expected))).max())
