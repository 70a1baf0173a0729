"""A contract of 56 checks over 5 million rows of 20 columns, beside one Polars query that does the same by hand."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import duckdb

import icekeel as ik
from bench.children import CACHE
from bench.report import Result
from icekeel.core.time import parse_time
from icekeel.data import History, Taking, ingest
from icekeel.data.batches import Counted, Known, count
from icekeel.data.checks import time_checks
from icekeel.data.relations import columns_of, connect, parquet

ROWS, CHECKS = 5_000_000, 56
NOW = parse_time("2026-01-01")
REGIONS = ("north", "east", "south", "west", "centre", "islands", "abroad", "online")
CHANNELS = ("shop", "web", "phone", "partner")
STATES = ("open", "paid", "sent", "returned")
CURRENCIES = ("EUR", "USD", "GBP", "CHF")


class Sales(ik.Events, time="sold_at", available="booked_at", id="sale_id"):
    """Seven numbers, four categories, two identifiers, a text with a pattern, and what goes with them."""

    sale_id: ik.Id
    customer: ik.Id
    sku: ik.Text = ik.matches(r"[A-Z]{2}-\d{4,6}") & ik.length(7, 9)
    region: ik.Cat = ik.one_of(*REGIONS)
    channel: ik.Cat = ik.one_of(*CHANNELS)
    state: ik.Cat = ik.one_of(*STATES)
    currency: ik.Cat = ik.one_of(*CURRENCIES)
    quantity: ik.Num = ik.between(1, 1_000)
    price: ik.Num = ik.between(0, 10_000)
    net: ik.Num = ik.at_least(0)
    gross: ik.Num = ik.at_least(0)
    discount: ik.Num = ik.between(0, 1)
    weight: ik.Num = ik.between(0, 500)
    distance: ik.Num = ik.between(0, 20_000)
    paid: ik.Flag
    gift: ik.Flag = ik.optional()
    first: ik.Flag = ik.optional()
    note: ik.Text = ik.optional()

    @ik.rule("gross is at least net")
    def sane(row: Any) -> Any:
        """Tax is never negative."""
        return row.gross >= row.net


TABLE = Sales.icekeel_table


def data() -> Path:
    """The file, made where it is missing: no row breaks a rule but one in a thousand, by its discount."""
    path = CACHE / f"contract-{ROWS}.parquet"
    if path.exists():
        return path
    picked = "list_value({})[1 + (hash(i, {}) % {})::INT]"
    categories = ", ".join(
        f"{picked.format(', '.join(map(repr, values)), seed, len(values))} AS {name}"
        for seed, (name, values) in enumerate(
            {"region": REGIONS, "channel": CHANNELS, "state": STATES, "currency": CURRENCIES}.items()
        )
    )
    uniform = "(hash(i, {}) % 1000000) / 1e6"
    CACHE.mkdir(parents=True, exist_ok=True)
    with duckdb.connect(config={"threads": 2}) as connection:
        connection.execute(
            f"COPY (SELECT 's' || i AS sale_id, 'c' || (hash(i, 9) % 200000) AS customer, "
            f"chr(65 + (i % 26)::INT) || 'K-' || (1000 + hash(i, 8) % 900000) AS sku, {categories}, "
            f"CAST(1 + hash(i, 10) % 50 AS DOUBLE) AS quantity, {uniform.format(11)} * 900 AS price, net, "
            f"net * 1.19 AS gross, CASE WHEN i % 1000 = 0 THEN 1.5 ELSE {uniform.format(12)} END AS discount, "
            f"{uniform.format(13)} * 30 AS weight, {uniform.format(14)} * 900 AS distance, i % 3 = 0 AS paid, "
            f"i % 7 = 0 AS gift, CASE WHEN i % 5 > 0 THEN i % 2 = 0 END AS first, "
            f"CASE WHEN i % 4 = 0 THEN 'left at the door ' || i % 90 END AS note, "
            f"make_timestamp(1735689600000000 + i * 6000000) AS sold_at, "
            f"make_timestamp(1735689600000000 + i * 6000000 + 60000000) AS booked_at "
            f"FROM (SELECT i, {uniform.format(15)} * 5000 AS net FROM range({ROWS}) t(i))) "
            f"TO '{path}.draft' (FORMAT parquet, COMPRESSION zstd)"
        )
    Path(f"{path}.draft").rename(path)
    return path


def contract() -> Result:
    """What `icekeel contract check` does: the counting pass, and the examples of what it found."""
    path = data()
    begin = time.process_time()
    with connect(threads=2, reads=[path], folder=CACHE) as connection:
        relation = parquet([path])
        held = columns_of(connection, relation)
        limits = time_checks(TABLE, NOW, ahead=False)
        counted = count(connection, TABLE, relation, limits, Known(form="parquet"), held=held)
    cpu_s = time.process_time() - begin
    return {"cpu_s": cpu_s, "rows": counted.rows, **_told(counted)}


def _told(counted: Counted) -> Result:
    found = {one.check.text: one.rows for one in counted.broken if one.rows}
    differ = int(len(counted.broken) != CHECKS or found != {"discount: not 0 to 1": ROWS // 1000})
    return {"checks": len(counted.broken), "found": found, "differ": differ}


def contract_ingestion() -> Result:
    """The same file taken into history, for comparison: checked, stored, bad rows set aside."""
    path = data()
    begin = time.process_time()
    history = History(CACHE / f"contract-history-{time.time_ns()}")
    (result,) = ingest(history, TABLE, [path], Taking(now=NOW))
    return {"cpu_s": time.process_time() - begin, "kept": result.kept, "quarantined": result.quarantined}


def contract_polars() -> Result:
    """The fastest query that we found: one lazy scan, every check a sum of the same select."""
    import polars as pl

    path = data()
    begin = time.process_time()
    checks = [sum_.alias(str(place)) for place, sum_ in enumerate(_polars_checks(pl))]
    counts = pl.scan_parquet(path).select(checks).collect().row(0)
    cpu_s = time.process_time() - begin
    return {"cpu_s": cpu_s, "checks": len(counts), "differ": int(sorted(counts)[-2:] != [0, ROWS // 1000])}


def _polars_checks(pl: Any) -> list[Any]:
    column, checks = pl.col, []
    for name in ("sale_id", "customer"):
        text = column(name)
        checks += [
            text.is_null(), text.str.len_chars() > 10_000, text == "", text.str.len_bytes() > 256,
            text.str.contains("\0", literal=True),
        ]  # fmt: skip
    sku = column("sku")
    checks += [
        sku.is_null(), sku.str.len_chars() > 10_000, ~sku.str.contains(r"^[A-Z]{2}-[0-9]{4,6}$"),
        ~sku.str.len_chars().is_between(7, 9),
    ]  # fmt: skip
    listed = {"region": REGIONS, "channel": CHANNELS, "state": STATES, "currency": CURRENCIES}
    for name, values in listed.items():
        text = column(name)
        checks += [text.is_null(), text.str.len_chars() > 10_000, ~text.is_in(list(values))]
    ends = {
        "quantity": (1, 1_000),
        "price": (0, 10_000),
        "net": (0, None),
        "gross": (0, None),
        "discount": (0, 1),
    }
    for name, (low, high) in {**ends, "weight": (0, 500), "distance": (0, 20_000)}.items():
        number = column(name)
        outside = number < low if high is None else (number < low) | (number > high)
        checks += [number.is_null(), ~number.is_finite(), number.is_finite() & outside]
    checks += [column("paid").is_null(), column("note").str.len_chars() > 10_000]
    first, last = (
        pl.lit(0).cast(pl.Datetime("us")) - pl.duration(days=719_162),
        pl.lit(NOW).cast(pl.Datetime("us")),
    )
    for name in ("sold_at", "booked_at"):
        checks += [column(name).is_null(), ~column(name).is_between(first, pl.datetime(9999, 12, 31))]
    late = column("sold_at") > column("booked_at") + pl.duration(minutes=5)
    checks += [column("booked_at") > last + pl.duration(minutes=5), late, column("gross") < column("net")]
    return [check.sum() for check in checks]
