"""Random definitions, written in the public language over the tables of `worlds`: every operation it has.

An operation is given with a letter for each argument: `n` a number or flag, `v` the same or a constant, `f` a flag,
`c` a category, `w` a text of any kind, `s` a constant text, `t` a time, `z` a zone, `p` a calendar part and `q` one
that has a period.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import Any

import icekeel as ik
from icekeel.core.kinds import Kind
from icekeel.define.expressions import Expression
from icekeel.define.features import Feature
from icekeel.define.functions import PARTS
from icekeel.define.nodes import Invalid, walk
from icekeel.define.windows import Values, Window

from .worlds import HORIZONS, NUMBERS, TEXTS, TURNS, Ask, Expiring, Places, Things

Operation = tuple[Callable[..., Any], str]

_POINTS = {text: at / 4 for at, text in enumerate(TEXTS[3:])}

_NUMBERS: tuple[Operation, ...] = (
    (lambda x, y: x + y, "nv"),
    (lambda x, y: x - y, "nv"),
    (lambda x, y: x * y, "nv"),
    (lambda x, y: x / y, "nv"),
    (lambda x, y: x % y, "nv"),
    (lambda x, y: x**y, "nv"),
    (lambda x: abs(x) ** 0.5, "n"),
    (lambda x: 3 - x, "n"),
    (lambda x: -x, "n"),
    (ik.sqrt, "n"),
    (ik.exp, "n"),
    (ik.ln, "n"),
    (lambda x: x.round(), "n"),
    (lambda x: x.floor(), "n"),
    (lambda x: x.sign(), "n"),
    (lambda x, y: x.fill(y), "nv"),
    (lambda x: x.clip(-1, 3.5), "n"),
    (ik.least, "nv"),
    (ik.greatest, "nvv"),
    (ik.when, "fnv"),
    (lambda f, x, g, y, z: ik.case((f, x), (g, y), otherwise=z), "fnfvv"),
    (lambda text: ik.table(text, _POINTS, default=-1), "w"),
    (lambda text: text.length(), "w"),
    (lambda text: text.words(), "w"),
    (lambda time, part, zone: ik.part(time, part, tz=zone), "tpz"),
    (lambda time, part, zone: ik.part(time, part, tz=zone), "tpz"),
    (lambda time, part, zone: ik.cyclic(time, part, tz=zone)[0], "tqz"),
    (lambda time, part, zone: ik.cyclic(time, part, tz=zone)[1], "tqz"),
    (ik.minutes_between, "tt"),
    (ik.days_between, "tt"),
)
_FLAGS: tuple[Operation, ...] = (
    (lambda x, y: x < y, "nv"),
    (lambda x, y: x <= y, "nv"),
    (lambda x, y: x > y, "nv"),
    (lambda x, y: x >= y, "nv"),
    (lambda x, y: x == y, "nv"),
    (lambda x, y: x != y, "nv"),
    (lambda a, b: a == b, "ww"),
    (lambda a, b: a != b, "ws"),
    (lambda x: x.one_of(0, 1, -0.5, 2.5), "n"),
    (lambda a, b: a.one_of("a", b), "ws"),
    (lambda f, g: f & g, "ff"),
    (lambda f, g: f | g, "ff"),
    (lambda f: ~f, "f"),
    (lambda x: x.known(), "n"),
    (lambda a: a.known(), "w"),
    (lambda a, b: a.contains(b), "ws"),
    (lambda a, b: a.starts_with(b), "ww"),
    (lambda a, b: a.ends_with(b), "ws"),
)
_CATEGORIES: tuple[Operation, ...] = (
    (ik.cross, "cc"),
    (lambda a, b: a.fill(b), "cs"),
    (lambda a: a.lower(), "c"),
    (lambda a: a.upper(), "c"),
    (lambda a: a.strip(), "c"),
    (lambda a: a.replace(" ", "--").strip(), "c"),
    (lambda a: a.replace("aa", "a"), "c"),
    (lambda a: a.group({"one": ["a", "b"], "two": ["ab"]}, otherwise="-"), "w"),
    (lambda a: a.piece("-", 0), "w"),
    (lambda a: a.piece("a", -1), "w"),
    (lambda a: a.piece(" x ", 1), "w"),
    (ik.when, "fcs"),
    (ik.when, "fcc"),
)
_OPERATIONS = {Kind.NUM: _NUMBERS, Kind.FLAG: _FLAGS, Kind.CAT: _CATEGORIES}
_KINDS = {"f": Kind.FLAG, "c": Kind.CAT}


class Scope:
    """Draws expressions over some columns.

    Args:
        rng: Of the world.
        owner: The request or event table.
        zone: Whose turns of the clock the world is about.
        window: Draws a window of a kind, where windows may stand; None where not.
    """

    def __init__(
        self, rng: Random, owner: Any, zone: str, window: Callable[[Kind], Expression] | None = None
    ) -> None:
        self._rng, self._window, self._zones = rng, window, (zone, zone, zone, *TURNS)
        asked = owner is Ask
        numbers = (owner.x, owner.y) if asked else (owner.amount, owner.size)
        texts = (owner.sort,) if asked else (owner.sort, owner.label)
        self._columns = {Kind.NUM: numbers, Kind.FLAG: (owner.good,), Kind.CAT: texts}
        self._texts = (owner.note, owner.who)
        self._times = (owner.due, ik.asked_at if asked else owner.happened_at)

    def draw(self, kind: Kind, depth: int) -> Any:
        """An expression of a kind, at most `depth` operations deep."""
        if depth == 0 or self._rng.random() < 0.1:
            return self._leaf(kind)
        operation, letters = self._rng.choice(_OPERATIONS[kind])
        return operation(*[self._argument(letter, depth - 1) for letter in letters])

    def _leaf(self, kind: Kind) -> Any:
        if self._window is not None and self._rng.random() < 0.6:
            return self._window(kind)
        return self._rng.choice(self._columns[kind])

    def _argument(self, letter: str, depth: int) -> Any:
        rng = self._rng
        constants: dict[str, Sequence[Any]] = {
            **{"s": TEXTS, "t": self._times, "z": self._zones, "p": list(PARTS)},
            **{"v": NUMBERS, "w": self._texts, "q": [part for part in PARTS if part != "year"]},
        }
        if letter in "stzpq" or (letter in "vw" and rng.random() < 0.4):
            return rng.choice(constants[letter])
        if letter == "w":
            return self.draw(Kind.CAT, depth)
        return self.draw(_KINDS.get(letter) or rng.choice((Kind.NUM, Kind.NUM, Kind.FLAG)), depth)


class Definitions:
    """Draws features.

    Args:
        rng: Of the world.
        zone: Whose turns of the clock the world is about.
        windows: Whether there are events at all.
        exact: Whether sums are the same in any order, so that they may stand anywhere in a tree.
    """

    def __init__(self, rng: Random, zone: str, *, windows: bool, exact: bool) -> None:
        self._rng, self._windows, self._exact = rng, windows, exact
        self._request, self._event = Scope(rng, Ask, zone), Scope(rng, Things, zone)
        self._all = Scope(rng, Ask, zone, self._window) if windows else self._request

    def feature(self, name: str) -> Feature:
        """A window alone, whatever it sums up, or a tree of windows and fields.

        Raises:
            ValueError: What was drawn is not valid, though all of it should be.
        """
        kind = self._rng.choice((Kind.NUM, Kind.NUM, Kind.NUM, Kind.FLAG, Kind.CAT))
        alone = self._windows and self._rng.random() < 0.5
        node = (self._window(kind, adding=True) if alone else self._all.draw(kind, 3)).node
        if faults := [one for below in walk(node) if isinstance(below, Invalid) for one in below.faults]:
            raise ValueError(f"drawn, but not valid: {faults}")
        return Feature(name, node)

    def _window(self, kind: Kind, *, adding: bool = False) -> Expression:
        """A window of a kind; one that adds up inexact numbers only where that is said to be allowed."""
        rng = self._rng
        if rng.random() < 0.08:
            place = rng.choice((Places, Expiring)).of(place=Ask.who)
            found: Expression = place.label if kind is Kind.CAT else place.amount
            return found > 1 if kind is Kind.FLAG else found
        events = self._events()
        if kind is not Kind.NUM:
            values = events[self._event.draw(kind, rng.choice((0, 1)))]
            end: Expression = rng.choice((values.first, values.last))()
            return end
        ways: list[Callable[[], ik.Num]] = [
            events.count,
            events.minutes_since,
            lambda: events.days_since(empty=-1),
        ]
        ways += [*self._comparing(events), *self._comparing(events)]
        if adding or self._exact:
            ways += self._adding(events)
        if adding:
            ways.append(self._simple(events).std)
        number: ik.Num = rng.choice(ways)()
        return number

    def _events(self) -> Window:
        rng = self._rng
        keys: dict[str, Any] = rng.choice(
            (
                {"who": Ask.who}, {"who": Ask.who}, {"who": Ask.who, "sort": Ask.sort},
                {"good": Ask.good}, {"sort": Ask.sort, "label": "a"}, {},
            )
        )  # fmt: skip
        filters = [self._event.draw(Kind.FLAG, 2)] if rng.random() < 0.3 else []
        selection = Things.where(*filters, **keys)
        return (selection.next if rng.random() < 0.2 else selection.last)(rng.choice(HORIZONS))

    def _comparing(self, events: Window) -> list[Callable[[], ik.Num]]:
        """Aggregates that add nothing up: the same in any order of adding."""
        rng, event, request = self._rng, self._event, self._request
        kind, depth, k = rng.choice((Kind.NUM, Kind.FLAG)), rng.choice((0, 0, 2)), rng.randint(1, 4)
        values, texts = events[event.draw(kind, depth)], events[event.draw(Kind.CAT, depth)]
        empty = rng.choice((None, -1.0))
        return [
            *(values.min, values.max, values.first, values.last, values.distinct, texts.distinct),
            lambda: values.change_over_last(k, empty=empty),
            lambda: values.acceleration_over_last(k),
            lambda: values.rank_of(empty=empty),
            lambda: values.rank_of(request.draw(Kind.NUM, depth)),
            lambda: values.share_of(rng.choice((1.0, request.draw(kind, depth)))),
            lambda: texts.share_of(rng.choice((None, "a", Ask.sort, request.draw(Kind.CAT, depth)))),
        ]

    def _adding(self, events: Window) -> list[Callable[[], ik.Num]]:
        k, empty = self._rng.randint(1, 4), self._rng.choice((None, -1.0))
        values, share = self._simple(events), events[self._event.draw(Kind.FLAG, 1)].share
        return [values.sum, lambda: values.mean(empty=empty), lambda: values.mean_of_last(k), share]

    def _simple(self, events: Window) -> Values:
        """Values with no more binary digits than the columns have."""
        return events[self._rng.choice((Things.amount, Things.size * 2 + 1, Things.good, Things.amount > 1))]
