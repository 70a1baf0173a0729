"""Laws of every engine: one row is predicted as among many, whatever the values."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from icekeel.core.frames import Frame
from icekeel.engines import load_engine, rows_of
from icekeel.engines.links import from_link
from icekeel.training import Fitted, GroupTable, LightGBM, Linear, Problem, Rung

from ..unit.training.cases import LATE, LEVEL, PRICE, training_set

RUNGS: dict[str, Rung] = {"group": GroupTable(), "linear": Linear(), "lightgbm": LightGBM(most_trees=20)}
NUMBERS = st.one_of(st.just(math.nan), st.floats(-1e15, 1e15), st.floats(0, 5))
TEXTS = st.one_of(st.none(), st.sampled_from(["a", "b", "c", "x", "y"]), st.text(max_size=3))
ROWS = st.lists(
    st.tuples(NUMBERS, NUMBERS, st.sampled_from([0.0, 1.0, math.nan]), TEXTS, TEXTS), min_size=1, max_size=12
)


@cache
def fitted(rung: str, problem: Problem) -> Fitted:
    return RUNGS[rung].fit(problem, training_set(problem, 600))


@pytest.mark.parametrize("problem", [LATE, PRICE, LEVEL], ids=lambda problem: problem.error)
@pytest.mark.parametrize("rung", RUNGS)
@settings(max_examples=30, deadline=None, derandomize=True)
@given(rows=ROWS)
def test_one_row_alone_among_many_and_in_training_gets_one_prediction(
    rung: str, problem: Problem, rows: list[tuple[object, ...]]
) -> None:
    size, load, rush, route, carrier = zip(*rows, strict=True)
    frame = Frame(
        {
            "size": np.array(size),
            "load": np.array(load),
            "rush": np.array(rush),
            "route": np.array(route, dtype=object),
            "carrier": np.array(carrier, dtype=object),
        }
    )
    fit = fitted(rung, problem)
    engine = load_engine(fit.files)
    many = engine.predict_many(frame)
    alone = [engine.predict_one(row) for row in rows_of(engine.columns, frame)]
    assert np.isfinite(many).all()
    assert alone == many.tolist()
    assert fit.reference(frame).tolist() == pytest.approx(many.tolist(), rel=1e-9, abs=1e-12)
    if problem.task == "probability":
        assert ((many >= 0) & (many <= 1)).all()


@settings(max_examples=20, deadline=None, derandomize=True)
@given(order=st.permutations(range(40)))
def test_the_order_of_rows_does_not_change_a_prediction(order: list[int]) -> None:
    engine = fitted("lightgbm", LATE).engine
    frame = training_set(LATE, 40, seed=5).frame
    np.testing.assert_array_equal(
        engine.predict_many(frame.take(np.array(order))), engine.predict_many(frame)[order]
    )


@pytest.mark.parametrize("problem", [LATE, PRICE, LEVEL], ids=lambda problem: problem.error)
@pytest.mark.parametrize("rung", RUNGS)
def test_what_columns_add_makes_up_the_prediction(rung: str, problem: Problem) -> None:
    engine, rows = fitted(rung, problem).engine, training_set(problem, 600)
    for values in rows_of(engine.columns, rows.frame)[::7]:
        found = engine.explain(values)
        score = found.base + sum(amount for _, amount in found.added)
        assert from_link(found.scale, score) == pytest.approx(engine.predict_one(values), rel=1e-9, abs=1e-9)
        assert [abs(effect) > 0 for _, effect in found.effects()] == [True] * len(found.effects())
    if rung == "linear":  # against an average request: over all of them nothing is added
        everything = [engine.explain(values).added for values in rows_of(engine.columns, rows.frame)]
        means = np.mean([[amount for _, amount in one] for one in everything], axis=0)
        np.testing.assert_allclose(means, 0, atol=1e-9)
