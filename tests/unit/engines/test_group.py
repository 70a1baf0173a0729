from __future__ import annotations

import numpy as np
import pytest

from icekeel.core.errors import BundleError
from icekeel.core.frames import Column, Frame, Kind
from icekeel.engines.group import Group, GroupEngine, GroupSpec

ROUTE = (Column("from", Kind.CAT), Column("to", Kind.CAT))
ENGINE = GroupEngine(GroupSpec(ROUTE, (Group(("JFK", "LAX"), 0.2), Group((None, "LAX"), 0.4)), 0.3))


def test_a_group_has_its_prediction_and_any_other_row_the_common_one() -> None:
    assert ENGINE.predict_one(["JFK", "LAX"]) == 0.2
    assert ENGINE.predict_one([None, "LAX"]) == 0.4
    assert ENGINE.predict_one(["JFK", "never seen"]) == 0.3
    frame = Frame(
        {
            "to": np.array(["LAX", "LAX", "x"], dtype=object),
            "from": np.array(["JFK", None, None], dtype=object),
        }
    )
    assert ENGINE.predict_many(frame).tolist() == [0.2, 0.4, 0.3]


def test_without_columns_every_row_gets_the_common_prediction() -> None:
    engine = GroupEngine(GroupSpec((), (), 1.5))
    assert engine.predict_one([]) == 1.5
    assert engine.predict_many(Frame({"n": np.zeros(3)})).tolist() == [1.5, 1.5, 1.5]


def test_groups_are_of_categories_and_keys_as_wide_as_the_columns() -> None:
    with pytest.raises(BundleError, match="two categories"):
        GroupEngine(GroupSpec((Column("n", Kind.NUM),), (), 0.0))
    with pytest.raises(BundleError, match="must have 2 values"):
        GroupEngine(GroupSpec(ROUTE, (Group(("JFK",), 0.2),), 0.3))
