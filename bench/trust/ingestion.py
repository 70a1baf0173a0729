"""Ingestion killed with -9 at random moments: every row of the sources is compared with history afterwards.

What is killed is the command `icekeel ingest` itself, in smaller parts, so that a second of work has many of them.
"""

from __future__ import annotations

import csv
import multiprocessing
import os
import random
import signal
import sqlite3
import sys
import time
from contextlib import closing
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from tempfile import TemporaryDirectory

import duckdb
import numpy as np

from bench.report import Result
from icekeel.cli.main import main
from icekeel.core.ids import file_digest
from icekeel.data import History, parts, sources
from icekeel.journal import Ingested, Positions, scan

PROJECT = '''
import icekeel as ik

class Ask(ik.Request):
    sale_id: ik.Id

class Sales(ik.Events, time="at", id="sale_id", source="sales-*.csv"):
    sale_id: ik.Id
    amount: ik.Num = ik.at_least(0)

class Orders(ik.Events, time="placed_at", available="updated_at", id="order_id", deleted="gone",
             source=ik.sql("orders", url="sqlite:///shop.db", watermark="updated_at", look_back="1s")):
    order_id: ik.Id
    amount: ik.Num = ik.at_least(0)
    gone: ik.Flag

mine = Orders.where(order_id=Ask.sale_id).last("365d")
class Features(ik.Features):
    spent = mine.amount.sum()
late = ik.Model("late", Ask, Features, history=ik.table_of(Ask, "none.csv", asked_at="at"),
    target=Sales.where(sale_id=Ask.sale_id).within("2d").amount.latest(absent=0) > 15, error="log_loss",
    choose=ik.Simplest(within=ik.usd_per_year(1_000, error_point=10_000)), action=ik.Act("warn", missed=4, false=1))
'''  # fmt: skip
ROWS = 2_000
"""New rows of each kind before each run that is expected to have work."""


class Shop:
    """The sources: files that are added, a database that rows are added to, corrected and deleted in."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.rng, self.files, self.clock, self.last = folder, random.Random(seed), 0, 0, 0
        (folder / "project.py").write_text(PROJECT)
        with self.database() as database:
            database.execute(
                "CREATE TABLE orders (order_id INTEGER PRIMARY KEY, amount REAL, gone INTEGER, placed_at TEXT, updated_at TEXT)"
            )

    def database(self) -> closing[sqlite3.Connection]:
        """Of the orders, which ends a transaction only where that is said."""
        return closing(sqlite3.connect(self.folder / "shop.db", isolation_level=None))

    def work(self) -> None:
        """One more file, and changes in the database."""
        with (self.folder / f"sales-{self.files:04}.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["sale_id", "amount", "at"])
            for row in range(ROWS):
                amount = self.rng.choice([row, row, row, -1, "none"]) if row % 50 == 0 else row
                writer.writerow([f"{self.files}-{row}", amount, "2025-03-01"])
                if row % 500 == 7:
                    file.write(f"{self.files}-{row} is no row\n")
        self.files += 1
        with self.database() as database:
            database.execute("BEGIN")
            for _ in range(ROWS):
                self.clock += 1
                at = f"2025-03-{1 + self.clock // 86_400_000:02} {self._time()}"
                if self.last and self.rng.random() < 0.2:
                    gone, some = self.rng.random() < 0.2, self.rng.randrange(self.last)
                    statement = "UPDATE orders SET amount = ?, gone = ?, updated_at = ? WHERE order_id = ?"
                    database.execute(statement, (self.clock, gone, at, some))
                else:
                    amount = -1 if self.rng.random() < 0.01 else self.clock
                    new = (self.last, amount, 0, "2025-01-01", at)
                    database.execute("INSERT INTO orders VALUES (?, ?, ?, ?, ?)", new)
                    self.last += 1
            database.execute("COMMIT")

    def _time(self) -> str:
        seconds, millis = divmod(self.clock % 86_400_000, 1000)
        return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}.{millis:03}"


def ingest_crashes(kills: int = 100, seed: int = 1) -> Result:
    """Kill a run `kills` times at random moments of its work, let the last one end, compare."""
    killed = ended = 0
    with TemporaryDirectory() as place:
        shop, took = Shop(Path(place), seed), 0.5
        shop.work()
        while killed < kills:
            process, begun = _started(shop.folder), time.monotonic()
            process.join(shop.rng.uniform(0, took))
            if process.exitcode is None:
                process.kill()
                process.join()
            if process.exitcode == 0:
                took, ended = 0.7 * took + 0.3 * (time.monotonic() - begun), ended + 1
                shop.work()
            elif process.exitcode == -signal.SIGKILL:
                killed, took = (
                    killed + 1,
                    1.1 * took,
                )  # so that about every other run ends, however fast the machine
            else:
                raise RuntimeError("a run failed that nobody killed")
        last = _started(shop.folder)
        last.join()
        if last.exitcode:
            raise RuntimeError("the last run failed")
        found = compared(shop.folder)
    return {"kills": killed, "ended": ended, **found}


def _started(folder: Path) -> ForkServerProcess:
    """A process of its own that is `icekeel ingest`, forked from one that has imported everything and done nothing."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__, "icekeel.app"])
    process = context.Process(target=run, args=(str(folder),))
    process.start()
    return process


