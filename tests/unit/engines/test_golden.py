from __future__ import annotations

import msgspec
import numpy as np
import pytest

from icekeel.core.errors import BundleError
from icekeel.core.frames import Column, Kind
from icekeel.engines import Golden, check_golden
from icekeel.engines.linear import Curve, Levels, LinearEngine, LinearSpec

COLUMNS = (Column("n", Kind.NUM), Column("c", Kind.CAT))
CURVE, LEVELS = Curve((0.0, 1.0), (0.0, 1.0), 3.0), Levels({"a": 10.0}, 20.0, 30.0)
ENGINE = LinearEngine(LinearSpec(COLUMNS, (CURVE, LEVELS), 0.0, "identity"))
ROWS = ((0.5, "a"), (None, None), (2.0, "never"))
GOLDEN = Golden(COLUMNS, ROWS, (10.5, 23.0, 31.0))


def test_an_engine_that_agrees_passes() -> None:
    assert check_golden(ENGINE, msgspec.json.encode(GOLDEN)) == 0.0


def test_every_prediction_that_differs_is_named_alone_and_among_many() -> None:
    wrong = msgspec.structs.replace(GOLDEN, predictions=(10.5, 23.0 * (1 + 1e-8), 31.0))
    with pytest.raises(BundleError) as raised:
        check_golden(ENGINE, msgspec.json.encode(wrong))
    assert [(fault.code, fault.where) for fault in raised.value.faults] == [("disagreement", "rows[1]")] * 2


def test_an_engine_whose_batches_differ_from_its_rows_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ENGINE, "predict_many", lambda frame: np.full(len(frame), np.nan))
    with pytest.raises(BundleError) as raised:
        check_golden(ENGINE, msgspec.json.encode(GOLDEN))
    assert len(raised.value.faults) == 3


@pytest.mark.parametrize(
    "data",
    [
        b"{",
        b"{}",
        msgspec.json.encode(Golden(COLUMNS[:1], ((0.5,),), (10.5,))),
        msgspec.json.encode(Golden(COLUMNS, (), ())),
        msgspec.json.encode(Golden(COLUMNS, ROWS, (10.5,))),
        msgspec.json.encode(Golden(COLUMNS, ((0.5,),), (10.5,))),
        msgspec.json.encode(Golden(COLUMNS, (("a", 0.5),), (10.5,))),
    ],
)
def test_golden_rows_that_cannot_be_used_are_refused(data: bytes) -> None:
    with pytest.raises(BundleError) as raised:
        check_golden(ENGINE, data)
    assert raised.value.code == "bad_golden"
