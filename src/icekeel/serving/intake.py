"""Pushed events: checked against their contract, stamped, journaled; bad rows to quarantine, good ones kept."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from icekeel.core.errors import Fault, RequestError, nearest, shorten
from icekeel.core.time import Clock
from icekeel.data import AVAILABLE, EventContract
from icekeel.define import EventTable
from icekeel.journal import Pushed, Quarantined, QuarantinedRow, Record, Writer

LARGEST_PUSH = 10_000


@dataclass(frozen=True, slots=True)
class Accepted:
    """What became of a push.

    Attributes:
        kept: Rows in the journal.
        faults: The faults of each row that went to quarantine, by its place in the push.
    """

    kept: int
    faults: Mapping[int, Sequence[Fault]]


class Intake:
    """Takes pushed rows of event tables.

    Args:
        tables: Definitions by name.
        journal: Where rows go.
        clock: Stamps what is pushed.
        rehearsal: True where history is replayed: rows then say themselves when they became available.
    """

    def __init__(
        self, tables: Mapping[str, EventTable], journal: Writer, clock: Clock, *, rehearsal: bool = False
    ) -> None:
        self._contracts = {
            name: EventContract(table, stamped=not rehearsal) for name, table in tables.items()
        }
        self._journal = journal
        self._clock = clock
        self._rehearsal = rehearsal

    def push(self, table: str, rows: Any) -> Accepted:
        """Journal the good rows and set the bad ones aside.

        Raises:
            RequestError: an unknown table, or no list of rows; nothing is kept.
        """
        contract = self._contracts.get(table)
        if contract is None:
            hint = nearest(table, self._contracts)
            raise RequestError(Fault("unknown_table", f'no event table "{shorten(table)}"', hint=hint))
        if not isinstance(rows, list) or not rows:
            raise RequestError(Fault("no_rows", "expected a list of rows", "rows", shorten(rows)))
        if len(rows) > LARGEST_PUSH:
            raise RequestError(
                Fault("too_many_rows", "too many rows", "rows", str(len(rows)), f"{LARGEST_PUSH:,}")
            )
        now = self._clock()
        good, faults = self._sort(contract, rows, now)
        records: list[Record] = [Pushed(at=now, table=table, rows=good)] if good else []
        if faults:
            bad = [_set_aside(rows[at], found) for at, found in faults.items()]
            records.append(Quarantined(at=now, table=table, rows=bad))
        self._journal.append_many(records)
        return Accepted(len(good), faults)

    def _sort(
        self, contract: EventContract, rows: Sequence[Any], now: int
    ) -> tuple[list[dict[str, Any]], dict[int, list[Fault]]]:
        """The good rows as they are stored, and the faults of the others by their place."""
        names = [field.name for field in contract.fields]
        available = contract.table.available
        good: list[dict[str, Any]] = []
        faults: dict[int, list[Fault]] = {}
        for place, row in enumerate(rows):
            values, found = contract.parse(row, f"rows[{place}]")
            if found:
                faults[place] = found
                continue
            stored = dict(zip(names, values, strict=True))
            if self._rehearsal:
                stored[AVAILABLE] = stored[available]
            elif available != contract.table.time:
                stored[available] = now
            good.append(stored)
        return good, faults


def _set_aside(row: Any, faults: Sequence[Fault]) -> QuarantinedRow:
    """A bad row as it came; as JSON text where the journal has no such value, as a whole number beyond 64 bits."""
    try:
        msgspec.msgpack.encode(row)
    except (OverflowError, ValueError, RecursionError):
        row = {"json": json.dumps(row)}
    return QuarantinedRow(row if isinstance(row, dict) else {"value": row}, [str(fault) for fault in faults])
