"""An assortment whose prices go stale: what each policy gives, over HTTP, with a keeper and a server that run."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import icekeel as ik
from icekeel.app import App
from icekeel.core.time import DAY, HOUR, MINUTE, format_time, parse_time, wall_clock
from icekeel.journal import Predicted, Quarantined, scan
from icekeel.testing.small import train_once, write_rows
from icekeel.training.audits.freshness import freshness
from icekeel.training.dataset import event_store

from .commands import PATIENCE_S, call, command, icekeel

PRODUCTS = ("bread", "eggs", "milk", "rice")
START, DAYS = parse_time("2025-03-01"), 30
END = START + DAYS * DAY
NOW = END + 30 * HOUR
PROJECT = """
import icekeel as ik


class Offer(ik.Request):
    offer_id: ik.Id
    product: ik.Cat
    usual: ik.Num = ik.at_least(0)


class Prices(ik.Events, time="set_at", id="price_id", source="prices.csv", fresh=ik.market(by="product")):
    price_id: ik.Id
    product: ik.Cat
    price: ik.Num = ik.at_least(0)


class Costs(ik.Events, time="since", id="product", source="costs.csv", fresh=ik.preferences(expire="3d")):
    product: ik.Id
    cost: ik.Num


class Sales(ik.Events, time="sold_at", id="offer_id", source="sales.csv"):
    offer_id: ik.Id
    product: ik.Cat
    units: ik.Num


class Shelf(ik.Features):
    product = Offer.product
    usual = Offer.usual
    price = Prices.where(product=Offer.product).last("7d").price.last()
    cost = Costs.of(product=Offer.product).cost


units = ik.Model(
    "units", Offer, Shelf, history=ik.table_of(Offer, "offers.csv", asked_at="asked_at"),
    target=Sales.where(offer_id=Offer.offer_id).within("2d").units.latest(absent=ik.UNKNOWN), error="mae",
    choose=ik.Simplest(within=ik.usd_per_year(1_000, error_point=10)),
    stale=ik.Stale(after="1h", otherwise=ik.mark()),
)
"""


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prices twice a day, costs every other day until five days before the end, a model; then new prices but of milk."""
    folder, rng = tmp_path_factory.mktemp("assortment"), np.random.default_rng(5)
    (folder / "project.py").write_text(PROJECT)
    prices: list[dict[str, Any]] = []
    costs, offers, sales = list[dict[str, Any]](), list[dict[str, Any]](), list[dict[str, Any]]()
    for at, product in ((at, product) for at in range(DAYS) for product in PRODUCTS):
        begin = START + at * DAY
        prices += [
            {"price_id": f"{product}{at}-{half}", "product": product, "price": round(float(rng.uniform(1, 9)), 2), "set_at": begin + half * 12 * HOUR}
            for half in (0, 1)
        ]  # fmt: skip
        if at % 2 == 0 and at < DAYS - 5:
            costs.append({"product": product, "cost": round(float(rng.uniform(0.5, 4)), 2), "since": begin})
        for number in range(6):
            name, asked = f"{product}-{at}-{number}", begin + (2 + 3 * number) * HOUR + 7 * MINUTE
            paid = prices[-2 if number < 4 else -1]["price"]
            offers.append({"offer_id": name, "product": product, "usual": 10.0, "asked_at": asked})
            sold = round(float(20 - 2 * paid + rng.normal(0, 0.5)), 2)
            sales.append({"offer_id": name, "product": product, "units": sold, "sold_at": asked + 3 * HOUR})
    for name, rows in (("prices", prices), ("costs", costs), ("offers", offers), ("sales", sales)):
        write_rows(folder / f"{name}.csv", rows)
    app = App(folder, clock=lambda: END)
    app.ingest([])
    train_once(app, "units")
    later = App(folder, clock=lambda: NOW)
    new = [price(product, NOW - 5 * MINUTE) for product in ("bread", "rice")] + [
        price("eggs", NOW - 8 * HOUR)
    ]
    with later.journal("store") as journal:
        assert later.intake(journal).push("Prices", new).kept == 3
    return folder


