"""Every rung passes the suite of all rungs; the suite sees what is wrong with one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from icekeel.core.errors import TrainingError
from icekeel.core.frames import Floats, Frame
from icekeel.define.estimators import FLAGS, NUMBERS, sklearn
from icekeel.engines import load_engine
from icekeel.testing import check_model
from icekeel.testing.model_checks import PROBLEMS
from icekeel.training import Fitted, GroupTable, LightGBM, Linear, Problem, Rung, TrainingSet
from icekeel.training.estimators import Sklearn
from icekeel.training.similar import Similar
from icekeel.training.texts import Texts
from icekeel.training.xgboost import XGBoost

FEW = {
    "Forest": {"n_estimators": 8},
    "Extra": {"n_estimators": 8},
    "Hist": {"max_iter": 8},
    "Gradient": {"n_estimators": 8},
}


@pytest.mark.parametrize(
    "rung",
    [GroupTable(), Similar(), Linear(), Texts(weight=2.0), LightGBM(most_trees=20)],
    ids=lambda rung: rung.name,
)
def test_rungs_of_the_ladder_pass(rung: Rung) -> None:
    checked = check_model(rung)
    assert [one.error for one in checked] == [problem.error for problem in PROBLEMS]
    assert all(0 < one.predict_us < 1_000 and one.size_bytes and one.worst <= 1e-9 for one in checked)


def test_xgboost_passes() -> None:
    pytest.importorskip("xgboost", reason="an extra")
    assert len(check_model(XGBoost(most_trees=20))) == len(PROBLEMS)


@pytest.mark.parametrize("name", [*FLAGS, *NUMBERS])
def test_estimators_of_scikit_learn_pass(name: str) -> None:
    few = next((settings for part, settings in FEW.items() if part in name), {})
    problems = PROBLEMS[:1] if name in FLAGS else PROBLEMS[1:]
    assert len(check_model(Sklearn(sklearn(name, **few)), problems)) == len(problems)


class Spoilt:
    """An engine that does one thing wrong."""

    def __init__(self, engine: Any, fault: str) -> None:
        self.engine, self.columns, self.fault, self.asked = engine, engine.columns, fault, 0

    def predict_one(self, values: Any) -> float:
        found = float(self.engine.predict_one(values))
        return found + 1e-12 if self.fault == "one" else found

    def predict_many(self, frame: Frame) -> Floats:
        self.asked += 1
        found: Floats = np.array(self.engine.predict_many(frame))
        if self.fault == "mutates" and len(frame):
            frame["load"][0] = 5.0
        if self.fault == "order" and len(frame):
            found[0] += 1e-9
        if self.fault == "range":
            found += 2.0
        return found + 1e-6 * (self.fault == "far")

    def explain(self, values: Any) -> Any:
        found = self.engine.explain(values)
        return found._replace(base=found.base + 0.5) if self.fault == "explained" else found


@dataclass
class Broken:
    fault: str
    name: str = "broken"
    fits: int = 0

    def fit(self, problem: Problem, data: TrainingSet) -> Fitted:
        self.fits += 1
        fitted = Linear().fit(problem, data)
        files = {**fitted.files, "more": bytes([self.fits])} if self.fault == "bytes" else fitted.files
        if self.fault == "pickle":
            files = {**files, "model.pkl": b"\x80\x04K\x01."}
        return replace(fitted, files=files)


WRONG = {
    "bytes": "two fits of the same rows differ",
    "pickle": "a file cannot be shipped",
    "one": "one row differs from many",
    "order": "the order of rows matters",
    "range": "a prediction is out of range",
    "far": "the training library differs",
    "mutates": "what was given has been changed",
    "explained": "an explanation does not add up",
}


@pytest.mark.parametrize("fault", WRONG)
def test_what_is_wrong_is_seen(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module = "icekeel.testing.model_checks.load_engine"
    monkeypatch.setattr(module, lambda files: Spoilt(load_engine(files), fault))
    with pytest.raises(TrainingError) as raised:
        check_model(Broken(fault), PROBLEMS[:1])
    assert WRONG[fault] in [found.what for found in raised.value.faults]
    assert all(found.where == "log_loss broken" or "log_loss" in found.where for found in raised.value.faults)


def test_a_slow_row_is_told() -> None:
    with pytest.raises(TrainingError, match="takes too long"):
        check_model(Linear(), PROBLEMS[:1], slowest_us=0.01)
