"""Features of single requests without an answer: what other systems read from the online store."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import msgspec

from icekeel.core.errors import RequestError
from icekeel.core.time import Clock
from icekeel.data import Hide, RecordParser
from icekeel.features.plan import Plan, select_features

from .answers import age_s
from .windows import Windows

Value = float | int | str | None
_KEPT = 64
"""Selections of features that stay compiled; callers choose them."""


class OnlineFeatures(msgspec.Struct, frozen=True):
    """The features of one request.

    Attributes:
        features: Value of each: a number, 1.0 or 0.0 for a flag, a text, or null.
        asked_at: The time they are exact for, microseconds UTC.
        features_age_s, features_lag_s, degraded: How old they are and what they lacked; see `Answer`.
    """

    features: dict[str, Value]
    asked_at: int
    features_age_s: float | None
    features_lag_s: float | None
    degraded: list[str]


class OnlineReader:
    """Reads the features of one model.

    Args:
        plan: All its features.
        opened: Gives what reads those of a part of the plan.
        clock: The time of the question.
        seek: Knows the pseudonyms of private fields.
    """

    def __init__(
        self, plan: Plan, opened: Callable[[Plan], Windows], clock: Clock, seek: Hide | None = None
    ) -> None:
        self._names = tuple(feature.name for feature in plan.features)
        self._clock = clock

        @lru_cache(_KEPT)
        def select(names: tuple[str, ...]) -> tuple[RecordParser, Windows]:
            part = select_features(plan, names)
            return RecordParser(part.fields, seek), opened(part)

        self._select = select

    def read(
        self, rows: Sequence[Any], features: Sequence[str] | None = None, *, asked_at: int | None = None
    ) -> list[OnlineFeatures | RequestError]:
        """The features of each request, or why it has none.

        Args:
            rows: Decoded JSON objects; fields that the features do not read may be left out.
            features: Names; all by default.
            asked_at: Time of the question in a rehearsal; otherwise the clock's.

        Raises:
            RequestError: a feature that there is not.
            StateError: the windows are such that the project says to refuse.
        """
        names = self._names if features is None else tuple(features)
        parser, live = self._select(names)
        found: list[OnlineFeatures | RequestError] = []
        for place, row in enumerate(rows):
            request, faults = parser.parse(row, f"rows[{place}]")
            if faults:
                found.append(RequestError(*faults))
                continue
            at = self._clock() if asked_at is None else asked_at
            read = live.read(request, at)
            values = dict(zip(names, read.values, strict=True))
            age, lag = age_s(read.state.known_until, at), age_s(read.state.seen, at)
            found.append(OnlineFeatures(values, at, age, lag, read.degraded))
        return found
