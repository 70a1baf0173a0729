"""Evidently's default drift report on normal numbers: `evidently_drift.py ROWS REFERENCE` prints its CPU seconds."""

from __future__ import annotations

import json
import sys
import time

import numpy as np
import pandas as pd
from evidently import Report
from evidently.presets import DataDriftPreset

rows, reference = (int(text) for text in sys.argv[1:])
rng = np.random.default_rng(1)
names = [f"f{number}" for number in range(30)]
before, now = (pd.DataFrame(rng.normal(size=(size, 30)), columns=names) for size in (reference, rows))
taken = []
for _ in range(2):  # the second has everything imported
    began = time.process_time()
    Report([DataDriftPreset()]).run(now, before).dict()
    taken.append(time.process_time() - began)
print(json.dumps({"cpu_s": min(taken)}))
