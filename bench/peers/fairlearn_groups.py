"""Counts, rates and mean errors of 12 groups, 12 others and their 144 pairs; run in fairlearn's environment."""

from __future__ import annotations

import json
import sys
import time

import fairlearn
import numpy as np
import pandas as pd
from fairlearn.metrics import MetricFrame, count, selection_rate

with np.load(sys.argv[1]) as rows:
    held = {name: rows[name] for name in rows}
groups = pd.DataFrame({name: held[name].astype(object) for name in ("region", "product")})
truth, chosen, error = held["truth"], held["chosen"], held["error"]


def mean_truth(y_true: object, y_pred: object) -> float:
    """The rate of what came."""
    return float(np.mean(y_true))  # type: ignore[call-overload]


def mean_error(y_true: object, y_pred: object, error: object) -> float:
    """The mean of row errors made before."""
    return float(np.mean(error))  # type: ignore[call-overload]


METRICS = {"count": count, "truth": mean_truth, "chosen": selection_rate, "error": mean_error}
began = time.process_time()
frames = [
    MetricFrame(
        metrics=METRICS,
        y_true=truth,
        y_pred=chosen,
        sensitive_features=features,
        sample_params={"error": {"error": error}},
    ).by_group
    for features in (groups[["region"]], groups[["product"]], groups)
]
cpu_s = time.process_time() - began
cells = [
    [*names, *map(float, row)] for names, row in zip(frames[-1].index, frames[-1].to_numpy(), strict=True)
]
print(json.dumps({"cpu_s": cpu_s, "cells": cells, "version": fairlearn.__version__}))
