"""Makes golden rows: what `icekeel.engines.golden` holds a loaded engine against."""

from __future__ import annotations

import msgspec
import numpy as np

from icekeel.core.errors import Fault, TrainingError
from icekeel.core.frames import Array, Column, Frame, Kind
from icekeel.engines import Golden, rows_of
from icekeel.engines.encoder import Value

from .problem import vocabulary
from .rungs import Fitted

UNSEEN = "\u2603 never seen"
"""A category value that no data hold."""

SCRIPTS = ("naïve Straße, déjà vu!", "заявка на кредит", "融資の申し込み 2024", "ऋण के लिए आवेदन", "طلب قرض")
"""Texts that no tokeniser may take differently from one day, machine or version of Python to the next."""
FAR = 1e12


def build_golden(fitted: Fitted, frame: Frame, *, ordinary: int = 32) -> bytes:
    """`golden.json` for a fit, the same for the same fit and rows.

    Ordinary rows, then for each column a null, and an unseen value or the smallest, largest and far
    values, then a row of nulls. Each column is read at an offset of its own, so that no golden row is
    anybody's. Predictions are those of the library that was trained with.
    """
    columns = fitted.engine.columns
    if not len(frame):
        raise TrainingError(Fault("few_rows", "golden rows need at least one row", "frame"))
    rows = _ordinary(columns, frame, ordinary)
    first = rows[0]
    for i, column in enumerate(columns):
        rows += [(*first[:i], value, *first[i + 1 :]) for value in _unusual(column, frame)]
    rows.append((None,) * len(columns))
    blank = Golden(columns, tuple(rows), ())
    predictions = (
        fitted.reference(blank.frame()).tolist() if columns else [fitted.engine.predict_one(())] * len(rows)
    )
    return msgspec.json.encode(Golden(columns, tuple(rows), tuple(predictions)))


def _ordinary(columns: tuple[Column, ...], frame: Frame, count: int) -> list[tuple[Value, ...]]:
    places = np.linspace(0, len(frame) - 1, count).astype(int)
    stride = max(1, len(frame) // (len(columns) + 1))
    mixed = {
        column.name: frame[column.name][(places + i * stride) % len(frame)]
        for i, column in enumerate(columns)
    }
    mixed |= {c.name: _mixed_texts(frame[c.name], places) for c in columns if c.kind is Kind.TEXT}
    return rows_of(columns, Frame(mixed)) if columns else [()] * count


def _mixed_texts(texts: Array, places: Array) -> Array:
    """Texts of words that ten rows or more have, each from another row: nobody's either."""
    words = [str(text).split() if text is not None else [] for text in texts[:: max(1, len(texts) // 2_000)]]
    known = vocabulary(
        np.array([word for one in words for word in set(one)], dtype=object), most=500, fewest_rows=10
    )
    made = (
        [" ".join(known[(7 * place + j * j) % len(known)] for j in range(12)) for place in places]
        if known
        else []
    )
    return np.array(made or [""] * len(places), dtype=object)


def _unusual(column: Column, frame: Frame) -> list[Value]:
    if column.kind is Kind.TEXT:
        return [None, UNSEEN, "", *SCRIPTS]
    if column.kind.is_text:
        return [None, UNSEEN]
    values = frame[column.name]
    known = values[~np.isnan(values)]
    edges = [float(known.min()), float(known.max())] if len(known) else []
    return [None, 0.0, -FAR, FAR, *edges]
