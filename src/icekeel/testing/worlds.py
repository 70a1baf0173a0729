"""Random worlds: event versions as they come, and questions about them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

import icekeel as ik
from icekeel.core.time import DAY, FIRST_TIME, HOUR, LAST_TIME, MINUTE, SECOND, parse_duration
from icekeel.data.history import AVAILABLE, DELETED

from .definitions import Value


class Ask(ik.Request):
    """Whom, what and when a question is about."""

    who: ik.Id = ik.optional()
    sort: ik.Cat = ik.optional()
    good: ik.Flag = ik.optional()
    note: ik.Text = ik.optional()
    x: ik.Num
    y: ik.Num = ik.optional()
    due: ik.Time = ik.optional()


class Things(ik.Events, time="happened_at", available="known_at", id="thing"):
    """Events of every sort."""

    thing: ik.Id
    who: ik.Id = ik.optional()
    sort: ik.Cat = ik.optional()
    label: ik.Cat = ik.optional()
    good: ik.Flag = ik.optional()
    note: ik.Text = ik.optional()
    amount: ik.Num = ik.optional()
    size: ik.Num
    due: ik.Time = ik.optional()


class Places(ik.Events, time="since", id="place"):
    """A reference table, known when it happens."""

    place: ik.Id
    label: ik.Cat = ik.optional()
    amount: ik.Num = ik.optional()


Expiring: Any = type(Places)(  # type: ignore[misc]  # a class of the same name
    "Places", (Places,), {"__module__": __name__}, time="since", id="place", fresh=ik.Fresh(expire="6h")
)
"""The same table, were its values to expire."""
TABLES = {owner.icekeel_table.name: owner.icekeel_table for owner in (Things, Places)}
FIELDS = tuple(Ask.icekeel_fields.values())

HORIZONS = ("90s", "1h", "6h", "1d", "2d", "1w", "400d")
TEXTS = (
    *("a", "A", "b", "", "it's", '"q"', "é", "e\u0301", "日本", "🙂", "a x b", "?", " a", "x\\n'; --"),
    *("a-b", "-", "a--B-", "a\0", "\ta\u00a0b\n", "ÀÉß", "%_", "a\\"),
)
NUMBERS = (
    *(0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 1.5, 2.5, -2.5, 3.0, 7.25, 0.1, -0.3, 1e-3, 12345.678, 1e15, -1e16),
    *(0.49999999999999994, 4503599627370495.5, 9007199254740993.0, 709.782712893384, 709.7827128933841),
    *(-745.2, 1e100, 1e308, -1e308, 1.7976931348623157e308, 5e-324, -5e-324, 2.2e-308),
)
TURNS = {
    "UTC": ("1969-12-31T00:00", "2024-02-29", "2024-12-31T23:59:59", "2100-03-01"),
    "America/New_York": ("2013-03-10T07:00", "2013-11-03T06:00", "1969-10-26T06:00", "1918-03-31T07:00"),
    "Europe/Zurich": ("2024-03-31T01:00", "2024-10-27T01:00", "1981-03-29T01:00"),
    "Asia/Kolkata": ("1970-01-01",),
    "Australia/Lord_Howe": ("2024-04-06T15:00", "2024-10-05T15:30"),
    "Pacific/Apia": ("2011-12-30T10:00",),
    "Africa/Casablanca": ("2024-03-10T02:00", "2024-04-14T02:00"),
}
"""Zones, and moments at which their clocks, days or years turn."""

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Question:
    """A request and when it is asked."""

    request: Row
    at: int


@dataclass(frozen=True, slots=True)
class Sort:
    """What sort of world to draw.

    Attributes:
        rows, questions, features: How many.
        edges: Numbers and times as extreme as they come, for row-level expressions only.
        exact: Numbers of a few binary digits, so that even sums are identical and may stand anywhere.
        hot: Share of the rows that belong to one key.
    """

    rows: int = 200
    questions: int = 80
    features: int = 60
    edges: bool = False
    exact: bool = False
    hot: float = 0.3


@dataclass
class Events:
    """Draws rows and questions of the three days whose third begins at `turn`."""

    rng: Random
    sort: Sort
    turn: int
    step: int = field(init=False)
    deletes: float = field(init=False)

    def __post_init__(self) -> None:
        self.step = self.rng.choice((5 * MINUTE, HOUR, 6 * HOUR))
        self.deletes = self.rng.choice((0.0, 0.25, 0.25))

    def _maybe(self, *values: Value) -> Value:
        return None if self.rng.random() < 0.12 else self.rng.choice(values)

    def number(self) -> float:
        """A number of the world's sort."""
        if self.sort.edges:
            return self.rng.choice(NUMBERS)
        if self.sort.exact:
            return self.rng.randint(-80, 80) / 8
        if self.rng.random() < 0.05:
            return self.rng.choice((1e9, -1e150, 1e-300, 1e12, *NUMBERS))
        return self.rng.randint(-50, 50) * 0.37

    def who(self) -> Value:
        """A key, most often the hot one."""
        return "hot" if self.rng.random() < self.sort.hot else self._maybe("b", "ü'", "c")

    def _moment(self) -> int:
        """Few enough different ones that many events happen at once."""
        return self.turn - 2 * DAY + self.rng.randrange(3 * DAY // self.step) * self.step

    def _edge(self, moment: int) -> int:
        """When a window that holds the moment begins or ends, to the microsecond."""
        return (
            moment
            + self.rng.choice((0, parse_duration(self.rng.choice(HORIZONS))))
            + self.rng.choice((-1, 0, 1))
        )

    def things(self) -> list[Row]:
        """Versions: on time, late, announced, corrected, moved to another key, deleted, sent again, tied, null."""
        rows: list[Row] = []
        for number in range(self.sort.rows):
            if rows and self.rng.random() < 0.06:
                rows.append(self.rng.choice(rows))
                continue
            old = self.rng.choice(rows) if rows and self.rng.random() < 0.25 else None
            name = self._name(number) if old is None else old["thing"]
            happened = (
                self._moment() if old is None else self.rng.choice((self._moment(), old["happened_at"]))
            )
            ahead = self.rng.randint(0, 2) - parse_duration(self.rng.choice(HORIZONS[:-1]))
            known = happened + self.rng.choice((0, 0, 1, 2, MINUTE, 6 * HOUR, 2 * DAY, -HOUR, ahead))
            if old is not None:
                known = self.rng.choice((old["known_at"], self._edge(old["happened_at"]), self._edge(known)))
            rows.append(self._thing(name, happened, min(known, self.turn + 12 * HOUR)))
            rows[-1][DELETED] = float(old is not None and self.rng.random() < self.deletes)
        rows.sort(key=lambda row: row[AVAILABLE] + self.rng.choice((0, 0, 0, HOUR, 3 * DAY)))
        return rows

    def _thing(self, name: str, happened: int, known: int) -> Row:
        return {
            "thing": name,
            "who": self.who(),
            "sort": self._maybe("u", "v", "w w"),
            "label": self._maybe(*TEXTS),
            "good": self._maybe(0.0, 1.0),
            "note": self._maybe(*TEXTS),
            "amount": self._maybe(self.number()),
            "size": self.number(),
            "due": self._maybe(happened + self.rng.randint(-5, 5) * HOUR),
            "happened_at": happened,
            "known_at": known,
            AVAILABLE: known,
        }

    def _name(self, number: int) -> str:
        long = "é" * 30 if self.rng.random() < 0.1 else ""
        return f"{self.rng.choice(TEXTS[:4])}{self.rng.randrange(9)}{long}-{number}"

    def places(self) -> list[Row]:
        """The state of a few places, each changed now and then."""
        rows = []
        for _ in range(12):
            since = self._moment() - self.rng.choice((0, 100 * DAY))
            place, label = self.rng.choice(("hot", "b", "ü'")), self._maybe(*TEXTS)
            row = {"place": place, "label": label, "amount": self._maybe(self.number()), "since": since}
            rows.append({**row, AVAILABLE: since, DELETED: float(self.rng.random() < self.deletes)})
        return rows

    def questions(self, things: Sequence[Row]) -> list[Question]:
        """Half of them where a window or a version begins or ends; most when nearly everything is known."""
        newest = max((row[AVAILABLE] for row in things), default=self.turn)
        asked: list[Question] = []
        while len(asked) < self.sort.questions:
            row = self.rng.choice(things) if things else {}
            moments = self._moment(), row.get("happened_at", self.turn), row.get("known_at", self.turn)
            at = self._edge(self.rng.choice(moments))
            if at > newest - DAY or self.rng.random() < 0.1:
                asked.append(self._question(at))
        return sorted(asked, key=lambda question: question.at)

    def _question(self, at: int) -> Question:
        due = at + self.rng.randint(-500, 500) * HOUR
        if self.sort.edges:
            at, due = (self.turn + self.rng.choice((-SECOND, -1, 0, 1, HOUR)) for _ in range(2))
            due = self.rng.choice((due, due, FIRST_TIME + DAY, LAST_TIME - DAY))
        texts = TEXTS if self.sort.edges else ("u", "v", "w w", "never seen")
        request = {
            "who": self.who() if self.rng.random() < 0.9 else "stranger",
            "sort": self._maybe(*texts),
            "good": self._maybe(0.0, 1.0),
            "note": self._maybe(*TEXTS),
            "x": self.number(),
            "y": self._maybe(self.number()),
            "due": self._maybe(due),
        }
        return Question(request, at)
