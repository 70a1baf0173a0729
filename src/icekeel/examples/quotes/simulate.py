"""Quotes, results, orders and backlog of a print shop whose price formula is known.

    price = list price * customer factor * capacity factor * season factor * noise

The list price follows from the request alone: material, product, complexity (colours * sides * difficulty of
the substrate), quantity and surcharges. The customer factor follows from the orders booked up to the night
before (value, recency x frequency), the capacity factor from the backlog last measured, the season factor
from the day of the year. The noise is log-normal: no model can do better than `Truth.noise_error`. A price
is never below the cost of its material.

Custom die-cut, metallic ink and rush never occur together in the history, though each pair does. Such a job
goes to a specialist and costs `JOINT_FACTOR` times what its parts suggest.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

import duckdb
import numpy as np
from numpy.typing import NDArray

from icekeel.core.frames import Floats
from icekeel.core.time import DAY, HOUR, MINUTE, parse_time

from .customers import N_CUSTOMERS, WINDOW, Customers, Ints, Ledger, Orders

Texts = NDArray[np.object_]
Columns = dict[str, NDArray[np.generic]]

PRODUCT = {"cards": 2.4, "flyer": 2.0, "brochure": 2.6, "poster": 2.2, "label": 2.8, "box": 3.2}
"""Markup on the cost of the material."""
UNIT_COST = {"cards": 0.05, "flyer": 0.08, "brochure": 0.35, "poster": 0.9, "label": 0.04, "box": 0.7}
DIFFICULTY = {"uncoated": 1.0, "coated": 1.2, "recycled": 1.3, "kraft": 1.6, "film": 2.1, "foil": 2.8}
"""How hard each substrate is to print on."""
DIE_CUT = {"none": 1.0, "standard": 1.2, "custom": 1.8}
INK = {"standard": 1.0, "spot": 1.15, "metallic": 1.6}
TURNAROUND = {"standard": 1.0, "fast": 1.2, "rush": 1.7}
NEVER_SEEN = {"die_cut": "custom", "ink": "metallic", "turnaround": "rush"}
JOINT_FACTOR = 10.0
NORMAL_BACKLOG_HOURS = 80.0
NOISE = 0.06
"""Standard deviation of the logarithm of the noise."""
LABOUR_SHARE = 0.3
WIN_RATE = 0.4


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast a shop lives.

    Attributes:
        customers: How many there are.
        always: Whether quotes are asked for at every hour of every day, in cycles of a day, a week and a year; else
            on working days between 14:00 and 23:00 UTC.
        decides: Days that stand for a day between quote, decision and booking: a part of one where customers decide
            within hours.
        measures: Time between two measurements of the backlog.
        before: Days before the history in which there were orders already.
    """

    customers: int = N_CUSTOMERS
    always: bool = False
    decides: float = 1.0
    measures: int = 6 * HOUR
    before: int = WINDOW


OFFICE = Pace()
ONLINE = Pace(customers=20_000, always=True, decides=1 / 24, measures=10 * MINUTE, before=30)
"""A shop on the web: machines ask day and night, customers decide within hours."""


