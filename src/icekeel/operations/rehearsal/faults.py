"""What may go wrong: each fault a small change of the stream, or an act upon the processes.

A fault is said to show from the first event, question or act that it touches on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from icekeel.core.time import DAY, MINUTE
from icekeel.data import AVAILABLE
from icekeel.define import EventTable

from .places import Places
from .rivals import Ground, challenge, settle
from .system import KEEP, SERVE

Row = dict[str, Any]
Alter = Callable[[int, Row], Iterable[tuple[int, Row]]]
"""What becomes of a row that becomes known, or a question that is asked, at a time."""


@dataclass(frozen=True, slots=True)
class Planned:
    """A fault, where it strikes and when.

    Attributes:
        kind: Name in `KINDS`.
        where: A table, `TABLE.COLUMN`, a field of the request, `FIELD=VALUE`, or values of a rare combination.
        start, end: In `[start, end)`, microseconds UTC.
        size: How strong, in the unit of its kind.
    """

    kind: str
    where: str
    start: int
    end: int
    size: float


@dataclass(slots=True)
class Change:
    """A fault at work.

    Attributes:
        table: Whose rows it alters; empty for questions.
        alter: What becomes of one.
        shuffle: Rows of a stretch come in another order.
        begin, end: What is done to the processes when it begins, and when it is over.
        truth: What it alters is what really happened, not what is told of it.
        shown: When it first showed; 0 while it has not.
        touched: Rows, questions or acts that it altered.
    """

    fault: Planned
    table: str = ""
    alter: Alter | None = None
    shuffle: np.random.Generator | None = None
    begin: Callable[[Ground], None] | None = None
    end: Callable[[Ground], None] | None = None
    truth: bool = False
    shown: int = 0
    touched: int = 0

    def apply(self, at: int, row: Row) -> list[tuple[int, Row]]:
        """What becomes of a row or a question."""
        if self.alter is None or not self.strikes(at):
            return [(at, row)]
        found = list(self.alter(at, row))
        if found != [(at, row)]:
            self.show(at)
        return found

    def strikes(self, at: int) -> bool:
        """Whether its time has come and is not over."""
        return self.fault.start <= at < self.fault.end

    def show(self, at: int) -> None:
        """Note that it shows."""
        self.shown = self.shown or at
        self.touched += 1


Make = Callable[[Planned, Places, np.random.Generator], Change]


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of fault.

    Attributes:
        says: In a few words, for the page.
        make: Gives a fault of it at work.
        where: Where it may strike in a project, the most telling place first.
        causes: What an alert about it should be called; the first is best.
        size: How strong it is unless told.
        lasts: Microseconds it lasts unless told.
        absorbed: Whether the design takes it without harm, so that no alert is due.
        decides: The decision that a challenger deserves; empty for one that deserves none.
    """

    says: str
    make: Make
    where: Callable[[Places], Sequence[str]]
    causes: Callable[[str], Sequence[str]]
    size: float = 1.0
    lasts: int = 120 * MINUTE
    absorbed: bool = False
    decides: str | None = None


# Feeds


def _late(planned: Planned, places: Places, rng: np.random.Generator) -> Change:
    """Rows come `size` minutes after they did."""
    del rng
    table, by = places.tables[planned.where], int(planned.size * MINUTE)

    def alter(at: int, row: Row) -> Iterable[tuple[int, Row]]:
        yield at + by, {**row, AVAILABLE: at + by, **_known(table, at + by)}

    return Change(planned, table.name, alter)


def _known(table: EventTable, at: int) -> Row:
    """The column that says from when a row is known, where it has one."""
    return {} if table.available == table.time else {table.available: at}


def _missing(planned: Planned, places: Places, rng: np.random.Generator) -> Change:
    """Of the rows a share `size` never comes."""
    table = places.tables[planned.where]
    return Change(planned, table.name, lambda at, row: () if rng.random() < planned.size else ((at, row),))


def _doubled(planned: Planned, places: Places, rng: np.random.Generator) -> Change:
    """Rows come twice, the second time `size` minutes later."""
    del rng
    table, by = places.tables[planned.where], int(planned.size * MINUTE)

    def alter(at: int, row: Row) -> Iterable[tuple[int, Row]]:
        yield at, row
        yield at + by, {**row, AVAILABLE: at + by, **_known(table, at + by)}

    return Change(planned, table.name, alter)


def _reordered(planned: Planned, places: Places, rng: np.random.Generator) -> Change:
    """Rows of an hour come in any order."""
    return Change(planned, places.tables[planned.where].name, shuffle=rng)


def _stale(planned: Planned, places: Places, rng: np.random.Generator) -> Change:
    """New rows say what the last one before said: all but ids, times and categories stand still."""
    del rng
    table = places.tables[planned.where]
    frozen = [one.name for one in table.fields.values() if one.kind.value == "num"]
    same = [one.name for one in table.fields.values() if one.kind.value == "cat"]
    last: dict[tuple[Any, ...], Row] = {}

    def alter(at: int, row: Row) -> Iterable[tuple[int, Row]]:
        kept = last.setdefault(
            tuple(row.get(name) for name in same), {name: row.get(name) for name in frozen}
        )
        yield at, {**row, **kept}

    return Change(planned, table.name, alter)


