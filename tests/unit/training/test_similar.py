from __future__ import annotations

import numpy as np
import pytest

from icekeel.core.errors import BundleError
from icekeel.engines import load_engine, rows_of
from icekeel.engines.links import from_link
from icekeel.engines.similar import SIMILAR_FILE
from icekeel.training import GroupTable, Problem, backtest
from icekeel.training.gates import parity
from icekeel.training.golden import build_golden
from icekeel.training.similar import Similar

from .cases import LATE, PROBLEMS, training_set


@pytest.mark.parametrize("problem", PROBLEMS, ids=lambda problem: problem.error)
def test_similar_cases_are_an_engine_that_a_search_through_all_agrees_with(problem: Problem) -> None:
    data = training_set(problem, 1_200)
    fitted = Similar().fit(problem, data)
    assert fitted.files == Similar().fit(problem, data).files
    engine = load_engine(fitted.files)
    assert parity(engine, build_golden(fitted, data.frame)).passed
    some = data.frame.take(np.arange(0, 1_200, 40))
    rows = rows_of(engine.columns, some)
    assert [engine.predict_one(row) for row in rows] == engine.predict_many(some).tolist()
    told = engine.explain(rows[0])
    score = told.base + sum(added for _, added in told.added)
    assert from_link(told.scale, score) == pytest.approx(engine.predict_one(rows[0]))


@pytest.mark.parametrize("problem", PROBLEMS, ids=lambda problem: problem.error)
def test_cases_tell_more_than_groups(problem: Problem) -> None:
    trial = backtest(problem, training_set(problem, 3_000), [GroupTable(), Similar()], folds=2)
    assert trial.error("similar") < 0.95 * trial.error("group")


def test_the_newest_cases_are_kept() -> None:
    data = training_set(LATE, 1_200)
    engine = load_engine(Similar(cases=300).fit(LATE, data).files)
    newest = load_engine(Similar().fit(LATE, data.take(np.arange(900, 1_200))).files)
    rows = rows_of(engine.columns, data.frame.take(np.arange(20)))
    assert [engine.predict_one(row) for row in rows] == [newest.predict_one(row) for row in rows]


def test_an_engine_without_its_cases_is_refused() -> None:
    files = Similar().fit(LATE, training_set(LATE, 300)).files
    with pytest.raises(BundleError) as raised:
        load_engine({name: data for name, data in files.items() if name != SIMILAR_FILE})
    assert raised.value.code == "missing_file"
