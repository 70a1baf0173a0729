"""The online feature store: windows of events kept up to date as events arrive, read in microseconds.

The keeper applies event versions in the order of the journal; serving workers read, in other processes. The
room knows views and encoded keys; it must not know the user's language, the journal or who asks. What an
aggregate means is stated in `icekeel.features.aggregates`. `OnlineStore` is the port; LMDB implements it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar

from ..aggregates import View
from .lmdb import LmdbWindows, TextCodes, open_environment
from .versions import Applied, EventVersion

Txn_contra = TypeVar("Txn_contra", contravariant=True)


class OnlineStore(Protocol[Txn_contra]):
    """Windows by key. The transaction is the caller's, so that other state commits together with it."""

    def apply(self, txn: Txn_contra, table: str, batch: Sequence[EventVersion]) -> Applied:
        """What the batch did; versions may be late, corrected, deleted, repeated or out of order.

        The newest `start` moves the time from which questions are exact: one in the future must not get here.
        """

    def read(
        self, txn: Txn_contra, view: View, key: bytes | None, at: int, params: Sequence[float] = ()
    ) -> list[float]:
        """One number per aggregate of the view, NaN for null, as known at time `at`.

        `params` are the question's parameters (`Aggregate.of`), NaN for null.

        Exact for every `at` later than one day before the newest `start` applied to the view's table.
        """

    def prune(self, txn: Txn_contra, now: int) -> int:
        """How many rows were dropped that no question later than one day before `now` can meet."""


__all__ = ["Applied", "EventVersion", "LmdbWindows", "OnlineStore", "TextCodes", "open_environment"]
