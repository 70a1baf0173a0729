from __future__ import annotations

from dataclasses import replace

import msgspec
import numpy as np
import pytest

from icekeel.core.errors import BundleError
from icekeel.core.frames import Column, Kind
from icekeel.engines import load_engine, rows_of
from icekeel.engines.links import from_link
from icekeel.engines.similar import SIMILAR_FILE, SimilarCases, SimilarSpec
from icekeel.testing.model_checks import example_rows
from icekeel.training import GroupTable, LightGBM, Problem, TrainingSet, backtest
from icekeel.training import similar as module
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


NOTE = (Column("note", Kind.TEXT),)


def cases_of(problem: Problem, data: TrainingSet) -> SimilarCases:
    engine = load_engine(Similar().fit(problem, data).files)
    assert isinstance(engine, SimilarCases)
    return engine


@pytest.mark.parametrize("problem", PROBLEMS, ids=lambda problem: problem.error)
def test_cases_are_alike_in_numbers_and_in_texts(problem: Problem) -> None:
    earlier, later = example_rows(problem, 2_000).split(0.3)
    cases = cases_of(problem, earlier)
    assert [column.name for column in cases.columns][-1] == "note"
    blind = LightGBM().fit(problem, earlier).engine
    errors = [problem.error_of(later.target, one.predict_many(later.frame)) for one in (cases, blind)]
    assert errors[0] < 0.96 * errors[1]
    texts = dict(zip(earlier.asked_at.tolist(), earlier.frame["note"], strict=True))
    amounts = dict(zip(earlier.asked_at.tolist(), earlier.frame["amount"], strict=True))
    agree, gaps = [], []
    for place in range(0, 100, 5):
        (row,) = rows_of(cases.columns, later.frame.take(np.array([place])))
        asked = dict(zip([column.name for column in cases.columns], row, strict=True))
        for case in cases.nearest(row, 10):
            agree.append(("late" in str(texts[case.asked_at])) == ("late" in str(asked["note"])))
            gaps.append(float(amounts[case.asked_at]) - float(str(asked["amount"] or "nan")))
    assert np.mean(agree) > 0.85  # by chance about 0.6
    assert np.nanmean(np.abs(gaps)) < 0.75 * np.nanstd(earlier.frame["amount"])


def test_texts_alone_liken_cases_and_say_by_which_words() -> None:
    data = replace(example_rows(LATE, 1_500), columns=NOTE)
    cases = cases_of(LATE, data)
    assert cases.columns == NOTE
    late, early = (cases.predict_one([text]) for text in ("so LATE again", "much too early"))
    assert late - early > 0.25
    told = cases.explain(["late gift"])
    added = {names[0]: amount for names, amount in told.added}
    assert told.scale == "logit" and added['note: "late"'] > abs(added['note: "gift"'])
    assert from_link("logit", told.base + sum(added.values())) == pytest.approx(
        cases.predict_one(["late gift"])
    )
    assert np.array_equal(cases.metric.one(["nie gesehen 42"]), cases.metric.one([""]))
    assert not np.array_equal(cases.metric.one([None]), cases.metric.one([""]))


def test_with_texts_fewer_cases_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_TEXT_CASES", 200)
    data = example_rows(LATE, 600)
    assert len(cases_of(LATE, data)) == 200
    assert len(cases_of(LATE, data.of_kinds(Kind.NUM, Kind.CAT))) == 600


def test_cases_keep_no_text_and_refuse_weights_that_were_changed() -> None:
    data = replace(example_rows(LATE, 600), columns=NOTE)
    files = Similar().fit(LATE, data).files
    words = {word for text in data.frame["note"] for word in str(text).split()}
    assert not [word for word in words if word.encode() in files[SIMILAR_FILE]]
    spec = msgspec.msgpack.decode(files[SIMILAR_FILE], type=SimilarSpec)
    moves = spec.texts[0]
    for other in (
        msgspec.structs.replace(moves, weights=moves.weights[:-1] + b"!"),
        msgspec.structs.replace(moves, effects=moves.effects[:-4]),
    ):
        changed = msgspec.msgpack.encode(msgspec.structs.replace(spec, texts=[other]))
        with pytest.raises(BundleError):
            SimilarCases.load({SIMILAR_FILE: changed})


@pytest.mark.parametrize(
    "texts", [[f"n{i:x}q{i * 7919:x}" for i in range(300)], [None] * 300, ["same"] * 300]
)
def test_texts_that_tell_nothing_leave_no_case_out(texts: list[str | None]) -> None:
    data = replace(example_rows(LATE, 300), columns=NOTE)
    data.frame["note"][:] = texts
    cases = cases_of(LATE, data)
    assert len(cases.nearest(["same"], 10)) == 10
    assert cases.predict_one(["same"]) == pytest.approx(data.target.mean(), abs=0.25)
