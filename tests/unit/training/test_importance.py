from __future__ import annotations

import numpy as np
import pytest

from icekeel.training import LightGBM, Linear, gain_importance, permutation_importance

from .cases import COLUMNS, LEVEL, training_set

DATA = training_set(LEVEL)


def test_features_that_carry_the_model_come_first() -> None:
    fitted = LightGBM(most_trees=60).fit(LEVEL, DATA)
    later = training_set(LEVEL, seed=2)
    for shares in (
        permutation_importance(LEVEL, fitted.engine, later, rng=np.random.default_rng(0)),
        gain_importance(fitted),
    ):
        assert {name for name, _ in shares} == {column.name for column in COLUMNS}
        assert {name for name, _ in shares[:2]} == {"size", "route"}
        assert sum(share for _, share in shares) == pytest.approx(1.0)
        assert dict(shares)["load"] < 0.02


def test_only_trees_have_gains() -> None:
    assert gain_importance(Linear().fit(LEVEL, DATA)) == []
