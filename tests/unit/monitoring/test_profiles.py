from __future__ import annotations

import json
import math

import numpy as np
import pytest
from scipy import stats  # type: ignore[import-untyped]

from icekeel.core.binning import Binning, chi2_p_value, distance
from icekeel.core.frames import Array, Column, Frame, Kind
from icekeel.monitoring import Profile, Profiler, psi


def text(*values: str | None) -> Array:
    return np.array(values, dtype=object)


def test_numbers_fall_into_closed_on_the_right_cells() -> None:
    binning = Binning(edges=(0.0, 1.0))
    values = np.array([math.nan, -5.0, 0.0, 0.5, 1.0, 1.5, 9.0])
    assert binning.count(values).tolist() == [1, 2, 2, 2]
    assert [binning.label(cell) for cell in range(4)] == [
        "nulls",
        "up to 0",
        "above 0 and up to 1",
        "above 1",
    ]


def test_categories_beyond_the_nineteenth_are_counted_together() -> None:
    names = [f"c{number:02d}" for number in range(25)]
    reference = text(*(name for place, name in enumerate(names) for _ in range(30 - place)))
    binning = Binning.of_categories(reference)
    assert binning.categories == tuple(names[:19])
    assert binning.cells == 21
    assert binning.count(text("c00", "c24", "never seen", None, "c18")).tolist() == [1, 1, *[0] * 17, 1, 2]
    assert (binning.label(1), binning.label(20)) == ("c00", "other categories")


def test_at_most_twenty_cells_of_about_equal_size() -> None:
    values = np.random.default_rng(1).normal(size=10_000)
    counts = Binning.of_numbers(values).count(values)
    assert len(counts) == 21
    assert counts[0] == counts[1] == counts[-1] == 0
    assert counts[3:-1].max() < 1.1 * counts[3:-1].min()


@pytest.mark.parametrize("shifted", [3.999, 4.001, math.nan])
def test_a_reference_of_one_value_sees_every_other_value(shifted: float) -> None:
    binning = Binning.of_numbers(np.full(100, 4.0))
    before, after = binning.count(np.full(100, 4.0)), binning.count(np.full(100, shifted))
    assert distance(binning, before, after) == 1.0


def test_a_reference_of_nulls_sees_values() -> None:
    binning = Binning.of_numbers(np.full(10, math.nan))
    before, after = binning.count(np.full(10, math.nan)), binning.count(np.array([1.0, math.nan]))
    assert distance(binning, before, after) == 0.5
    assert binning.label(1) == "any value"


def test_distances() -> None:
    numbers = Binning(edges=(0.0,))
    assert distance(numbers, np.array([0, 50, 50]), np.array([10, 45, 45])) == pytest.approx(0.1)
    categories = Binning(categories=("a", "b"))
    assert distance(categories, np.array([0, 5, 5, 0]), np.array([0, 8, 0, 2])) == pytest.approx(0.5)
    assert distance(categories, np.zeros(4, dtype=np.int64), np.array([0, 8, 0, 2])) == 0.0


def test_distance_of_numbers_nears_kolmogorov_smirnov() -> None:
    rng = np.random.default_rng(2)
    a, b = rng.normal(size=50_000), rng.normal(size=50_000) + 0.5
    binning = Binning.of_numbers(a)
    assert distance(binning, binning.count(a), binning.count(b)) == pytest.approx(
        stats.ks_2samp(a, b).statistic, abs=0.01
    )


def test_psi_is_jeffreys_divergence() -> None:
    assert psi(np.array([49.5, 49.5]), np.array([24.5, 74.5])) == pytest.approx(0.25 * math.log(3))


def test_chi2_equals_scipy_where_no_cell_is_rare() -> None:
    a, b = np.array([300, 250, 450]), np.array([40, 20, 40])
    assert chi2_p_value(a, b) == pytest.approx(
        stats.chi2_contingency(np.array([a, b]), correction=False).pvalue
    )


def test_chi2_is_not_fooled_by_a_single_row_in_a_new_cell() -> None:
    before, after = np.array([0, 50_000, 50_000, 0]), np.array([0, 500, 499, 1])
    assert chi2_p_value(before, after) > 0.5
    assert chi2_p_value(before, np.array([0, 480, 480, 40])) < 1e-6
    assert chi2_p_value(before, np.array([0, 2, 1, 0])) > 0.5
    assert chi2_p_value(before, np.zeros(4, dtype=np.int64)) == 1.0


def test_profiles_watch_what_has_a_shape_and_survive_json() -> None:
    columns = [Column("n", Kind.NUM), Column("c", Kind.CAT), Column("f", Kind.FLAG), Column("i", Kind.ID)]
    frame = Frame(
        {
            "n": np.array([1.0, math.nan, 3.0]),
            "c": text("x", None, "y"),
            "f": np.array([0.0, 1.0, 1.0]),
            "i": text("1", "2", "3"),
        }
    )
    profiler = Profiler.fit(columns, frame)
    assert list(profiler.binnings) == ["n", "c", "f"]
    profile = profiler.profile(frame)
    assert profile.rows == 3
    assert Profiler.from_dict(json.loads(json.dumps(profiler.to_dict()))) == profiler
    again = Profile.from_dict(json.loads(json.dumps(profile.to_dict())))
    assert again.to_dict() == profile.to_dict()
