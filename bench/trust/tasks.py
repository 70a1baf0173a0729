"""What is measured, each in a process of its own: `python -m bench.trust.tasks NAME` prints one line of JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping

from bench.report import Result

from . import hotels
from .ingestion import ingest_crashes

TASKS: Mapping[str, Callable[[], Result]] = {
    "hotel": hotels.features,
    "similar": hotels.similar,
    "ingest_crashes": ingest_crashes,
}

if __name__ == "__main__":
    print(json.dumps(TASKS[sys.argv[1]]()))