def compared(folder: Path) -> dict[str, int]:
    """How many rows of the sources are not in history as they are, and how many are there more than once."""
    history = History(folder / ".icekeel" / "history")
    manifest = history.manifest()
    lost = doubled = 0
    with duckdb.connect() as connection:
        texts = [
            line.split(",") for path in folder.glob("sales-*.csv") for line in path.read_text().splitlines()
        ]
        lines = [row for row in texts if len(row) == 3 and row[0] != "sale_id"]
        given = {
            "sale_id": np.array([row[0] for row in lines]),
            "amount": np.array([row[1] for row in lines]),
        }
        connection.register("given", given)
        connection.execute(
            "CREATE TABLE sales AS SELECT sale_id, TRY_CAST(amount AS DOUBLE) AS amount FROM given"
        )
        sales, bad = _files(history, "Sales"), _files(history, "quarantine/Sales")
        wanted = "SELECT sale_id, amount FROM sales WHERE amount >= 0"
        lost += _number(connection, f"({wanted}) EXCEPT ALL SELECT sale_id, amount FROM {sales}")
        doubled += _number(connection, f"SELECT sale_id, amount FROM {sales} EXCEPT ALL ({wanted})")
        aside = "SELECT sale_id FROM sales WHERE coalesce(amount, -1) < 0"
        spoilt = sum(len(row) == 1 for row in texts)
        kept = f"SELECT json_extract_string(row, '$.sale_id') AS id FROM {bad} WHERE row LIKE '{{%'"
        lost += _number(connection, f"({aside}) EXCEPT ALL ({kept})")
        doubled += _number(connection, f"({kept}) EXCEPT ALL ({aside})")
        there = _number(connection, f"SELECT row FROM {bad} WHERE row NOT LIKE '{{%'")
        lost, doubled = lost + max(spoilt - there, 0), doubled + max(there - spoilt, 0)
        lost_orders, doubled_orders = _orders(connection, folder, history)
        events = _number(connection, f"SELECT 1 FROM {sales}")
    announced = {one.file for one in scan(folder / ".icekeel" / "journal", kinds=Ingested, since=Positions())}
    listed = {file.name for name in ("Sales", "Orders") for file in manifest.tables[name]}
    damaged = [
        path for name in manifest.tables for path in history.files(name) if file_digest(path) != path.stem
    ]
    return {
        "lost": lost + lost_orders,
        "doubled": doubled + doubled_orders,
        "rows": events,
        "files": len(listed),
        "unannounced": len(listed - announced),
        "damaged": len(damaged),
    }


def _orders(connection: duckdb.DuckDBPyConnection, folder: Path, history: History) -> tuple[int, int]:
    """Of the database each row must be the newest version, or set aside; no version may be there twice."""
    with closing(sqlite3.connect(folder / "shop.db")) as database:
        rows = database.execute("SELECT order_id, amount, gone, updated_at FROM orders").fetchall()
    lines = ", ".join(f"('{i}', {amount}, {gone}, TIMESTAMP '{at}')" for i, amount, gone, at in rows)
    connection.execute(f"CREATE TABLE now AS SELECT * FROM (VALUES {lines}) t(id, amount, gone, moment)")
    orders, bad = _files(history, "Orders"), _files(history, "quarantine/Orders")
    newest = (
        # In a struct, since max_by passes over nulls.
        f"SELECT order_id, max_by(struct_pack(a := amount), (_available, _sequence)).a, max_by(_deleted, (_available, _sequence)), "
        f"make_timestamp(max(_available)) FROM {orders} GROUP BY 1"
    )
    good = "SELECT id, CASE WHEN gone = 0 THEN amount END, gone::DOUBLE, moment FROM now WHERE amount >= 0 OR gone = 1"
    lost = _number(connection, f"{good} EXCEPT ALL ({newest})")
    kept = f"SELECT json_extract_string(row, '$.order_id'), json_extract_string(row, '$.updated_at')::TIMESTAMP FROM {bad}"
    lost += _number(
        connection, f"SELECT id, moment FROM now WHERE amount < 0 AND gone = 0 EXCEPT ALL ({kept})"
    )
    versions = f"SELECT order_id, _available FROM {orders}"
    doubled = _number(connection, f"{versions} EXCEPT ALL SELECT DISTINCT * FROM ({versions})")
    doubled += _number(connection, f"{kept} EXCEPT ALL SELECT DISTINCT * FROM ({kept})")
    return lost, doubled


def _files(history: History, table: str) -> str:
    return f"read_parquet({[str(path) for path in history.files(table)]})"


def _number(connection: duckdb.DuckDBPyConnection, statement: str) -> int:
    (count,) = connection.execute(f"SELECT count(*) FROM ({statement})").fetchall()[0]
    return int(count)


def run(folder: str) -> None:
    """`icekeel ingest` of a project, in parts of some hundred rows."""
    parts.PART_BYTES = 16_000
    sys.modules["icekeel.data.ingest"].QUERY_ROWS = 500  # type: ignore[attr-defined]
    sources.FETCH = 250
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    sys.argv = ["icekeel", "ingest", "--project", folder, "--json"]
    main()
