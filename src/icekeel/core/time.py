"""Time as an integer number of microseconds since 1970 in UTC, and durations likewise.

Everything in Icekeel that is a time is such an integer; text and `datetime` exist at the edges only.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from datetime import UTC, datetime

from .errors import Fault, IcekeelError, shorten

SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR
WEEK = 7 * DAY

FIRST_TIME = -62_135_596_800 * SECOND  # 0001-01-01
LAST_TIME = 253_402_300_799 * SECOND  # 9999-12-31T23:59:59
FOREVER = 2**62
"""Later than any time: the end of a version that was never replaced."""

_UNITS = {"s": SECOND, "m": MINUTE, "h": HOUR, "d": DAY, "w": WEEK}
_DURATION = re.compile(r"([0-9]+)([smhdw])")

Clock = Callable[[], int]
"""Gives the present time in microseconds UTC; passed in, never read from a global."""


def wall_clock() -> int:
    """The machine's time in microseconds UTC."""
    return time.time_ns() // 1_000


def parse_duration(text: str) -> int:
    """Microseconds in a duration such as `90s`, `15m`, `1h`, `30d`, `2w`.

    Raises:
        IcekeelError: `text` is not of that form or is zero.
    """
    match = _DURATION.fullmatch(text) if isinstance(text, str) else None
    micros = int(match[1]) * _UNITS[match[2]] if match else 0
    if micros <= 0:
        hint = ""
        loose = re.match(r"\s*([0-9]+)\s*([smhdw])", text) if isinstance(text, str) else None
        if loose and int(loose[1]):
            hint = f'did you mean "{loose[1]}{loose[2]}"?'
        raise IcekeelError(
            Fault(
                code="bad_duration",
                what="expected a duration",
                got=f'"{text}"',
                allowed='a whole number above 0 and a unit: "30s", "15m", "1h", "30d", "2w"',
                hint=hint,
            )
        )
    return micros


def format_duration(micros: int) -> str:
    """The shortest exact duration text: `format_duration(7_200_000_000)` is `2h`."""
    for unit in ("w", "d", "h", "m", "s"):
        if micros and micros % _UNITS[unit] == 0:
            return f"{micros // _UNITS[unit]}{unit}"
    return f"{micros / SECOND:g}s"


def roughly(micros: float) -> str:
    """A duration for people, in its largest unit up to days: `roughly(90 * 60_000_000)` is `1.5h`."""
    unit = next((name for name in ("d", "h", "m") if micros >= _UNITS[name]), "s")
    count = micros / _UNITS[unit]
    return f"{count:,.0f}{unit}" if count >= 100 else f"{count:.3g}{unit}"


def parse_time(value: str | int | datetime) -> int:
    """Microseconds UTC of an ISO 8601 text, a `datetime` or microseconds already.

    A text or `datetime` without a zone is taken as UTC. A bare date is its midnight.

    Raises:
        IcekeelError: the value is no time, or lies outside the years 1 to 9999.
    """
    if isinstance(value, bool):
        raise _bad_time(value)
    if isinstance(value, int):
        micros = value
    else:
        try:
            moment = datetime.fromisoformat(value) if isinstance(value, str) else value
            if moment.tzinfo is None:
                moment = moment.replace(tzinfo=UTC)
            delta = moment - datetime(1970, 1, 1, tzinfo=UTC)
        except (ValueError, TypeError, AttributeError, OverflowError) as error:
            raise _bad_time(value) from error
        micros = (delta.days * 86_400 + delta.seconds) * SECOND + delta.microseconds
    if not FIRST_TIME <= micros <= LAST_TIME:
        raise _bad_time(value)
    return micros


def _bad_time(value: object) -> IcekeelError:
    return IcekeelError(
        Fault(
            code="bad_time",
            what="expected a time",
            got=shorten(value),
            allowed='ISO 8601 ("2025-03-01T12:00:00Z"), a datetime, or microseconds since 1970 UTC',
        )
    )


def to_datetime(micros: int) -> datetime:
    """The same moment as an aware `datetime` in UTC."""
    seconds, rest = divmod(micros, SECOND)
    return datetime.fromtimestamp(seconds, UTC).replace(microsecond=rest)


def format_time(micros: int) -> str:
    """ISO 8601 in UTC, to the second where that is exact: `2013-03-01T12:00:00Z`."""
    return to_datetime(micros).isoformat().replace("+00:00", "Z")


def format_second(micros: int) -> str:
    """The same to the second, whatever it lacks to the next."""
    return format_time(micros // SECOND * SECOND)
