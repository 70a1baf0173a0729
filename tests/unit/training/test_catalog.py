from __future__ import annotations

from copy import copy
from pathlib import Path

import pytest

import icekeel as ik
from icekeel.core.errors import TrainingError
from icekeel.define import Model, load_project
from icekeel.testing.small import write_small_project
from icekeel.training import LightGBM
from icekeel.training.catalog import UPKEEP, full_ladder, rungs_up_to


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    folder: Path = tmp_path_factory.mktemp("catalog")
    write_small_project(folder)
    return load_project(folder).models["late"]


def test_the_ladder_goes_from_simple_to_complex_and_every_rung_has_its_upkeep(model: Model) -> None:
    rungs = full_ladder(model, 4)
    assert [rung.name for rung in rungs] == ["group", "similar", "linear", "lightgbm"]
    assert rungs[-1] == LightGBM(threads=4)
    other = copy(model)
    other.ladder = ik.Ladder(trees="xgboost")
    assert [rung.name for rung in full_ladder(other)] == ["group", "similar", "linear", "xgboost"]
    assert {*UPKEEP} >= {rung.name for one in (model, other) for rung in full_ladder(one)}


def test_a_retrain_fits_the_simplest_rung_and_one_with_its_settings(model: Model) -> None:
    simplest, rung = rungs_up_to(model, "lightgbm", 2, {"leaves": 7})
    assert (simplest.name, rung) == ("group", LightGBM(leaves=7, threads=2))
    assert [rung.name for rung in rungs_up_to(model, "group")] == ["group"]
    with pytest.raises(TrainingError) as raised:
        rungs_up_to(model, "ligtgbm")
    assert raised.value.faults[0].hint.startswith('did you mean "lightgbm"') or "lightgbm" in str(
        raised.value
    )
