"""Assignment: who moves when coverage rises, whether layers are independent, and what it costs."""

from __future__ import annotations

import time

import numpy as np
from scipy.stats import chi2_contingency

from bench.report import Result
from icekeel.experiments import Arm, Arms

UNITS = 200_000


def assignment() -> Result:
    """Units that change arms while coverage goes from 2 % to all; independence of two layers; CPU us for a unit."""
    units = [f"user{number}" for number in range(UNITS)]
    halves = (Arm("champion", 0.5), Arm("challenger", 0.5))
    moved, before = 0, [Arms("price", halves, 0.02).assign(unit) for unit in units]
    for coverage in (0.2, 0.5, 1.0):
        now = [Arms("price", halves, coverage).assign(unit) for unit in units]
        moved += sum(old.exposed and new != old for old, new in zip(before, now, strict=True))
        before = now
    tenths = tuple(Arm(str(number), 0.1) for number in range(10))
    joint = np.zeros((10, 10), dtype=np.int64)
    one, other = Arms("price", tenths), Arms("layout", tenths)
    np.add.at(joint, ([int(one.assign(u).arm) for u in units], [int(other.assign(u).arm) for u in units]), 1)
    partly = Arms("price", halves, 0.9)
    began = time.process_time()
    for unit in units:
        partly.assign(unit)
    us = (time.process_time() - began) / UNITS * 1e6
    return {
        "moved": moved,
        "joint_p": float(chi2_contingency(joint).pvalue),
        "us": us,
        "units": UNITS,
        "shares": (joint.sum(axis=1) / UNITS).tolist(),
    }
