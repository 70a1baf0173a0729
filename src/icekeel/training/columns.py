"""Columns that no model can make anything of: told before anything is fitted."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from icekeel.core.frames import Array, Column, Kind

from .audits.findings import Finding
from .problem import TrainingSet

MANY_VALUES = 1_000


def column_findings(data: TrainingSet) -> list[Finding]:
    """A warning for each feature that is always null, never differs, or has a value for every few rows."""
    return [
        Finding("columns", "warn", f"{column.name} {what}", todo, evidence={"feature": column.name})
        for column in data.columns
        for what, todo in _oddities(column, data.frame[column.name])
    ]


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
