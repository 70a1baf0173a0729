"""What a model's audits look at, and which of them may block."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from icekeel.core.errors import Fault, nearest, shorten
from icekeel.core.kinds import Kind

from .columns import event_only
from .conduct import duration_faults, range_faults
from .expressions import Expression, is_between
from .nodes import EventField, Invalid, RequestField, shallow

AUDITS = ("columns", "representation", "leakage", "subgroups", "freshness", "labels", "interactions", "skew")
"""Every audit, in the order in which they are told."""
MOST_GROUPS = 12


@dataclass(frozen=True, slots=True)
class Audits:
    """What the audits of a model look at, and what follows from them.

    An audit passes, warns or blocks by itself; `block` and `warn` overrule it by name.

    Attributes:
        groups: Categories of the request by which errors are told; by default all that have 2 to 50 values.
        block: Audits whose warnings block too.
        warn: Audits that never block.
        off: Audits that are not made.
        recent: Questions of so long count as recent production.
        worse: A slice whose error is so many times that of all rows is reported.
        review: How many labels people can look at: a share of all below 1, else a number.
        meaningful: Flags over the columns of an event, `Plays.share >= 0.3`: other definitions of an event that counts,
            to be tried against the present one.
    """

    groups: tuple[Any, ...] = ()
    block: tuple[str, ...] = ()
    warn: tuple[str, ...] = ()
    off: tuple[str, ...] = ()
    recent: str = "28d"
    worse: float = 1.25
    review: float = 0.05
    meaningful: tuple[Any, ...] = ()


def audit_faults(audits: Audits, request: str, where: str) -> list[Fault]:
    """Everything that cannot hold in the audits of a model with this request class."""
    found = [*_name_faults(audits, where), *_other_faults(audits, where)]
    groups: object = audits.groups
    if not isinstance(groups, tuple) or len(groups) > MOST_GROUPS:
        allowed = f"a tuple of at most {MOST_GROUPS}: groups=(Quote.substrate,)"
        found.append(Fault("bad_audits", "groups= are categories", where, shorten(groups), allowed))
    else:
        for group in groups:
            found += _group_faults(group, request, f"{where}, groups")
    found += duration_faults(f"{where}, recent", audits.recent, allowed='days: "28d"')
    return found + range_faults(
        where, [("worse", audits.worse, is_between(1, audits.worse, math.inf), "above 1")]
    )


def _other_faults(audits: Audits, where: str) -> Iterator[Fault]:
    review = audits.review
    yield from range_faults(where, [("review", review, is_between(0, review, math.inf), "above 0")])
    flags: object = audits.meaningful
    if not isinstance(flags, tuple):
        allowed = "a tuple: meaningful=(Plays.share >= 0.3,)"
        yield Fault(
            "bad_audits", "meaningful= are flags over an event's columns", where, shorten(flags), allowed
        )
        return
    for flag in flags:
        place = f"{where}, meaningful"
        node = flag.node if isinstance(flag, Expression) else None
        tables = {below.table for below in shallow(node) if isinstance(below, EventField)} if node else set()
        if node is None or len(tables) > 1 or not (tables or isinstance(node, Invalid)):
            yield Fault("bad_audits", "a flag over the columns of one event table", place, shorten(flag))
        else:
            table = next(iter(tables), "")
            yield from (fault.inside(place) for fault in event_only(node, table, place, Kind.FLAG))


def _name_faults(audits: Audits, where: str) -> Iterator[Fault]:
    seen: dict[str, str] = {}
    for place in ("block", "warn", "off"):
        names: object = getattr(audits, place)
        if not isinstance(names, tuple):
            what = f"{place}= are names of audits"
            yield Fault("bad_audits", what, where, shorten(names), f'{place}=("leakage",)')
            continue
        for name in names:
            if name not in AUDITS:
                near = nearest(str(name), AUDITS)
                yield Fault(
                    "bad_audits", "no such audit", f"{where}, {place}", shorten(name), ", ".join(AUDITS), near
                )
            elif seen.setdefault(name, place) != place:
                what = f'"{name}" is in {seen[name]}= too'
                yield Fault("bad_audits", what, f"{where}, {place}")


def _group_faults(group: object, request: str, where: str) -> list[Fault]:
    node = group.node if isinstance(group, Expression) else None
    if isinstance(node, Invalid):
        return [fault.inside(where) for fault in node.faults]
    if isinstance(node, RequestField) and node.request == request and node.kind is Kind.CAT:
        return []
    return [Fault("bad_audits", "a group is a category of the request", where, shorten(group))]
