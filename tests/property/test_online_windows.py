"""Whatever arrives in whatever order, the online store answers as a recomputation from all versions does."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from icekeel.core.time import DAY, HOUR
from icekeel.features.aggregates import Function, Span
from icekeel.features.online import EventVersion, LmdbWindows, chunks, open_environment
from icekeel.testing.online_store import (
    TABLE,
    VIEWS,
    Opened,
    agree,
    check_hot_key,
    check_online_store,
    check_splits,
    expected,
    random_versions,
)

PARAMS = (7 * 0.37,)
"""One of the amounts of `random_versions`."""


@pytest.fixture(params=[(8, 300), (512, 1536)], ids=["small chunks", "real chunks"])
def _sizes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "ROWS", request.param[0])
    monkeypatch.setattr(chunks, "TAIL_BYTES", request.param[1])


@contextmanager
def opened(*, buffers: bool = True) -> Iterator[Opened[Any]]:
    with TemporaryDirectory() as folder, open_environment(Path(folder), map_size=1 << 28) as environment:
        store = LmdbWindows(environment, VIEWS)
        yield Opened(
            store,
            lambda: environment.begin(write=True, buffers=True) if buffers else environment.begin(write=True),
        )


@pytest.mark.usefixtures("_sizes")
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("buffers", [True, False])
def test_the_contract(seed: int, buffers: bool) -> None:
    with opened(buffers=buffers) as at_hand:
        check_online_store(at_hand, np.random.default_rng(seed), n=250)


@pytest.mark.usefixtures("_sizes")
@settings(max_examples=12, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**32), size=st.integers(1, 90), days=st.sampled_from([0.05, 0.5, 3.0]))
def test_answers_equal_a_recomputation(seed: int, size: int, days: float) -> None:
    rng = np.random.default_rng(seed)
    versions = random_versions(rng, 120, days=days, keys=2)
    newest = max(version.start for version in versions)
    with opened() as at_hand:
        for begin in range(0, len(versions), size):
            with at_hand.begin() as txn:
                at_hand.store.apply(txn, TABLE, versions[begin : begin + size])
        for at in map(int, newest - DAY + rng.integers(1, DAY + 3 * HOUR, 4)):
            for view, key in zip(VIEWS, (b"k1", b""), strict=True):
                with at_hand.begin() as txn:
                    got = at_hand.store.read(txn, view, key, at, PARAMS)
                assert agree(got, expected(view, versions, key, at, PARAMS))


@pytest.mark.parametrize(("rows", "seed"), [(8, 7), (64, 8), (512, 9)])
def test_a_hot_key_over_many_chunks(rows: int, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "ROWS", rows)
    with opened() as at_hand:
        check_hot_key(at_hand, np.random.default_rng(seed), n=400 if rows < 64 else 3_000)


@pytest.mark.usefixtures("_sizes")
def test_batches_do_not_matter() -> None:
    with opened() as one, opened() as two, opened() as three:
        check_splits([one, two, three], np.random.default_rng(3), n=200)


def test_the_largest_numbers_overflow_to_null_without_a_warning() -> None:
    values = [1e308, 1e308, -1e300, math.nan] * 300
    versions = [
        EventVersion(f"e{i}", i, i, False, (b"k1", b""), ((value, 1.0),) * 2)
        for i, value in enumerate(values)
    ]
    with opened() as at_hand, at_hand.begin() as txn:
        at_hand.store.apply(txn, TABLE, versions)
        got = at_hand.store.read(txn, VIEWS[0], b"k1", 5_000, PARAMS)
    found = {
        (a.function, a.where): x
        for a, x in zip(VIEWS[0].aggregates, got, strict=True)
        if a.span == Span(1, HOUR)
    }
    assert math.isnan(found[Function.SUM, -1])
    assert found[Function.MAX, -1] == 1e308
    assert found[Function.MIN, 1] == -1e300
    assert found[Function.COUNT, -1] == 1_200
