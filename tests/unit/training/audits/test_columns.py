from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np

from icekeel.training.audits.columns import columns
from icekeel.training.problem import TrainingSet

from ..cases import LATE, training_set


def given(rows: TrainingSet) -> Any:
    return SimpleNamespace(rows=rows)


def test_what_no_model_can_use_is_told_with_what_to_do() -> None:
    data = training_set(LATE, 12_000)
    assert columns(given(data)).verdict == "pass"
    names = np.array([f"somebody {place % 10_000}" for place in range(12_000)], dtype=object)
    odd = {
        "size": np.full(12_000, np.nan),
        "load": np.full(12_000, 3.0),
        "route": names,
        "carrier": np.full(12_000, None, dtype=object),
    }
    found = columns(given(replace(data, frame=data.frame.with_columns(odd))))
    assert found.verdict == "warn"
    assert found.evidence["columns"] == {
        "size": "is null in every row",
        "load": "has one value in every row",
        "route": "has 10,000 values in 12,000 rows: rungs know the commonest few hundred alone",
        "carrier": "is null in every row",
    }
    assert found.what.startswith("size is null in every row; ")
    assert found.what.endswith("; and 1 more")
    assert found.todo