def _skewed(planned: Planned, places: Places, rng: np.random.Generator) -> Change:
    """Who sends the rows has a clock that is `size` minutes slow."""
    del rng
    table, by = places.tables[planned.where], int(planned.size * MINUTE)
    return Change(
        planned, table.name, lambda at, row: ((at, {**row, table.time: (row[table.time] or 0) - by}),)
    )


# Values of a column or a field: `TABLE.COLUMN`, or a field of the request


def _column(planned: Planned, value: Callable[[Any], Any]) -> Change:
    table, _, column = planned.where.rpartition(".")

    def alter(at: int, row: Row) -> Iterable[tuple[int, Row]]:
        yield at, {**row, column: value(row.get(column))}

    return Change(planned, table, alter)


def _unit(planned: Planned, places: Places, rng: np.random.Generator) -> Change:
    """Numbers come in another unit: `size` times as large, as seconds are for minutes."""
    del places, rng
    return _column(planned, lambda value: None if value is None else value * planned.size)


def _renamed(planned: Planned, places: Places, rng: np.random.Generator) -> Change:
    """The commonest category comes under another name."""
    del rng
    name = places.commonest(planned.where)
    return _column(planned, lambda value: f"{value}_v2" if value == name else value)


def _nulls(planned: Planned, places: Places, rng: np.random.Generator) -> Change:
    """Of the values a share `size` is missing."""
    del places
    return _column(planned, lambda value: None if rng.random() < planned.size else value)


def _typed(planned: Planned, places: Places, rng: np.random.Generator) -> Change:
    """Numbers come as texts."""
    del places, rng
    return _column(planned, lambda value: None if value is None else f"{value:g}")


def _noisy(planned: Planned, places: Places, rng: np.random.Generator) -> Change:
    """Of the outcomes a share `size` is that of another question."""
    del places
    seen: list[Any] = []

    def value(told: Any) -> Any:
        seen.append(told)
        return seen[int(rng.integers(len(seen)))] if rng.random() < planned.size else told

    return _column(planned, value)


def _truth(planned: Planned, places: Places, rng: np.random.Generator) -> Change:
    """What happens is larger by a share `size`, or by so many deviations where it may be negative."""
    del rng
    low, spread = places.spread(planned.where)
    size = planned.size
    change = _column(
        planned, lambda told: None if told is None else told * (1 + size) if low > 0 else told + size * spread
    )
    change.truth = True
    return change


# Questions


def _segment(planned: Planned, places: Places, rng: np.random.Generator) -> Change:
    """Questions of one segment have numbers `size` times as large."""
    del rng
    name, _, value = planned.where.partition("=")
    numbers = places.request_numbers()

    def alter(at: int, row: Row) -> Iterable[tuple[int, Row]]:
        known = [number for number in numbers if row.get(name) == value and row.get(number) is not None]
        yield at, row | {number: places.within(number, row[number] * planned.size) for number in known}

    return Change(planned, "", alter)


def _burst(planned: Planned, places: Places, rng: np.random.Generator) -> Change:
    """`size` times as many questions."""
    del rng
    keys = [name.name for _, name in places.model.outcome.keyed.keys]

    def alter(at: int, row: Row) -> Iterable[tuple[int, Row]]:
        yield at, row
        for number in range(1, int(planned.size)):
            yield (
                at,
                {**row, **{name: f"{row[name]}+{number}" for name in keys if isinstance(row[name], str)}},
            )

    return Change(planned, "", alter)


def _rare(planned: Planned, places: Places, rng: np.random.Generator) -> Change:
    """Of the questions a share `size` is a combination of ordinary values that never came together."""
    del places
    values = dict(part.split("=", 1) for part in planned.where.split(" + "))
    return Change(
        planned, "", lambda at, row: ((at, {**row, **values} if rng.random() < planned.size else row),)
    )


# Processes


def _killed(planned: Planned, places: Places, rng: np.random.Generator, *, name: str) -> Change:
    """A process is killed; like `icekeel up`, the rehearsal starts it again."""
    del places, rng
    return Change(planned, begin=lambda ground: ground.system.kill(name))


