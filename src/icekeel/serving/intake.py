"""Pushed events: checked against their contract, stamped, journaled; bad rows to quarantine, good ones kept.

A row of a known id is a correction, an id in `delete` a deletion: both are versions, journaled like any row.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from icekeel.core.errors import Fault, RequestError, first_faults, nearest, shorten
from icekeel.core.time import Clock
from icekeel.data import AVAILABLE, DELETED, EventContract, Hide
from icekeel.data.contracts import grave
from icekeel.define import EventTable
from icekeel.define.fields import BLOCK
from icekeel.journal import Pushed, Quarantined, QuarantinedRow, Record, Value, Writer

LARGEST_PUSH = 10_000
Parse = Callable[[Any, str, int], tuple[list[Any], list[Fault]]]


@dataclass(frozen=True, slots=True)
class Accepted:
    """What became of a push.

    Attributes:
        kept: Rows in the journal.
        deleted: Ids whose deletion is in the journal.
        faults: The faults of each row that went to quarantine, by its place among the rows.
        wrong_ids: The same of ids that cannot be deleted.
        warned: Rule -> rows that broke it and were kept, as it says.
    """

    kept: int
    deleted: int
    faults: Mapping[int, Sequence[Fault]]
    wrong_ids: Mapping[int, Sequence[Fault]]
    warned: Mapping[str, int]


class Intake:
    """Takes pushed rows of event tables.

    Args:
        tables: Definitions by name.
        journal: Where rows go.
        clock: Stamps what is pushed.
        ahead: Tables that may hold plans: events of a time to come.
        rehearsal: True where history is replayed: rows then say themselves when they became available, those of a table
            without a column for that under `_available`.
        hide: Gives the pseudonyms of private fields.
    """

    def __init__(
        self,
        tables: Mapping[str, EventTable],
        journal: Writer,
        clock: Clock,
        *,
        ahead: Collection[str] = (),
        rehearsal: bool = False,
        hide: Hide | None = None,
    ) -> None:
        self._contracts = {
            name: EventContract(table, stamped=not rehearsal, ahead=name in ahead, hide=hide)
            for name, table in tables.items()
        }
        self._hide = hide
        self._journal = journal
        self._clock = clock
        self._rehearsal = rehearsal

    def push(
        self,
        table: str,
        rows: Any = (),
        delete: Any = (),
        *,
        places: tuple[Sequence[int], Sequence[int]] | None = None,
        filled: tuple[Sequence[Mapping[str, Value]], Sequence[Mapping[str, Value]]] | None = None,
    ) -> Accepted:
        """Journal the good rows and set the bad ones aside.

        Args:
            table: Name of the event table.
            rows: Decoded JSON objects.
            delete: Ids of events that are deleted, after the rows are taken.
            places: Of the rows and of the ids in what the caller sent, if that was more.
            filled: For each row and for each id, values that are as they are stored.

        Raises:
            RequestError: an unknown table, no list of rows or ids, too many, or one that breaks what blocks; nothing
                is kept.
        """
        contract = self._contracts.get(table)
        if contract is None:
            hint = nearest(table, self._contracts)
            raise RequestError(Fault("unknown_table", "no such event table", got=shorten(table), hint=hint))
        check_lists(rows, delete)
        self._check_deletion(delete)
        now = self._clock()
        sent_at, gone_at = places or (range(len(rows)), range(len(delete)))
        stored, erased = filled or ([{}] * len(rows), [{}] * len(delete))
        warned = Counter[str]()
        good, faults = self._sort(contract, contract.parse, ("rows", sent_at), rows, now, stored, warned)
        gone, wrong_ids = self._sort(
            contract, contract.parse_deletion, ("delete", gone_at), delete, now, erased, warned
        )
        blocked = [
            one for found in (*faults.values(), *wrong_ids.values()) for one in found if one.policy == BLOCK
        ]
        if blocked:
            raise RequestError(*first_faults(blocked, len(blocked)))
        gone = [row | {DELETED: 1.0} for row in gone]
        bad = [
            _set_aside(_with(contract.set_aside(rows[at]), stored[at]), found) for at, found in faults.items()
        ]
        key = contract.table.id
        bad += [
            _set_aside({"delete": _with(contract.set_aside({key: delete[at]}), erased[at])[key]}, found)
            for at, found in wrong_ids.items()
        ]
        records: list[Record] = [Pushed(at=now, table=table, rows=good + gone)] if good or gone else []
        records += [Quarantined(at=now, table=table, rows=bad)] if bad else []
        self._journal.append_many(records)
        return Accepted(
            len(good),
            len(gone),
            {sent_at[at]: found for at, found in faults.items()},
            {gone_at[at]: found for at, found in wrong_ids.items()},
            warned,
        )

    def set_aside(self, table: str, rows: Sequence[tuple[Any, Sequence[Fault]]]) -> None:
        """Journal rows in the quarantine of a table, each with its faults.

        Raises:
            JournalError: the journal cannot be written.
        """
        contract = self._contracts.get(table)
        keep = contract.set_aside if contract else _as_it_came if self._hide is None else _named
        aside = [_set_aside(keep(row), faults) for row, faults in rows]
        self._journal.append(Quarantined(at=self._clock(), table=table, rows=aside))

    def _check_deletion(self, delete: Any) -> None:
        if delete and self._rehearsal:
            what = "in a rehearsal a deletion must say from when it was known"
            hint = "declare deleted= and push a row in which that flag is true"
            raise RequestError(Fault("no_time", what, "delete", hint=hint))

    def _sort(
        self,
        contract: EventContract,
        parse: Parse,
        where: tuple[str, Sequence[int]],
        sent: Sequence[Any],
        now: int,
        filled: Sequence[Mapping[str, Value]],
        warned: Counter[str],
    ) -> tuple[list[dict[str, Any]], dict[int, list[Fault]]]:
        """What is good as it is stored, and the faults of the rest by their place here; `warned` is added to."""
        names = [field.name for field in contract.fields]
        table = contract.table
        good: list[dict[str, Any]] = []
        faults: dict[int, list[Fault]] = {}
        for place, one in enumerate(sent):
            known = one.pop(AVAILABLE, None) if self._rehearsal and type(one) is dict else None
            values, found = parse(one, f"{where[0]}[{where[1][place]}]", now)
            if grave(found):
                faults[place] = found
                continue
            warned.update(f"{fault.where.rpartition('.')[2]}: {fault.what}" for fault in found)
            stored: dict[str, Any] = dict(zip(names, values, strict=True))
            stored |= filled[place]
            if table.deleted and stored[table.deleted] == 1.0:
                stored[DELETED] = 1.0
            if self._rehearsal:
                stored[AVAILABLE] = stored[table.available] if type(known) is not int else known
            elif table.available != table.time:
                stored[table.available] = now
            good.append(stored)
        return good, faults


def check_lists(rows: Any, delete: Any) -> None:
    """Refuse what is no lists, nothing at all, or too much.

    Raises:
        RequestError: `no_rows`, `too_many_rows`.
    """
    for name, listed in (("rows", rows), ("delete", delete)):
        if not isinstance(listed, list | tuple):
            raise RequestError(Fault("no_rows", "expected a list", name, shorten(listed)))
    if not rows and not delete:
        raise RequestError(Fault("no_rows", "expected a list of rows", "rows", shorten(rows)))
    if (count := len(rows) + len(delete)) > LARGEST_PUSH:
        raise RequestError(Fault("too_many_rows", "too many rows", "rows", str(count), f"{LARGEST_PUSH:,}"))


def _with(row: Any, stored: Mapping[str, Value]) -> Any:
    """A row to be set aside, and what is known of it as it is stored."""
    return {**row, **stored} if isinstance(row, dict) else row


def _as_it_came(row: Any) -> Any:
    return row


def _named(row: Any) -> Any:
    """Of a row that may hold anybody's private values under any name: what it had."""
    return {"not kept": list(row) if isinstance(row, dict) else type(row).__name__}


def _set_aside(row: Any, faults: Sequence[Fault]) -> QuarantinedRow:
    """A bad row as it came; as JSON text where the journal has no such value, as a whole number beyond 64 bits."""
    try:
        msgspec.msgpack.encode(row)
    except (OverflowError, ValueError, RecursionError):
        row = {"json": json.dumps(row)}
    return QuarantinedRow(row if isinstance(row, dict) else {"value": row}, [str(fault) for fault in faults])
