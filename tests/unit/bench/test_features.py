"""What is measured is right: peers give our values, on little data, and every figure has its bar."""

from __future__ import annotations

from pathlib import Path

import duckdb
import numpy as np
import pytest

from bench.features import data, figures, offline, online, tasks
from bench.features.data import Sales


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data, "CACHE", tmp_path)
    monkeypatch.setattr(online, "CACHE", tmp_path)


@pytest.mark.parametrize(
    ("sales", "statements"),
    [
        (Sales(60_000, 2_000, hot=0.3, customers=500), "windows"),
        (Sales(60_000, 2_000, uniform=True, customers=50), "windows"),
        (Sales(20_000, 2_000, customers=500, columns=10), "asof"),
    ],
)
def test_sql_by_hand_gives_our_values(sales: Sales, statements: str) -> None:
    sales.make()
    mine, yours = offline.ours(sales), offline.by_sql(sales, statements)
    assert offline.differences(mine, yours) == dict.fromkeys(mine, 0)
    assert all(np.unique(values).size > 2 for values in mine.values())


def test_a_difference_is_found() -> None:
    mine = {"a_sum": np.array([1.0, np.nan, 3.0]), "a_max": np.array([1.0, 2.0, np.nan])}
    yours = {"a_sum": np.array([1.0 + 1e-11, 0.0, 3.1]), "a_max": np.array([1.0 + 1e-11, 2.0, np.nan])}
    assert offline.differences(mine, yours) == {"a_sum": 2, "a_max": 1}


def test_late_rows_are_known_later_and_skew_is_what_it_says() -> None:
    late, hot = Sales(20_000, 10, late=0.05), Sales(20_000, 10, hot=0.3)
    late.make()
    hot.make()
    with duckdb.connect() as connection:
        share = connection.execute(
            f"SELECT avg((_available > sold_at)::INT), min(_available - sold_at) FROM '{late.events_file}'"
        ).fetchone()
        most = connection.execute(
            f"SELECT count(*) / 20000 FROM '{hot.events_file}' WHERE customer = 'hot'"
        ).fetchone()
    assert share is not None and abs(share[0] - 0.05) < 0.01 and share[1] == 0
    assert most is not None and abs(most[0] - 0.3) < 0.02


def test_the_online_measurements_measure() -> None:
    found = online.reads(held=30, hot=2_000, n=40)
    assert all(found[name] > 0 for name in ("read_us", "hot_us", "amend_us"))
    assert online.closure(n=50)["p50_us"] > 0


@pytest.mark.parametrize("hot", [False, True])
def test_repeated_events_are_read_and_not_counted(hot: bool) -> None:
    found = online.ingest(hot=hot, n=3_000)
    assert found["per_s"] > 0
    assert 3_000 < found["events"] < 3_200


def test_every_figure_rests_on_tasks_that_exist() -> None:
    known = {*tasks.DATA, "closure", "reads", "ingest", "ingest_hot", "fuzz"}
    assert {task for figure in figures.FIGURES for task in figure.tasks} <= known
    assert {*figures.CHECKS, *figures.CHECKS.values()} <= known
    assert len({figure.key for figure in figures.FIGURES}) == len(figures.FIGURES) == 16
    for figure in figures.FIGURES:
        assert figure.holds(figure.bar)
        assert not figure.holds(figure.bar + (1 if figure.most else -1) * 0.01)
