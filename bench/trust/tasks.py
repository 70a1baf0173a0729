"""What is measured, each in a process of its own: `python -m bench.trust.tasks NAME` prints one line of JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from functools import partial

from bench.report import Result
from icekeel.training.texts import Texts

from . import audits, bad_inputs, bundles, contracts, faults, hotels, interactions, labels, ladder, parity
from .ingestion import ingest_crashes

TASKS: Mapping[str, Callable[[], Result]] = {
    "bundles": bundles.bundles,
    "audits": audits.flights,
    "subgroups": audits.subgroups,
    "subgroups_fairlearn": audits.subgroups_fairlearn,
    "hotel": hotels.features,
    "parity": parity.parity,
    "labels": partial(labels.review, labels.TextRung()),
    "labels_own": partial(labels.review, Texts()),
    "plays": interactions.plays,
    "similar": hotels.similar,
    "ladder": ladder.ladder,
    "retrain": ladder.retrain,
    "contract": contracts.contract,
    "contract_polars": contracts.contract_polars,
    "contract_ingestion": contracts.contract_ingestion,
    "contract_faults": faults.contract_faults,
    "bad_inputs": bad_inputs.bad_inputs,
    "ingest_crashes": ingest_crashes,
}

if __name__ == "__main__":
    print(json.dumps(TASKS[sys.argv[1]]()))
