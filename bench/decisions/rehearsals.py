"""The fault library on both worlds, through the command that a user runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from bench.report import Result

SEED = 0


def rehearsal() -> Result:
    """Quotes at 20 a minute: what was found, named and how soon; and questions per real second."""
    return _rehearsed("quotes")


def rehearsal_flights() -> Result:
    """The flights at their own rate."""
    return _rehearsed("flights")


def _rehearsed(world: str) -> Result:
    with tempfile.TemporaryDirectory(prefix="bench-rehearsal-") as folder:
        line = [sys.executable, "-m", "icekeel", "rehearse", world, "--seed", str(SEED), "--json"]
        line += ["--folder", folder, "--out", str(Path(folder) / "page.html")]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(line, stdout=subprocess.PIPE, check=True, env=environment)
    found = json.loads(done.stdout)
    return {
        **{name: found[name] for name in ("found", "cause_right", "minutes_median", "minutes_worst")},
        "false_alarms": len(found["false_alarms"]),
        "rps": found["walls"]["requests_per_second"],
        "missed": [f"{one['kind']} {one['where']}" for one in found["outcomes"] if one["status"] == "missed"],
        "misnamed": [f"{one['kind']}: {one['called']}" for one in found["outcomes"] if one["right"] is False],
    }
