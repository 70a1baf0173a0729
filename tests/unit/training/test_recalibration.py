from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from icekeel.core.errors import BundleError
from icekeel.engines import load_engine, rows_of
from icekeel.engines.calibration import CALIBRATION_FILE
from icekeel.training import Linear, backtest
from icekeel.training.gates import calibration, parity
from icekeel.training.golden import build_golden
from icekeel.training.recalibration import calibrated, isotonic, platt, put_right

from .cases import LATE, LEVEL, training_set

DATA = training_set(LATE, 6_000)


def test_probabilities_that_are_off_are_put_right_on_rows_that_the_curve_has_not_seen() -> None:
    trial = backtest(LATE, DATA, [Linear()], folds=5)
    p = trial.predictions["linear"]
    bold = 1 / (1 + ((1 - p) / p) ** 3)  # three times the log-odds
    loud = replace(trial, predictions={"linear": bold})
    curve, better, told = calibrated(loud, "linear", rng=np.random.default_rng(0))
    assert curve is not None and "calibration gains" in told
    last, truth = trial.last_fold(), trial.rows.target
    assert better.predictions["linear"][: last[0]].tolist() == bold[: last[0]].tolist()
    errors = [LATE.error_of(truth[last], one.predictions["linear"][last]) for one in (trial, better, loud)]
    assert errors[1] < errors[0] + 0.01 < errors[2]
    assert not calibration(truth[last], bold[last]).passed
    assert calibration(truth[last], better.predictions["linear"][last]).passed


def test_what_is_right_is_left_alone() -> None:
    trial = backtest(LATE, DATA, [Linear()], folds=5)
    curve, same, told = calibrated(trial, "linear", rng=np.random.default_rng(0))
    assert (curve, same) == (None, trial)
    assert "left out" in told
    number = backtest(LEVEL, training_set(LEVEL), [Linear()])
    assert calibrated(number, "linear", rng=np.random.default_rng(0)) == (None, number, "")


@pytest.mark.parametrize("fit", [platt, isotonic])
def test_the_curve_is_part_of_the_engine(fit: object) -> None:
    fitted = Linear().fit(LATE, DATA)
    said = fitted.engine.predict_many(DATA.frame)
    curve = platt(said, DATA.target) if fit is platt else isotonic(said, DATA.target)
    assert (np.diff(curve.said) > 0).all() and (np.diff(curve.meant) > 0).all()
    made = put_right(fitted, curve)
    engine = load_engine(made.files)
    assert parity(engine, build_golden(made, DATA.frame)).passed
    some = DATA.frame.take(np.arange(50))
    rows = rows_of(engine.columns, some)
    assert [engine.predict_one(row) for row in rows] == engine.predict_many(some).tolist()
    told = engine.explain(rows[0])
    assert 1 / (1 + np.exp(-told.base - sum(added for _, added in told.added))) == pytest.approx(
        engine.predict_one(rows[0])
    )
    assert engine.predict_one((None,) * 5) not in (0.0, 1.0)


@pytest.mark.parametrize(
    "data",
    [b"{", b'{"method":"platt","said":[],"meant":[]}', b'{"method":"platt","said":[1,1],"meant":[0,0]}'],
)
def test_a_damaged_curve_is_refused(data: bytes) -> None:
    files = Linear().fit(LATE, DATA.take(np.arange(500))).files
    with pytest.raises(BundleError) as raised:
        load_engine({**files, CALIBRATION_FILE: data})
    assert raised.value.code == "bad_calibration"