class Clerk:
    """Asks a server that runs."""

    def __init__(self, folder: Path, port: int, token: str) -> None:
        self.folder, self.port, self.token = folder, port, token

    def call(self, path: str, body: Any = None) -> tuple[int, Any]:
        status, text = call(self.port, self.token, path, body)
        return status, text if path == "/metrics" else json.loads(text)

    def ask(self, product: str) -> tuple[int, Any]:
        return self.call("/v1/predict/units", offer(product))

    def wait(self, what: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not what():
            assert time.monotonic() < deadline, self.ask("milk")
            time.sleep(0.02)


def offer(product: str) -> dict[str, Any]:
    return {"offer_id": f"now-{product}", "product": product, "usual": 10.0}


def price(product: str, at: int, value: float = 5.0) -> dict[str, Any]:
    return {"price_id": f"{product}-{at}", "product": product, "price": value, "set_at": at}


@pytest.fixture(scope="module")
def keeping(shop: Path) -> Iterator[tuple[str, int]]:
    """A keeper at work 30 hours after the files end."""
    token, began = App(shop).access().create("test", ("admin",)), wall_clock()
    with command(shop, "keep", now=NOW):
        yield token, NOW - began


@contextmanager
def serving(
    shop: Path, keeping: tuple[str, int], otherwise: str, *, projected: bool = True
) -> Iterator[Clerk]:
    (shop / "project.py").write_text(PROJECT.replace("otherwise=ik.mark()", f"otherwise={otherwise}"))
    token, shift = keeping
    with command(shop, "serve", "--port", "0", now=wall_clock() + shift) as (_, said):
        clerk = Clerk(shop, said["listening"], token)
        if not projected:
            yield clerk
            return
        fresh = {"offer_id": "other", "product": "bread", "usual": 1.0}
        online = {"rows": [fresh], "features": ["price"]}

        def read() -> bool:
            (row,) = clerk.call("/v1/features/units/online", online)[1].get("rows", [{"features": {}}])
            return bool(row["features"].get("price") == 5.0)

        clerk.wait(read)
        yield clerk


def test_a_key_whose_own_rows_are_old_is_told_though_its_table_is_fresh(
    shop: Path, keeping: tuple[str, int]
) -> None:
    with serving(shop, keeping, "ik.mark()") as clerk:
        assert clerk.ask("bread")[1]["degraded"] == []
        status, said = clerk.ask("milk")
        assert (status, said["source"]) == (200, "model")
        assert said["degraded"] == ["stale:Prices.product: price 1.75d old, limit 1d"]
        assert clerk.ask("eggs")[1]["degraded"] == ["stale:Prices.product: price 8h old, limit 6h"]
        assert clerk.ask("unheard of")[1]["degraded"] == ["stale:Prices.product: price over 7d old, limit 1d"]
        line = 'icekeel_degraded_total{model="units",reason="stale:Prices.product"} 3'
        assert line in clerk.call("/metrics")[1]
        tomorrow = price("milk", NOW + DAY)
        assert (
            clerk.call("/v1/events/Prices", {"rows": [tomorrow]})[1]["kept"] == 0
        )  # it cannot hide what is stale
    (aside,) = [one for one in scan(App(shop).places.journal, kinds=Quarantined)]
    assert "happens after the time from which it is known" in aside.rows[0].faults[0]


def test_what_has_expired_is_null_in_serving_and_in_training(shop: Path, keeping: tuple[str, int]) -> None:
    with serving(shop, keeping, "ik.mark()") as clerk:
        assert clerk.ask("bread")[0] == 200
    (record,) = list(scan(App(shop).places.journal, kinds=Predicted))[-1:]
    assert record.features["cost"] is None  # the newest is seven days old
    assert record.features["price"] == 5.0
    with ik.open_store(shop) as store:
        asked = [
            {**offer("bread"), "at": at}
            for at in (record.at, START + 10 * DAY + HOUR, END - 4 * DAY, END - DAY)
        ]
        rows = store.get_historical_features("units", asked, asked_at="at", features=["cost"], now=NOW + DAY)
        assert [row["feature.cost"] is None for row in rows] == [True, False, False, True]
    audited = icekeel(shop, "audit", "units", "--only", "skew")["audits"][0]["evidence"]
    assert (audited["rows"] > 4, audited["differences"]) == (True, [])


def test_refused_is_422_for_a_stale_key_alone_and_in_a_batch_for_its_row(
    shop: Path, keeping: tuple[str, int]
) -> None:
    with serving(shop, keeping, "ik.refuse()") as clerk:
        assert clerk.ask("bread")[0] == 200
        assert clerk.ask("eggs")[0] == 200  # beyond warn= only
        status, said = clerk.ask("milk")
        (fault,) = said["faults"]
        assert (status, fault["code"]) == (422, "stale_value")
        assert (fault["where"], fault["got"], fault["allowed"]) == ("Prices.product", "1.75d", "1d")
        status, said = clerk.call("/v1/predict/units", {"rows": [offer("rice"), offer("milk")]})
        rows = said["answers"]
        assert (status, "prediction" in rows[0], rows[1]["faults"][0]["code"]) == (200, True, "stale_value")
    record = [
        one for one in scan(App(shop).places.journal, kinds=Predicted) if one.request["product"] == "milk"
    ][-1]
    assert (record.verdict, record.codes) == ("refused", [])
    assert "price" in record.reasons[0]


@pytest.mark.parametrize(
    ("policy", "source"),
    [
        ("ik.rule_of_thumb(Offer.usual)", "rule_of_thumb"),
        ("ik.last_champion(otherwise=ik.similar_cases(otherwise=ik.mark()))", "similar_cases"),
    ],
)
def test_a_fall_back_answers_in_place_of_the_model(
    shop: Path, keeping: tuple[str, int], policy: str, source: str
) -> None:
    with serving(shop, keeping, policy) as clerk:
        assert clerk.ask("bread")[1]["source"] == "model"
        status, said = clerk.ask("milk")
        assert (status, said["source"]) == (200, source)
        assert said["degraded"] == ["stale:Prices.product: price 1.75d old, limit 1d"]
        if source == "rule_of_thumb":
            assert said["prediction"] == 10.0


def test_a_fall_back_answers_everybody_where_a_source_is_silent(shop: Path, keeping: tuple[str, int]) -> None:
    token, shift = keeping
    with serving(shop, (token, shift + 2 * DAY), "ik.rule_of_thumb(Offer.usual)", projected=False) as clerk:
        for product in ("bread", "milk"):
            status, said = clerk.ask(product)
            assert (status, said["source"]) == (200, "rule_of_thumb")
            assert said["degraded"][:2] == ["keeper_behind", "stale:Prices"]
    with serving(shop, (token, shift + 2 * DAY), "ik.refuse()", projected=False) as clerk:
        status, said = clerk.ask("bread")
        assert (status, [fault["code"] for fault in said["faults"]]) == (
            503,
            ["keeper_behind", "stale_source"],
        )


def test_the_command_tells_the_age_of_every_table_and_of_its_keys(shop: Path) -> None:
    (shop / "project.py").write_text(PROJECT)
    found = {one.table: one for one in App(shop, clock=lambda: NOW + HOUR).freshness()}
    prices, costs, sales = (found[name] for name in ("Prices", "Costs", "Sales"))
    assert (prices.state, prices.keys, prices.warn, prices.error) == ("fresh", 4, 2, 1)
    assert prices.worst == (("milk", 43 * HOUR), ("eggs", 9 * HOUR))
    assert (costs.state, costs.keys, sales.state) == ("fresh", 0, "no limit")
    rows = icekeel(shop, "freshness", "Prices")
    assert [row["table"] for row in rows] == ["Prices"]
    assert (rows[0]["warn"], rows[0]["error"]) == ("6h", "1d")
    assert rows[0]["by"] == ["product"]
    assert {one["key"] for one in rows[0]["oldest_keys"]} == set(PRODUCTS)
    assert format_time(prices.newest or 0) < format_time(NOW + HOUR)


def test_the_audit_of_a_training_weighs_keys_by_their_use(shop: Path) -> None:
    app = App(shop, clock=lambda: NOW + HOUR)
    registry = app.registry()
    for now, verdict in ((END, "warn"), (NOW + HOUR, "block"), (END + 5 * DAY, "block")):
        snapshot, data = app.workshop(registry).prepare("units", now, lambda line: None)
        opened = partial(event_store, app.project.tables, app.history(), snapshot.manifest)
        given: Any = SimpleNamespace(
            plan=app.plans["units"], asked=data, open_store=lambda _, opened=opened: opened(), now=now
        )
        finding = freshness(given)
        assert finding.verdict == verdict, finding
        parts = finding.evidence["parts"]
        assert [part.get("table", part.get("key")) for part in parts] == ["Prices", "Costs", "Prices.product"]
        keys = parts[-1]
        assert keys["then"]["error"] < 0.05  # while the offers were made prices were at most 12 h old
        if now == NOW + HOUR:
            assert keys["now"]["error"] == pytest.approx(
                0.25, abs=0.03
            )  # a quarter of all offers are of milk
            assert finding.what.startswith("2")
            assert parts[0]["state"] == "fresh"
        else:
            assert keys["now"]["warn"] == 1.0
            assert keys["now"]["error"] == (now > END)
    registry.close()
