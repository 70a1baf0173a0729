"""What two months of ordinary quotes showed, from the journal and the simulator's truth."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import duckdb
import numpy as np

from icekeel.app import App
from icekeel.core.frames import Array, Column, Floats, Frame, Ints
from icekeel.core.statistics import absolute_percentage_error
from icekeel.core.time import DAY
from icekeel.journal import Predicted, scan
from icekeel.registry import Version
from icekeel.serving import load_version
from icekeel.training.ladder import day_block_means

from .cases import Case
from .simulate import Truth


@dataclass(frozen=True, slots=True)
class Later:
    """Ordinary quotes after the system went live.

    Attributes:
        asked_at: Time of each, ascending, shape `(n,)`.
        errors: Absolute percentage errors as shares, shape `(3, n)`: raw features, engineered ones as served
            (before the postprocessors), and the simulator's own price without its noise.
        gain: Relative reduction of the mean error by the engineered features, with a 95 % interval.
        flagged: The guard's first reason for each quote that it flagged.
        refused: How many of them it refused; similar cases answered the others.
        rounded_error: Mean error of the answers after the postprocessors.
        floored: Answers that the floor lifted.
        cpu_us: Median and 99th percentile of processor time per answer, microseconds.
    """

    asked_at: Ints
    errors: Floats
    gain: tuple[float, float, float]
    flagged: list[str]
    refused: int
    rounded_error: float
    floored: int
    cpu_us: tuple[float, float]

    @property
    def mape(self) -> tuple[float, float, float]:
        """Mean error of each of the three."""
        raw, engineered, best = self.errors.mean(axis=1).tolist()
        return raw, engineered, best

    @property
    def flagged_share(self) -> float:
        """Share of ordinary quotes that the guard flagged."""
        return len(self.flagged) / len(self.asked_at)

    def weeks(self) -> tuple[Ints, Floats]:
        """First moment of each week of seven days that has quotes, and the mean errors, shape `(3, n_weeks)`."""
        week, place, counts = np.unique(self.asked_at // (7 * DAY), return_inverse=True, return_counts=True)
        means = np.stack([np.bincount(place, errors) / counts for errors in self.errors])
        return np.asarray(week * 7 * DAY, dtype=np.int64), means


@dataclass(frozen=True, slots=True)
class Run:
    """All that the report tells."""

    truth: Truth
    raw: Version
    engineered: Version
    later: Later
    cases: list[Case]
    twice: tuple[Case, Case]
    seconds: float


def measure(app: App, truth: Truth, results: Path, raw: Version, *, until: int) -> Later:
    """The quotes of the simulation that were asked before `until`, each once, with what came of them.

    Args:
        results: The simulator's file of decisions, those after `until` included.
        raw: The version on raw features, which predicts from the features that were journaled.
    """
    answered = {
        record.key: record for record in scan(app.places.journal, kinds=Predicted) if record.at <= until
    }
    records = sorted(answered.values(), key=lambda record: (record.at, record.key))
    with duckdb.connect() as connection:
        listed = connection.execute("SELECT quote_id, price FROM read_parquet(?)", [str(results)]).fetchall()
    prices = dict(listed)
    price = np.array([prices[record.key] for record in records])
    place = [int(record.key[1:]) for record in records]  # Q000123 is the 124th quote
    engine = load_version(raw, app.places.bundles, app.plans[raw.model]).engine
    frame = Frame({column.name: _column(records, column) for column in engine.columns})
    answers = np.array([record.answer for record in records])
    served = np.array([record.prediction for record in records])
    cost = np.array([record.request["material_cost"] for record in records], dtype=np.float64)
    errors = np.stack(
        [
            absolute_percentage_error(price, guess)
            for guess in (engine.predict_many(frame), served, truth.expected[place])
        ]
    )
    asked_at = np.array([record.at for record in records], dtype=np.int64)
    cpu = [record.cpu_us for record in records]
    return Later(
        asked_at,
        errors,
        _gain(errors, asked_at),
        [record.reasons[0] for record in records if record.reasons],
        sum(record.verdict == "refused" for record in records),
        float(absolute_percentage_error(price, answers).mean()),
        int((served < cost).sum()),
        (float(np.median(cpu)), float(np.percentile(cpu, 99))),
    )


def _gain(errors: Floats, asked_at: Ints) -> tuple[float, float, float]:
    """By the paired bootstrap over days, see `day_block_means`."""
    raw, engineered, _ = errors.mean(axis=1)
    drawn = day_block_means(errors[:2], asked_at, rng=np.random.default_rng(0))
    low, high = np.quantile(1 - drawn[1] / drawn[0], (0.025, 0.975))
    return float(1 - engineered / raw), float(low), float(high)


def _column(records: list[Predicted], column: Column) -> Array:
    values = [record.features[column.name] for record in records]
    if column.kind.is_text:
        return np.array(values, dtype=object)
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)
