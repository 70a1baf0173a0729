"""Settled answers as columns: little memory, and the units that rows of plain values give, to the last bit."""

from __future__ import annotations

import tracemalloc
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from icekeel.core.time import DAY
from icekeel.experiments import Answers, Metric, Units, gather
from icekeel.operations.projections.projections import Settled
from icekeel.operations.trials.rows import Rows
from icekeel.registry import CHALLENGER, CHAMPION, Trial

SHARES = {"late-2/1@0.1": 0.1, "late-2/1@0.5": 0.5}
TRIAL = Trial("late", "late-1", "late-2", "late-2/1", 0, ((0, 0.1), (5 * DAY, 0.5)))


def settled(count: int, units: int, seed: int, *, before_from: int | None = None) -> list[Settled]:
    """Answers in the order in which they settled, which is not that in which they were asked."""
    rng = np.random.default_rng(seed)
    at = np.sort(rng.integers(0, 10 * DAY, count))
    late, unit = rng.integers(0, DAY, count), rng.integers(0, units, count)
    value, before, group = rng.normal(5, 2, count), rng.normal(0, 1, count), rng.integers(0, 4, count)
    return [
        Settled(
            int(at[n]), int(max(0, at[n] - late[n])), f"id{n}", f"u{unit[n]}", "late-1",
            CHALLENGER if unit[n] % 3 == 0 else CHAMPION, 0.1, 0.0, 0.0, {}, float(value[n]),
            phase=list(SHARES)[int(at[n] > 5 * DAY)], segments=(f"g{group[n]}", "all"),
            covariate=None if before_from is None or n < before_from else float(before[n]),
        )
        for n in range(count)
    ]  # fmt: skip


def plainly(metric: Metric, rows: Sequence[Settled], until: int, segment: int | None) -> Units:
    """The units of some answers, numbered as they first came."""
    numbers: dict[str, int] = {}
    for row in rows:
        numbers.setdefault(row.unit, len(numbers))
    known = [row for row in rows if row.settled_at < until]
    before = np.array([np.nan if row.covariate is None else row.covariate for row in known])
    return gather(
        metric,
        Answers(
            np.array([numbers[row.unit] for row in known]),
            np.array([row.arm == CHALLENGER for row in known]),
            np.array([row.asked_at for row in known]),
            np.array([row.target for row in known]),
            np.array([row.phase for row in known], dtype=object),
            segment=None if segment is None else np.array([row.segments[segment] for row in known], dtype=object),
            covariate=before if np.isfinite(before).any() else None,
        ),
    )  # fmt: skip


def plain(units: Units) -> dict[str, Any]:
    found = {name: getattr(units, name) for name in units.__dataclass_fields__}
    return {name: one.tolist() if isinstance(one, np.ndarray) else one for name, one in found.items()}


@pytest.mark.parametrize("before_from", [None, 0, 700], ids=["no covariate", "one", "one later on"])
@pytest.mark.parametrize("segment", [None, 0])
def test_units_are_those_of_plain_rows_to_the_last_bit(before_from: int | None, segment: int | None) -> None:
    answers = settled(2_000, 300, 1, before_from=before_from)
    rows, metric = Rows(), Metric("cost", "ratio")
    for start in range(0, len(answers), 137):
        part = answers[start : start + 137]
        rows.add(TRIAL, part, [row.target for row in part])
    for until in (2 * DAY, 6 * DAY, 10 * DAY):
        found = plain(rows.gather(metric, until, segment))
        covariates = (
            found.pop("covariate"),
            (expected := plain(plainly(metric, answers, until, segment))).pop("covariate"),
        )
        np.testing.assert_array_equal(*covariates)  # NaN where nothing is known
        assert found == expected
    assert rows.times().tolist() == [row.settled_at for row in answers]


def test_numbers_whose_hashes_are_alike_are_units_of_their_own() -> None:
    rows = Rows()
    unit, at = np.array([-1, -2, -1, 0]), np.arange(4)
    rows.extend(Answers(unit, np.zeros(4, dtype=np.bool_), at, np.array([1.0, 2.0, 4.0, 8.0])))
    assert rows.gather(Metric("m"), 4).value.tolist() == [5.0, 2.0, 8.0]


def test_five_million_answers_are_held_in_a_quarter_of_a_gigabyte() -> None:
    count = 50_000
    answers = settled(count, count, 2, before_from=0)
    values = [row.target for row in answers]
    tracemalloc.start()
    rows = Rows()
    for start in range(0, count, 5_000):
        rows.add(TRIAL, answers[start : start + 5_000], values[start : start + 5_000])
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(rows.times()) == count
    assert 5_000_000 * held / count < 250e6
