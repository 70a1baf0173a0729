from __future__ import annotations

from dataclasses import replace

import numpy as np

from icekeel.training.columns import column_findings

from .cases import LATE, training_set


def test_what_no_model_can_use_is_told_with_what_to_do() -> None:
    data = training_set(LATE, 12_000)
    assert column_findings(data) == []
    names = np.array([f"somebody {place % 10_000}" for place in range(12_000)], dtype=object)
    odd = {
        "size": np.full(12_000, np.nan),
        "load": np.full(12_000, 3.0),
        "route": names,
        "carrier": np.full(12_000, None, dtype=object),
    }
    found = column_findings(replace(data, frame=data.frame.with_columns(odd)))
    assert [(one.verdict, one.what) for one in found] == [
        ("warn", "size is null in every row"),
        ("warn", "load has one value in every row"),
        ("warn", "route has 10,000 values in 12,000 rows: rungs know the commonest few hundred alone"),
        ("warn", "carrier is null in every row"),
    ]
    assert all(one.todo for one in found)
