from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from icekeel.core.time import DAY
from icekeel.define import Model, load_project
from icekeel.testing.small import write_small_project
from icekeel.training import Backtest, Difference, GroupTable, Ladder, Linear, Rung, backtest, climb
from icekeel.training.ladder import Step
from icekeel.training.worth import Accounts, compared_rungs, dollars, worth_of

from .cases import LATE, training_set

DATA = training_set(LATE, 3_000)
RUNGS: list[Rung] = [GroupTable(), Linear()]
ASKED_AT = np.arange(0, 100 * DAY, DAY // 50)
"""Fifty questions a day."""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    folder: Path = tmp_path_factory.mktemp("worth")
    write_small_project(folder)
    return load_project(folder).models["late"]


def climbed(tolerance: float) -> tuple[Ladder, Backtest]:
    return climb(LATE, DATA, RUNGS, tolerance=tolerance, rng=np.random.default_rng(0), folds=4)


def test_money_by_hand(model: Model) -> None:
    accounts = Accounts(model, ASKED_AT, core_hour=0.36)
    assert accounts.answers == pytest.approx(50 * 365, rel=1e-3)
    assert accounts.retrains == 12
    low, high = (Step("a", 0.5, (), None, 1.0, 100, 5.0), Step("b", 0.4, (), None, 101.0, 900, 25.0))
    worth = accounts.rung(high, low, Difference(0.1, 0.05, 0.15))
    assert (worth.earns, worth.low, worth.high) == pytest.approx(
        (100_000, 50_000, 150_000)
    )  # $10,000 for 0.01
    assert worth.costs.training == pytest.approx(100 * 2 * 12 * 0.0001)  # two fits of a month
    assert worth.costs.serving == pytest.approx(20e-6 * 50 * 365 * 0.0001, rel=1e-3)
    assert worth.costs.bytes == 800
    assert worth.told.startswith("b earns $100,000 a year more than a ($50,000 to $150,000) and costs $0.24")
    assert [dollars(amount) for amount in (0.001, -12.4, 9.5, 0.0)] == [
        "less than a cent",
        "-$12",
        "$9.50",
        "$0.00",
    ]


def test_the_next_rung_is_the_one_after_the_winner(model: Model) -> None:
    ladder, trial = climbed(10.0)
    found = worth_of(
        model, ladder, trial, None, asked_at=ASKED_AT, core_hour=0.05, rng=np.random.default_rng(0)
    )
    assert found.winner == "group" and found.next is not None
    assert (found.next.rung, found.next.over) == ("linear", "group")
    assert found.next.gain.gain == pytest.approx(ladder.step("group").error - ladder.step("linear").error)
    assert found.features is None
    top, trial = climbed(0.0)
    above = worth_of(model, top, trial, None, asked_at=ASKED_AT, core_hour=0.05, rng=np.random.default_rng(0))
    assert (above.winner, above.next) == ("linear", None)
    assert above.stack is not None and "linear" in above.stack.weights
    assert compared_rungs(ladder) == ["group", "linear"]
    assert compared_rungs(top) == ["linear"]


def test_the_same_algorithm_is_held_against_itself_on_fewer_features(model: Model) -> None:
    ladder, trial = climbed(10.0)
    fewer = training_set(LATE, 3_000)
    raw = backtest(
        LATE,
        type(fewer)(fewer.columns[1:2], fewer.frame, fewer.target, fewer.asked_at, fewer.known_at),
        RUNGS,
        folds=4,
    )
    found = worth_of(
        model, ladder, trial, raw, asked_at=ASKED_AT, core_hour=0.05, rng=np.random.default_rng(0)
    )
    assert found.features is not None
    assert set(found.features.errors) == {"group", "linear"}
    pair = found.features.errors["group"]
    assert found.features.features.gain == pytest.approx(pair["raw"] - pair["engineered"])
    assert found.features.features.low > 0
    assert found.features.algorithm is not None and found.features.other == "linear"
