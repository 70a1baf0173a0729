from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import t

from icekeel.core.errors import TrainingError
from icekeel.core.frames import Column, Kind
from icekeel.core.time import DAY
from icekeel.training import Bench, GroupTable, LightGBM, Linear, Rung, TrainingSet, permutation_importance
from icekeel.training.ladder import difference

from .cases import COLUMNS, LATE, LEVEL, training_set

DATA = training_set(LEVEL)


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def twinned(data: TrainingSet) -> TrainingSet:
    """The same rows with `size` a second time."""
    columns = (*data.columns, Column("twin", Kind.NUM))
    return replace(data, columns=columns, frame=data.frame.with_columns({"twin": data.frame["size"]}))


def test_features_that_carry_the_model_come_first() -> None:
    fitted = LightGBM(most_trees=60).fit(LEVEL, DATA)
    shares = permutation_importance(LEVEL, fitted.engine, training_set(LEVEL, seed=2), rng=rng())
    assert {name for name, _ in shares} == {column.name for column in COLUMNS}
    assert {name for name, _ in shares[:2]} == {"size", "route"}
    assert sum(share for _, share in shares) == pytest.approx(1.0)
    assert dict(shares)["load"] < 0.02


@pytest.mark.parametrize("rung", [Linear(), LightGBM(most_trees=60)], ids=lambda rung: rung.name)
def test_leaving_a_feature_out_tells_what_carries_from_what_does_not(rung: Rung) -> None:
    bench = Bench(LEVEL, rung, DATA, rng=rng())
    alone = {column.name: bench.without([column.name])[0] for column in COLUMNS}
    shuffled = bench.shuffled()
    for name in ("size", "route"):
        assert 0 < alone[name].low < alone[name].gain < alone[name].high
        assert 0 < shuffled[name].low < shuffled[name].gain
    for name in ("load", "carrier"):
        assert alone[name].low < 0 < alone[name].high
    delete, together = bench.deletable(alone, tolerance=0.1)
    assert set(delete) == {"load", "carrier"}
    assert together is not None
    assert together.low <= 0 < together.high <= 0.1


def test_of_two_features_that_say_the_same_one_can_go_and_not_both() -> None:
    bench = Bench(LEVEL, Linear(penalty=0.01), twinned(DATA), rng=rng())
    alone = {name: bench.without([name])[0] for name in ("size", "twin")}
    assert all(gap.low < 0 for gap in alone.values())
    delete, _ = bench.deletable(alone, tolerance=0.05)
    assert len(delete) == 1
    assert bench.without(["size", "twin"])[0].low > 0.05


def test_nothing_can_go_where_the_tolerance_is_nothing() -> None:
    bench = Bench(LEVEL, Linear(), DATA, rng=rng())
    alone = {column.name: bench.without([column.name])[0] for column in COLUMNS}
    assert bench.deletable(alone, tolerance=0.0) == ([], None)


def test_a_gain_is_what_the_two_errors_differ_by_in_all_and_in_each_fold() -> None:
    bench = Bench(LEVEL, Linear(), DATA, rng=rng(), folds=2, tested=0.5)
    gap, by_fold = bench.without(["route"])
    assert sum(len(part) for part in bench.later) == 750
    assert all(gain > 0 for gain in by_fold)
    for earlier, later in zip(bench.earlier, bench.later, strict=True):
        assert (earlier.known_at < later.asked_at[0]).all()
    columns = tuple(column for column in COLUMNS if column.name != "route")
    squares = []
    for earlier, later in zip(bench.earlier, bench.later, strict=True):
        engine = Linear().fit(LEVEL, replace(earlier, columns=columns)).engine
        squares.append(LEVEL.row_errors(later.target, engine.predict_many(later.frame)))
    assert gap.gain == pytest.approx(float(np.sqrt(np.concatenate(squares).mean())) - bench.error)


def test_a_model_of_one_feature_is_held_against_one_of_none() -> None:
    only = replace(DATA, columns=(Column("route", Kind.CAT),))
    assert Bench(LEVEL, GroupTable(), only, rng=rng()).without(["route"])[0].low > 0


def test_a_feature_that_an_engine_does_not_read_saves_nothing() -> None:
    shuffled = Bench(LEVEL, GroupTable(), DATA, rng=rng()).shuffled()
    assert shuffled["route"].low > 0
    assert shuffled["size"].gain == 0


def test_the_chance_in_a_fit_widens_the_interval_as_student_says() -> None:
    errors = np.ones(400)
    asked_at = np.repeat(np.arange(40) * DAY, 10)
    drawn = [
        difference(LEVEL, errors, errors, asked_at, rng=np.random.default_rng(seed), chance=(0.5, 4))
        for seed in range(40)
    ]
    assert np.mean([one.high for one in drawn]) == pytest.approx(0.5 * t.ppf(0.975, 4), rel=0.05)
    assert difference(LEVEL, errors, errors, asked_at, rng=rng()).high == 0


def test_useless_features_seem_of_worth_as_seldom_as_the_interval_says() -> None:
    found = []
    for seed in range(25):
        bench = Bench(LATE, LightGBM(trees=15), training_set(LATE, 600, seed=seed), rng=rng(), seeds=3)
        gaps = [bench.without([name])[0] for name in ("load", "carrier")]
        found += [gap.low > 0 or gap.high < 0 for gap in gaps]
    assert np.mean(found) <= 0.12


def test_too_little_to_tell_is_said() -> None:
    few = DATA.take(DATA.asked_at < 8 * DAY)
    with pytest.raises(TrainingError) as raised:
        Bench(LEVEL, Linear(), few, rng=rng())
    assert [fault.code for fault in raised.value.faults] == ["few_days"]
    one_class = training_set(LATE)
    with pytest.raises(TrainingError) as raised:
        Bench(LATE, Linear(), replace(one_class, target=np.zeros(len(one_class))), rng=rng())
    assert [fault.code for fault in raised.value.faults] == ["bad_target"]
