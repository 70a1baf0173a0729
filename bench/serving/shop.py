"""Makes the project that serving is measured on: `python -m bench.serving.shop FOLDER`, a minute or two.

2,000 customers, products and stores with some 300 sales each in the last 30 days; two versions of 500 trees of 31
leaves, trained by the pipeline on 20,000 past orders, of which one is champion and one answers half of the customers.
All of it comes from fixed seeds. The data end at `END`: serve with the clock shifted there (`shift()`), and work on a
copy, since serving writes into the folder.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

import duckdb
import numpy as np
from numpy.typing import NDArray

from icekeel.app import App
from icekeel.core.time import DAY, HOUR, parse_time, wall_clock
from icekeel.operations.workshop import workshop
from icekeel.operations.workshop.workshop import Order, admit
from icekeel.testing.small import keep_up
from icekeel.training import GroupTable, LightGBM

END = parse_time("2026-06-01") + 12 * HOUR
TREES = 500
KEYS, SALES_PER_DAY, DAYS = 2_000, 20_000, 40
ORDERS, ORDER_DAYS = 20_000, 8
BODIES = 20_000
OPTIONS: Mapping[str, int] = {
    "channel": 4, "carrier": 6, "service": 3, "packaging": 5, "material": 8, "finish": 5,
    "colour": 10, "size": 6, "origin": 12, "region": 15, "payment": 4, "priority": 3,
}  # fmt: skip
"""Category -> how many values, each 0.7 times as common as the one before."""
Columns = dict[str, NDArray[Any]]


def make(folder: Path) -> None:
    """The project, trained, its windows made, with `token.txt` and `bodies.jsonl` beside it."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    shutil.copy(Path(__file__).with_name("project.py"), folder)
    rng = np.random.default_rng(4)
    asked_at = np.sort(END - DAY - rng.integers(0, ORDER_DAYS * DAY, ORDERS))
    past = orders(rng, ORDERS)
    _write(folder / "orders.parquet", {**past, "asked_at": asked_at})
    booked_at = asked_at + rng.integers(HOUR, 20 * HOUR, ORDERS)
    costs: Columns = {"order_id": past["order_id"], "cost": _cost(rng, past), "booked_at": booked_at}
    _write(folder / "costs.parquet", costs, "booked_at")
    _write(folder / "sales.parquet", _sales(rng), "sold_at")
    write_bodies(folder / "bodies.jsonl", BODIES)
    _train(folder)


def orders(rng: np.random.Generator, n: int, prefix: str = "o") -> Columns:
    """`n` ordinary orders, a column for each field of the request."""
    found: Columns = {"order_id": _names(prefix, np.arange(n))}
    for key in ("customer", "product", "store"):
        found[key] = _names(key[0], rng.integers(KEYS, size=n))
    for name, count in OPTIONS.items():
        weight = 0.7 ** np.arange(count)
        found[name] = _names(name, rng.choice(count, n, p=weight / weight.sum()))
    found["quantity"] = np.ceil(np.exp(rng.normal(2, 1, n)))
    found["weight"] = np.exp(rng.normal(1, 0.7, n)).round(2)
    found["price"] = np.exp(rng.normal(3, 0.8, n)).round(2)
    found["distance"] = np.exp(rng.normal(5, 0.9, n)).round(1)
    return found


def requests(n: int, seed: int = 9) -> list[dict[str, Any]]:
    """`n` requests like the past orders, of other ids."""
    columns = orders(np.random.default_rng(seed), n, prefix=f"new{seed}-")
    return [
        dict(zip(columns, row, strict=True))
        for row in zip(*(column.tolist() for column in columns.values()), strict=True)
    ]


def write_bodies(path: Path, n: int) -> None:
    """A request in each line."""
    path.write_text("".join(json.dumps(request, separators=(",", ":")) + "\n" for request in requests(n)))


def shift() -> int:
    """Microseconds that the clock of every process must be moved, so that it begins where the data end."""
    return END - wall_clock()


def _cost(rng: np.random.Generator, past: Columns) -> NDArray[Any]:
    """Every option moves the cost, some of them together; noise of 5 %."""
    n = len(past["quantity"])
    effect = np.zeros(n)
    for at, (name, count) in enumerate(OPTIONS.items()):
        place = np.array([int(value.removeprefix(name)) for value in past[name]])
        effect += np.linspace(0, 0.1 + 0.03 * at, count)[place]
    load = past["quantity"] * past["weight"]
    base = 5 + 0.4 * load**0.7 + 0.01 * past["distance"] * np.sqrt(load) + 0.05 * past["price"]
    return np.asarray((base * np.exp(effect + rng.normal(0, 0.05, n))).round(2))


def _sales(rng: np.random.Generator) -> Columns:
    n = SALES_PER_DAY * DAYS
    times = END - DAYS * DAY + ((np.arange(n) + rng.random(n)) * (DAYS * DAY / n)).astype(np.int64)
    keys = {key: _names(key[0], rng.integers(KEYS, size=n)) for key in ("customer", "product", "store")}
    amount, margin = np.exp(rng.normal(3, 1, n)).round(2), rng.normal(0.2, 0.3, n).round(4)
    return {"sale": _names("e", np.arange(n)), **keys, "amount": amount, "margin": margin, "sold_at": times}


def _names(prefix: str, numbers: NDArray[np.int64]) -> NDArray[np.object_]:
    return np.array([f"{prefix}{number}" for number in numbers.tolist()], dtype=object)


def _write(path: Path, columns: Columns, order: str = "asked_at") -> None:
    with duckdb.connect() as connection:
        connection.register("source", columns)
        connection.execute(f"COPY (FROM source ORDER BY {order}) TO '{path}' (FORMAT parquet)")


def _train(folder: Path) -> None:
    """Two versions by the pipeline, gates and all: of yesterday, which serves, and of today, which is tried.

    The one thing that is not left to the ladder is the number of trees.
    """

    def rungs(_model: object, name: str, threads: int, _settings: Any) -> Sequence[Any]:
        return GroupTable(), LightGBM(trees=TREES, threads=threads, name=name)

    app = App(folder, clock=lambda: END)
    app.ingest([])
    registry = app.registry()
    for now in (END - DAY, END):
        with patch.object(workshop, "rungs_up_to", rungs), app.journal("train") as journal:
            version, _ = app.workshop(registry).train(Order("cost", now, rung="lightgbm"), print)
            print(admit(registry, journal, app.model("cost"), version, at=now, by="bench").reason)
    keep_up(app)
    registry.close()
    (folder / "token.txt").write_text(app.access().create("bench", ("admin",)))


if __name__ == "__main__":
    make(Path(sys.argv[1]))
    print(f"serve a copy with --shift {shift()} (at this moment; keeper and server get the same)")
