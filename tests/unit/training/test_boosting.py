from __future__ import annotations

import pytest

from icekeel.training import GroupTable, LightGBM, Problem

from .cases import PROBLEMS, training_set


@pytest.mark.parametrize("problem", PROBLEMS, ids=lambda problem: problem.error)
def test_trees_learn_and_the_same_rows_give_the_same_bytes(problem: Problem) -> None:
    data, later = training_set(problem), training_set(problem, seed=2)
    first, second = (LightGBM(most_trees=150).fit(problem, data) for _ in range(2))
    assert first.files == second.files
    simple = GroupTable().fit(problem, data).engine.predict_many(later.frame)
    got = first.engine.predict_many(later.frame)
    assert problem.error_of(later.target, got) < 0.9 * problem.error_of(later.target, simple)


def test_another_seed_gives_other_trees() -> None:
    one, two = (Problem("number", "rmse", seed=seed) for seed in (1, 2))
    data = training_set(one)
    assert LightGBM(most_trees=20).fit(one, data).files != LightGBM(most_trees=20).fit(two, data).files


def test_too_few_rows_to_hold_any_back_still_give_trees() -> None:
    problem = PROBLEMS[0]
    fitted = LightGBM().fit(problem, training_set(problem, 60))
    assert b"num_class=1" in fitted.files["model.txt"]
    assert fitted.size_bytes == sum(len(data) for data in fitted.files.values())
