"""What is measured, each in a process of its own: `python -m bench.decisions.tasks NAME` prints one line of JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping

from bench.report import Result

TASKS: Mapping[str, Callable[[], Result]] = {}

if __name__ == "__main__":
    print(json.dumps(TASKS[sys.argv[1]]()))