def _damaged(planned: Planned, places: Places, rng: np.random.Generator) -> Change:
    """The keeper's store loses a stretch in its middle."""
    del places

    def begin(ground: Ground) -> None:
        for file in (ground.system.folder / ".icekeel" / "online").glob("*/data.mdb"):
            size = file.stat().st_size
            with file.open("r+b") as store:
                store.seek(int(size * 0.3) // 4096 * 4096)
                store.write(rng.bytes(4096 * max(1, int(size * 0.2 * planned.size) // 4096)))

    return Change(planned, begin=begin)


def _full(planned: Planned, places: Places, rng: np.random.Generator) -> Change:
    """No file grows any more by what server or keeper write: each such write fails, as on a full disk."""
    del places, rng

    def begin(ground: Ground) -> None:
        for name in (SERVE, KEEP):
            ground.system.limit(name, 4096)

    def end(ground: Ground) -> None:
        for name in (SERVE, KEEP):
            ground.system.limit(name, None)

    return Change(planned, begin=begin, end=end)


def _challenged(planned: Planned, places: Places, rng: np.random.Generator) -> Change:
    """A challenger is put up that is better, equal, worse or broken."""
    del places, rng
    kind = planned.kind.rpartition("_")[2]
    return Change(planned, begin=lambda ground: challenge(ground, kind), end=settle)


def _source(where: str) -> Sequence[str]:
    return (f"source {where.partition('.')[0]}",)


def _field(where: str) -> Sequence[str]:
    return (f"field {where}",)


def _named(*causes: str) -> Callable[[str], Sequence[str]]:
    return lambda where: causes


def _segmented(where: str) -> Sequence[str]:
    return (f"segment {where}",)


def _here(places: Places) -> Sequence[str]:
    del places
    return ("",)


KINDS: Mapping[str, Kind] = {
    "feed_reordered": Kind("rows come out of order", _reordered, Places.feeds, _source, absorbed=True),
    "feed_doubled": Kind("rows come twice", _doubled, Places.feeds, _source, size=2, absorbed=True),
    "worker_killed": Kind("a server is killed", partial(_killed, name=SERVE), _here, _named("process"), lasts=30 * MINUTE, absorbed=True),
    "keeper_killed": Kind("the keeper is killed", partial(_killed, name=KEEP), _here, _named("keeper"), lasts=30 * MINUTE, absorbed=True),
    "store_damaged": Kind("the keeper's store is damaged", _damaged, _here, _named("store"), lasts=30 * MINUTE, absorbed=True),
    "disk_full": Kind("the disk is full", _full, _here, _named("disk"), lasts=30 * MINUTE),
    "request_nulls": Kind("a field is missing", _nulls, Places.request_fields, _field),
    "request_type": Kind("a number comes as text", _typed, Places.request_numbers, _field),
    "request_renamed": Kind("a category has a new name", _renamed, Places.request_categories, _field),
    "request_unit": Kind("a field in another unit", _unit, Places.request_numbers, _field, size=60),
    "rare_combination": Kind("ordinary values, never seen together", _rare, Places.combinations, _named("guard"), size=0.1),
    "segment_shifted": Kind("a segment asks for more", _segment, Places.segments, _segmented, size=2),
    "feed_late": Kind("rows come late", _late, Places.feeds, _source, size=180, lasts=180 * MINUTE),
    "feed_missing": Kind("rows stop coming", _missing, Places.feeds, _source),
    "feed_stale": Kind("rows say what was", _stale, Places.feeds, _source, lasts=240 * MINUTE),
    "feed_type": Kind("numbers come as texts", _typed, Places.feed_numbers, _source),
    "feed_nulls": Kind("values are missing", _nulls, Places.feed_numbers, _source),
    "feed_renamed": Kind("a category has a new name", _renamed, Places.feed_categories, _source),
    "clock_skewed": Kind("a sender's clock is slow", _skewed, Places.feeds, lambda where: ("clock", *_source(where)), size=120),
    "feed_unit": Kind("numbers in another unit", _unit, Places.feed_numbers, _source, size=60),
    "outcomes_late": Kind("outcomes come late", _late, Places.outcomes, lambda where: (f"source {where}", "outcome"), size=180, lasts=180 * MINUTE),
    "outcomes_noisy": Kind("outcomes are mixed up", _noisy, Places.outcome_values, lambda where: ("outcome", *_source(where)), size=0.5, lasts=240 * MINUTE),
    "truth_changed": Kind("the world has changed", _truth, Places.outcome_values, _named("outcome"), size=0.3, lasts=360 * MINUTE),
    "traffic_burst": Kind("many more questions", _burst, _here, _named("traffic"), size=5, lasts=60 * MINUTE),
    "challenger_better": Kind("a better challenger", _challenged, Places.rollouts, _named("challenger"), lasts=5 * DAY, decides="promote"),
    "challenger_equal": Kind("a challenger that is no better", _challenged, Places.rollouts, _named("challenger"), lasts=DAY, decides=""),
    "challenger_worse": Kind("a worse challenger", _challenged, Places.rollouts, _named("challenger"), lasts=3 * DAY, decides="stop"),
    "challenger_broken": Kind("a challenger that cannot be loaded", _challenged, Places.rollouts, _named("challenger"), lasts=120 * MINUTE),
}  # fmt: skip
"""Every kind, those first that leave nothing behind: what a feed said wrongly stays in windows for weeks."""
CHALLENGED = tuple(name for name in KINDS if name.startswith("challenger"))
