"""Orders and deliveries of a made-up service, for a new project to start from."""

from __future__ import annotations

import csv
import math
import random
from collections.abc import Iterator, Sequence
from pathlib import Path

from icekeel.core.time import DAY, HOUR, MINUTE, SECOND, format_time

DAYS = 42
_KITCHENS = {"harbour": 14.0, "market": 18.0, "station": 12.0}
_DISTRICTS = {"north": 2.0, "east": 5.0, "south": 3.5, "hills": 9.0}
_Row = tuple[int, tuple[str | float, ...]]
_ORDERS = ("order_id", "kitchen", "district", "items", "distance_km", "ordered_at")
_DELIVERIES = ("order_id", "kitchen", "district", "minutes", "delivered_at")


def write_sample_data(folder: Path, now: int, *, seed: int = 7) -> None:
    """Makes `orders.csv` and `deliveries.csv` of the six weeks before `now`, the same for the same arguments.

    A delivery takes the kitchen's own time, 2 minutes a kilometre, half a minute an item, longer the more
    was ordered within the hour and while the kitchen has a slow day. Three rows have impossible minutes.
    """
    rng = random.Random(seed)
    orders: list[_Row] = []
    deliveries: list[_Row] = []
    start = now // DAY * DAY - DAYS * DAY
    for kitchen, base in _KITCHENS.items():
        recent: list[int] = []
        slow = {day: max(0.0, rng.gauss(0, 8)) for day in range(start // DAY, now // DAY + 1)}
        for at in _times(rng, start, now):
            recent = [before for before in recent if before > at - HOUR]
            district = rng.choice(sorted(_DISTRICTS))
            items, km = rng.randint(1, 8), round(_DISTRICTS[district] * rng.uniform(0.6, 1.4), 1)
            minutes = base + 2 * km + 0.5 * items + 1.5 * len(recent) + slow[at // DAY] + rng.gauss(0, 3)
            minutes = round(max(5.0, minutes), 1)
            recent.append(at)
            order_id = f"{kitchen}-{len(orders)}"
            orders.append((at, (order_id, kitchen, district, items, km)))
            deliveries.append((at + int(minutes * 60) * SECOND, (order_id, kitchen, district, minutes)))
    known = sorted(row for row in deliveries if row[0] <= now)
    for place in (len(known) // 4, len(known) // 2, len(known) - 9):
        at, row = known[place]
        known[place] = (at, (*row[:-1], -1.0))
    _write(folder / "orders.csv", _ORDERS, sorted(orders))
    _write(folder / "deliveries.csv", _DELIVERIES, known)


def _times(rng: random.Random, start: int, end: int) -> Iterator[int]:
    """Times of orders in [start, end): more at noon and in the evening, a Poisson process by thinning."""
    at = float(start)
    while (at := at + rng.expovariate(4.0) * HOUR) < end:
        hour = at % DAY / HOUR
        busy = 0.2 + 0.8 * max(math.exp(-((hour - peak) ** 2) / 4) for peak in (12.5, 19.5))
        if rng.random() < busy:
            yield int(at) // MINUTE * MINUTE


def _write(path: Path, names: Sequence[str], rows: Sequence[_Row]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(names)
        writer.writerows((*row, format_time(at)) for at, row in rows)
