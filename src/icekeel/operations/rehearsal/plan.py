"""Which faults, where, when and how strong: the default plan, or one from a file.

warm = "1d"              # quiet time before the first fault
gap = "4h"               # time to recover between faults

[[fault]]
kind = "feed_missing"
where = "Orders"         # optional, like all that follow: the most telling place of the project
at = "2d 6h"             # after the beginning; else after the fault before and its gap
lasts = "2h"
size = 0.5
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from icekeel.core.errors import Fault, IcekeelError, SettingsError, nearest
from icekeel.core.time import DAY, HOUR, MINUTE, parse_duration

from .faults import KINDS, Planned
from .places import Places

WARM, GAP = DAY, 4 * HOUR
_TOP = ("warm", "gap", "fault")
_KEYS = ("kind", "where", "at", "lasts", "size")


@dataclass(frozen=True, slots=True)
class Plan:
    """What is injected into a rehearsal that begins at `start` and ends at `end`, microseconds UTC.

    Attributes:
        faults: In the order in which they begin.
        skipped: Kinds that this project has no place for.
    """

    start: int
    end: int
    faults: Sequence[Planned]
    skipped: Sequence[str] = ()

    def until(self, end: int) -> Plan:
        """The same, ending at another time."""
        return replace(self, end=end)


@dataclass(frozen=True, slots=True)
class Wish:
    """A fault as it was asked for; what is None is chosen."""

    kind: str
    where: str | None = None
    at: int | None = None
    lasts: int | None = None
    size: float | None = None


@dataclass(frozen=True, slots=True)
class Wishes:
    """What a plan file asks for, or the default: every kind once."""

    warm: int = WARM
    gap: int = GAP
    faults: Sequence[Wish] = tuple(Wish(kind) for kind in KINDS)

    def span(self) -> int:
        """Microseconds from the beginning of the plan to its end, were there no quiet hours to be left out."""
        at = self.warm
        for wish in self.faults:
            at = (at if wish.at is None else wish.at) + (wish.lasts or KINDS[wish.kind].lasts) + self.gap
        return at

    def days(self) -> int:
        """The same in whole days."""
        return -(-self.span() // DAY)


def read_plan(path: Path) -> Wishes:
    """The wishes in a file.

    Raises:
        SettingsError: it cannot be read; every fault of it at once.
    """
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise SettingsError(Fault("no_plan", "there is no such file", str(path))) from error
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(Fault("bad_toml", str(error), str(path))) from error
    faults = [_unknown(name, _TOP, path.name) for name in raw if name not in _TOP]
    listed = raw.get("fault", [])
    if not isinstance(listed, list) or not listed:
        faults.append(Fault("no_faults", "a plan has faults", path.name, hint='[[fault]] kind = "feed_late"'))
        listed = []
    wishes = [_wish(one, f"{path.name}, fault {number}", faults) for number, one in enumerate(listed, 1)]
    warm, gap = (_duration(raw, name, path.name, faults) for name in ("warm", "gap"))
    if faults:
        raise SettingsError(*faults)
    return Wishes(WARM if warm is None else warm, GAP if gap is None else gap, wishes)


def _wish(raw: Any, where: str, faults: list[Fault]) -> Wish:
    if not isinstance(raw, Mapping):
        faults.append(Fault("bad_fault", "a fault is a table", where))
        return Wish("")
    faults += [_unknown(name, _KEYS, where) for name in raw if name not in _KEYS]
    kind = raw.get("kind")
    if kind not in KINDS:
        allowed, hint = ", ".join(KINDS), nearest(str(kind), KINDS)
        faults.append(Fault("unknown_fault", "no such kind of fault", where, repr(kind), allowed, hint))
    place, size = raw.get("where"), raw.get("size")
    if place is not None and not isinstance(place, str):
        faults.append(Fault("wrong_type", "where= is a text", where, repr(place)))
    if size is not None and (isinstance(size, bool) or not isinstance(size, int | float) or not size > 0):
        faults.append(Fault("wrong_type", "size= is a number above 0", where, repr(size)))
    at, lasts = (_duration(raw, name, where, faults) for name in ("at", "lasts"))
    return Wish(str(kind), place, at, lasts, size)


def _duration(raw: Mapping[str, Any], name: str, where: str, faults: list[Fault]) -> int | None:
    """Microseconds of `2d 6h`; None where it is not told, or told wrongly."""
    if name not in raw:
        return None
    try:
        found = sum(parse_duration(part) for part in raw[name].split())
    except (IcekeelError, AttributeError):
        faults.append(Fault("bad_duration", f"{name}= is a duration", where, repr(raw[name]), '"2d 6h"'))
        return None
    if found <= 0 or found % MINUTE:
        faults.append(Fault("bad_duration", f"{name}= is of whole minutes above 0", where, repr(raw[name])))
    return found


def _unknown(name: str, known: Sequence[str], where: str) -> Fault:
    return Fault("unknown_key", "no such key", where, name, ", ".join(known), nearest(name, known))


def make_plan(wishes: Wishes, places: Places, start: int) -> Plan:
    """Faults with their places and times, one after the other.

    Kinds that were not asked for by place strike one place after the other, so that each feed has its share.

    Raises:
        SettingsError: a place that the project does not have.
    """
    at, planned, skipped, faults = start + wishes.warm, list[Planned](), list[str](), list[Fault]()
    turns: dict[Sequence[str], int] = {}
    for wish in wishes.faults:
        kind = KINDS[wish.kind]
        allowed = tuple(kind.where(places))
        if not allowed:
            skipped.append(wish.kind)
            continue
        turn = turns[allowed] = turns.get(allowed, -1) + 1
        where = (
            (allowed[turn % len(allowed)] if wish.kind.startswith("feed") else allowed[0])
            if wish.where is None
            else wish.where
        )
        if where not in allowed and wish.kind != "rare_combination":
            hint = nearest(where, allowed)
            faults.append(
                Fault(
                    "unknown_place",
                    "no such place for this fault",
                    wish.kind,
                    where,
                    ", ".join(allowed),
                    hint,
                )
            )
        lasts = wish.lasts or kind.lasts
        begin = places.busy(at, lasts, where) if wish.at is None else start + wish.at
        end = begin + lasts
        planned.append(Planned(wish.kind, where, begin, end, kind.size if wish.size is None else wish.size))
        at = end + wishes.gap
    if faults:
        raise SettingsError(*faults)
    return Plan(
        start,
        max([at, *(one.end + wishes.gap for one in planned)]),
        sorted(planned, key=lambda one: one.start),
        skipped,
    )
