"""The text rung learns what words mean, beside numbers and categories."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from icekeel.core.frames import Column, Kind
from icekeel.engines import Golden, rows_of
from icekeel.testing.model_checks import PROBLEMS, example_rows
from icekeel.training import LightGBM, Linear, Problem, build_golden
from icekeel.training import texts as module
from icekeel.training.texts import Texts

NUMBERS = [problem for problem in PROBLEMS if problem.error in ("log_loss", "rmse")]


@pytest.mark.parametrize("problem", NUMBERS, ids=lambda problem: problem.error)
def test_words_are_worth_something(problem: Problem) -> None:
    earlier, later = example_rows(problem, 1_500).split(0.3)
    errors = {
        rung.name: problem.error_of(later.target, rung.fit(problem, earlier).engine.predict_many(later.frame))
        for rung in (Texts(), Linear(), LightGBM())
    }
    assert errors["text"] < 0.96 * min(errors["linear"], errors["lightgbm"])


def test_a_fit_says_which_words_moved_a_row_and_keeps_no_text() -> None:
    problem = PROBLEMS[0]
    data = example_rows(problem, 1_500)
    fitted = Texts(weight=1.0).fit(problem, data)
    row = dict(zip([c.name for c in data.columns], rows_of(data.columns, data.frame)[0], strict=True))
    found = fitted.engine.explain([{**row, "note": "late Late gift"}[c.name] for c in fitted.engine.columns])
    words = {names[0]: amount for names, amount in found.added if names[0].startswith("note")}
    assert words['note: "late"'] > abs(words['note: "gift"']) and len(words) == 2
    shipped = b"".join(fitted.files.values())
    assert not [word for word in ("late", "fragile", "gift", "配送") if word.encode() in shipped]


def test_golden_texts_are_of_words_that_many_have() -> None:
    import msgspec

    problem = PROBLEMS[0]
    data = example_rows(problem)
    data.frame["note"][5] = "Erika Mustermann"
    golden = msgspec.json.decode(build_golden(Texts(weight=1.0).fit(problem, data), data.frame), type=Golden)
    texts = [row[[c.name for c in golden.columns].index("note")] for row in golden.rows]
    assert None in texts and "" in texts and not any("Erika" in str(text) for text in texts)


def test_texts_alone_are_enough_and_what_is_found_out_is_kept() -> None:
    problem = PROBLEMS[0]
    data = replace(example_rows(problem, 900), columns=(Column("note", Kind.TEXT),))
    fitted = Texts().fit(problem, data)
    assert [column.name for column in fitted.engine.columns] == ["note"]
    assert isinstance(fitted.again, Texts) and fitted.again.weight in Texts().tried
    assert fitted.again.fit(problem, data).files == fitted.files


def test_only_so_many_tokens_are_learnt_from(monkeypatch: pytest.MonkeyPatch) -> None:
    data = example_rows(PROBLEMS[0])
    assert module._latest(data) is data
    monkeypatch.setattr(module, "MOST_TOKENS", 5_000)
    kept = module._latest(data)
    assert 0 < len(kept) < len(data) and kept.asked_at[-1] == data.asked_at[-1]
    letters = sum(len(text or "") for text in kept.frame["note"])
    assert 4_000 < 1.5 * letters <= 5_000 and np.all(np.diff(kept.asked_at) >= 0)
