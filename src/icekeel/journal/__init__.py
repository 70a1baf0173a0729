"""What happened, append-only: the truth that everything else is derived from.

Each process appends records to segments of its own; any number of processes read them all. A record that
`Writer.append` returned for survives the death of its process at once and loss of power after the next
sync. This room knows how records are stored and found again, and nothing of what they mean: no projection,
no model, no schedule.
"""

from .reader import Positions, Tail, ends_at, scan, verify
from .records import (
    Alerted,
    Decided,
    Entry,
    Forgotten,
    Ingested,
    Predicted,
    Pushed,
    Quarantined,
    QuarantinedRow,
    Record,
    Refused,
    Reviewed,
    Ticked,
    Value,
)
from .writer import Writer, is_free, remove

__all__ = [
    "Alerted",
    "Decided",
    "Entry",
    "Forgotten",
    "Ingested",
    "Positions",
    "Predicted",
    "Pushed",
    "Quarantined",
    "QuarantinedRow",
    "Record",
    "Refused",
    "Reviewed",
    "Tail",
    "Ticked",
    "Value",
    "Writer",
    "ends_at",
    "is_free",
    "remove",
    "scan",
    "verify",
]
