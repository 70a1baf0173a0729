"""Golden rows: proof that a loaded engine still answers as the training library did."""

from __future__ import annotations

import math

import msgspec

from icekeel.core.errors import BundleError, Fault
from icekeel.core.frames import Column, Frame

from .encoder import Value, frame_of
from .loading import Engine

GOLDEN_FILE = "golden.json"
TOLERANCE = 1e-9
"""Relative, and absolute below 1: the order of additions may differ, nothing else may."""


class Golden(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Rows and what the training library predicted for them.

    Attributes:
        columns: The columns that the engine reads, in order.
        rows: Values in column order; None is null.
        predictions: One for each row.
    """

    columns: tuple[Column, ...]
    rows: tuple[tuple[Value, ...], ...]
    predictions: tuple[float, ...]

    def frame(self) -> Frame:
        """The rows as a frame."""
        return frame_of(self.columns, self.rows)


def check_golden(engine: Engine, data: bytes) -> float:
    """The largest disagreement found among the golden rows, at most `TOLERANCE`.

    Each row is predicted alone and among all; a disagreement is measured against `max(1, |prediction|)`.

    Raises:
        BundleError: the rows cannot be read, are not for this engine, or any prediction disagrees.
    """
    try:
        golden = msgspec.json.decode(data, type=Golden)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BundleError(Fault("bad_golden", str(error), GOLDEN_FILE)) from error
    if golden.columns != engine.columns or not golden.rows or len(golden.rows) != len(golden.predictions):
        raise BundleError(Fault("bad_golden", "the golden rows are not for this engine", GOLDEN_FILE))
    if not all(_fits(golden.columns, row) for row in golden.rows):
        raise BundleError(Fault("bad_golden", "a golden row does not fit the columns", GOLDEN_FILE))
    many = engine.predict_many(golden.frame()) if golden.columns else golden.predictions
    worst, faults = 0.0, []
    for i, (row, expected) in enumerate(zip(golden.rows, golden.predictions, strict=True)):
        for got in (engine.predict_one(row), float(many[i])):
            gap = abs(got - expected) / max(1.0, abs(expected))
            worst = max(worst, gap)
            if not gap <= TOLERANCE or math.isnan(got):
                faults.append(
                    Fault("disagreement", "prediction differs", f"rows[{i}]", repr(got), repr(expected))
                )
    if faults:
        raise BundleError(*faults[:5])
    return worst


def _fits(columns: tuple[Column, ...], row: tuple[Value, ...]) -> bool:
    return len(row) == len(columns) and all(
        value is None or isinstance(value, str) is column.kind.is_text
        for value, column in zip(row, columns, strict=True)
    )
