"""A series that alarmed, in figures: what it was, what it is, and what kind of change that looks like."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from icekeel.core.frames import Floats, Ints

from .alerts import Signal
from .detectors import Series
from .streams import LATENESS, REPEATED, Cells

FACTORS = {
    60: "minutes for seconds, or hours for minutes", 1000: "thousands for ones", 100: "cents for dollars, or percent for shares",
    24: "days for hours", 7: "weeks for days", 10: "tenths for ones", 12: "years for months, or dozens for pieces",
    2.54: "inches for centimetres", 25.4: "inches for millimetres", 3.6: "m/s for km/h", 1.609: "miles for kilometres",
    1.852: "knots for km/h", 2.205: "pounds for kilograms", 3.281: "feet for metres", 3600: "hours for seconds", 86400: "days for seconds",
}  # fmt: skip
"""Quotients of units that are taken for one another."""
MOST_DIGITS = 5
CLOSE = 0.12
"""By how much a quotient may miss one, as a log."""


class Now(NamedTuple):
    """A column since its change seems to have begun.

    Attributes:
        counts: Rows per cell.
        total, logs, known: Sum of its values, sum of their log absolute values, number of those that are not 0.
        unseen: Values without a cell of their own, and how often they came.
        usual: Mean log absolute value of the hours before; None where nothing came then.
    """

    counts: Ints
    total: float
    logs: float
    known: float
    unseen: Mapping[str, int]
    usual: float | None = None


def signal(
    one: Series, cells: Cells, now: Now, *, up: bool, size: float, since: int, examples: Sequence[str]
) -> Signal:
    """What a series found, with the facts by which its cause can be named."""
    name = one.name.partition(".")[0] if one.subject == "source" else one.name
    place = one.name + (f" where {one.segment}" if one.segment else "")
    change, sentence = _told(one, cells, now, up)
    subject: Any = one.subject if one.subject != "answer" else "guard"  # what answers in the model's place
    if one.name == "refused" and now.unseen:
        code, _, field = max(now.unseen, key=lambda word: now.unseen[word]).partition(" ")
        name, change = field or "request", _REFUSED.get(code, "type")
    if one.name == "degraded" and now.unseen:
        subject, name = _degraded(max(now.unseen, key=lambda word: now.unseen[word]))
    return Signal(subject, name, f"{place}: {sentence}", size, change, one.segment, since, tuple(examples))


def _degraded(word: str) -> tuple[str, str]:
    """Who is to blame for an answer that says it was degraded."""
    if word.startswith("stale:"):
        return "source", word.partition(":")[2].partition(".")[0]
    return "process", "store" if word.startswith("windows") else "keeper" if word.startswith(
        "keeper"
    ) else word


def _told(one: Series, cells: Cells, now: Now, up: bool) -> tuple[str, str]:
    before = np.array(cells.counts, dtype=np.float64)
    if one.change == "nulls":
        missing, was = _apart(_part(now.counts, 0), _part(before, 0))
        return "nulls", f"{missing} missing, was {was}"
    if cells.categories is None:
        return _number(one, cells, now, up)
    last = len(before) - 1
    if cells.fixed:
        word = max(now.unseen, key=lambda text: now.unseen[text], default="") or one.label
        change = _FIXED.get(one.name.rpartition(".")[2], "rate")
        change = "skew" if change == "type" and any(text in word for text in _AHEAD) else change
        at = last if now.unseen else cells.categories.index(one.label) + 1 if one.label else last
        share, was = _apart(_part(now.counts[1:], at - 1), _part(before[1:], at - 1))
        return change, f"{word or 'others'}: {share} of the rows, was {was}"
    shares, were = _shares(now.counts), _shares(before)
    away = [at for at in range(1, last) if were[at] > 0.005 and shares[at] < were[at] / 4]
    new = [word for word in now.unseen if shares[last] > 2 * were[last]]
    if new and away:
        gone = cells.categories[max(away, key=lambda at: were[at]) - 1]
        return (
            "category",
            f"{gone} has gone ({_part(before[1:], cells.categories.index(gone)):.1%} before) and {new[0]} has come",
        )
    if new:
        share, was = _apart(shares[last], were[last])
        return "category", f"{', '.join(new[:3])} never seen before: {share} of the rows, others were {was}"
    at = cells.categories.index(one.label) + 1 if one.label else last
    share, was = _apart(shares[at], were[at])
    return "shape", f"{one.label or 'other categories'}: {share} of the rows, was {was}"


_AHEAD = ("has not come", "after the time from which")
"""Of rules that a clock breaks."""
_REFUSED = {"missing_field": "nulls", "not_allowed": "category", "out_of_range": "unit"}
"""What a field is like of which requests are refused for such a fault."""
_FIXED = {
    "quarantine": "type",
    "duplicates": "doubled",
    "degraded": "late",
    "source": "rate",
    "answers": "level",
}


def _number(one: Series, cells: Cells, now: Now, up: bool) -> tuple[str, str]:
    known = max(1.0, float(now.counts[1:].sum()))
    mean, field = now.total / known, one.name.rpartition(".")[2]
    if one.subject == "source" and field == REPEATED:
        share, was = _apart(mean, cells.mean)
        return "stale", f"{share} of the rows say the same as one shortly before, was {was}"
    if one.subject == "source" and field == LATENESS:
        late, was = _apart(mean / 60, cells.mean / 60, ",.{}f")
        return "late" if up else "skew", f"rows come {late} minutes after what they tell, was {was}"
    usual = cells.log_mean if now.usual is None else now.usual
    ratio = math.exp(np.clip(now.logs / now.known - usual, -50, 50)) if now.known >= 3 else 1.0
    unit, words = unit_of(1.0 if _mostly_zero(cells) else ratio)
    told, was = _apart(mean, cells.mean, ".{}g", 4)
    about = f"mean {told}, was {was}"
    if one.change == "range":
        outside = float(now.counts[1] + now.counts[-1]) / known
        about += f"; {outside:.1%} lie outside of all that was seen"
    if one.subject == "outcome":
        return "error", about
    if unit:
        return "unit", f"{about}: about {unit} ({words}?)"
    return "level", about


def _mostly_zero(cells: Cells) -> bool:
    """Whether most of a column's reference is 0: what the others are varies with the weather, not with the unit."""
    zero = int(cells.binning.codes(np.zeros(1))[0])
    return 2 * cells.counts[zero] > sum(cells.counts[1:])


