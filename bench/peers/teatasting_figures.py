"""Effects and standard errors of two arms by tea-tasting and statsmodels; run in their environment."""

from __future__ import annotations

import json
import sys

import numpy as np
import pandas as pd
import statsmodels
import tea_tasting as tt
from scipy.stats import norm
from statsmodels.stats.proportion import proportions_ztest

with np.load(sys.argv[1]) as held:
    rows = pd.DataFrame({name: held[name] for name in ("variant", "y", "d", "x", "other")})
metrics = {
    "mean": tt.Mean("y", equal_var=True, use_t=False),
    "cuped": tt.Mean("y", "x", equal_var=True, use_t=False),
    "ratio": tt.RatioOfMeans("y", "d", equal_var=True, use_t=False),
    "other_mean": tt.Mean("other", equal_var=True, use_t=False),
    "other_ratio": tt.RatioOfMeans("other", "d", equal_var=True, use_t=False),
}
results = tt.Experiment(metrics).analyze(rows)
said: dict[str, object] = {
    "versions": {"tea-tasting": tt.__version__, "statsmodels": statsmodels.__version__}
}
for name in metrics:
    found = results[name]
    error = (found.effect_size_ci_upper - found.effect_size) / norm.ppf(0.975)
    said[name] = {"effect": float(found.effect_size), "error": float(error)}
said["z"] = float(proportions_ztest([2422, 1396], [3461, 3000])[0])
print(json.dumps(said))
