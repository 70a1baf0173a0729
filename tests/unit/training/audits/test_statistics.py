"""What the audits count: closed forms, independent implementations, simulated rates."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest
from scipy import stats  # type: ignore[import-untyped]

from icekeel.core.binning import Binning
from icekeel.core.frames import Column, Frame, Kind
from icekeel.core.statistics import auc, wilson
from icekeel.core.time import DAY
from icekeel.training.audits.tally import Group, Tally
from icekeel.training.days import Shape, auc_interval, day_codes, holm, moved, p_above


def groups(n: int, rng: np.random.Generator) -> list[Group]:
    one = np.array(["a", "b", None], dtype=object)[rng.integers(3, size=n)]
    frame = Frame({"one": one, "two": rng.normal(size=n)})
    return [Group.of(Column("one", Kind.CAT), frame, 5), Group.of(Column("two", Kind.NUM), frame, 6)]


def test_a_tally_is_what_a_loop_counts() -> None:
    rng = np.random.default_rng(0)
    n = 2_000
    several, values = groups(n, rng), rng.gamma(2.0, size=n)
    days, day = day_codes(np.sort(rng.integers(0, 30 * DAY, n)))
    tally = Tally.of(several, {"values": values}, (days, day))
    rows: defaultdict[tuple[int, int], list[int]] = defaultdict(list)
    for at in range(n):
        rows[several[0].codes[at], several[1].codes[at]].append(at)
    assert tally.count.sum() == n
    for cell, places in rows.items():
        mean = values[places].mean()
        sums: defaultdict[int, float] = defaultdict(float)
        for place in places:
            sums[day[place]] += values[place] - mean
        spread = sum(one**2 for one in sums.values()) * len(sums) / max(1, len(sums) - 1)
        assert tally.count[cell] == len(places)
        assert tally.days[cell] == len(sums)
        assert tally.mean("values")[cell] == pytest.approx(mean)
        low, high = tally.interval("values")
        assert (high - low)[cell] == pytest.approx(2 * 1.96 * np.sqrt(spread) / len(places))
    assert tally.words((0, 1)) == f"one is null, two up to {several[1].binning.edges[0]:.4g}"
    assert tally.words((1, 0)) == f"one = {several[0].binning.label(1)}, two is null"


def test_wilson_is_scipys() -> None:
    for successes, rows in ((0, 10), (3, 10), (10, 10), (1_234, 5_678)):
        low, high = wilson(np.array([float(successes)]), np.array([float(rows)]), 1.959963984540054)
        exact = stats.binomtest(successes, rows).proportion_ci(method="wilson")
        assert (low[0], high[0]) == pytest.approx((exact.low, exact.high), abs=1e-12)
    many = np.arange(1.0, 6_000.0)
    assert (wilson(np.zeros_like(many), many)[0] >= 0).all() and (wilson(many, many)[1] <= 1).all()
    low, high = wilson(np.zeros(1), np.zeros(1))
    assert (low[0], high[0]) == (0, 1)


def test_p_values_are_students_and_holm_steps_down() -> None:
    assert float(p_above(2.0, 1.0, 11)) == pytest.approx(stats.t(10).sf(2.0))
    assert float(p_above(1.0, 0.0, 11)) == 0.5
    assert holm([0.01, 0.04, 0.03], 3) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.01], 200) == [1.0]


def test_days_that_differ_make_rows_count_for_less() -> None:
    rng = np.random.default_rng(0)
    days, day = 40, np.repeat(np.arange(40), 200)
    alone = rng.normal(size=len(day))
    binning = Binning.of_numbers(alone, 20)
    assert Shape.of(binning, alone, days, day).inflation() < 1.5
    # Every row of a day is the same: 200 rows count as one.
    together = rng.normal(size=days)[day]
    assert Shape.of(Binning.of_numbers(together, 20), together, days, day).inflation() == pytest.approx(
        200, rel=0.05
    )
    kinds = np.array(["a", "b"], dtype=object)[rng.integers(2, size=days)][day]
    assert Shape.of(Binning.of_categories(kinds), kinds, days, day).inflation() == pytest.approx(
        200, rel=0.05
    )


@pytest.mark.parametrize("text", [False, True])
def test_p_values_of_two_stretches_of_the_same_are_rarely_small(text: bool) -> None:
    rng = np.random.default_rng(1)
    day, small = np.repeat(np.arange(30), 50), 0
    for _ in range(200):
        values = rng.normal(size=1_500) + rng.normal(size=30)[day]
        column = np.where(values > 0, "up", "down").astype(object) if text else values
        binning = Binning.of(Column("x", Kind.CAT if text else Kind.NUM), column, 20)
        before = Shape.of(binning, column[:1_000], 20, day[:1_000])
        now = Shape.of(binning, column[1_000:], 10, day[1_000:] - 20)
        small += moved(before, now)[2] < 0.05
    assert small <= 24  # 10 expected; the normal approximation of so few days is a little too sure


def test_the_auc_interval_covers_and_knows_days() -> None:
    rng = np.random.default_rng(0)
    at = np.repeat(np.arange(50), 40) * DAY
    truth = (rng.random(len(at)) < 0.5).astype(float)
    score = truth + rng.normal(size=len(at))
    area, low, high = auc_interval(truth, score, at, rng)
    assert area == auc(truth, score)
    assert low < stats.norm.cdf(1 / np.sqrt(2)) < high
    assert 0.02 < high - low < 0.08
    # The same rows all on five days leave five pieces of evidence.
    wide = auc_interval(
        np.repeat([0.0, 1.0], 1_000),
        np.repeat(rng.normal(size=5), 400),
        np.repeat(np.arange(5), 400) * DAY,
        rng,
    )
    assert wide[2] - wide[1] > 0.3
