"""Which features carry a model."""

from __future__ import annotations

import numpy as np

from icekeel.engines import Engine
from icekeel.engines.lightgbm import MODEL_FILE

from .boosting import library
from .problem import Problem, TrainingSet
from .rungs import Fitted

Shares = list[tuple[str, float]]
"""Feature and its share of the whole, largest first; shares sum to 1 unless all are 0."""


def permutation_importance(
    problem: Problem, engine: Engine, later: TrainingSet, *, rng: np.random.Generator
) -> Shares:
    """What each feature saves: how much the error on later rows rises when its values are shuffled.

    Breiman 2001, section 10. A feature whose shuffling does not hurt has 0; correlated features share.
    """
    plain = problem.error_of(later.target, engine.predict_many(later.frame))
    rises = {}
    for column in engine.columns:
        shuffled = later.frame.with_columns({column.name: rng.permutation(later.frame[column.name])})
        rises[column.name] = problem.error_of(later.target, engine.predict_many(shuffled)) - plain
    return _shares(rises)


def gain_importance(fitted: Fitted) -> Shares:
    """What the splits on each feature gained while LightGBM was trained; nothing for other engines."""
    if MODEL_FILE not in fitted.files:
        return []
    booster = library().Booster(model_str=fitted.files[MODEL_FILE].decode())
    gains = booster.feature_importance("gain").tolist()
    return _shares({column.name: gain for column, gain in zip(fitted.engine.columns, gains, strict=True)})


def _shares(amounts: dict[str, float]) -> Shares:
    kept = {name: max(0.0, amount) for name, amount in amounts.items()}
    whole = sum(kept.values()) or 1.0
    return sorted(
        ((name, amount / whole) for name, amount in kept.items()), key=lambda item: (-item[1], item[0])
    )
