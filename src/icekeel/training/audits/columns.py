"""Columns that no model can make anything of."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from icekeel.core.frames import Array, Column, Kind

from .findings import Finding
from .input import AuditInput

MANY_VALUES = 1_000
MOST_NAMED = 3


def columns(given: AuditInput) -> Finding:
    """A warning where a feature is always null, never differs, or has a value for every few rows."""
    rows = given.rows
    found = [
        (column.name, what, todo)
        for column in rows.columns
        for what, todo in _oddities(column, rows.frame[column.name])
    ]
    if not found:
        return Finding("columns", "pass", f"each of {len(rows.columns)} features has values to learn from")
    named = "; ".join(f"{name} {what}" for name, what, _ in found[:MOST_NAMED])
    more = f"; and {len(found) - MOST_NAMED} more" if len(found) > MOST_NAMED else ""
    evidence = {"columns": {name: what for name, what, _ in found}}
    return Finding("columns", "warn", named + more, found[0][2], evidence=evidence)


def _oddities(column: Column, values: Array) -> Iterator[tuple[str, str]]:
    if column.kind.is_text:
        known = {value for value in values if value is not None}
        many = len(known)
    else:
        many = len(np.unique(values[~np.isnan(values)]))
    if not many:
        yield "is null in every row", "look where it comes from, or delete the feature"
    elif many == 1 and not _has_null(column, values):
        yield "has one value in every row", "delete the feature, or wait until it has others"
    elif column.kind is Kind.CAT and many > MANY_VALUES:
        yield (
            f"has {many:,} values in {len(values):,} rows: rungs know the commonest few hundred alone",
            "group them (ik.table), or take what happened to each as windows",
        )


def _has_null(column: Column, values: Array) -> bool:
    return any(value is None for value in values) if column.kind.is_text else bool(np.isnan(values).any())
