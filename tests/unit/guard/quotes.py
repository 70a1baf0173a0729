"""A small simulated print shop with known prices, for the guard's tests."""

from __future__ import annotations

import numpy as np

from icekeel.core.frames import Array, Column, Floats, Frame, Kind

OPTIONS: dict[str, tuple[tuple[str, ...], tuple[float, ...], tuple[float, ...]]] = {
    # column: values, shares, factors of the price
    "product": (("card", "flyer", "poster", "book", "box", "label"), (0.3, 0.25, 0.15, 0.1, 0.1, 0.1), (1, 1.3, 2, 6, 4, 0.8)),
    "substrate": (("silk", "gloss", "kraft", "cotton", "vinyl", "linen"), (0.35, 0.3, 0.15, 0.08, 0.07, 0.05), (1, 1.05, 1.1, 1.6, 1.4, 1.5)),
    "size": (("A6", "A5", "A4", "A3", "custom"), (0.3, 0.3, 0.25, 0.1, 0.05), (1, 1.3, 1.8, 2.6, 2.2)),
    "colors": (("1", "2", "4", "6"), (0.15, 0.2, 0.6, 0.05), (0.7, 0.85, 1, 1.4)),
    "sides": (("one", "two"), (0.55, 0.45), (1, 1.4)),
    "die_cut": (("none", "standard", "custom"), (0.87, 0.09, 0.04), (1, 1.35, 2.2)),
    "ink": (("standard", "pantone", "metallic", "uv"), (0.8, 0.1, 0.05, 0.05), (1, 1.2, 1.9, 1.6)),
    "turnaround": (("standard", "express", "rush"), (0.75, 0.18, 0.07), (1, 1.3, 2)),
    "finish": (("none", "matte", "gloss", "soft", "foil"), (0.5, 0.2, 0.2, 0.06, 0.04), (1, 1.1, 1.1, 1.3, 1.8)),
    "proof": (("pdf", "hard"), (0.9, 0.1), (1, 1.05)),
    "region": (("north", "south", "east", "west", "abroad"), (0.3, 0.25, 0.2, 0.2, 0.05), (1, 1, 1, 1, 1.1)),
    "channel": (("web", "phone", "mail"), (0.7, 0.2, 0.1), (1, 1, 1)),
}  # fmt: skip
QUANTITY = {"card": 500.0, "flyer": 2000.0, "poster": 100.0, "book": 200.0, "box": 1000.0, "label": 10000.0}
NUMBERS = ("quantity", "pages", "material_cost", "weight")
COLUMNS = (*(Column(name, Kind.CAT) for name in OPTIONS), *(Column(name, Kind.NUM) for name in NUMBERS))


def quotes(rng: np.random.Generator, n_rows: int) -> tuple[Frame, Floats]:
    """Ordinary quotes and their prices. Never: custom die-cut, metallic ink and rush; vinyl books."""
    n_drawn = int(n_rows * 1.1) + 100
    price = np.exp(rng.normal(0, 0.08, n_drawn))
    columns: dict[str, Array] = {}
    for name, (values, shares, factors) in OPTIONS.items():
        drawn = rng.choice(len(values), n_drawn, p=shares)
        columns[name] = np.array(values, dtype=object)[drawn]
        price *= np.array(factors)[drawn]
    typical = np.array([QUANTITY[product] for product in columns["product"]])
    columns["quantity"] = np.round(typical * np.exp(rng.normal(0, 0.5, n_drawn)))
    columns["pages"] = np.where(columns["product"] == "book", rng.integers(24, 400, n_drawn), 2.0)
    columns["material_cost"] = columns["quantity"] * 0.05 * np.exp(rng.normal(0, 0.2, n_drawn))
    columns["weight"] = columns["quantity"] * columns["pages"] * 0.004 * np.exp(rng.normal(0, 0.1, n_drawn))
    price *= (columns["quantity"] / typical) ** 0.8 * 100
    never = (
        (columns["die_cut"] == "custom") & (columns["ink"] == "metallic") & (columns["turnaround"] == "rush")
    )
    never |= (columns["substrate"] == "vinyl") & (columns["product"] == "book")
    kept = np.flatnonzero(~never)[:n_rows]
    return Frame({name: values[kept] for name, values in columns.items()}), price[kept]


def rows_of(frame: Frame) -> list[list[float | str | None]]:
    """The rows as `Guard.check` takes them."""
    return [list(row) for row in zip(*(frame[column.name].tolist() for column in COLUMNS), strict=True)]


def changed(
    rows: list[list[float | str | None]], **values: float | str | None
) -> list[list[float | str | None]]:
    """The rows with some values replaced."""
    names = [column.name for column in COLUMNS]
    return [[values.get(name, value) for name, value in zip(names, row, strict=True)] for row in rows]
