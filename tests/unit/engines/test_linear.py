from __future__ import annotations

import math

import numpy as np
import pytest

from icekeel.core.errors import BundleError
from icekeel.core.frames import Column, Frame, Kind
from icekeel.engines.linear import Curve, Levels, LinearEngine, LinearSpec
from icekeel.engines.links import Link

COLUMNS = (Column("n", Kind.NUM), Column("c", Kind.CAT))
CURVE = Curve((0.0, 1.0, 3.0), (0.0, 2.0, -2.0), null=5.0)
LEVELS = Levels({"a": 10.0}, null=20.0, other=30.0)


def engine(link: Link = "identity") -> LinearEngine:
    return LinearEngine(LinearSpec(COLUMNS, (CURVE, LEVELS), 100.0 if link == "identity" else -20.0, link))


@pytest.mark.parametrize(
    ("number", "adds"),
    [
        (0.0, 0.0),
        (0.5, 1.0),
        (1.0, 2.0),
        (2.0, 0.0),
        (3.0, -2.0),
        (9e9, -2.0),
        (-9e9, 0.0),
        (None, 5.0),
        (math.nan, 5.0),
    ],
)
def test_a_curve_is_straight_between_knots_and_level_outside(number: float | None, adds: float) -> None:
    assert engine().predict_one([number, "a"]) == 110.0 + adds


def test_levels_know_nulls_and_others() -> None:
    assert engine().predict_one([0.0, None]) == 120.0
    assert engine().predict_one([0.0, "b"]) == 130.0


def test_links() -> None:
    assert engine("exp").predict_one([1.0, "a"]) == pytest.approx(math.exp(-8.0))
    assert engine("logit").predict_one([1.0, "a"]) == pytest.approx(1 / (1 + math.exp(8.0)))
    huge = LinearEngine(LinearSpec((), (), 1e9, "exp"))
    assert math.isfinite(huge.predict_one([]))
    assert math.isfinite(huge.predict_many(Frame({"n": np.zeros(1)}))[0])


@pytest.mark.parametrize(
    "terms",
    [
        (CURVE,),
        (LEVELS, CURVE),
        (Curve((), (), 0.0), LEVELS),
        (Curve((1.0, 1.0), (0.0, 0.0), 0.0), LEVELS),
        (Curve((1.0, 2.0), (0.0,), 0.0), LEVELS),
    ],
)
def test_terms_that_do_not_fit_are_refused(terms: tuple[Curve | Levels, ...]) -> None:
    with pytest.raises(BundleError) as raised:
        LinearEngine(LinearSpec(COLUMNS, terms, 0.0, "identity"))
    assert raised.value.code == "bad_engine"
