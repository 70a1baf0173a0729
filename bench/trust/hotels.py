"""Prices of hotel rooms: what features are worth, and how well the most similar past bookings tell a price."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import copy

import duckdb
import numpy as np

from bench.children import CACHE
from bench.report import Result
from icekeel.app import App
from icekeel.core.time import DAY, parse_time
from icekeel.engines import rows_of
from icekeel.engines.similar import SimilarCases
from icekeel.operations.workshop.workshop import Order
from icekeel.registry import read
from icekeel.training import LightGBM, Problem
from icekeel.training import similar as kept
from icekeel.training.backtest import backtest
from icekeel.training.dataset import Learnable
from icekeel.training.pipeline import rows_with_outcome

from .hotel import project

NOW = parse_time("2017-09-01")
LOOKED_UP = 3_000
BOOKINGS = """
    SELECT 'b' || lpad(CAST(row_number() OVER () AS VARCHAR), 6, '0') AS booking_id,
        hotel, reserved_room_type AS room, trim(meal) AS meal, market_segment AS segment, distribution_channel AS channel,
        customer_type, coalesce(CAST(CAST(agent AS BIGINT) AS VARCHAR), 'none') AS agent,
        coalesce(CAST(CAST(company AS BIGINT) AS VARCHAR), 'none') AS company, coalesce(country, 'none') AS country,
        arrival_date_month AS arrival_month, CAST(arrives AS VARCHAR) AS arrival_day, CAST(arrives AS TIMESTAMP) AS arrives_at,
        lead_time AS lead_days, adults, coalesce(children, 0) + babies AS children,
        stays_in_weekend_nights AS weekend_nights, stays_in_week_nights AS week_nights,
        CAST(arrives AS TIMESTAMP) - to_days(CAST(lead_time AS INTEGER)) AS booked_at, adr AS price
    FROM (SELECT *, strptime(arrival_date_year || ' ' || arrival_date_month || ' ' || arrival_date_day_of_month, '%Y %B %d')::DATE AS arrives
          FROM read_parquet('{source}')) WHERE adr >= 1 AND adr <= 1000
"""


def source() -> Path:
    """The bookings that were fetched.

    Raises:
        FileNotFoundError: there are none.
    """
    path = Path(os.environ.get("BENCH_DATA", "")) / "hotel_bookings.parquet"
    if not path.is_file():
        raise FileNotFoundError("set BENCH_DATA to a folder with hotel_bookings.parquet, see bench/README.md")
    return path


@contextmanager
def hotel() -> Iterator[App]:
    """The project with its data taken in."""
    with tempfile.TemporaryDirectory(dir=CACHE) as name:
        folder = Path(name)
        copy(str(project.__file__), folder / "project.py")
        with duckdb.connect() as connection:
            connection.execute(f"CREATE TABLE bookings AS {BOOKINGS.format(source=source())}")
            events = "booking_id, hotel, room, agent, company, segment, arrival_month, arrival_day, price, booked_at"
            connection.execute(
                f"COPY (SELECT {events} FROM bookings) TO '{folder}/bookings.parquet' (FORMAT parquet)"
            )
            connection.execute(
                f"COPY (SELECT * EXCLUDE (price) FROM bookings) TO '{folder}/requests.parquet' (FORMAT parquet)"
            )
        app = App(folder, clock=lambda: NOW + 365 * DAY)
        app.ingest([])
        yield app


def features() -> Result:
    """MAPE of the same LightGBM on each set of features, on the same later bookings; gains are relative."""
    with hotel() as app:
        registry = app.registry()
        _, data = app.workshop(registry).prepare("price", NOW, lambda line: None)
        registry.close()
        errors = {name: _error(app, data, name) for name in ("Raw", "Ids", "History")}
        bookings = int((data.outcomes.status == 1).sum())
    raw, ids, history = errors.values()
    gains = {"ids_gain": 1 - ids / raw, "history_gain": 1 - history / ids, "gain": 1 - history / raw}
    return {"raw": raw, "ids": ids, "history": history, **gains, "bookings": bookings}


def _error(app: App, data: Learnable, name: str) -> float:
    _, rows = rows_with_outcome(app.project.feature_sets[name].icekeel_features, data)
    trial = backtest(Problem("number", "mape"), rows, [LightGBM()], folds=3)
    return trial.error("lightgbm")


def similar() -> Result:
    """Error of the similar cases against the model's on the same later bookings, and the time of a look-up."""
    kept.MOST_BYTES = 40_000_000  # else they would be 80,000
    kept.MOST_TRIED = LOOKED_UP  # a sharper figure than the 400 that training takes
    with hotel() as app:
        registry = app.registry()
        workshop = app.workshop(registry)
        version, trained = workshop.train(Order("price", NOW, rung="lightgbm"), lambda line: None)
        made = trained.metrics["similar"]
        cases = SimilarCases.load(read(app.places.bundles, version.digest).files)
        _, data = workshop.prepare("price", NOW, lambda line: None)
        registry.close()
    places = np.random.default_rng(0).integers(0, len(data.asked_at), LOOKED_UP)
    rows = rows_of(cases.columns, data.features.take(places))
    spent = []
    for row in rows:
        best = float("inf")
        for _ in range(3):
            began = time.thread_time_ns()
            cases.typical(row)
            best = min(best, (time.thread_time_ns() - began) / 1e3)
        spent.append(best)
    return {
        "ratio": made["error"] / made["model_error"],
        "us": float(np.quantile(spent, 0.5)),
        "p99_us": float(np.quantile(spent, 0.99)),
        "cases": len(cases),
        **{name: made[name] for name in ("error", "model_error", "k", "tried")},
    }
