"""What is measured, each in a process of its own: `python -m bench.decisions.tasks NAME` prints one line of JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping

from bench.report import Result

from . import assignment, oracles, paired, split_tests

TASKS: Mapping[str, Callable[[], Result]] = {
    "assignment": assignment.assignment,
    "false_promotions": split_tests.false_promotions,
    "false_rollbacks": split_tests.false_rollbacks,
    "naive": split_tests.naive_rules,
    "oracles": oracles.oracles,
    "paired": paired.paired,
    "revenue": split_tests.revenue,
    "stops": split_tests.stops,
}

if __name__ == "__main__":
    print(json.dumps(TASKS[sys.argv[1]]()))
