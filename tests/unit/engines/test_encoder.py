from __future__ import annotations

import math

import numpy as np
import pytest

from icekeel.core.errors import BundleError
from icekeel.core.frames import Column, Frame, Kind
from icekeel.engines import Encoder, rows_of

COLUMNS = (Column("n", Kind.NUM), Column("f", Kind.FLAG), Column("c", Kind.CAT), Column("m", Kind.NUM))
ENCODER = Encoder(COLUMNS, {"c": ["blue", "red"]}, {"m": 7.0})


def test_numbers_pass_categories_become_codes_and_nulls_nan_or_the_fill() -> None:
    assert ENCODER.encode_one([2.5, True, "red", 1.0]) == [2.5, 1.0, 1.0, 1.0]
    vector = ENCODER.encode_one([None, None, None, None])
    assert [math.isnan(x) for x in vector] == [True, True, True, False]
    assert vector[3] == 7.0
    assert math.isnan(ENCODER.encode_one([0.0, False, "green", 1.0])[2])


def test_many_rows_are_encoded_as_each_of_them_alone() -> None:
    frame = Frame(
        {
            "c": np.array(["red", None, "green", "blue"], dtype=object),
            "n": np.array([1.0, np.nan, -3.5, 0.0]),
            "f": np.array([1.0, 0.0, np.nan, 1.0]),
            "m": np.array([np.nan, 2.0, np.nan, 3.0]),
        }
    )
    rows = rows_of(COLUMNS, frame)
    assert rows[1] == (None, 0.0, None, 2.0)
    np.testing.assert_array_equal(ENCODER.encode_many(frame), [ENCODER.encode_one(row) for row in rows])


def test_every_column_that_no_engine_reads_is_named() -> None:
    with pytest.raises(BundleError) as raised:
        Encoder([Column("k", Kind.ID), Column("t", Kind.TIME), Column("t", Kind.TIME)], {}, {})
    assert [fault.where for fault in raised.value.faults] == ["k", "t", "t", "t"]


@pytest.mark.parametrize(
    ("categories", "fills"), [({}, {}), ({"c": [], "n": []}, {}), ({"c": []}, {"other": 1.0})]
)
def test_vocabularies_and_fills_must_fit_the_columns(
    categories: dict[str, list[str]], fills: dict[str, float]
) -> None:
    with pytest.raises(BundleError, match="do not match"):
        Encoder(COLUMNS, categories, fills)
