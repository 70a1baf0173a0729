"""The training pipeline: candidates from simple to complex, compared over time, and the gates one must pass.

It works on arrays whose rows and times others have prepared, and gives back files of a bundle and values that
become JSON. It must not know where data came from, where bundles are kept, or what serves them.
"""

from .backtest import Backtest, Fold, backtest
from .boosting import LightGBM
from .conformal import conformal_interval
from .gates import Gate, better_than_simplest, calibration, latency, no_worse_than, parity, size
from .golden import build_golden
from .group import GroupTable
from .importance import Bench, permutation_importance, shares
from .ladder import Difference, Ladder, Step, climb
from .linear import Linear
from .problem import Problem, TrainingSet
from .rungs import Fitted, Rung

__all__ = [
    "Backtest",
    "Bench",
    "Difference",
    "Fitted",
    "Fold",
    "Gate",
    "GroupTable",
    "Ladder",
    "LightGBM",
    "Linear",
    "Problem",
    "Rung",
    "Step",
    "TrainingSet",
    "backtest",
    "better_than_simplest",
    "build_golden",
    "calibration",
    "climb",
    "conformal_interval",
    "latency",
    "no_worse_than",
    "parity",
    "permutation_importance",
    "shares",
    "size",
]
