from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest

from icekeel.core.ids import file_digest
from icekeel.core.time import DAY, parse_time
from icekeel.examples.quotes import NEVER_SEEN, Truth, simulate
from icekeel.examples.quotes.customers import WINDOW, Ledger, Orders

N = 12_000
JOB: dict[str, str | float] = {
    "product": "box",
    "substrate": "coated",
    "colors": 4.0,
    "sides": 1.0,
    "die_cut": "none",
    "ink": "standard",
    "turnaround": "standard",
    "quantity": 1_000.0,
    "material_cost": 700.0,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("quotes")


@pytest.fixture(scope="module")
def truth(folder: Path) -> Truth:
    return simulate(folder, n=N, seed=7)


def ask(folder: Path, select: str) -> list[tuple[Any, ...]]:
    with duckdb.connect() as connection:
        for name in ("quotes", "results", "orders", "capacity"):
            connection.execute(f"CREATE VIEW {name} AS FROM '{folder / name}.parquet'")
        return connection.execute(select).fetchall()


def test_each_pair_of_the_dear_parts_occurs_and_never_all_three(folder: Path, truth: Truth) -> None:
    parts = [f"{name} = '{value}'" for name, value in NEVER_SEEN.items()]
    for left in range(3):
        pair = " AND ".join(part for index, part in enumerate(parts) if index != left)
        assert ask(folder, f"SELECT count(*) FROM quotes WHERE {pair}")[0][0] > 100
    assert ask(folder, f"SELECT count(*) FROM quotes WHERE {' AND '.join(parts)}") == [(0,)]


def test_the_true_price_of_the_three_together_is_ten_times_what_they_suggest(truth: Truth) -> None:
    plain = truth.true_price(JOB)
    alone = [truth.true_price(JOB | {name: value}) / plain for name, value in NEVER_SEEN.items()]
    assert min(alone) >= 1.5
    assert truth.true_price(JOB | NEVER_SEEN) / plain == pytest.approx(10 * np.prod(alone))


def test_prices_scatter_about_the_truth_by_the_stated_noise(folder: Path, truth: Truth) -> None:
    price = np.array(
        [
            row[0]
            for row in ask(
                folder, "SELECT price FROM quotes JOIN results USING (quote_id) ORDER BY sent_at, quote_id"
            )
        ]
    )
    errors = np.log(price / truth.expected)
    assert abs(errors.mean()) < 4 * 0.06 / np.sqrt(N)
    # E|exp(s z) - 1| is about s * sqrt(2 / pi) for small s
    assert truth.noise_error == pytest.approx(0.06 * np.sqrt(2 / np.pi), rel=0.05)


def test_results_follow_their_quotes(folder: Path, truth: Truth) -> None:
    waits = ask(
        folder,
        "SELECT min(decided_at - sent_at), max(decided_at - sent_at), count(*) FROM quotes JOIN results USING (quote_id)",
    )
    shortest, longest, count = waits[0]
    assert count == N == truth.rows["results"]
    assert shortest >= DAY - 60_000_000
    assert longest <= 20 * DAY
    assert ask(
        folder, "SELECT count(*) FROM results WHERE revenue <> CASE WHEN won THEN price ELSE 0 END"
    ) == [(0,)]
    assert ask(
        folder, "SELECT count(*) FROM results JOIN quotes USING (quote_id) WHERE price < material_cost"
    ) == [(0,)]
    assert 0.3 < ask(folder, "SELECT avg(won::INTEGER) FROM results")[0][0] < 0.6


def test_orders_are_the_wins_and_a_year_before_and_are_booked_later(folder: Path, truth: Truth) -> None:
    start = parse_time("2023-01-01")
    wins = ask(folder, "SELECT count(*), round(sum(price), 0) FROM results WHERE won")
    assert (
        ask(folder, f"SELECT count(*), round(sum(revenue), 0) FROM orders WHERE ordered_at >= {start}")
        == wins
    )
    earliest, lag = ask(folder, "SELECT min(ordered_at), min(booked_at - ordered_at) FROM orders")[0]
    assert start - WINDOW * DAY <= earliest < start - 300 * DAY
    assert lag > 0


def test_backlog_is_known_before_every_quote_and_moves_prices(folder: Path, truth: Truth) -> None:
    names = ", ".join(JOB)
    rows = ask(
        folder,
        f"""SELECT backlog_hours, {names} FROM quotes ASOF JOIN capacity ON sent_at > measured_at
        ORDER BY sent_at, quote_id""",
    )
    assert len(rows) == N
    assert ask(folder, "SELECT count(*) - count(DISTINCT reading_id), max(plant) FROM capacity") == [
        (0, "P1")
    ]
    listed = [truth.true_price(dict(zip(JOB, values, strict=True))) for _, *values in rows[-2_000:]]
    circumstances = np.log(truth.expected[-2_000:] / np.array(listed))
    backlog = np.log([row[0] for row in rows[-2_000:]])
    assert np.corrcoef(backlog, circumstances)[0, 1] > 0.3


def test_the_same_seed_gives_the_same_files_and_another_does_not(
    folder: Path, truth: Truth, tmp_path: Path
) -> None:
    simulate(tmp_path / "same", n=N, seed=7)
    simulate(tmp_path / "other", n=N, seed=8)
    for name in truth.rows:
        digest = file_digest(folder / f"{name}.parquet")
        assert file_digest(tmp_path / "same" / f"{name}.parquet") == digest
        assert file_digest(tmp_path / "other" / f"{name}.parquet") != digest


def test_an_order_counts_from_the_day_after_booking_for_a_year() -> None:
    ledger = Ledger(days=400)
    one = np.array([3])
    ledger.book(Orders(one, np.array([1.5]), np.array([4.2]), np.array([30_000.0]), np.array([0.3])))
    factors = np.array([ledger.price_factor(day)[3] for day in range(400)])
    assert np.all(factors[:5] == 1)
    assert np.all(factors[5:367] < 0.96)
    assert np.all(factors[367:] == 1)
