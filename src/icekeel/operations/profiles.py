"""What each day's requests looked like, counted in the cells of the champion's training data."""

from __future__ import annotations

from collections.abc import Sequence

import lmdb
import msgspec
import numpy as np

from icekeel.core.binning import Binning
from icekeel.core.frames import Array, Frame
from icekeel.core.time import DAY
from icekeel.journal import Predicted
from icekeel.monitoring import Profile, Profiler


class DayProfiles:
    """Counts of one model's features by day of the question."""

    def __init__(self, environment: lmdb.Environment, model: str) -> None:
        self._database = environment.open_db(b"profiles")
        self._model = model

    def add(
        self, txn: lmdb.Transaction, records: Sequence[Predicted], profiler: tuple[str, Profiler] | None
    ) -> None:
        """Count the features of some answers.

        Args:
            profiler: Name of the version whose cells are used, and those cells; None without a champion.
        """
        if profiler is None:
            return
        name, cells = profiler
        for day in sorted({record.at // DAY for record in records}):
            mine = [record for record in records if record.at // DAY == day]
            columns = {key: _column(mine, key, binning) for key, binning in cells.binnings.items()}
            counted = cells.profile(Frame(columns))
            key = self._key(day, name)
            raw = txn.get(key, db=self._database)
            if raw is not None:
                counted = counted + Profile.from_dict(msgspec.msgpack.decode(raw))
            txn.put(key, msgspec.msgpack.encode(counted.to_dict()), db=self._database)

    def read(self, txn: lmdb.Transaction, day: int, profiler: tuple[str, Profiler] | None) -> Profile | None:
        """The counts of a day; None where nothing was counted in these cells."""
        raw = txn.get(self._key(day, profiler[0]), db=self._database) if profiler is not None else None
        return None if raw is None else Profile.from_dict(msgspec.msgpack.decode(raw))

    def _key(self, day: int, version: str) -> bytes:
        return f"{self._model}/{day:08d}/{version}".encode()


def _column(records: Sequence[Predicted], name: str, binning: Binning) -> Array:
    values = [record.features.get(name) for record in records]
    if binning.categories is not None:
        column = np.empty(len(values), dtype=object)
        column[:] = values
        return column
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)
