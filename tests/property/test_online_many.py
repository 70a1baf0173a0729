"""Many keys read together give the bits that each gives alone, whatever was stored of them."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from icekeel.core.time import DAY, HOUR, MINUTE
from icekeel.features.aggregates import Aggregate, Function, Span, View
from icekeel.features.online import EventVersion, LmdbWindows, open_environment, writing
from icekeel.features.online.scan import Scanner

SPANS = (Span(1, HOUR), Span(1, DAY), Span(HOUR, 3 * DAY), Span(-HOUR, DAY))
SIMPLE = (Function.COUNT, Function.SUM, Function.MEAN, Function.MIN, Function.MAX)
AGGREGATES = tuple(
    Aggregate(function, span, -1 if function is Function.COUNT else at % 2)
    for at, span in enumerate(SPANS)
    for function in SIMPLE
)
ORDINARY = View("v", "t", ("k",), ("a", "b"), AGGREGATES, 3 * DAY, HOUR)
MIXED = View("w", "t", ("k",), ("a", "b"), (*AGGREGATES, Aggregate(Function.STD, SPANS[1], 0)), 3 * DAY, HOUR)
NOW = 40 * DAY


def versions(rng: np.random.Generator, *, nulls: float, amended: float) -> list[EventVersion]:
    """Events of keys of every size: none, one, a tail, one chunk, many chunks; zeros of both signs among the values."""
    found: list[EventVersion] = []
    for number in range(24):
        key = b"k%d" % number
        n = int(rng.choice((1, 3, 20, 90, 700, 2_600), p=(0.2, 0.2, 0.3, 0.2, 0.05, 0.05)))
        for time in np.sort(rng.integers(NOW - 4 * DAY, NOW + 2 * HOUR, n)).tolist():
            values = (
                float("nan") if rng.random() < nulls else float(rng.choice((rng.normal(), -0.0, 0.0, 1e3))),
                float(rng.normal(100, 30)),
            )
            name = f"e{len(found)}" + "-with-a-longer-name" * bool(rng.random() < 0.002)
            start = min(time, NOW) + int(rng.integers(0, MINUTE))
            found.append(EventVersion(name, time, start, False, (key, key), (values, values)))
            if rng.random() < amended:
                gone = bool(rng.random() < 0.5)
                found.append(EventVersion(name, time, start + HOUR, gone, (key, key), (values, values)))
    return sorted(found, key=lambda version: version.start)


def bits(answers: list[list[float]]) -> list[bytes]:
    return [struct.pack(f"{len(one)}d", *one) for one in answers]


@pytest.mark.parametrize("seed", range(6))
def test_many_keys_give_the_bits_of_each_alone(
    tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(seed)
    together: list[int] = []
    plain = Scanner._answer_plain

    def counted(self: Scanner, keys: Sequence[Any], bounds: Sequence[int]) -> Iterator[list[float]]:
        together.append(len(keys))
        return plain(self, keys, bounds)

    monkeypatch.setattr(Scanner, "_answer_plain", counted)
    environment = open_environment(tmp_path / "online")
    windows = LmdbWindows(environment, [ORDINARY, MIXED])
    events = versions(rng, nulls=0.0005 * (seed % 2), amended=0.001 * (seed % 3))
    for begin in range(0, len(events), 500):
        with writing(environment) as txn:
            windows.apply(txn, "t", events[begin : begin + 500])
    keys = [*(b"k%d" % number for number in range(24)), b"unknown", None, b"k3"]
    with environment.begin() as txn:
        for view in (ORDINARY, MIXED):
            for at in (NOW + HOUR, NOW + 1, NOW - HOUR // 2, NOW + DAY):
                alone = [windows.read(txn, view, key, at) for key in keys]
                assert bits(windows.read_many(txn, view, [(key, ()) for key in keys], at)) == bits(alone)
    environment.close()
    assert max(together) > 8  # or nothing was read together
