"""Ages and expiry are the same numbers in serving, over history and by the rule read aloud."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

import icekeel as ik
from icekeel.core.kinds import Column, Kind
from icekeel.core.time import HOUR, SECOND, roughly
from icekeel.data.history import AVAILABLE, DELETED, SEQUENCE
from icekeel.data.relations import create_table
from icekeel.features.events import EventStore
from icekeel.features.freshness import key_ages, table_age
from icekeel.features.live import EventFeed, LiveFeatures, all_views
from icekeel.features.offline import historical_features
from icekeel.features.online import LmdbWindows, TextCodes, open_environment
from icekeel.features.plan import make_plan, select_features
from icekeel.testing.definitions import Oracle
from icekeel.testing.fuzzing import frame_of


class Ask(ik.Request):
    product: ik.Id
    shop: ik.Cat


class Prices(
    ik.Events, time="set_at", available="known_at", id="price_id", fresh=ik.Fresh("3h", "6h", by="product")
):
    price_id: ik.Id
    product: ik.Id
    price: ik.Num = ik.optional()


class Sites(ik.Events, time="since", id="shop", fresh=ik.Fresh(error="4h", by="shop", expire="5h")):
    shop: ik.Id
    size: ik.Num = ik.optional()


class Features(ik.Features):
    price = Prices.where(product=Ask.product).last("12h").price.last()
    mean = Prices.where(product=Ask.product).last("2h").price.mean()
    size = Sites.of(shop=Ask.shop).size


TABLES = {one.icekeel_table.name: one.icekeel_table for one in (Prices, Sites)}
FIELDS = tuple(Ask.icekeel_fields.values())
PLAN = make_plan(FIELDS, Features.icekeel_features, {name: one.fresh for name, one in TABLES.items()})
NAMES = st.sampled_from(["a", "b", "c"])
HOURS = st.integers(0, 40)
PRICES = st.lists(
    st.tuples(NAMES, HOURS, HOURS, st.sampled_from([None, 1.0, 2.0]), st.booleans()), max_size=12
)
SITES = st.lists(st.tuples(NAMES, HOURS, st.sampled_from([None, 5.0, 7.0])), max_size=6)


def versions(prices: list[Any], sites: list[Any]) -> dict[str, list[dict[str, Any]]]:
    """Rows in the order in which they became known; some prices are corrections or deletions of others."""
    priced = [
        {
            "price_id": f"{product}{at % 3}", "product": product, "price": price, "set_at": at * HOUR,
            "known_at": (at + lag) * HOUR, AVAILABLE: (at + lag) * HOUR, DELETED: 1.0 if gone else 0.0,
        }
        for product, at, lag, price, gone in prices
    ]  # fmt: skip
    placed = [
        {"shop": shop, "size": size, "since": at * HOUR, AVAILABLE: at * HOUR, DELETED: 0.0}
        for shop, at, size in sites
    ]
    rows = {"Prices": priced, "Sites": placed}
    return {name: sorted(some, key=lambda row: row[AVAILABLE]) for name, some in rows.items()}


def stored(folder: Path, rows: dict[str, list[dict[str, Any]]]) -> EventStore:
    files: dict[str, list[Path]] = {}
    with duckdb.connect(config={"threads": 1}) as connection:
        for name, some in rows.items():
            columns = [Column(field.name, field.kind) for field in TABLES[name].fields.values()]
            columns += [Column(AVAILABLE, Kind.TIME), Column(DELETED, Kind.FLAG), Column(SEQUENCE, Kind.TIME)]
            numbered = [{**row, SEQUENCE: place} for place, row in enumerate(some)]
            create_table(connection, "part", columns, frame_of(numbered, columns))
            files[name] = [folder / f"{name}.parquet"]
            connection.execute(
                f"COPY (SELECT * EXCLUDE (_row) FROM part) TO '{files[name][0]}' (FORMAT parquet)"
            )
    return EventStore(TABLES, files, threads=1, folder=folder)


def same(one: Any, other: Any) -> bool:
    return one == other or all(
        value is None or math.isnan(value) or math.isinf(value) for value in (one, other)
    )


@settings(max_examples=12, deadline=None, derandomize=True)
@given(prices=PRICES, sites=SITES)
def test_what_serving_sees_is_what_training_sees_and_what_the_rule_says(
    prices: list[Any], sites: list[Any]
) -> None:
    rows = versions(prices, sites)
    asked = [{"product": product, "shop": shop} for product in "abz" for shop in "acz"]
    requests = frame_of(asked, [Column(field.name, field.kind) for field in FIELDS])
    oracle = Oracle(TABLES, rows)
    for at in (41 * HOUR, 43 * HOUR, 47 * HOUR, 81 * HOUR):
        times = np.full(len(asked), at, dtype=np.int64)
        with tempfile.TemporaryDirectory() as folder:
            store = stored(Path(folder), rows)
            past = historical_features(PLAN, requests, times, store)
            ages = [key_ages(PLAN, age, requests, times, store) for age in PLAN.ages]
            told = {name: table_age(store, table, at) for name, table in TABLES.items()}
            store.close()
            with open_environment(Path(folder) / "online", map_size=1 << 26) as environment:
                lookups = all_views([PLAN])
                views = [lookup.view for lookup in lookups]
                windows, feed = (
                    LmdbWindows(environment, views),
                    EventFeed(TABLES, lookups, TextCodes(environment)),
                )
                for name, some in rows.items():
                    known = [row for row in some if row[AVAILABLE] <= at]
                    with environment.begin(write=True) as txn:
                        windows.apply(txn, name, feed.versions(txn, name, known, 0))
                live = LiveFeatures(environment, PLAN, views)
                for place, request in enumerate(asked):
                    values = list(request.values())
                    read = live.read(values, at)
                    (again,) = live.read_many([values], at)
                    assert all(map(same, again.ages, read.ages))
                    for found, feature in zip(read.values, PLAN.features, strict=True):
                        wanted = oracle.value(feature.node, request, at)
                        assert same(found, wanted)
                        assert same(past[feature.name][place], wanted)
                    for age, found, kept in zip(PLAN.ages, read.ages, ages, strict=True):
                        assert same(found, oracle.value(age, request, at))
                        assert same(found, kept[place])
        check_table(told["Prices"], rows["Prices"], at)


def check_table(told: Any, rows: list[dict[str, Any]], at: int) -> None:
    known = [row for row in rows if row[AVAILABLE] <= at]
    newest: dict[str, dict[str, Any]] = {row["price_id"]: row for row in known}
    ages: dict[str, int] = {}
    for row in newest.values():
        if not row[DELETED] and row["set_at"] < at:
            ages[row["product"]] = min(ages.get(row["product"], at), at - row["set_at"])
    assert told.newest == max((row[AVAILABLE] for row in known), default=None)
    assert (told.keys, told.warn, told.error) == (
        len(ages), sum(age > 3 * HOUR for age in ages.values()), sum(age > 6 * HOUR for age in ages.values()),
    )  # fmt: skip
    assert dict(told.worst) == {key: age for key, age in ages.items() if age > 3 * HOUR}


def test_the_ages_of_a_selection_are_those_of_what_it_reads() -> None:
    assert [age.keyed.table for age in PLAN.ages] == ["Prices", "Sites"]
    assert [age.high for age in PLAN.ages] == [12 * HOUR, 5 * HOUR]  # as far as a window, or what expires
    only = select_features(PLAN, ["size"])
    assert [age.keyed.table for age in only.ages] == ["Sites"]
    assert PLAN.readers(PLAN.ages[0]) == ["price", "mean"]
    assert PLAN.windows == [window for window in PLAN.slots if window not in PLAN.ages]
    assert make_plan(FIELDS, Features.icekeel_features).ages == ()


def test_ages_are_told_in_their_largest_unit() -> None:
    assert [roughly(seconds * SECOND) for seconds in (0.5, 59, 90, 5400, 9 * 86400, 999.6 * 86400)] == [
        *("0.5s", "59s", "1.5m", "1.5h", "9d", "1,000d"),
    ]
