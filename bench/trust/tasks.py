"""What is measured, each in a process of its own: `python -m bench.trust.tasks NAME` prints one line of JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping

from bench.report import Result

from . import bad_inputs, contracts, faults, hotels
from .ingestion import ingest_crashes

TASKS: Mapping[str, Callable[[], Result]] = {
    "hotel": hotels.features,
    "similar": hotels.similar,
    "contract": contracts.contract,
    "contract_polars": contracts.contract_polars,
    "contract_ingestion": contracts.contract_ingestion,
    "contract_faults": faults.contract_faults,
    "bad_inputs": bad_inputs.bad_inputs,
    "ingest_crashes": ingest_crashes,
}

if __name__ == "__main__":
    print(json.dumps(TASKS[sys.argv[1]]()))
