"""How long a version's bundle takes to load, every check made; how long a roll-back; and whether a changed byte passes."""

from __future__ import annotations

import statistics
import time
from pathlib import Path

import numpy as np

from bench.report import Result
from bench.serving.load import Load, result_of
from bench.serving.system import System, running
from bench.serving.tasks import late_by
from icekeel.core.errors import BundleError
from icekeel.operations.workshop.workshop import crown, roll_back
from icekeel.registry import Registry, Version, read
from icekeel.serving import load_version

LOADS = 9
ROLL_BACKS = 10
FLIPS = 40
"""In each file of the bundle."""
APART_S = 1.5


def bundles() -> Result:
    """The serving bench's version: 500 trees, guard, similar cases."""
    with running(workers=2) as system:
        app = system.app()
        registry = app.registry()
        version = registry.version("cost-1")
        plan = app.plans["cost"]
        taken = []
        for _ in range(LOADS):
            began = time.perf_counter()
            load_version(version, app.places.bundles, plan)
            taken.append(1_000 * (time.perf_counter() - began))
        size = sum(path.stat().st_size for path in (app.places.bundles / version.digest[:16]).iterdir())
        late = _roll_backs(system, registry)
        flips, passed = _flipped(app.places.bundles, version)
        registry.close()
    return {
        # The first loads LightGBM's library too.
        "load_ms": max(taken[0], statistics.median(taken)),
        "loads_ms": taken,
        "bundle_mb": size / 1e6,
        "rollback_ms": 1_000 * max(late),
        "rollbacks_ms": [1_000 * one for one in late],
        "flips": flips,
        "flips_passed": passed,
        "differ": passed > 0,
    }


def _roll_backs(system: System, registry: Registry) -> list[float]:
    """Seconds after each roll-back at which the last request was sent that the other version answered, two workers loaded."""
    app, log = system.app(), system.folder / "answers.log"
    journal = app.journal("bench")
    registry.drop_alias("cost", "challenger", reason="one version answers", by="bench")
    time.sleep(1)
    load = Load.on(system, 2 * ROLL_BACKS * APART_S + 3, log=str(log)).start()
    time.sleep(2)
    done = []
    for _ in range(ROLL_BACKS):
        crown(registry, "cost", "cost-2", reason="bench", by="bench", at=app.clock())
        time.sleep(APART_S)
        before = time.time()  # what the roll-back itself takes counts
        version = roll_back(registry, journal, "cost", reason="bench", by="bench", at=app.clock())
        done.append((before, version.name))
        time.sleep(APART_S)
    result_of(load)
    journal.close()
    lines = [line.split() for line in log.read_text().splitlines()]
    return [late_by(lines, at, to, at + APART_S) for at, to in done]


def _flipped(root: Path, version: Version) -> tuple[int, int]:
    """How many bytes were changed, one at a time, and how many of these went unnoticed."""
    rng = np.random.default_rng(0)
    flips = passed = 0
    for path in sorted((root / version.digest[:16]).iterdir()):
        whole = path.read_bytes()
        for place in rng.integers(len(whole), size=FLIPS).tolist():
            damaged = bytearray(whole)
            damaged[place] ^= 1 << int(rng.integers(8))
            path.write_bytes(damaged)
            flips += 1
            try:
                read(root, version.digest)
                passed += 1
            except BundleError:
                continue
            finally:
                path.write_bytes(whole)
    read(root, version.digest)
    return flips, passed
