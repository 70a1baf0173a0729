"""What every bundle of a model holds, beside the engine's own files."""

from __future__ import annotations

from typing import Literal

import msgspec

GUARD_FILE = "guard.bin"
INTERVAL_FILE = "interval.json"
PROFILE_FILE = "profile.json"
"""How the training data looked, for monitoring."""


class Contents(msgspec.Struct, frozen=True, kw_only=True):
    """The `meta` of a bundle's manifest. No wall-clock time: equal training gives an equal bundle.

    Attributes:
        features: Names of the features the engine reads, in order.
        definitions: Feature -> digest of its definition; serving with another definition is refused.
        trained_from, trained_to: Times of the first and last question learnt from, microseconds UTC.
    """

    model: str
    rung: str
    task: Literal["number", "probability"]
    feature_set: str
    features: list[str]
    definitions: dict[str, str]
    trained_from: int
    trained_to: int
    rows: int
