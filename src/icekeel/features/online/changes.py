"""What a batch changes in one view: rows to add and rows to end, by key. No I/O."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator

import numpy as np

from .chunks import Ending, Layout, Rows
from .versions import EventVersion, History


class Changes:
    """Changes of one view, of which `place` is the position among the views of the table.

    Rows that no question at or after `horizon` can meet are left out.
    """

    __slots__ = ("_ended", "_groups", "_horizon", "_ids", "_ints", "_keys", "_layout", "_place", "_values")

    def __init__(self, place: int, layout: Layout, horizon: int) -> None:
        self._place, self._layout, self._horizon = place, layout, horizon
        self._keys: dict[bytes, int] = {}
        self._groups: list[int] = []
        self._ints: list[tuple[int, int, int]] = []
        self._values: list[tuple[float, ...]] = []
        self._ids: list[bytes] = []
        self._ended: dict[bytes, list[Ending]] = defaultdict(list)

    def add(self, key: bytes, row_id: bytes, start: int, end: int, event: EventVersion) -> None:
        """Notes a row to add."""
        if end <= self._horizon or event.time < self._horizon - self._layout.back:
            return
        self._groups.append(self._keys.setdefault(key, len(self._keys)))
        self._ints.append((event.time, start, end))
        self._values.append(event.values[self._place])
        self._ids.append(row_id)

    def end(self, key: bytes, ending: Ending) -> None:
        """Notes a stored row to end."""
        self._ended[key].append(ending)

    def by_key(self) -> Iterator[tuple[bytes, Rows, list[Ending]]]:
        """Each changed key with its rows to add, sorted, and its endings, in the order of time."""
        n = len(self._ids)
        values = np.array(self._values, np.float64).reshape(n, self._layout.width).T
        ints = np.array(self._ints, np.int64).reshape(n, 3).T
        rows, groups = Rows(ints, values, np.array(self._ids, "S")), np.array(self._groups, np.int64)
        order = np.lexsort((rows.ints[1], rows.ids, rows.ints[0], groups))
        rows, bounds = rows[order], groups[order].searchsorted(np.arange(len(self._keys) + 1)).tolist()
        for key, number in self._keys.items():
            yield key, rows[bounds[number] : bounds[number + 1]], sorted(self._ended.pop(key, ()))
        for key, left in self._ended.items():
            yield key, rows[:0], sorted(left)


def distribute(
    histories: Iterable[tuple[bytes, History]], layouts: Iterable[Layout], horizon: int
) -> list[Changes]:
    """Changes per view of a table, from the histories of the events that a batch touches, by row id."""
    changes = [Changes(place, layout, horizon) for place, layout in enumerate(layouts)]
    for row_id, history in histories:
        for version, end, event in history.rows():
            for view, key in zip(changes, version.keys, strict=True):
                if key is not None and event is not None:
                    view.add(key, row_id, version.start, end, event)
                elif key is not None:
                    view.end(key, (version.time, row_id, version.start, end))
    return changes