@dataclass(frozen=True, slots=True)
class Job:
    """The fields of a request that describe the work, an array of equal length for each."""

    product: Texts
    substrate: Texts
    colors: Floats
    sides: Floats
    die_cut: Texts
    ink: Texts
    turnaround: Texts
    quantity: Floats
    material_cost: Floats

    def list_price(self) -> Floats:
        """What the parts of the job suggest, before customer, capacity, season and noise."""
        complexity = self.colors * self.sides * _look_up(DIFFICULTY, self.substrate)
        surcharge = _look_up(DIE_CUT, self.die_cut) * _look_up(INK, self.ink)
        surcharge *= _look_up(TURNAROUND, self.turnaround)
        base = self.material_cost * _look_up(PRODUCT, self.product) * (self.quantity / 1_000) ** -0.05
        price: Floats = base * complexity**0.3 * surcharge
        return price

    def columns(self) -> Columns:
        """The fields by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


@dataclass(frozen=True, slots=True)
class Truth:
    """What the simulation knows and a model has to find.

    Attributes:
        rows: Number of rows of each table.
        expected: Price of every quote without its noise, in the order of `quotes.parquet`. Shape `(n,)`.
        noise_error: Mean absolute percentage error, as a share, of a model that knows the formula.
    """

    rows: dict[str, int]
    expected: Floats
    noise_error: float

    def true_price(self, request: Mapping[str, str | float]) -> float:
        """Price of a job for a new customer, at normal backlog and without season or noise.

        `request` holds the fields of `Job`; others are ignored.
        """
        job = Job(**{field.name: np.array([request[field.name]]) for field in fields(Job)})
        joint = all(request[name] == value for name, value in NEVER_SEEN.items())
        return float(job.list_price()[0]) * (JOINT_FACTOR if joint else 1.0)


def simulate(
    folder: Path,
    *,
    n: int = 40_000,
    seed: int,
    start: str = "2023-01-01",
    days: int = 730,
    pace: Pace = OFFICE,
) -> Truth:
    """The truth behind the tables `quotes`, `results`, `orders` and `capacity`, written as Parquet.

    Quotes are sent in the `days` from `start` on and decided within 1 to 20 days (of `pace`); orders begin a year
    earlier (`pace.before`). The same arguments give the same rows. Rows are in order of
    availability.

    Args:
        folder: Where the files go; made where it does not exist.
        n: Number of quotes.
        seed: Seed of all randomness.
        start: First day, ISO 8601.
        days: Length of the history in days.
        pace: When quotes are sent, and how fast all goes.
    """
    rng = np.random.default_rng(seed)
    zero = parse_time(start)
    sent_at = (_at_all_hours if pace.always else _sending_times)(rng, n, zero, days)
    customers = Customers.draw(rng, days, pace.customers)
    customer = customers.choose(rng, (sent_at - zero) // DAY, days)
    job = _jobs(rng, customers.favourite[customer])
    measured_at, backlog_hours = _backlog(rng, zero, days, pace.measures)
    backlog = backlog_hours[np.searchsorted(measured_at, sent_at) - 1]
    general = job.list_price() * (backlog / NORMAL_BACKLOG_HOURS) ** 0.07 * _season(sent_at)
    past = customers.past_orders(rng, int(n * WIN_RATE * pace.before / days), general, pace.before)
    expected, decided, results, orders = _trade(
        rng, past, customer, job, general, sent_at=(sent_at - zero) / DAY, pace=pace
    )

    names = np.array([f"C{number:04}" for number in range(len(customers.joined))], dtype=object)
    quote_id = np.array([f"Q{number:06}" for number in range(n)], dtype=object)
    tables: dict[str, tuple[Columns, str]] = {
        "quotes": (
            {"quote_id": quote_id, "customer": names[customer], **job.columns(), "sent_at": sent_at},
            "sent_at, quote_id",
        ),
        "results": (
            {"quote_id": quote_id, "decided_at": _moments(zero, decided), **results},
            "decided_at, quote_id",
        ),
        "orders": (_order_columns(orders, names, zero), "booked_at, order_id"),
        "capacity": (_capacity_columns(measured_at, backlog_hours), "measured_at"),
    }
    folder.mkdir(parents=True, exist_ok=True)
    rows = {
        name: _write(columns, order, folder / f"{name}.parquet") for name, (columns, order) in tables.items()
    }
    noise_error = float(np.mean(np.abs(expected / results["price"] - 1)))
    return Truth(rows, expected, noise_error)


def _sending_times(rng: np.random.Generator, n: int, zero: int, days: int) -> Ints:
    """Ascending times of `n` quotes: none at weekends, a third more at the end than at the beginning."""
    day = np.arange(days)
    weekday = (zero // DAY + day + 3) % 7  # 1970-01-01 was a Thursday, 3 counted from Monday
    weight = (weekday < 5) * (1 + day / (3 * days)) * _season(zero + day * DAY) ** 2
    chosen = rng.choice(day, n, p=weight / weight.sum())
    return np.sort(zero + chosen * DAY + rng.integers(14 * HOUR // MINUTE, 23 * HOUR // MINUTE, n) * MINUTE)


def _at_all_hours(rng: np.random.Generator, n: int, zero: int, days: int) -> Ints:
    """Ascending times of `n` quotes in whole minutes: most at 19:00 UTC, a third at night and half at weekends."""
    minute = zero + np.arange(days * DAY // MINUTE, dtype=np.int64) * MINUTE
    hour = (minute % DAY) / HOUR
    weekday = (minute // DAY + 3) % 7
    weight = (1 + 0.5 * np.cos(2 * np.pi * (hour - 19) / 24)) * np.where(weekday < 5, 1.0, 0.5)
    weight *= _season(minute) ** 2
    return np.repeat(minute, rng.multinomial(n, weight / weight.sum()))


def _jobs(rng: np.random.Generator, favourite: Ints) -> Job:
    """A job for each customer's favourite: six in ten are for the product that number stands for."""
    n = len(favourite)
    products = _names(PRODUCT)
    product = np.where(rng.random(n) < 0.6, products[favourite % len(products)], rng.choice(products, n))
    substrate = rng.choice(_names(DIFFICULTY), n, p=[0.28, 0.32, 0.14, 0.12, 0.08, 0.06])
    die_cut = rng.choice(_names(DIE_CUT), n, p=[0.64, 0.23, 0.13])
    ink = rng.choice(_names(INK), n, p=[0.66, 0.22, 0.12])
    turnaround = rng.choice(_names(TURNAROUND), n, p=[0.62, 0.25, 0.13])
    parts = {"die_cut": die_cut, "ink": ink, "turnaround": turnaround}
    turnaround[np.logical_and.reduce([parts[name] == value for name, value in NEVER_SEEN.items()])] = "fast"
    quantity = np.maximum(50, np.round(np.exp(rng.normal(7.2, 0.9, n)), -1))
    cost = quantity * _look_up(UNIT_COST, product) * _look_up(DIFFICULTY, substrate) ** 0.5
    share = 1 / np.arange(1, 13) ** 0.6
    return Job(
        product=product,
        substrate=substrate,
        colors=rng.choice(np.arange(1.0, 13.0), n, p=share / share.sum()),
        sides=rng.choice([1.0, 2.0], n, p=[0.55, 0.45]),
        **parts,
        quantity=quantity,
        material_cost=np.round(cost * np.exp(rng.normal(0, 0.12, n)) + 15, 2),
    )


