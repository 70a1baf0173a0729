"""What a rehearsal changes in its copy of a project: where the past lies, and which mechanisms are left out."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

from .model import Model
from .policies import History
from .tables import EventsMeta

ASKED_AT = "_asked_at"
MECHANISMS = ("retraining", "guard", "canary", "freshness")
"""What may be left out, to tell what it is worth."""
_ENDING = """

# Added by `icekeel rehearse`: the past as it was known when the rehearsal begins.
from icekeel.define.rehearsed import rehearsed as _rehearsed

_rehearsed(globals(), without={without!r})
"""


def events_file(table: str) -> str:
    """Where a copy has the events of a table."""
    return f"rehearsed-{table}.parquet"


def questions_file(model: str) -> str:
    """Where a copy has the past questions of a model."""
    return f"rehearsed-questions-{model}.parquet"


def rehearsed_text(project: str, without: Collection[str] = ()) -> str:
    """The project file of a copy."""
    return project + _ENDING.format(without=tuple(sorted(without)))


def rehearsed(names: Mapping[str, object], *, without: Collection[str] = ()) -> None:
    """Have the definitions of a project file read the copy's files, some mechanisms left out."""
    for value in list(names.values()):
        if isinstance(value, EventsMeta) and "icekeel_table" in vars(value):
            table = value.icekeel_table
            fresh = replace(table.fresh, warn="", error="") if "freshness" in without else table.fresh
            value.icekeel_table = replace(table, source=events_file(table.name), fresh=fresh)
        if isinstance(value, Model):
            value.history = History(questions_file(value.name), ASKED_AT)
            _leave_out(value, without)


def _leave_out(model: Model, without: Collection[str]) -> None:
    if "retraining" in without:
        model.retrain = None
    if "guard" in without:
        model.guard = None
    if "canary" in without:
        model.rollout = None
