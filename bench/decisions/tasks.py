"""What is measured, each in a process of its own: `python -m bench.decisions.tasks NAME` prints one line of JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping

from bench.report import Result

from . import assignment, chaos, drift, oracles, paired, quiet, rehearsals, split_tests

TASKS: Mapping[str, Callable[[], Result]] = {
    "assignment": assignment.assignment,
    "chaos": chaos.measure,
    "delay": drift.delay,
    "drift": drift.drift,
    "drift_evidently": drift.drift_evidently,
    "drift_power": drift.drift_power,
    "false_promotions": split_tests.false_promotions,
    "false_rollbacks": split_tests.false_rollbacks,
    "naive": split_tests.naive_rules,
    "oracles": oracles.oracles,
    "paired": paired.paired,
    "rehearsal": rehearsals.rehearsal,
    "rehearsal_flights": rehearsals.rehearsal_flights,
    "quiet": quiet.quiet,
    "revenue": split_tests.revenue,
    "stops": split_tests.stops,
}

if __name__ == "__main__":
    print(json.dumps(TASKS[sys.argv[1]]()))