def _backlog(rng: np.random.Generator, zero: int, days: int, every: int) -> tuple[Ints, Floats]:
    """Times of measurement, from the day before, and hours of work waiting then.

    The logarithm follows an autoregression with a memory of about five days and a deviation of 0.45.
    """
    measured_at = zero + np.arange(-DAY // every, days * DAY // every, dtype=np.int64) * every
    keep = np.exp(-every / (5 * DAY))
    level, levels = 0.0, []
    for shock in rng.normal(0, 0.45 * np.sqrt(1 - keep**2), len(measured_at)):
        level = keep * level + shock
        levels.append(level)
    return measured_at, np.round(NORMAL_BACKLOG_HOURS * np.exp(levels), 1)


def _season(moment: Ints) -> Floats:
    """Price and demand relative to the year's mean: highest in the middle of November."""
    phase = 2 * np.pi * ((moment // DAY) % 365.25 - 318) / 365.25
    season: Floats = 1 + 0.05 * np.cos(phase)
    return season


def _trade(
    rng: np.random.Generator,
    past: Orders,
    customer: Ints,
    job: Job,
    general: Floats,
    *,
    sent_at: Floats,
    pace: Pace,
) -> tuple[Floats, Floats, dict[str, Floats], Orders]:
    """Noiseless prices, days of decision, results and all orders.

    It goes day by day, since a price depends on what was won before. A quote is won or lost by its price against a rival's, who knows the job but not the customer.
    """
    n, days = len(general), int(sent_at[-1]) + 1
    ledger = Ledger(days, pace.customers)
    ledger.book(past)
    noise = np.exp(rng.normal(0, NOISE, n))
    rival = 0.78 * general * np.exp(rng.normal(0, 0.15, n))
    decided = sent_at + np.clip(rng.gamma(2.0, 2.5, n), 1, 20) * pace.decides
    booked = decided + rng.uniform(0.1, 4, n) * pace.decides
    luck = rng.logistic(0, 1, n)
    expected, price, won = np.empty(n), np.empty(n), np.zeros(n, dtype=np.bool_)
    orders = [past]
    for day in range(days):
        rows = slice(*np.searchsorted(sent_at, [day, day + 1]))
        floor = job.material_cost[rows]
        expected[rows] = np.maximum(general[rows] * ledger.price_factor(day)[customer[rows]], floor)
        price[rows] = np.round(np.maximum(expected[rows] * noise[rows], floor), 2)
        won[rows] = -5 * np.log(price[rows] / rival[rows]) > luck[rows]
        taken = np.arange(rows.start, rows.stop)[won[rows]]
        cost = job.material_cost[taken] + LABOUR_SHARE * general[taken]
        margin = 1 - cost / price[taken]
        orders.append(Orders(customer[taken], decided[taken], booked[taken], price[taken], margin))
        ledger.book(orders[-1])
    results = {"price": price, "won": won, "revenue": np.where(won, price, 0.0)}
    return expected, decided, results, Orders.joined(orders)


def _order_columns(orders: Orders, names: Texts, zero: int) -> Columns:
    order_id = np.array([f"O{number:06}" for number in range(len(orders.customer))], dtype=object)
    return {
        "order_id": order_id,
        "customer": names[orders.customer],
        "revenue": np.round(orders.revenue, 2),
        "margin": np.round(orders.margin, 4),
        "ordered_at": _moments(zero, orders.ordered),
        "booked_at": _moments(zero, orders.booked),
    }


def _capacity_columns(measured_at: Ints, backlog_hours: Floats) -> Columns:
    return {
        "reading_id": np.array([f"R{number:05}" for number in range(len(measured_at))], dtype=object),
        "plant": np.full(len(measured_at), "P1", dtype=object),
        "measured_at": measured_at,
        "backlog_hours": backlog_hours,
    }


def _moments(zero: int, days: Floats) -> Ints:
    """Whole minutes in microseconds UTC, `days` after `zero`."""
    return np.asarray(zero + np.floor(days * (DAY // MINUTE)).astype(np.int64) * MINUTE)


def _names(table: Mapping[str, float]) -> Texts:
    return np.array(list(table), dtype=object)


def _look_up(table: Mapping[str, float], names: Texts) -> Floats:
    return np.array([table[name] for name in names])


def _write(columns: Columns, order: str, path: Path) -> int:
    target = str(path).replace("'", "''")
    with duckdb.connect() as connection:
        connection.execute("SET threads = 1")
        connection.register("source", columns)
        connection.execute(
            f"COPY (FROM source ORDER BY {order}) TO '{target}' (FORMAT parquet, COMPRESSION zstd)"
        )
    return len(next(iter(columns.values())))
