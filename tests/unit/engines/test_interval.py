from __future__ import annotations

import math

import pytest

from icekeel.engines import Interval


def test_an_interval_adds_or_multiplies() -> None:
    assert Interval(2.0, False, 0.9).around(10.0) == (8.0, 12.0)
    assert Interval(math.log(2.0), True, 0.9).around(10.0) == pytest.approx((5.0, 20.0))
