from __future__ import annotations

import numpy as np

from icekeel.training import LightGBM
from icekeel.training.catalog import settings_of, with_settings
from icekeel.training.tuning import Tuned, tune

from .cases import LEVEL, training_set

DATA = training_set(LEVEL, 1_500)


def tuned(rung: LightGBM, budget_s: float) -> Tuned:
    return tune(LEVEL, DATA, rung, budget_s=budget_s, rng=np.random.default_rng(0))


def test_settings_that_are_surely_better_are_found_and_the_same_each_time() -> None:
    poor = LightGBM(leaves=2, learning_rate=0.2, most_trees=10, fewest_rows=20)
    found = tuned(poor, 1e9)
    assert found == tuned(poor, 1e9)
    assert found.settings["leaves"] in (15, 63)
    assert found.over_default is not None and found.over_default.low > 0
    assert found.tried == 7
    better = with_settings(poor, found.settings)
    assert settings_of(better) == {"learning_rate": 0.2, "fewest_rows": 20, **found.settings}


def test_the_budget_ends_the_search_by_the_work_that_was_done() -> None:
    rung = LightGBM(most_trees=20)
    assert (tuned(rung, 0).tried, tuned(rung, 0).settings) == (1, {})
    once = tuned(rung, 0).seconds
    assert once > 0
    assert tuned(rung, once * 1.5).tried == 2


def test_a_setting_that_a_rung_lacks_is_none_of_its_business() -> None:
    assert with_settings(LightGBM(), {"leaves": 7, "lanes": 3}) == LightGBM(leaves=7)
    assert settings_of(LightGBM()) == {}
