from __future__ import annotations

from dataclasses import replace

import msgspec
import numpy as np
import pytest

from icekeel.core.errors import BundleError, TrainingError
from icekeel.core.frames import Column, Kind
from icekeel.engines import Golden, check_golden, load_engine, rows_of
from icekeel.training import GroupTable, LightGBM, Linear, Rung, build_golden
from icekeel.training.golden import FAR, UNSEEN

from .cases import COLUMNS, LATE, training_set

DATA = training_set(LATE)


@pytest.mark.parametrize(
    "rung", [GroupTable(), Linear(), LightGBM(most_trees=30)], ids=lambda rung: rung.name
)
def test_golden_rows_hold_after_loading_and_are_repeatable(rung: Rung) -> None:
    fitted = rung.fit(LATE, DATA)
    golden = build_golden(fitted, DATA.frame)
    assert golden == build_golden(rung.fit(LATE, DATA), DATA.frame)
    assert check_golden(load_engine(fitted.files), golden) <= 1e-9


def test_nulls_unseen_values_and_extremes_are_among_them_and_no_row_is_anybodys() -> None:
    golden = msgspec.json.decode(build_golden(Linear().fit(LATE, DATA), DATA.frame), type=Golden)
    for i, column in enumerate(COLUMNS):
        values = {row[i] for row in golden.rows}
        assert None in values
        if column.kind is Kind.CAT:
            assert UNSEEN in values
        else:
            assert {
                FAR,
                -FAR,
                np.nanmin(DATA.frame[column.name]),
                np.nanmax(DATA.frame[column.name]),
            } <= values
    assert (None,) * len(COLUMNS) in golden.rows
    assert not set(golden.rows) & set(rows_of(COLUMNS, DATA.frame))


def test_an_altered_engine_is_caught() -> None:
    fitted = Linear().fit(LATE, DATA)
    golden = build_golden(fitted, DATA.frame)
    spec = msgspec.json.decode(fitted.files["engine.json"])
    spec["terms"][3]["other"] += 1e-6
    with pytest.raises(BundleError):
        check_golden(load_engine({"engine.json": msgspec.json.encode(spec)}), golden)


def test_an_engine_without_columns_has_golden_rows_too() -> None:
    fitted = GroupTable().fit(LATE, replace(DATA, columns=(Column("size", Kind.NUM),)))
    assert check_golden(fitted.engine, build_golden(fitted, DATA.frame)) == 0.0


def test_no_rows_are_refused() -> None:
    fitted = Linear().fit(LATE, DATA)
    with pytest.raises(TrainingError):
        build_golden(fitted, DATA.frame.take(np.arange(0)))
