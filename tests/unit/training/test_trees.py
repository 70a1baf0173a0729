"""Trees of other libraries go where they went there, at every threshold and next to it."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from icekeel.core.frames import Column, Frame, Kind
from icekeel.engines import Encoder, load_engine
from icekeel.engines.linear import MOST
from icekeel.training.trees import NEAR_ZERO, Tree, bundle_files, float64_thresholds, tree_encoder

from .cases import LATE, PRICE, training_set

FLOATS = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False, width=32),
    st.sampled_from([0.0, -0.0, 1e-45, -1e-45, 1e-40, 1.0, MOST, -MOST]),
)


@settings(max_examples=400, deadline=None, derandomize=True)
@given(threshold=FLOATS, steps=st.integers(-3, 3), strict=st.booleans(), half=st.booleans())
def test_a_float64_threshold_parts_numbers_as_float32_does(
    threshold: float, steps: int, strict: bool, half: bool
) -> None:
    found = float(float64_thresholds(np.array([threshold]), strict=strict)[0])
    near = np.float32(threshold)
    with np.errstate(over="ignore"):
        for _ in range(abs(steps)):
            near = np.nextafter(near, np.float32(math.copysign(np.inf, steps)))
        after = float(np.nextafter(near, np.float32(np.inf)))
    x = float(near)
    if half and math.isfinite(x) and math.isfinite(after):  # exactly between two float32 numbers
        x = x / 2 + after / 2
    for value in (x, np.nextafter(x, np.inf), np.nextafter(x, -np.inf)):
        if abs(value) <= MOST:
            rounded = float(np.float32(value))
            left = rounded < threshold if strict else rounded <= threshold
            assert bool(value <= found) is left


def test_a_threshold_without_end_lets_every_number_left() -> None:
    assert float64_thresholds(np.array([np.inf]), strict=False)[0] > 1e308


def tree(threshold: float, *, missing_left: bool) -> Tree:
    def whole(*values: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        return np.array(values, dtype=np.int64)

    return Tree(
        feature=whole(0, -1, -1),
        threshold=np.array([threshold, 0.0, 0.0]),
        missing_left=np.array([missing_left, False, False]),
        left=whole(1, -1, -1),
        right=whole(2, -1, -1),
        value=np.array([0.0, -1.0, 2.5]),
        count=np.array([30.0, 10.0, 20.0]),
    )


@pytest.mark.parametrize("missing_left", [True, False])
def test_an_exported_tree_goes_left_up_to_its_threshold_and_explains_itself(missing_left: bool) -> None:
    encoder = Encoder([Column("x", Kind.NUM)], {}, {}, most=MOST)
    threshold = 0.1 + 0.2
    one = tree(threshold, missing_left=missing_left)
    engine = load_engine(bundle_files(encoder, [one], 7.0, "identity"))
    values = [threshold, np.nextafter(threshold, 1), -1e300, 1e300, None, 0.0, NEAR_ZERO]
    expected = [6.0, 9.5, 6.0, 9.5, 6.0 if missing_left else 9.5, 6.0, 6.0]
    assert [engine.predict_one([value]) for value in values] == expected
    assert [one.leaf_of(np.array([np.nan if v is None else v])) + 7 for v in values] == expected
    found = engine.explain([1.0])
    assert found.base == pytest.approx(7 + (10 * -1.0 + 20 * 2.5) / 30)
    ((names, amount),) = found.added
    assert names == ("x",) and amount == pytest.approx(9.5 - found.base)


def test_categories_stand_in_the_order_of_their_mean_target() -> None:
    data = training_set(LATE)
    encoder = tree_encoder(LATE, data, nulls=False)
    means = {name: data.target[data.frame["route"] == name].mean() for name in encoder.categories["route"]}
    assert list(means.values()) == sorted(means.values()) and len(means) == 3
    # A library that takes no nulls gets the usual number, and a category between those below and above average.
    below = sum(mean <= data.target.mean() for mean in means.values())
    size, load, _, route, carrier = encoder.encode_one((None, 0.5, True, "none of them", None))
    assert (size, load) == (np.nanmedian(data.frame["size"]), 0.5)
    assert route == below - 0.5 and carrier in (-0.5, 0.5, 1.5)
    assert math.isnan(tree_encoder(PRICE, training_set(PRICE), nulls=True).encode_one((None,) * 5)[0])


def test_numbers_beyond_float32_are_its_largest() -> None:
    encoder = Encoder([Column("x", Kind.NUM)], {}, {}, most=MOST)
    assert encoder.encode_one([1e300]) == [MOST] and encoder.encode_one([-1e300]) == [-MOST]
    assert math.isnan(encoder.encode_one([None])[0])
    many = encoder.encode_many(Frame({"x": np.array([1e300, np.nan, -1e300, 3.0])}))[:, 0]
    np.testing.assert_array_equal(many, [MOST, np.nan, -MOST, 3.0])
