"""Tests of shape and detectors of minutes on normal numbers: what they cost, what they find, and how soon."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path

import numpy as np

from bench.peers import python_of
from bench.report import Result
from icekeel.core.frames import Column, Floats, Frame, Ints, Kind
from icekeel.core.time import DAY, MINUTE
from icekeel.define import Watch
from icekeel.monitoring import (
    MINUTES,
    Bank,
    Profiler,
    Reference,
    Seen,
    Stream,
    cells_of,
    examine,
    learn,
    log_bar,
)
from icekeel.monitoring.streams import Scores

FEATURES = [Column(f"f{number}", Kind.NUM) for number in range(30)]
ROWS, REFERENCE, DAYS = 10_000, 100_000, 20
SERIES = 130
"""Series that share the budget: about as many as the quotes have, with tables, segments and outcomes."""
PER_MINUTE, PAST_DAYS = 20, 28


def _frame(rng: np.random.Generator, rows: int, shift: float = 0.0) -> Frame:
    return Frame({column.name: rng.normal(size=rows) + shift for column in FEATURES})


def _reference(rng: np.random.Generator, rows: int) -> Reference:
    """Of days as large as those that are examined."""
    profiler = Profiler.fit(FEATURES, _frame(rng, REFERENCE))
    return Reference.of(profiler, [profiler.profile(_frame(rng, rows)) for _ in range(DAYS)])


def drift() -> Result:
    """CPU seconds of counting and testing a batch, the fastest of ten."""
    rng = np.random.default_rng(1)
    reference, batch, taken = _reference(rng, ROWS), _frame(rng, ROWS), []
    for _ in range(10):
        began = time.process_time()
        examine(reference, reference.profiler.profile(batch))
        taken.append(time.process_time() - began)
    return {"cpu_s": min(taken), "median_cpu_s": float(np.median(taken))}


def drift_power() -> Result:
    """Batches with any flag when nothing changed; columns flagged of those that moved."""
    rng = np.random.default_rng(2)
    reference = _reference(rng, ROWS)

    def flagged(ours: Reference, rows: int, shift: float) -> Floats:
        found = examine(ours, ours.profiler.profile(_frame(rng, rows, shift)))
        return np.array([finding.flagged for finding in found], dtype=np.float64)

    null = np.mean([flagged(reference, ROWS, 0.0).any() for _ in range(500)])
    moved = np.mean([flagged(reference, ROWS, 0.1).mean() for _ in range(100)])
    large = _reference(rng, 100_000)
    harmless = np.mean([flagged(large, 100_000, 0.02).mean() for _ in range(20)])
    return {"null_flagged": float(null), "found_0_1sd": float(moved), "flagged_0_02sd": float(harmless)}


def drift_evidently() -> Result:
    """Evidently's default report on the same batch, in its own environment."""
    python, script = python_of("evidently"), Path(__file__).parents[1] / "peers" / "evidently_drift.py"
    done = subprocess.run(
        [str(python), str(script), str(ROWS), str(REFERENCE)], check=True, capture_output=True, text=True
    )
    found: Result = json.loads(done.stdout.splitlines()[-1])
    return found


def delay() -> Result:
    """Minutes until a detector of the product finds a shift, 20 observations a minute, mean of 200 streams each.

    What is usual is learnt from four weeks, as at a training; the bar is that of the default budget, divided by as many
    series as a real model has.
    """
    rng = np.random.default_rng(3)
    bar = log_bar(SERIES, Watch().false_alarms_per_year * MINUTES)
    rows = PAST_DAYS * 1440 * PER_MINUTE // 8
    at: Ints = np.sort(rng.integers(0, PAST_DAYS * 1440, rows)) * MINUTE + 19_000 * DAY
    column = Column("x", Kind.NUM)
    past = Frame({"feature.x": rng.normal(size=rows)})
    made = cells_of("feature", column, past["feature.x"])
    stream = Stream("requests", (made,) if made is not None else ())
    series = learn(stream, past, at, bar)
    bank, scores = Bank(series, bar), Scores(stream, stream.drafts())
    level = next(place for place, one in enumerate(series) if one.change == "level")
    found = {
        name: _delays(rng, bank, scores, stream, level, shift)
        for name, shift in (("quarter", 0.25), ("half", 0.5))
    }
    return {
        **{name: float(np.mean(minutes)) for name, minutes in found.items()},
        **{f"{name}_p90": float(np.quantile(minutes, 0.9)) for name, minutes in found.items()},
        "bar": bar,
    }


def _delays(
    rng: np.random.Generator, bank: Bank, scores: Scores, stream: Stream, level: int, shift: float
) -> list[int]:
    minutes = []
    for _ in range(200):
        seen, look = Seen.start(bank.series, learnt=True), 0
        while not bank.alarms(seen)[level] and look < 1440:
            counted = stream.count(Frame({"feature.x": rng.normal(size=PER_MINUTE) + shift}))
            seen = bank.look(seen, 19_100 * DAY + look * MINUTE, *scores(counted.counts))
            look += 1
        minutes.append(look)
    return minutes
