"""Who asks the print shop, and what the shop knows of each of them on the morning of a day."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from icekeel.core.frames import Floats

Ints = NDArray[np.int64]

N_CUSTOMERS = 1_200
WINDOW = 365
"""Days that an order counts in a customer's standing."""


@dataclass(frozen=True, slots=True)
class Orders:
    """Orders as arrays of one length; `ordered` and `booked` are days since the start of the simulation."""

    customer: Ints
    ordered: Floats
    booked: Floats
    revenue: Floats
    margin: Floats

    @classmethod
    def joined(cls, parts: Sequence[Orders]) -> Orders:
        """All `parts` one after the other."""
        return cls(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(cls)))


@dataclass(frozen=True, slots=True)
class Customers:
    """A quarter are loyal and ask often, a third join in the course of the history; some grow, some fade.

    Attributes:
        joined: Day from which the customer asks; below 0 for those the shop had before.
        activity: Relative number of quotes asked for.
        growth: Logarithm of the change of activity over the history.
        favourite: Number that decides which product the customer usually asks for.
    """

    joined: Floats
    activity: Floats
    growth: Floats
    favourite: Ints

    @classmethod
    def draw(cls, rng: np.random.Generator, days: int, n: int = N_CUSTOMERS) -> Customers:
        """A population of `n`."""
        kind = rng.choice(["loyal", "usual", "new"], n, p=[0.25, 0.42, 0.33])
        return cls(
            joined=np.where(kind == "new", rng.uniform(0, days, n), -1.0),
            activity=np.where(kind == "loyal", 5.0, 1.0) * np.exp(rng.normal(0, 0.6, n)),
            growth=rng.normal(0.1, 0.5, n),
            favourite=rng.integers(0, 1_000, n),
        )

    def choose(self, rng: np.random.Generator, day: Ints, days: int) -> Ints:
        """Who asks for each quote, given its day (ascending)."""
        chosen = np.empty(len(day), dtype=np.int64)
        for today in np.unique(day):
            rows = slice(*np.searchsorted(day, [today, today + 1]))
            weight = self.activity * np.exp(self.growth * today / days) * (self.joined <= today)
            chosen[rows] = rng.choice(len(self.joined), rows.stop - rows.start, p=weight / weight.sum())
        return chosen

    def past_orders(self, rng: np.random.Generator, n: int, revenues: Floats, days: int = WINDOW) -> Orders:
        """About `n` orders in the `days` before the history, of revenues such as `revenues`."""
        rate = self.activity * (self.joined < 0)
        customer = rng.choice(len(rate), n, p=rate / rate.sum())
        ordered = np.sort(rng.uniform(-days, 0, n))
        booked = ordered + rng.uniform(0.1, 4, n)
        return Orders(customer, ordered, booked, rng.choice(revenues, n), rng.uniform(0.2, 0.5, n))


class Ledger:
    """The standing of every customer, brought forward a day at a time from what was booked before it."""

    def __init__(self, days: int, n: int = N_CUSTOMERS) -> None:
        self._last_day = days
        self._change = np.zeros((3, days + 1, n))
        self._newest = np.full((days + 1, n), -np.inf)
        self._sums = np.zeros((3, n))
        self._latest = np.full(n, -np.inf)

    def book(self, orders: Orders) -> None:
        """Lets `orders` count from the day after they are booked until `WINDOW` days after they were placed."""
        first = self._index(orders.booked)
        gone = np.maximum(self._index(orders.ordered + WINDOW), first)
        for row, amount in enumerate((orders.revenue, orders.margin, np.ones(len(first)))):
            np.add.at(self._change[row], (first, orders.customer), amount)
            np.add.at(self._change[row], (gone, orders.customer), -amount)
        np.maximum.at(self._newest, (first, orders.customer), orders.ordered)

    def price_factor(self, day: int) -> Floats:
        """What each customer pays relative to a new one on `day`; days are asked for in order, each once.

        Customers of value (revenue of a year with its margin) and those who come often and lately
        (recency x frequency) get better prices, with diminishing effect.
        """
        self._sums += self._change[:, day]
        self._latest = np.maximum(self._latest, self._newest[day])
        revenue, margin, count = self._sums
        value = np.maximum(revenue, 0) * (1 + margin / np.maximum(count, 1))
        frequency = count * np.exp(-(day - self._latest) / WINDOW)
        factor: Floats = np.exp(-0.11 * value / (value + 25_000) - 0.09 * frequency / (frequency + 6))
        return factor

    def _index(self, moment: Floats) -> Ints:
        index: Ints = np.clip(np.floor(moment) + 1, 0, self._last_day).astype(np.int64)
        return index