def unit_of(ratio: float) -> tuple[str, str]:
    """A change of unit that explains a quotient of values, `("60 times", "minutes for seconds")`; empty where none does."""
    if not (ratio > 0 and math.isfinite(ratio)):
        return "", ""
    for factor, words in FACTORS.items():
        for quotient, text in ((factor, f"{factor:g} times"), (1 / factor, f"1/{factor:g}")):
            if abs(math.log(ratio / quotient)) < CLOSE:
                return text, words
    return "", ""


def _shares(counts: Ints | Floats) -> Floats:
    shares: Floats = counts / max(1.0, float(counts[1:].sum()))
    return shares


def _part(counts: Ints | Floats, at: int) -> float:
    return float(counts[at]) / max(1.0, float(counts.sum()))


def _apart(now: float, before: float, form: str = ".{}%", digits: int = 1) -> tuple[str, str]:
    """Two numbers with as many digits as it takes to tell them apart."""
    for more in range(digits, digits + MOST_DIGITS):
        texts = tuple(format(float(value), form.format(more)) for value in (now, before))
        if texts[0] != texts[1]:
            break
    return texts[0], texts[1]


def arrivals(one: Series, *, came: float, owed: float, since: int, size: float) -> Signal:
    """A rate that moved.

    Args:
        came, owed: Rows since the change began, and how many were expected.
    """
    ratio = came / max(owed, 1e-9)
    change = "missing" if ratio < 0.05 else "doubled" if 1.7 <= ratio <= 2.4 else "rate"
    sentence = f"{one.name}: {came:,.0f} rows where {owed:,.0f} were expected"
    return Signal(one.subject, one.name, sentence, size, change, since=since)  # type: ignore[arg-type]


def silence(subject: str, name: str, *, since: int, minutes: float, owed: float) -> Signal:
    """Nothing has arrived for longer than is ordinary."""
    sentence = (
        f"{name}: nothing has come for {minutes:,.0f} minutes, in which {owed:,.1f} deliveries were expected"
    )
    return Signal(subject, name, sentence, owed, "missing", since=since)  # type: ignore[arg-type]
