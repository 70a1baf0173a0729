"""Encode and predict: turns feature values into a number, for one row or for many.

An engine is loaded from the files of a bundle and is read-only, deterministic and safe to call from several
threads. The room must not know how a model was fitted, nor requests, time or storage, and must never import a
training library: LightGBM is reached through its shared library, which loads in milliseconds.
"""

from .encoder import Encoder, frame_of, rows_of
from .explained import Explained
from .golden import GOLDEN_FILE, Golden, check_golden
from .interval import Interval
from .loading import Engine, load_engine

__all__ = [
    "GOLDEN_FILE",
    "Encoder",
    "Engine",
    "Explained",
    "Golden",
    "Interval",
    "check_golden",
    "frame_of",
    "load_engine",
    "rows_of",
]
