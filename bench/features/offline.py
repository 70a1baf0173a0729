"""Historical features, by Icekeel and by hand-written SQL: Parquet in, columns in memory out."""

from __future__ import annotations

from pathlib import Path

import duckdb
import numpy as np

from icekeel.compile import quote
from icekeel.core.frames import Array, Frame
from icekeel.core.kinds import Column, Kind
from icekeel.data.relations import fetch, parquet
from icekeel.features.offline import EventStore, historical_features

from . import shop
from .data import Sales

SQL = Path(__file__).parent / "sql"
TOLERANCE = 1e-9
"""Relative difference of sums and means between two engines, which add in different orders."""


def ours(sales: Sales) -> dict[str, Array]:
    """The features of every question, as a training run gets them."""
    request, features, table = (
        (shop.AskWide, shop.Newest, shop.Wide) if sales.columns else (shop.Ask, shop.Windows, shop.Sales)
    )
    plan = shop.plan_of(request, features)
    questions = _questions(sales, plan.inputs)
    definition = table.icekeel_table
    store = EventStore({definition.name: definition}, {definition.name: [sales.events_file]})
    try:
        requests = questions.select([column.name for column in plan.inputs])
        frame = historical_features(plan, requests, questions["asked_at"], store)
    finally:
        store.close()
    return {name: frame[name] for name in frame}


def _questions(sales: Sales, inputs: tuple[Column, ...]) -> Frame:
    columns = [*inputs, Column("asked_at", Kind.TIME)]
    listed = ", ".join(quote(column.name) for column in columns)
    with duckdb.connect(config={"threads": 2}) as connection:
        return fetch(connection, f"SELECT {listed} FROM {parquet([sales.questions_file])}", columns)


def by_sql(sales: Sales, name: str) -> dict[str, Array]:
    """What the statements in `sql/<name>.sql` make of `events` and `questions`, in the order of the questions."""
    *steps, last = _statements((SQL / f"{name}.sql").read_text())
    with duckdb.connect(config={"threads": 2}) as connection:
        connection.execute(f"CREATE VIEW events AS SELECT * FROM {parquet([sales.events_file])}")
        connection.execute(
            "CREATE VIEW questions AS SELECT *, file_row_number AS q "
            f"FROM read_parquet('{sales.questions_file}', file_row_number = true)"
        )
        for step in steps:
            connection.execute(step)
        columns = connection.execute(last).fetchnumpy()
    order = np.argsort(columns.pop("q"))
    return {
        key: np.ma.filled(np.ma.asarray(values, dtype=np.float64), np.nan)[order]
        for key, values in columns.items()
    }


def _statements(text: str) -> list[str]:
    lines = [line for line in text.splitlines() if not line.startswith("--")]
    return [part for part in "\n".join(lines).split(";\n") if part.strip()]


def differences(mine: dict[str, Array], yours: dict[str, Array]) -> dict[str, int]:
    """Column -> how many values differ by more than `TOLERANCE` where sums are taken, at all elsewhere."""
    found: dict[str, int] = {}
    for name, a in mine.items():
        b = yours[name]
        allowed = TOLERANCE * np.abs(a) if {"sum", "mean"} & set(name.split("_")) else 0.0
        null = np.isnan(a) & np.isnan(b)
        with np.errstate(invalid="ignore"):
            found[name] = int((~null & ~(np.abs(a - b) <= allowed)).sum())
    return found
