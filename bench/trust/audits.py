"""Audits: all of them on a year of flights, and errors by group beside fairlearn's."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np

from bench.children import CACHE
from bench.peers import HERE, python_of
from bench.report import Result
from icekeel.app import App
from icekeel.core.frames import Column, Frame, Kind
from icekeel.core.time import DAY, parse_time
from icekeel.examples.flights import project as flights_project
from icekeel.examples.flights.prepare import prepare
from icekeel.training.audits import AUDITS, Audit, AuditInput, Finding, all
from icekeel.training.audits.tally import Group, Tally
from icekeel.training.days import day_codes

ROWS = 1_000_000
KINDS = 12
SERIES = ("truth", "chosen", "error")


def flights() -> Result:
    """Seconds of `icekeel audit` on all flights of 2013, their features kept as a training leaves them."""
    with tempfile.TemporaryDirectory(dir=CACHE) as name:
        folder = Path(name)
        shutil.copy(str(flights_project.__file__), folder / "project.py")
        prepare(folder, progress=lambda line: None)
        now = parse_time("2014-01-05")
        app = App(folder, clock=lambda: now)
        app.ingest([])
        registry = app.registry()
        app.workshop(registry).prepare("late", now, lambda line: None)
        spent: dict[str, float] = {}
        all.AUDITS = {one: _timed(one, audit, spent) for one, audit in AUDITS.items()}
        began, cpu = time.perf_counter(), time.process_time()
        audited = app.audit_all(registry, "late", [], sample=200, now=now, say=lambda line: None)
        taken = time.perf_counter() - began
        registry.close()
    return {
        "s": taken,
        "cpu_s": time.process_time() - cpu,
        "audits_cpu_s": spent,
        "findings": {one.audit: [one.verdict, one.what] for one in audited.findings},
    }


def _timed(name: str, audit: Audit, spent: dict[str, float]) -> Audit:
    def timed(given: AuditInput) -> Finding:
        began = time.process_time()
        found = audit(given)
        spent[name] = time.process_time() - began
        return found

    return timed


def subgroups() -> Result:
    """CPU seconds of counts, rates and errors of 12 groups, 12 others and their 144 pairs, with intervals."""
    columns, asked_at = _rows()
    frame = Frame({name: columns[name] for name in ("region", "product")})
    began = time.process_time()
    groups = [Group.of(Column(name, Kind.CAT), frame, KINDS + 2) for name in frame]
    series = {name: columns[name] for name in SERIES}
    tallies = [Tally.of(one, series, day_codes(asked_at)) for one in ([groups[0]], [groups[1]], groups)]
    bounds = [(tally.interval("error"), tally.rate_interval("truth")) for tally in tallies]
    return {"cpu_s": time.process_time() - began, "rows": ROWS, "tables": len(bounds)}


def subgroups_fairlearn() -> Result:
    """The same by fairlearn's `MetricFrame`, without intervals; its figures must be ours."""
    columns, _ = _rows()
    groups = [Group.of(Column(name, Kind.CAT), Frame(columns), KINDS + 2) for name in ("region", "product")]
    ours = Tally.of(groups, {name: columns[name] for name in SERIES})
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE) as name:
        rows = Path(name) / "rows.npz"
        texts = {one: columns[one].astype("U4") for one in ("region", "product")}
        np.savez(rows, **{**{one: columns[one] for one in SERIES}, **texts})  # type: ignore[arg-type]
        command = [str(python_of("fairlearn")), str(HERE / "fairlearn_groups.py"), str(rows)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    said = json.loads(done.stdout)
    worst = 0.0
    for one, two, count, *means in said["cells"]:
        at = tuple(
            group.binning.codes(np.array([text], dtype=object))[0]
            for group, text in zip(groups, (one, two), strict=True)
        )
        mine = [ours.count[at], *(ours.mean(series)[at] for series in SERIES)]
        worst = max(worst, *(abs(a - b) for a, b in zip(mine, (count, *means), strict=True)))
    if worst > 1e-9 or len(said["cells"]) != KINDS**2:
        raise RuntimeError(f"fairlearn's figures are not ours: {worst}")
    return {
        "cpu_s": said["cpu_s"],
        "cells": len(said["cells"]),
        "largest_difference": worst,
        "version": said["version"],
    }


def _rows() -> tuple[dict[str, np.ndarray], np.ndarray]:
    """A million rows of a year: two groupings, what came, what was chosen, and how wrong the probability was."""
    rng = np.random.default_rng(5)
    region, product = rng.integers(KINDS, size=ROWS), rng.integers(KINDS, size=ROWS)
    said = np.clip(0.2 + 0.02 * region + 0.01 * product + rng.normal(0, 0.1, ROWS), 0, 1)
    truth = (rng.random(ROWS) < said).astype(float)
    named = {
        "region": np.array([f"r{one}" for one in range(KINDS)], dtype=object)[region],
        "product": np.array([f"p{one}" for one in range(KINDS)], dtype=object)[product],
    }
    figures = {"truth": truth, "chosen": (said > 0.5).astype(float), "error": np.abs(truth - said)}
    return {**named, **figures}, np.sort(rng.integers(0, 365 * DAY, ROWS))
