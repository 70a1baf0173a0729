"""Which rungs there are, from simple to complex."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

from icekeel.core.errors import Fault, TrainingError, nearest
from icekeel.core.kinds import Kind
from icekeel.define import Model
from icekeel.engines.encoder import CODED

from .boosting import LightGBM
from .estimators import Sklearn
from .group import GroupTable
from .linear import Linear
from .rungs import Rung
from .similar import Similar
from .texts import Texts
from .xgboost import XGBoost

UPKEEP: Mapping[str, str] = {
    "group": "a table anybody can read and check by hand",
    "similar": "past cases: it answers with what came of them, forgets none, and grows with each",
    "linear": "one curve a feature, plain numbers, explained in two minutes",
    "text": "a weight for each word and piece of a word, plain numbers, tens of thousands of them",
    "sklearn": "an estimator whose settings somebody chose and has to defend, and one more library to upgrade",
    "lightgbm": "hundreds of trees nobody reads, explained by Shapley values alone, and one more library to upgrade",
    "xgboost": "hundreds of trees nobody reads, explained by Shapley values alone, and one more library to upgrade",
}
"""What keeping each rung costs people, as no measurement says it."""
TUNED = ("leaves", "fewest_rows", "penalty", "learning_rate")
_R = TypeVar("_R", bound=Rung)


def full_ladder(model: Model, threads: int = 1) -> tuple[Rung, ...]:
    """Every rung of a model, from simple to complex: those that can read something of its features."""
    kinds = {feature.node.kind for feature in model.features.icekeel_features}
    if model.model is not None:
        return GroupTable(), Sklearn(model.model, threads)
    texts: tuple[Rung, ...] = (Texts(),) if Kind.TEXT in kinds else ()
    if not kinds & set(CODED):
        return (GroupTable(), Similar(), *texts) if texts else (GroupTable(),)
    trees = XGBoost(threads=threads) if model.ladder.trees == "xgboost" else LightGBM(threads=threads)
    return GroupTable(), Similar(), Linear(), *texts, trees


def rungs_up_to(
    model: Model, name: str, threads: int = 1, settings: Mapping[str, Any] | None = None
) -> tuple[Rung, ...]:
    """The simplest rung and the one named, with its settings: what a scheduled retrain fits.

    Raises:
        TrainingError: the model has no such rung.
    """
    ladder = full_ladder(model, threads)
    chosen = [rung for rung in ladder if rung.name == name]
    if not chosen:
        names = [rung.name for rung in ladder]
        fault = Fault("unknown_rung", "no such rung", "", name, ", ".join(names), nearest(name, names))
        raise TrainingError(fault)
    rung = with_settings(chosen[0], settings or {})
    return (rung,) if rung.name == ladder[0].name else (ladder[0], rung)


def with_settings(rung: _R, settings: Mapping[str, Any]) -> _R:
    """The rung with these of its settings; those that it does not have are none of its business."""
    if not is_dataclass(rung):
        return rung
    known = {one.name for one in fields(rung)}
    return replace(rung, **{name: value for name, value in settings.items() if name in known})


def settings_of(rung: Rung) -> dict[str, Any]:
    """The settings of a rung that tuning may change, where they are not its own."""
    if not is_dataclass(rung):
        return {}
    return {
        one.name: value
        for one in fields(rung)
        if one.name in TUNED and (value := getattr(rung, one.name)) != one.default
    }
