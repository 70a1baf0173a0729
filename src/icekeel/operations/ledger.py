"""The ledger of runs, told to people."""

from __future__ import annotations

from icekeel.core.time import DAY, format_second
from icekeel.registry import Run

from .runs import KINDS
from .snapshots import TRAINING

DAILY = "daily"
LISTED = (*KINDS, TRAINING, DAILY)
"""Kinds of runs: those of the schedule; a training as such, also by hand; the duties of a day."""


def told(run: Run) -> str:
    """What a run did, or the end of what it said, on one line."""
    details = run.details
    if run.kind == DAILY:
        return f"duties of {format_second(int(details['day']) * DAY)[:10]}"
    if "findings" in details:
        blocking = [str(one["audit"]) for one in details["findings"] if one["verdict"] == "block"]
        count = len(details["findings"])
        return f"audits: {count}, {'blocked by ' + ', '.join(blocking) if blocking else 'none blocks'}"
    made = [str(details[name]) for name in ("did", "version", "why") if details.get(name)]
    if not made and run.status == "failed":
        made = str(details.get("output", "")).splitlines()[-1:]
    reason = str(details.get("reason", ""))
    return "; ".join([*made, *([f"reason: {reason}"] if reason else [])])
