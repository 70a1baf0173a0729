"""The data that figures are taken on: made by DuckDB from fixed seeds, kept in a folder that git ignores.

A year of sales, as `icekeel.data.history` stores events: by customer (200,000), product (5,000) and
region (50). How often a key occurs follows Zipf's law with exponent 1 (`P(rank k)` proportional to `1 / k`).
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import duckdb

from bench.children import CACHE
from icekeel.core.time import DAY

BEGIN = 1_704_067_200_000_000  # 2024-01-01
YEAR = 365 * DAY
FORMAT = 1
"""Part of every file's name: raise it when what is made changes."""


@dataclass(frozen=True, slots=True)
class Sales:
    """One set of events and of questions about them.

    Attributes:
        events, questions: How many rows.
        hot: Share of events, and of questions, of one customer.
        uniform: Every key equally often, instead of Zipf's law.
        late: Share of events that became known up to ten days after they happened.
        customers: How many different ones.
        columns: Value columns `v0`, `v1`, ... without nulls, in the place of `amount` and `margin`.
    """

    events: int
    questions: int
    hot: float = 0.0
    uniform: bool = False
    late: float = 0.0
    customers: int = 200_000
    columns: int = 0

    @property
    def name(self) -> str:
        """Tells sets apart."""
        law = "uniform" if self.uniform else "zipf"
        kind = f"{law}{self.customers}-hot{self.hot}-late{self.late}-columns{self.columns}"
        return f"f{FORMAT}-{self.events}x{self.questions}-{kind}"

    @property
    def events_file(self) -> Path:
        """Events in the order they happened."""
        return CACHE / self.name / "events.parquet"

    @property
    def questions_file(self) -> Path:
        """Questions in the order they were asked, from the second month on."""
        return CACHE / self.name / "questions.parquet"

    @property
    def peer_files(self) -> tuple[Path, Path]:
        """The same events and questions as Feast takes them: timestamps, and no columns of our own."""
        return CACHE / self.name / "feast_events.parquet", CACHE / self.name / "feast_questions.parquet"

    def make(self) -> None:
        """Make the files unless they are there."""
        if self.questions_file.exists():
            return
        draft = CACHE / f"{self.name}.draft"
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
        files = {"events": self._events(), "questions": self._questions()}
        if self.columns:
            values = ", ".join(f"v{at}" for at in range(self.columns))
            for name, columns, time in (
                ("events", f"customer, {values}", "sold_at"),
                ("questions", "customer", "asked_at"),
            ):
                files[f"feast_{name}"] = (
                    f"SELECT {columns}, make_timestamptz({time}) AS event_timestamp FROM '{draft / name}.parquet'"
                )
        with duckdb.connect(config={"threads": 2, "memory_limit": "4GB"}) as connection:
            for name, statement in files.items():
                connection.execute(
                    f"COPY ({statement}) TO '{draft / name}.parquet' (FORMAT parquet, COMPRESSION zstd)"
                )
        draft.rename(CACHE / self.name)

    def remove(self) -> None:
        """Free the disk."""
        shutil.rmtree(CACHE / self.name, ignore_errors=True)

    def _keys(self, salt: int) -> str:
        customer = self._pick("c", self.customers, salt)
        if self.hot:
            customer = f"CASE WHEN {_chance(salt + 1)} < {self.hot} THEN 'hot' ELSE {customer} END"
        product, region = self._pick("p", 5_000, salt + 2), self._pick("r", 50, salt + 3)
        return f"{customer} AS customer, {product} AS product, {region} AS region"

    def _pick(self, prefix: str, count: int, salt: int) -> str:
        """One of `count` keys; `floor((count + 1) ** u)` has `P(k) = ln((k + 1) / k) / ln(count + 1)`."""
        u = _chance(salt)
        rank = f"1 + floor({u} * {count})" if self.uniform else f"floor(pow({count + 1}, {u}))"
        return f"'{prefix}' || CAST({rank} AS INTEGER)"

    def _values(self) -> str:
        if self.columns:
            return ", ".join(f"{_normal(100 + 2 * at)} AS v{at}" for at in range(self.columns))
        amount = f"CASE WHEN {_chance(30)} >= 0.05 THEN round(exp(3 + 1.2 * {_normal(31)}), 2) END AS amount"
        margin = f"CASE WHEN {_chance(33)} >= 0.05 THEN 0.2 + 0.3 * {_normal(34)} END AS margin"
        return f"{amount}, {margin}"

    def _events(self) -> str:
        time = f"CAST({BEGIN} + floor((i + {_chance(10)}) * {YEAR / self.events}) AS BIGINT)"
        lag = f"CASE WHEN {_chance(11)} < {self.late} THEN CAST(floor({_chance(12)} * {10 * DAY}) AS BIGINT) ELSE 0 END"
        return (
            f"SELECT 'e' || lpad(i::VARCHAR, 9, '0') AS sale, {self._keys(20)}, {self._values()}, "
            f"{time} AS sold_at, {time} + {lag} AS _available, 0::DOUBLE AS _deleted, i AS _sequence "
            f"FROM range({self.events}) t(i)"
        )

    def _questions(self) -> str:
        step = (YEAR - 31 * DAY) / self.questions
        time = f"CAST({BEGIN + 31 * DAY} + floor((i + {_chance(50)}) * {step}) AS BIGINT)"
        return f"SELECT {self._keys(51)}, {time} AS asked_at FROM range({self.questions}) t(i)"


def _chance(salt: int) -> str:
    """A number in [0, 1) that depends on the row and on `salt` (0 to 255) alone."""
    return f"(hash(i * 256 + {salt}) / 18446744073709551616.0)"


def _normal(salt: int) -> str:
    """Standard normal, by Box and Muller."""
    return f"(sqrt(-2 * ln(1 - {_chance(salt)})) * cos(2 * pi() * {_chance(salt + 1)}))"


SKEWED = Sales(10_000_000, 500_000, hot=0.3)
UNIFORM = Sales(10_000_000, 500_000, uniform=True)
LATE = Sales(10_000_000, 500_000, hot=0.3, late=0.05)
WIDE = Sales(5_000_000, 500_000, columns=10)
FEAST = Sales(1_500_000, 150_000, uniform=True, customers=10_000, columns=10)
STORED = Sales(100_000, 10_000, uniform=True, customers=10_000, columns=12)
SPARSE = Sales(1_500_000, 150_000, uniform=True, columns=10)
LARGE = Sales(100_000_000, 1_000_000, hot=0.3)
