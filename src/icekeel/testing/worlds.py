"""Random worlds: event versions as they come, questions about them, and definitions in the public language."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

import icekeel as ik
from icekeel.core.kinds import Kind
from icekeel.core.time import DAY, FIRST_TIME, HOUR, LAST_TIME, MINUTE, SECOND, parse_duration, parse_time
from icekeel.data.history import AVAILABLE, DELETED
from icekeel.define.expressions import Expression
from icekeel.define.features import Feature
from icekeel.define.nodes import Invalid, walk
from icekeel.define.windows import Window

from .definitions import Value


class Ask(ik.Request):
    """Whom, what and when a question is about."""

    who: ik.Id = ik.optional()
    sort: ik.Cat = ik.optional()
    good: ik.Flag = ik.optional()
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
    amount: ik.Num = ik.optional()
    size: ik.Num
    due: ik.Time = ik.optional()


class Places(ik.Events, time="since", id="place"):
    """A reference table, known when it happens."""

    place: ik.Id
    label: ik.Cat = ik.optional()
    amount: ik.Num = ik.optional()


TABLES = {owner.icekeel_table.name: owner.icekeel_table for owner in (Things, Places)}
FIELDS = tuple(Ask.icekeel_fields.values())

HORIZONS = ("90s", "1h", "6h", "1d", "2d", "1w", "400d")
TEXTS = ("", "a", "A", "b", "it's", '"q"', "é", "e\u0301", "日本", "🙂", "a x b", "?", " a", "x\\n'; --")
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
class World:
    """What an engine is given.

    Attributes:
        rows: Versions of each table, in the order in which they come.
        features: Definitions.
        questions: In the order of their time.
    """

    rows: dict[str, list[Row]]
    features: tuple[Feature, ...]
    questions: list[Question]


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
    questions: int = 120
    features: int = 40
    edges: bool = False
    exact: bool = False
    hot: float = 0.3


SORTS = {
    "exact": Sort(exact=True),
    "rounded": Sort(),
    "edges": Sort(rows=0, questions=300, edges=True),
    "hot": Sort(rows=3000, questions=30, exact=True, hot=0.95),
}


def draw(seed: int, sort: Sort) -> World:
    """The world of a seed: three days about a moment at which the clocks of its zone turn."""
    rng = Random(seed)
    zone = rng.choice(list(TURNS))
    events = Events(rng, sort, parse_time(rng.choice(TURNS[zone])))
    rows = {"Things": events.things(), "Places": events.places()} if sort.rows else {}
    definitions = Definitions(rng, sort, zone)
    features = tuple(definitions.feature(f"f{at}") for at in range(sort.features))
    return World(rows, features, events.questions(rows.get("Things", [])))


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
        wide = self.rng.random() < 0.05
        return self.rng.choice((1e9, -1e150, 1e-300, 1e12)) if wide else self.rng.randint(-50, 50) * 0.37

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
            known = happened + self.rng.choice((0, 0, 1, MINUTE, 6 * HOUR, 2 * DAY, -HOUR, -DAY))
            if old is not None:
                known = self.rng.choice((old["known_at"], self._edge(old["happened_at"]), self._edge(known)))
            rows.append(self._thing(name, happened, min(known, self.turn + DAY + HOUR)))
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
            "x": self.number(),
            "y": self._maybe(self.number()),
            "due": self._maybe(due),
        }
        return Question(request, at)


@dataclass
class Definitions:
    """Draws features; those over events only where there are any."""

    rng: Random
    sort: Sort
    zone: str
    asked: Scope = field(init=False)
    event: Scope = field(init=False)

    def __post_init__(self) -> None:
        windows = self._window_leaf if self.sort.rows else None
        self.asked = Scope(self.rng, Ask, (Ask.due, ik.asked_at), self.zone, windows)
        self.event = Scope(self.rng, Things, (Things.due, Things.happened_at), self.zone, None)

    def feature(self, name: str) -> Feature:
        """A window alone, whatever it sums up, or a tree of windows and fields."""
        kind = self.rng.choice((Kind.NUM, Kind.NUM, Kind.FLAG, Kind.CAT))
        bare = self.sort.rows and self.rng.random() < 0.5
        node = (self.window(kind, bare=True) if bare else self.asked.draw(kind, 3)).node
        if faults := [one for below in walk(node) if isinstance(below, Invalid) for one in below.faults]:
            raise ValueError(f"drawn, but not valid: {faults}")
        return Feature(name, node)

    def _window_leaf(self, kind: Kind) -> Expression:
        return self.window(kind, bare=False)

    def window(self, kind: Kind, *, bare: bool) -> Expression:
        """A window of a kind; sums that may differ in their last digits only where the window stands alone."""
        rng = self.rng
        if rng.random() < 0.1:
            place = Places.of(place=Ask.who)
            found: Expression = place.label if kind is Kind.CAT else place.amount
            return found > 1 if kind is Kind.FLAG else found
        span = self._span()
        if kind is not Kind.NUM:
            values = span[self.event.draw(kind, rng.choice((0, 2)))]
            end: Expression = rng.choice((values.first, values.last))()
            return end
        return self._number(span, bare)

    def _span(self) -> Window:
        rng = self.rng
        keys = rng.choice(
            (
                {"who": Ask.who}, {"who": Ask.who}, {"who": Ask.who, "sort": Ask.sort},
                {"good": Ask.good}, {"sort": Ask.sort, "label": "a"}, {},
            )
        )  # fmt: skip
        filters = [self.event.draw(Kind.FLAG, 2)] if rng.random() < 0.3 else []
        selection = Things.where(*filters, **keys)
        return (selection.next if rng.random() < 0.2 else selection.last)(rng.choice(HORIZONS))

    def _number(self, span: Window, bare: bool) -> ik.Num:
        rng = self.rng
        if rng.random() < 0.25:
            found: ik.Num = rng.choice((span.count, span.hours_since, span.days_since))()
            return found
        kind = rng.choice((Kind.NUM, Kind.NUM, Kind.FLAG, Kind.CAT))
        if kind is Kind.CAT:
            return span[self.event.draw(kind, 1)].distinct()
        values = span[self.event.draw(kind, rng.choice((0, 0, 2)))]
        simple = span[rng.choice((Things.amount, Things.size * 2 + 1, Things.good, Things.amount > 1))]
        k, empty = rng.randint(1, 4), rng.choice((None, None, -1.0))
        ways: list[Callable[[], ik.Num]] = [
            *(values.distinct, values.first, values.last),
            *(lambda: values.min(empty=empty), values.max, lambda: values.change_over_last(k)),
        ]
        if bare or self.sort.exact:
            ways += [simple.sum, lambda: simple.mean(empty=empty), lambda: simple.mean_of_last(k)]
        if bare:
            ways += [simple.std]
        return rng.choice(ways)()


@dataclass
class Scope:
    """Draws expressions over the columns of a table or request, and over windows where `window` draws them."""

    rng: Random
    owner: Any
    times: tuple[ik.Time, ...]
    zone: str
    window: Callable[[Kind], Expression] | None

    def draw(self, kind: Kind, depth: int) -> Any:
        """An expression of a kind, at most `depth` calls deep."""
        if depth == 0 or self.rng.random() < 0.15:
            return self._leaf(kind)
        ways = {Kind.NUM: self._numbers, Kind.FLAG: self._flags, Kind.CAT: self._categories}[kind](depth - 1)
        return self.rng.choice(ways)()

    def _leaf(self, kind: Kind) -> Expression:
        if self.window is not None and self.rng.random() < 0.6:
            return self.window(kind)
        owner = self.owner
        numbers = (owner.x, owner.y) if owner is Ask else (owner.amount, owner.size)
        texts = (owner.sort,) if owner is Ask else (owner.sort, owner.label)
        found: Expression = self.rng.choice(
            {Kind.NUM: numbers, Kind.FLAG: (owner.good,), Kind.CAT: texts}[kind]
        )
        return found

    def _second(self, depth: int) -> ik.Num | float:
        constant: float = self.rng.choice(NUMBERS)
        return constant if self.rng.random() < 0.3 else self.draw(Kind.NUM, depth)

    def _numbers(self, depth: int) -> list[Callable[[], Any]]:
        rng, second = self.rng, self._second

        def x() -> Any:
            return self.draw(rng.choice((Kind.NUM, Kind.NUM, Kind.FLAG)), depth)

        def calendar() -> tuple[ik.Time, str, str]:
            return (
                rng.choice(self.times),
                rng.choice(("minute", "hour", "weekday", "day", "month")),
                rng.choice((self.zone, self.zone, *TURNS)),
            )

        def part(cyclic: bool) -> Any:
            time, name, zone = calendar()
            return rng.choice(ik.cyclic(time, name, tz=zone)) if cyclic else ik.part(time, name, tz=zone)

        table = {text: float(at) / 4 for at, text in enumerate(TEXTS)}
        between = rng.choice((ik.minutes_between, ik.hours_between, ik.days_between))
        return [
            lambda: x() + second(depth),
            lambda: x() - second(depth),
            lambda: x() * second(depth),
            lambda: x() / second(depth),
            lambda: abs(x()) ** rng.choice((0.5, 2, -1, 3.7)),
            lambda: -x(),
            lambda: ik.sqrt(x()),
            lambda: ik.exp(x()),
            lambda: ik.ln(x()),
            lambda: self.draw(Kind.NUM, depth).round(),
            lambda: self.draw(Kind.NUM, depth).floor(),
            lambda: self.draw(Kind.NUM, depth).fill(second(depth)),
            lambda: self.draw(Kind.NUM, depth).clip(-1, 3.5),
            lambda: rng.choice((ik.least, ik.greatest))(x(), second(depth), x()),
            lambda: ik.when(self.draw(Kind.FLAG, depth), x(), second(depth)),
            lambda: ik.table(self.draw(Kind.CAT, depth), table, default=-1),
            lambda: part(cyclic=False),
            lambda: part(cyclic=True),
            lambda: between(*rng.sample(self.times, 2)),
        ]

    def _flags(self, depth: int) -> list[Callable[[], Any]]:
        def one(kind: Kind) -> Any:
            return self.draw(kind, depth)

        second, text = self._second, self.rng.choice(TEXTS)
        return [
            lambda: one(Kind.NUM) < second(depth),
            lambda: one(Kind.NUM) >= second(depth),
            lambda: one(Kind.NUM) == second(depth),
            lambda: one(Kind.CAT) == self.rng.choice((text, one(Kind.CAT))),
            lambda: one(Kind.CAT) != text,
            lambda: one(Kind.FLAG) & one(Kind.FLAG),
            lambda: one(Kind.FLAG) | one(Kind.FLAG),
            lambda: ~one(Kind.FLAG),
            lambda: one(self.rng.choice((Kind.NUM, Kind.FLAG, Kind.CAT))).known(),
        ]

    def _categories(self, depth: int) -> list[Callable[[], Any]]:
        def one() -> Any:
            return self.draw(Kind.CAT, depth)

        return [
            lambda: ik.cross(one(), one()),
            lambda: one().fill(self.rng.choice(TEXTS)),
            lambda: ik.when(self.draw(Kind.FLAG, depth), one(), self.rng.choice(("other", one()))),
        ]
