"""The suite that every rung and its engine pass: `check_model(MyRung())`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from icekeel.core.errors import BundleError, Fault, TrainingError
from icekeel.core.frames import Column, Floats, Frame, Kind
from icekeel.core.time import DAY, HOUR
from icekeel.engines import Engine, check_golden, load_engine, rows_of
from icekeel.engines.encoder import Value
from icekeel.engines.links import from_link
from icekeel.training import Fitted, Problem, Rung, TrainingSet, build_golden
from icekeel.training.golden import SCRIPTS, UNSEEN
from icekeel.training.ladder import predict_us

PROBLEMS = (
    Problem("probability", "log_loss"),
    Problem("number", "mape"),
    Problem("number", "mae"),
    Problem("number", "rmse"),
)
TOLERANCE = 1e-9
SLOWEST_US = 1_000.0
_COLUMNS = (
    Column("amount", Kind.NUM),
    Column("load", Kind.NUM),
    Column("rush", Kind.FLAG),
    Column("route", Kind.CAT),
    Column("carrier", Kind.CAT),
    Column("note", Kind.TEXT),
)
_EDGES = (0.0, -0.0, 5e-324, -1e-40, 1e-36, 1.0, -1.0, 3.4028234663852886e38, -1e39, 1e300, -1.7e308)
_WORDS = ("late", "early", "fragile", "heavy", "gift", "rätselhaft", "nochmal", "добрый", "配送")


@dataclass(frozen=True, slots=True)
class Checked:
    """What was measured on the way, for one problem.

    Attributes:
        predict_us: Median CPU microseconds of one row.
        size_bytes: Of the bundle's files.
        worst: Largest difference to the training library among ordinary, odd and golden rows, relative above 1.
    """

    error: str
    predict_us: float
    size_bytes: int
    worst: float


def check_model(
    rung: Rung,
    problems: Sequence[Problem] = PROBLEMS,
    *,
    data: Callable[[Problem], TrainingSet] | None = None,
    slowest_us: float = SLOWEST_US,
    tolerance: float = TOLERANCE,
) -> list[Checked]:
    """Put a rung and the engine of its files through everything that training and serving rely on.

    Two fits of the same rows give the same bytes, and those loaded again the same bits; one row is predicted as among
    many, in any order, by any thread, whatever is null, unseen, tiny, huge or empty; probabilities lie in [0, 1] and all
    else is finite; the training library agrees; golden rows can be made and pass; nothing given is changed; an explanation
    adds up to the prediction; a row takes no longer than `slowest_us` of CPU.

    Args:
        problems: What it is for; by default a flag and a number by each error.
        data: Rows to fit; by default 600 with every kind of column, of which a rung reads what it can.

    Raises:
        TrainingError: one fault for each check that failed, with its problem.
    """
    found, faults = [], []
    for problem in problems:
        rows = (data or example_rows)(problem)
        try:
            checks = _Checks(rung, problem, rows, tolerance)
        except (TrainingError, BundleError) as error:
            faults += [fault.inside(problem.error) for fault in error.faults]
            continue
        faults += [fault.inside(problem.error) for fault in checks.faults()]
        us = predict_us(checks.engine, rows.frame, calls=100)
        if us > slowest_us:
            faults.append(
                Fault("slow", "a row takes too long", problem.error, f"{us:.0f} us", f"{slowest_us:g}")
            )
        found.append(Checked(problem.error, us, checks.fitted.size_bytes, checks.worst))
    if faults:
        raise TrainingError(*faults)
    return found


def example_rows(problem: Problem, n_rows: int = 600, *, seed: int = 1) -> TrainingSet:
    """Forty days of rows with numbers, flags, categories, texts and nulls, whose outcome depends on some of them."""
    rng = np.random.default_rng(seed)
    amount, rush = rng.gamma(2.0, size=n_rows), (rng.random(n_rows) < 0.3).astype(float)
    amount[rng.random(n_rows) < 0.1] = np.nan
    route = rng.choice(np.array(["a", "b", "c", None], dtype=object), n_rows)
    note = [" ".join(rng.choice(_WORDS, rng.integers(0, 9))) for _ in range(n_rows)]
    moved = np.array([("late" in text) - 1.0 * ("early" in text) for text in note])
    notes = np.array(note, dtype=object)
    notes[rng.random(n_rows) < 0.05] = None
    score = np.where(np.isnan(amount), 0.0, amount - 2) + rush + 1.5 * moved + 0.8 * (route == "c")
    frame = Frame(
        {
            "amount": amount,
            "load": rng.normal(size=n_rows),
            "rush": rush,
            "route": route,
            "carrier": rng.choice(np.array(["x", "y"], dtype=object), n_rows),
            "note": notes,
        }
    )
    if problem.task == "probability":
        target = (rng.random(n_rows) < 1 / (1 + np.exp(-score))).astype(float)
    else:
        noisy = score + rng.normal(0, 0.2, n_rows)
        target = np.exp(0.5 * noisy) if problem.log_target else noisy
    asked_at = np.sort(rng.integers(0, 40 * DAY, n_rows))
    return TrainingSet(_COLUMNS, frame, target, asked_at, asked_at + 3 * HOUR)


def odd_rows(columns: Sequence[Column], data: Frame, n_rows: int = 400, *, seed: int = 2) -> Frame:
    """Rows whose values are ordinary, null, unseen, at the ends of float64 and float32, or next to known ones."""
    rng = np.random.default_rng(seed)
    drawn: dict[str, Any] = {}
    for column in columns:
        known = data[column.name]
        if column.kind.is_text:
            more = ["", *SCRIPTS] if column.kind is Kind.TEXT else [""]
            drawn[column.name] = rng.choice(
                np.array([*known[:200], None, UNSEEN, *more], dtype=object), n_rows
            )
        elif column.kind is Kind.FLAG:
            drawn[column.name] = rng.choice(np.array([0.0, 1.0, np.nan]), n_rows)
        else:
            near = known[~np.isnan(known)][:200]
            nearer = [np.nextafter(near, np.inf), np.nextafter(near, -np.inf), near.astype(np.float32)]
            pool = np.concatenate([near, *nearer, np.array([*_EDGES, np.nan])]).astype(np.float64)
            drawn[column.name] = rng.choice(pool, n_rows)
    return Frame(drawn)


class _Checks:
    def __init__(self, rung: Rung, problem: Problem, data: TrainingSet, tolerance: float) -> None:
        self.rung, self.problem, self.data, self.tolerance = rung, problem, data, tolerance
        self.fitted: Fitted = rung.fit(problem, data)
        self.engine: Engine = load_engine(dict(self.fitted.files))
        self.odd = odd_rows(data.columns, data.frame)
        self.frames = {"ordinary": data.frame, "odd": self.odd}
        self.rows: list[tuple[Value, ...]] = rows_of(self.engine.columns, self.odd)
        self.many: Floats = self.engine.predict_many(self.odd)
        self.worst = 0.0

    def faults(self) -> Iterator[Fault]:
        """What does not hold."""
        checks: dict[str, Callable[[], str]] = {
            "reads columns that it was not given": self._columns,
            "two fits of the same rows differ": self._fit_again,
            "a file cannot be shipped": self._plain_files,
            "files loaded again predict otherwise": self._round_trip,
            "one row differs from many": self._one_and_many,
            "the order of rows matters": self._order,
            "a prediction is out of range": self._range,
            "the training library differs": self._reference,
            "golden rows fail": self._golden,
            "no rows do not give no predictions": self._empty,
            "what was given has been changed": self._unchanged,
            "threads disturb each other": self._threads,
            "an explanation does not add up": self._explained,
        }
        for what, check in checks.items():
            try:
                got = check()
            except (TrainingError, BundleError, ArithmeticError, LookupError, TypeError, ValueError) as error:
                got = f"{type(error).__name__}: {error}"
            if got:
                yield Fault("model_check", what, self.rung.name, got)

    def _columns(self) -> str:
        return ", ".join(column.name for column in self.engine.columns if column not in self.data.columns)

    def _fit_again(self) -> str:
        again = self.rung.fit(self.problem, self.data).files
        changed = [
            name for name in {*again, *self.fitted.files} if again.get(name) != self.fitted.files.get(name)
        ]
        if not changed and self.fitted.again is not None and self.fitted.again.name != self.rung.name:
            changed = [self.fitted.again.name]
        return ", ".join(sorted(changed))

    def _plain_files(self) -> str:
        pickled = [
            name for name, data in self.fitted.files.items() if data[:1] == b"\x80" and data[-1:] == b"."
        ]
        return ", ".join(name for name in self.fitted.files if "/" in name or name in pickled)

    def _round_trip(self) -> str:
        return _differ(self.fitted.engine.predict_many(self.odd), self.many)

    def _one_and_many(self) -> str:
        return _differ(np.array([self.engine.predict_one(row) for row in self.rows]), self.many)

    def _order(self) -> str:
        back = np.arange(len(self.odd))[::-1]
        return _differ(self.engine.predict_many(self.odd.take(back))[::-1], self.many)

    def _range(self) -> str:
        high, low = (1.0, 0.0) if self.problem.task == "probability" else (np.inf, -np.inf)
        bad = [value for value in self.many if not (np.isfinite(value) and low <= value <= high)]
        return repr(bad[0]) if bad else ""

    def _reference(self) -> str:
        for frame in self.frames.values():
            got, expected = self.engine.predict_many(frame), self.fitted.reference(frame)
            gaps = np.abs(got - expected) / np.maximum(1.0, np.abs(expected))
            self.worst = max(self.worst, float(gaps.max()))
        return "" if self.worst <= self.tolerance else f"{self.worst:.3g}"

    def _golden(self) -> str:
        self.worst = max(self.worst, check_golden(self.engine, build_golden(self.fitted, self.data.frame)))
        return ""

    def _empty(self) -> str:
        found = self.engine.predict_many(self.data.frame.take(np.zeros(0, dtype=np.int64)))
        return "" if found.shape == (0,) else str(found.shape)

    def _unchanged(self) -> str:
        fresh = odd_rows(self.data.columns, self.data.frame)
        same = (
            np.array_equal(fresh[c.name], self.odd[c.name], equal_nan=not c.kind.is_text)
            for c in self.data.columns
        )
        return "" if all(same) else "the frame"

    def _threads(self) -> str:
        with ThreadPoolExecutor(4) as pool:
            return _differ(np.array(list(pool.map(self.engine.predict_one, self.rows))), self.many)

    def _explained(self) -> str:
        for row in rows_of(self.engine.columns, self.data.frame.take(np.arange(0, len(self.data), 29))):
            found, said = self.engine.explain(row), self.engine.predict_one(row)
            total = from_link(found.scale, found.base + sum(amount for _, amount in found.added))
            if not abs(total - said) <= 1e-6 * max(1.0, abs(said)):
                return f"{total!r} of {said!r}"
        return ""


def _differ(got: Floats, expected: Floats) -> str:
    places = np.flatnonzero(got != expected)
    return f"row {places[0]}: {got[places[0]]!r} and {expected[places[0]]!r}" if len(places) else ""
