"""Online features: one request's windows read and amended, and events taken from the journal into the store.

CPU time of the thread; each read is of other keys at another moment.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lmdb
import numpy as np

from bench.children import CACHE
from icekeel.core.time import DAY, HOUR, MINUTE
from icekeel.data import EventContract
from icekeel.features.live import EventFeed, LiveFeatures, all_views
from icekeel.features.online.lmdb import LmdbWindows, TextCodes, open_environment
from icekeel.features.plan import Plan
from icekeel.journal import Positions, Pushed, Tail, Writer
from icekeel.operations.projections.projections import EventProjection

from . import shop
from .data import BEGIN

TABLE = shop.Sales.icekeel_table
HELD, HOT = 300, 100_000
"""Events that each key holds within 30 days, and those of the one hot customer."""
NOW = BEGIN + 60 * DAY
PUSH_ROWS = 100
GROUP_BYTES = 512 << 10
"""Read from the journal for one commit: some 4,000 events."""
Row = dict[str, Any]


class Store:
    """An online store of one feature set, as the keeper and a server have it."""

    def __init__(self, folder: Path, plan: Plan) -> None:
        self.environment = open_environment(folder)
        lookups = all_views([plan])
        views = [lookup.view for lookup in lookups]
        windows = LmdbWindows(self.environment, views)
        feed = EventFeed({TABLE.name: TABLE}, lookups, TextCodes(self.environment))
        self._projection = EventProjection(feed, windows)
        self.live = LiveFeatures(self.environment, plan, views)

    def apply(self, records: Sequence[Pushed]) -> None:
        """Commit a batch."""
        with self.environment.begin(write=True) as txn:
            self._projection.apply(txn, records)


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder on the disk that holds the data, removed in the end."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE) as folder:
        yield Path(folder)


def sales_rows(rng: np.random.Generator, keys: Mapping[str, Sequence[str]], n: int, span: int) -> list[Row]:
    """`n` events evenly over the `span` before NOW, each key as often as the others."""
    picked = {name: rng.integers(len(names), size=n) for name, names in keys.items()}
    times = NOW - span + ((np.arange(n) + rng.random(n)) * (span / n)).astype(np.int64)
    amount, margin = np.exp(rng.normal(3, 1.2, n)).round(2), rng.normal(0.2, 0.3, n)
    null = rng.random((2, n)) < 0.05
    return [
        {
            "sale": f"e{at:09}",
            **{name: keys[name][picked[name][at]] for name in keys},
            "amount": None if null[0, at] else float(amount[at]),
            "margin": None if null[1, at] else float(margin[at]),
            "sold_at": int(times[at]),
        }
        for at in range(n)
    ]


def reads(held: int = HELD, hot: int = HOT, n: int = 3_000) -> dict[str, float]:
    """p50 in microseconds of a read, of a read of the hot key, and of a late event for it, committed."""
    rng = np.random.default_rng(3)
    plain = 200_000 * held // HELD
    keys = {
        "customer": [f"c{at}" for at in range(plain // held)],
        "product": [f"p{at}" for at in range((plain + hot) // held)],
        "region": [f"r{at}" for at in range((plain + hot) // held)],
    }
    rows = sales_rows(rng, keys, plain + hot, 30 * DAY)
    for at in rng.choice(len(rows), hot, replace=False):
        rows[at]["customer"] = "hot"
    plan = shop.plan_of(shop.Ask, shop.Windows)
    with scratch() as folder:
        store = Store(folder, plan)
        for start in range(0, len(rows), 4_000):
            part = rows[start : start + 4_000]
            store.apply([Pushed(at=part[-1]["sold_at"], table=TABLE.name, rows=part)])
        asked = [
            [keys[name][int(rng.integers(len(keys[name])))] for name in ("customer", "product", "region")]
            for _ in range(n)
        ]
        moments = [NOW + int(rng.integers(HOUR)) for _ in range(n)]
        read = store.live.read
        found = {
            "read_us": _p50(read, zip(asked, moments, strict=True)),
            "hot_us": _p50(
                read, ((["hot", *keyed[1:]], at) for keyed, at in zip(asked, moments, strict=True))
            ),
            "amend_us": _p50(store.apply, ((late,) for late in _late(rng, keys, max(20, n // 10)))),
        }
        store.environment.close()
    return found | {"held": held, "hot": hot, "reads": n}


def _late(rng: np.random.Generator, keys: Mapping[str, Sequence[str]], n: int) -> Iterator[list[Pushed]]:
    """Events of the hot key that happened at any time of the past 30 days and become known now."""
    for at, row in enumerate(sales_rows(rng, {**keys, "customer": ["hot"]}, n, 30 * DAY)):
        row["sale"] = f"late{at}"
        yield [Pushed(at=NOW + at * 1_000_000, table=TABLE.name, rows=[row])]


def _p50(call: Callable[..., object], arguments: Iterator[tuple[Any, ...]]) -> float:
    """Median CPU microseconds of a call; the first tenth is for warming up."""
    spent = []
    for one in arguments:
        begin = time.thread_time_ns()
        call(*one)
        spent.append((time.thread_time_ns() - begin) / 1e3)
    return statistics.median(spent[len(spent) // 10 :])


def closure(n: int = 20_000) -> dict[str, float]:
    """p50 in microseconds of 20 row-level features of one request."""
    rng = np.random.default_rng(4)
    compute = shop.plan_of(shop.Job, shop.RowLevel).compile()
    substrates = [*shop.DIFFICULTY, "plastic"]
    jobs = [
        [
            f"p{rng.integers(9)}", substrates[rng.integers(7)], float(rng.integers(1, 6)), float(rng.integers(1, 3)),
            float(rng.integers(50, 50_000)), float(rng.integers(50, 900)), float(rng.integers(50, 900)),
            float(rng.integers(1, 9_000)), float(rng.integers(2)), [None, 0.1][rng.integers(2)],
            "as the last time, but on thicker stock", NOW + int(rng.integers(1, 40 * DAY)),
        ]
        for _ in range(n)
    ]  # fmt: skip
    moments = [NOW + int(at) for at in rng.integers(HOUR, size=n)]
    return {"p50_us": _p50(compute, ((job, at, ()) for job, at in zip(jobs, moments, strict=True)))}


def ingest(*, hot: bool, n: int = 200_000) -> dict[str, float]:
    """Events per CPU second from the journal into LMDB: contract, deduplication, five views, durable commits."""
    rng = np.random.default_rng(5)
    keys = {
        "customer": ["hot"] if hot else [f"c{at}" for at in range(20_000)],
        "product": ["p"] if hot else [f"p{at}" for at in range(2_000)],
        "region": ["r"] if hot else [f"r{at}" for at in range(50)],
    }
    rows = sales_rows(rng, keys, n, 30 * DAY)
    again = rng.random(n) < 0.02
    contract = EventContract(TABLE, stamped=True)
    names = [field.name for field in contract.fields]
    with scratch() as folder:
        with Writer(folder / "journal", "bench", clock=lambda: NOW) as writer:
            for start in range(0, n, PUSH_ROWS):
                part = rows[start : start + PUSH_ROWS]
                part = [*part, *(row for row, twice in zip(part, again[start:], strict=False) if twice)]
                writer.append(Pushed(at=part[-1]["sold_at"] + MINUTE, table=TABLE.name, rows=part))
        store = Store(folder / "online", shop.plan_of(shop.Ask, shop.FiveViews))
        tail, groups, events = Tail(folder / "journal", Positions({})), 0, 0
        begin = time.process_time()
        while records := tail.read(GROUP_BYTES):
            pushed = [record for record in records if isinstance(record, Pushed)]
            store.apply([_checked(record, contract, names) for record in pushed])
            groups, events = groups + 1, events + sum(len(record.rows) for record in pushed)
        cpu_s = time.process_time() - begin
        store.environment.close()
    return {"per_s": events / cpu_s, "events": events, "groups": groups, "cpu_s": cpu_s}


def _checked(record: Pushed, contract: EventContract, names: Sequence[str]) -> Pushed:
    good = []
    for row in record.rows:
        values, faults = contract.parse(row)
        if not faults:
            good.append(dict(zip(names, values, strict=True)))
    return Pushed(at=record.at, table=record.table, rows=good)


def environment_version() -> str:
    """Of LMDB's library."""
    return ".".join(str(part) for part in lmdb.version())
