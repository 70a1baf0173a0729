"""The small ports in a project file: preprocessors and postprocessors as expressions, estimators as data."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from sklearn.ensemble import AdaBoostRegressor, GradientBoostingRegressor  # type: ignore[import-untyped]
from sklearn.linear_model import LogisticRegression, Ridge  # type: ignore[import-untyped]
from sklearn.pipeline import make_pipeline  # type: ignore[import-untyped]
from sklearn.preprocessing import PolynomialFeatures, StandardScaler  # type: ignore[import-untyped]

import icekeel as ik
from icekeel.core.errors import ProjectError


class Job(ik.Request):
    size: ik.Cat
    title: ik.Text
    price: ik.Num


AT = ik.given().at("2025-01-01")


@pytest.mark.parametrize(
    ("size", "expected"), [("S", "small"), ("XS", "small"), ("L", "large"), ("M", "rest"), (None, "rest")]
)
def test_categories_are_grouped(size: str | None, expected: str) -> None:
    group = Job.size.group({"small": ["S", "XS"], "large": "L"}, otherwise="rest")
    assert AT[group](size=size) == expected


def test_texts_are_cleaned() -> None:
    assert AT[Job.title.strip().replace("--", "-").lower()](title=" \t A----B\n") == "a--b"
    assert AT[Job.title.strip()](title="\u00a0 x \u2003") == "\u00a0 x \u2003"  # of ASCII alone
    assert AT[Job.title.strip()](title=None) is None


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Job.title.replace("", "x"),
        lambda: Job.title.replace("a", 5),  # type: ignore[arg-type]
        lambda: Job.size.group({"a": []}, otherwise="b"),
    ],
)
def test_what_cannot_clean_is_a_fault(wrong: Any) -> None:
    with pytest.raises(ProjectError) as raised:
        AT[wrong()](title="x")
    assert [fault.code for fault in raised.value.faults] == ["bad_constant"]


@pytest.mark.parametrize(
    ("step", "given", "expected"),
    [
        (ik.floor(Job.price), {"answer": 3, "price": 5}, 5.0),
        (ik.floor(Job.price), {"answer": 3, "price": None}, None),  # serving leaves the answer as it is
        (ik.round_to(5), {"answer": 12.5}, 15.0),
        (ik.round_to(0.25), {"answer": -0.3}, -0.25),
        (ik.after(lambda a: ik.when(Job.size == "L", a * 2, a)), {"answer": 3, "size": "L"}, 6.0),
    ],
)
def test_postprocessors_are_tested_alone(step: ik.After, given: Any, expected: float | None) -> None:
    assert AT[step](**given) == expected


@pytest.mark.parametrize(
    ("given", "name"),
    [
        (Ridge(alpha=3.0), "Ridge"),
        (make_pipeline(StandardScaler(), LogisticRegression(C=0.5)), "LogisticRegression"),
        ("HistGradientBoostingRegressor", "HistGradientBoostingRegressor"),
    ],
)
def test_an_estimator_is_read_for_its_name_and_settings(given: Any, name: str) -> None:
    found = ik.sklearn(given)
    assert (found.name, found.faults) == (name, ())
    assert dict(ik.sklearn(Ridge(alpha=3.0)).settings)["alpha"] == 3.0


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("RandomForest", "did you mean"),
        (AdaBoostRegressor(), "AdaBoostRegressor"),
        (make_pipeline(PolynomialFeatures(), Ridge()), "PolynomialFeatures"),
        (GradientBoostingRegressor(init=Ridge()), "init"),
        (5, "no estimator"),
        (make_pipeline(StandardScaler(), "passthrough"), "no estimator"),
    ],
)
def test_what_cannot_be_exported_is_told_when_the_project_is_read(given: Any, told: str) -> None:
    (fault,) = ik.sklearn(given).faults
    assert fault.code == "bad_estimator" and told in str(fault)


def test_a_loss_that_is_no_sum_is_refused() -> None:
    assert ik.sklearn("HistGradientBoostingRegressor", loss="poisson").faults[0].got == "poisson"


def test_naming_an_estimator_imports_nothing() -> None:
    code = "import sys, icekeel as ik; ik.sklearn('Ridge', alpha=2); print('sklearn' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "False"
