"""The ladder on real flights: all of it with five backtests, and the champion's rung fitted again with its gates."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import copy

from bench.children import CACHE
from bench.report import Result
from icekeel.app import App
from icekeel.core.time import DAY, parse_time
from icekeel.examples.flights import project
from icekeel.examples.flights.prepare import prepare
from icekeel.operations.workshop.workshop import Order, admit
from icekeel.settings import Settings

CLIMBED, REFITTED = "2013-04-01", "2013-05-01"
"""What is known then is learnt from: the flights of January to March, and to April."""


def ladder() -> Result:
    """The whole ladder on engineered features, prepared data given."""
    with _app() as app:
        return _trained(app, CLIMBED, "")


def retrain() -> Result:
    """The top rung, the dearest to fit, with its gates beside a champion of a month before."""
    with _app() as app:
        first = _trained(app, CLIMBED, "lightgbm")
        return _trained(app, REFITTED, "lightgbm") | {"champion": first["version"]}


@contextmanager
def _app() -> Iterator[App]:
    with tempfile.TemporaryDirectory(dir=CACHE) as name:
        folder = Path(name)
        copy(str(project.__file__), folder / "project.py")
        prepare(folder, progress=lambda line: None)
        app = App(folder, Settings(threads=2), clock=lambda: parse_time("2015-01-01"))
        app.ingest([])
        yield app


def _trained(app: App, until: str, rung: str) -> Result:
    registry, now = app.registry(), parse_time(until) + DAY // 4
    workshop = app.workshop(registry)
    _, data = workshop.prepare(
        "late", now, lambda line: None
    )  # features are computed once for whoever trains
    began, cpu = time.monotonic(), time.process_time()
    version, trained = workshop.train(Order("late", now, rung=rung), lambda line: None)
    spent = {"s": time.monotonic() - began, "cpu_s": time.process_time() - cpu}
    with app.journal("train") as journal:
        decision = admit(registry, journal, app.model("late"), version, at=now, by="bench")
    registry.close()
    return spent | {
        "rows": trained.contents.rows,
        "questions": len(data.asked_at),
        "version": version.name,
        "decision": decision.kind,
        "failed_gates": list(version.failed),
        "steps": {
            step.rung: {
                "error": step.error,
                "gain": None if step.over_simpler is None else step.over_simpler.gain,
                "fit_cpu_s": step.fit_seconds,
                "bytes": step.bundle_bytes,
                "us": step.predict_us,
                "stopped": step.stopped,
            }
            for step in trained.ladder.steps
        },
        "winner": trained.ladder.winner,
    }
