"""Estimators of scikit-learn as data: a name and settings, so that reading a project imports no library."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from icekeel.core.errors import Fault, nearest, shorten

NUMBERS = (
    *("LinearRegression", "Ridge", "Lasso", "ElasticNet", "HuberRegressor", "QuantileRegressor"),
    *("DecisionTreeRegressor", "ExtraTreesRegressor", "RandomForestRegressor"),
    *("GradientBoostingRegressor", "HistGradientBoostingRegressor"),
)
FLAGS = (
    *("LogisticRegression", "DecisionTreeClassifier", "ExtraTreesClassifier", "RandomForestClassifier"),
    *("GradientBoostingClassifier", "HistGradientBoostingClassifier"),
)
"""What can be written as plain numbers: sums of terms, and trees."""
SCALERS = ("StandardScaler",)
_PLAIN = (type(None), bool, int, float, str)
_LINKED = ("poisson", "gamma")
"""Losses whose predictions are no sums of leaves."""


@dataclass(frozen=True, slots=True)
class Estimator:
    """The one model that is tried beside the simplest, instead of those of the ladder.

    Attributes:
        name: Its class in scikit-learn.
        settings: Its arguments, sorted; plain values.
        faults: Why it cannot be trained and exported.
    """

    name: str
    settings: tuple[tuple[str, Any], ...]
    faults: tuple[Fault, ...] = ()


def sklearn(estimator: Any, **settings: Any) -> Estimator:
    """A model of scikit-learn that can be exported as plain numbers.

    Numbers reach a linear model standardised and nulls of them as their median, its categories as one flag for each value; trees get
    numbers as they are and categories in the order of their mean target. So an estimator needs no pipeline around it.

    Args:
        estimator: Its name, `"HistGradientBoostingRegressor"`, which imports nothing, or the estimator itself, not
            fitted. A pipeline may hold a `StandardScaler` before it, which says what happens anyway.
        settings: Its arguments, where it is named.
    """
    if isinstance(estimator, str):
        return _checked(estimator, settings)
    steps = [step for _, step in getattr(estimator, "steps", [("", estimator)])]
    *before, last = steps or [estimator]
    odd = [step for step in before if type(step).__name__ not in SCALERS and step != "passthrough"]
    if odd:
        what = "no pipeline can be exported but for a scaler before the estimator"
        hint = (
            "categories become flags, and nulls the median, without a pipeline; clean fields by expressions"
        )
        return _faulty(type(last).__name__, Fault("bad_estimator", what, got=_name(odd[0]), hint=hint))
    if not type(last).__module__.startswith("sklearn.") or not hasattr(last, "get_params"):
        return _faulty(_name(last), Fault("bad_estimator", "no estimator of scikit-learn", got=shorten(last)))
    given = last.get_params(deep=False)
    return _checked(type(last).__name__, {**given, **settings})


def _checked(name: str, settings: dict[str, Any]) -> Estimator:
    allowed = (*NUMBERS, *FLAGS)
    faults = []
    if name not in allowed:
        what, hint = "this estimator cannot be exported as plain numbers", nearest(name, allowed)
        faults.append(Fault("bad_estimator", what, got=name, allowed=", ".join(allowed), hint=hint))
    faults += [
        Fault("bad_estimator", "a setting is a number, a text, a flag or None", key, shorten(value))
        for key, value in settings.items()
        if not isinstance(value, _PLAIN)
    ]
    if settings.get("loss") in _LINKED:
        allowed_loss = "squared_error, absolute_error, quantile"
        what = "trees of this loss cannot be exported"
        faults.append(Fault("bad_estimator", what, "loss", str(settings["loss"]), allowed_loss))
    return Estimator(
        name, tuple(sorted(settings.items())), tuple(fault.inside("ik.sklearn") for fault in faults)
    )


def _faulty(name: str, fault: Fault) -> Estimator:
    return Estimator(name, (), (fault.inside("ik.sklearn"),))


def _name(value: object) -> str:
    return type(value).__name__
