"""GrowthBook's sequential intervals of two conversion rates, absolute and relative; run in its environment."""

from __future__ import annotations

import json

from gbstats.frequentist.tests import SequentialConfig, SequentialTwoSidedTTest
from gbstats.models.statistics import ProportionStatistic

said = {}
for kind in ("absolute", "relative"):
    arms = [ProportionStatistic(n=n, sum=hits) for n, hits in ((3000, 1396), (3461, 2422))]
    config = SequentialConfig(sequential_tuning_parameter=5000, difference_type=kind)
    said[kind] = SequentialTwoSidedTTest(*arms, config).compute_result().ci
print(json.dumps(said))
