"""Laws that every online store must keep, and the slow, obvious recomputation they are checked against."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

import numpy as np

from icekeel.core.time import DAY, FOREVER, HOUR, MINUTE
from icekeel.features.aggregates import Aggregate, Function, Span, View
from icekeel.features.online import Applied, EventVersion, OnlineStore

from .oracle import Row, naive

TABLE = "things"
_SPANS = (Span(1, HOUR), Span(1, 2 * DAY), Span(1 - HOUR, 0), Span(HOUR, 6 * HOUR))
_READING = tuple(function for function in Function if function not in (Function.COUNT, Function.SINCE))

Txn = TypeVar("Txn")


def _view(name: str, keys: tuple[str, ...]) -> View:
    aggregates = [
        Aggregate(function, span, -1 if function not in _READING else 0, where, k=3, of=of)
        for span in _SPANS
        for where in (-1, 1)
        for function in Function
        for of in ((-1, 0) if function in (Function.SHARE_OF, Function.RANK_OF) else (-1,))
    ]
    return View(name, TABLE, keys, ("amount", "counts"), tuple(aggregates), back=2 * DAY, ahead=HOUR)


VIEWS = (_view("by_key", ("key",)), _view("over_all", ()))
"""Views that a store under test is made for: every function, over past, future and distant spans."""


@dataclass(frozen=True, slots=True)
class Opened(Generic[Txn]):
    """An empty store made for `VIEWS`, and how to begin a transaction that commits when it is left."""

    store: OnlineStore[Txn]
    begin: Callable[[], AbstractContextManager[Txn]]


def expected(
    view: View, versions: Iterable[EventVersion], key: bytes | None, at: int, params: Sequence[float] = ()
) -> list[float]:
    """What a store must answer after `versions` were applied in this order.

    Of the versions of an event the newest available counts; of two with the same start the one applied later.
    """
    place = VIEWS.index(view)
    newest: dict[str, EventVersion] = {}
    for version in versions:
        known = newest.get(version.id)
        if version.start <= at and (known is None or version.start >= known.start):
            newest[version.id] = version
    rows = [
        Row(v.keys[place], v.time, v.start, FOREVER, v.id, v.values[place])
        for v in newest.values()
        if not v.deleted and key is not None
    ]
    answers = [naive(rows, key, at, aggregate, params) for aggregate in view.aggregates]
    return [math.nan if answer is None else answer for answer in answers]


def agree(got: Sequence[float], wanted: Sequence[float]) -> bool:
    """Whether answers are equal: NaN with NaN, others within rounding of sums of values below 1,000."""
    return len(got) == len(wanted) and all(
        math.isnan(a) == math.isnan(b) and (math.isnan(b) or math.isclose(a, b, rel_tol=1e-11, abs_tol=1e-6))
        for a, b in zip(got, wanted, strict=True)
    )


def random_versions(
    rng: np.random.Generator, n: int, *, days: float = 4.0, keys: int = 3
) -> list[EventVersion]:
    """`n` versions in the order they arrive: late, planned, corrected, deleted, repeated, tied, changing their key.

    Their ids are of different lengths, their values null or not.
    """
    out: list[EventVersion] = []
    for _ in range(n):
        start = int(rng.integers(0, int(days * DAY)))
        kind = rng.random()
        if out and kind < 0.05:
            out.append(out[int(rng.integers(len(out)))])
            continue
        number = int(rng.integers(len(out) + 1)) if kind < 0.3 else len(out)
        name = f"e{number}" + "-longer" * (number % 10 // 9 * (number % 3))
        key = None if rng.random() < 0.05 else b"k%d" % rng.integers(keys)
        amount = math.nan if rng.random() < 0.1 else float(rng.integers(-50, 50)) * 0.37
        values = (amount, float(rng.choice((0.0, 1.0, math.nan))))
        time = (start + int(rng.integers(-6 * HOUR, HOUR))) // MINUTE * MINUTE
        out.append(EventVersion(name, time, start, bool(rng.random() < 0.05), (key, b""), (values, values)))
    return out


def check_online_store(opened: Opened[Txn], rng: np.random.Generator, *, n: int = 400) -> None:
    """Runs an empty store through the laws of answers, repeats and pruning.

    Raises:
        AssertionError: The store breaks one.
    """
    versions = random_versions(rng, n)
    newest = 0
    for begin in range(0, n, 50):
        _apply(opened, versions[begin : begin + 50], 50)
        newest = max(newest, *(version.start for version in versions[begin : begin + 50]))
        _check_answers(opened, versions[: begin + 50], newest - DAY + rng.integers(1, DAY + 2 * HOUR, 2))
    last = replace(versions[-1], id="new", start=newest, time=newest, deleted=False, keys=(b"k0", b""))
    with opened.begin() as txn:
        opened.store.prune(txn, newest)
        applied = [opened.store.apply(txn, TABLE, [last]) for _ in range(2)]
        unknown = opened.store.apply(txn, "no such table", versions[:1])
    _require(applied == [Applied(new=1), Applied(duplicates=1)], f"a repeat is ignored: {applied}")
    _require(unknown == Applied(), "a table without views is left aside")
    _check_answers(opened, [*versions, last], newest + np.array([0, 1, HOUR]))
    with opened.begin() as txn:
        opened.store.prune(txn, newest + 10 * DAY)
        left = opened.store.prune(txn, newest + 10 * DAY)
    _require(left == 0, "what no question can meet is dropped at once")
    _check_answers(opened, [*versions, last], [newest + 10 * DAY])


def check_splits(stores: Sequence[Opened[Txn]], rng: np.random.Generator, *, n: int = 300) -> None:
    """Checks that empty stores agree however the same versions are cut to batches, as when one is made anew.

    Raises:
        AssertionError: They do not.
    """
    versions = random_versions(rng, n)
    newest = max(version.start for version in versions)
    sizes = [1, n, *rng.integers(1, n + 1, len(stores)).tolist()]
    new = {_apply(opened, versions, size).new for opened, size in zip(stores, sizes, strict=False)}
    _require(len(new) == 1, f"batches do not matter: {new} new events")
    for opened in stores:
        _check_answers(opened, versions, [newest, newest - DAY // 2])


def check_hot_key(opened: Opened[Txn], rng: np.random.Generator, *, n: int = 4_000) -> None:
    """Checks an empty store with one key that holds all versions, far more than fit in one record.

    Most come in the order of time, as events do, then a few late ones, corrections and deletions.

    Raises:
        AssertionError: The store breaks a law.
    """
    late = random_versions(rng, n // 20, days=1.2, keys=1)
    newest = max(version.start for version in late)
    times = np.sort(rng.integers(newest - 3 * DAY, newest, n)).tolist()
    versions = [
        EventVersion(f"h{i}", time, time + 1, False, (b"k0", b""), ((i % 50 * 0.37, float(i % 2)),) * 2)
        for i, time in enumerate(times)
    ]
    ordered = sorted([*versions, *late], key=lambda version: version.start)
    _apply(opened, ordered, n // 7)
    _apply(opened, late[::3], 5)
    _check_answers(opened, ordered, [newest, newest - DAY // 3])


def _apply(opened: Opened[Txn], versions: Sequence[EventVersion], size: int) -> Applied:
    """Applies versions in batches of `size`; gives what all did together."""
    total = Applied()
    for begin in range(0, len(versions), size):
        with opened.begin() as txn:
            done = opened.store.apply(txn, TABLE, versions[begin : begin + size])
        total = Applied(
            total.new + done.new, total.replaced + done.replaced, total.duplicates + done.duplicates
        )
    return total


def _check_answers(opened: Opened[Txn], versions: Sequence[EventVersion], times: Iterable[int]) -> None:
    for at in map(int, times):
        for view, keys in zip(VIEWS, ((b"k0", b"k1", b"unknown", None), (b"",)), strict=True):
            params = (float(at % 100 - 50) * 0.37,)  # of the amounts of `random_versions`
            with opened.begin() as txn:
                together = opened.store.read_many(txn, view, [(key, params) for key in keys], at)
            for key, other in zip(keys, together, strict=True):
                with opened.begin() as txn:
                    got = opened.store.read(txn, view, key, at, params)
                _require(repr(got) == repr(other), f"{view.name} {key!r} alone and among others")
                wanted = expected(view, versions, key, at, params)
                _require(agree(got, wanted), f"{view.name} {key!r} at {at}: {got} is not {wanted}")


def _require(holds: bool, law: str) -> None:
    if not holds:
        raise AssertionError(law)
