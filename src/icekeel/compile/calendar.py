"""Calendar parts of a time in a named zone, from one table of offsets for every engine.

The offsets come from the pinned `tzdata` package through `zoneinfo`, once; DuckDB gets them as part of the
statement, so that no engine's own time-zone data can disagree.
"""

from __future__ import annotations

import bisect
import zoneinfo
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache, lru_cache

from icekeel.core.time import DAY, HOUR, MINUTE, SECOND, to_datetime

_FIRST_YEAR, _LAST_YEAR = 1900, 2100
_EPOCH = datetime(1970, 1, 1)
_CYCLE_DAYS = 146_097
"""After 400 years the calendar repeats; `datetime` knows only the years 1 to 9999, local times go beyond."""

_TURNING = {
    "minute": (MINUTE, 1440, 0),
    "hour": (HOUR, 24, 0),
    "weekday": (DAY, 7, 3),
    "hour_of_week": (HOUR, 168, 72),
}
"""Parts that repeat evenly: their unit, how many make a period, and how many of it 1970 began with."""


@dataclass(frozen=True, slots=True)
class Zone:
    """When a zone's distance from UTC changes.

    Attributes:
        starts: Times (microseconds UTC) from which the offset of the same place holds; the first holds
            since ever.
        offsets: Microseconds to add to UTC for local time.
    """

    starts: tuple[int, ...]
    offsets: tuple[int, ...]

    def local(self, time: int) -> int:
        """Local wall-clock time as microseconds."""
        return time + self.offsets[bisect.bisect_right(self.starts, time) - 1]


@cache
def zone(name: str) -> Zone:
    """The offsets of a zone between 1900 and 2100; before and after, its first and last."""
    info = zoneinfo.ZoneInfo(name)

    def offset(time: int) -> int:
        shift = to_datetime(time).astimezone(info).utcoffset() or timedelta()
        return (shift.days * 86_400 + shift.seconds) * SECOND

    first = int((datetime(_FIRST_YEAR, 1, 1) - _EPOCH) / timedelta(seconds=1)) * SECOND
    last = int((datetime(_LAST_YEAR, 1, 1) - _EPOCH) / timedelta(seconds=1)) * SECOND
    starts, offsets = [first], [offset(first)]
    step = 7 * DAY
    for week in range(first, last, step):
        high = week
        while offset(week + step) != offsets[-1]:
            low, high = high, week + step
            while high - low > SECOND:
                middle = low + (high - low) // (2 * SECOND) * SECOND
                low, high = (low, middle) if offset(middle) != offsets[-1] else (middle, high)
            starts.append(high)
            offsets.append(offset(high))
    starts[0] = -(2**62)
    return Zone(tuple(starts), tuple(offsets))


def part(time: int, name: str, tz: str) -> float:
    """A calendar part, as `icekeel.define.functions.PARTS` lists them."""
    local = zone(tz).local(time)
    turning = _TURNING.get(name)
    if turning:
        unit, period, shift = turning
        return float((local // unit + shift) % period)
    return _date_parts(local // DAY)[name]


@lru_cache(maxsize=4096)
def _date_parts(day: int) -> dict[str, float]:
    """The parts of a date, counted in days since 1970-01-01; remembered, since questions share their days."""
    cycles, days = divmod(day, _CYCLE_DAYS)
    date = _EPOCH + timedelta(days=days)
    return {
        "day": float(date.day),
        "day_of_year": float(date.timetuple().tm_yday),
        "week": float(date.isocalendar().week),
        "month": float(date.month),
        "quarter": float((date.month + 2) // 3),
        "year": float(date.year + 400 * cycles),
    }


def part_sql(time: str, name: str, tz: str) -> str:
    """The same as a DuckDB expression over `time`, an SQL expression of microseconds."""
    known = zone(tz)
    local = f"({time} + {_choose(time, known, 0, len(known.starts))})"
    if name in _TURNING:
        unit, period, shift = _TURNING[name]
        return f"CAST(({_floor_divide(local, unit)} + {shift}) % {period} + {period} AS DOUBLE) % {period}"
    return f"CAST(extract({'doy' if name == 'day_of_year' else name} FROM make_timestamp({local})) AS DOUBLE)"


def _choose(time: str, known: Zone, first: int, last: int) -> str:
    """A balanced tree of CASE over the offsets `first` to `last - 1`."""
    if last - first == 1:
        return str(known.offsets[first])
    middle = (first + last) // 2
    low, high = _choose(time, known, first, middle), _choose(time, known, middle, last)
    return f"CASE WHEN {time} < {known.starts[middle]} THEN {low} ELSE {high} END"


def _floor_divide(value: str, divisor: int) -> str:
    """Integer division that rounds down; DuckDB's own rounds towards zero."""
    return f"(({value} - (({value} % {divisor}) + {divisor}) % {divisor}) // {divisor})"
