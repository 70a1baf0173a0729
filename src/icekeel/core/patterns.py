"""Patterns that texts must match, meaning the same in Python and in DuckDB, and matched in time linear in the text.

What is allowed is the part of regular expressions that is regular: characters, classes, groups, alternatives,
repetitions. Python's own parser reads it, with `\\d`, `\\w`, `\\s` for ASCII alone; from its tree come both an RE2
pattern in which nothing is left to a dialect, and an automaton (Thompson 1968) for rows that are pushed, since
backtracking may take a caller's text for ever.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from importlib import import_module
from typing import Any

LARGEST = 1_000
"""Characters that a pattern may stand for, repetitions counted out; RE2 takes no more repetitions either."""
_PARSER: Any = import_module("re._parser")
"""Which is private, and nothing public gives its tree: a test holds it to the Pythons that were looked at."""
_LAST = 0x10FFFF
_STATES = 2_000
_WORD = ((48, 57), (65, 90), (95, 95), (97, 122))
_CATEGORIES = {"DIGIT": ((48, 57),), "SPACE": ((9, 13), (32, 32)), "WORD": _WORD}
Ranges = tuple[tuple[int, int], ...]


class Pattern:
    """A text matches if all of it does.

    Attributes:
        re2: The same for DuckDB's `regexp_full_match`.
    """

    def __init__(self, text: str) -> None:
        self._program: list[Any] = []
        tree = list(_parsed(text))
        if tree and tree[0] == (_PARSER.AT, _PARSER.AT_BEGINNING):
            del tree[0]
        if tree and tree[-1] == (_PARSER.AT, _PARSER.AT_END):
            del tree[-1]
        self.re2 = "".join(map(_written, tree))
        self._first = self._chain(tree, self._emit(None))
        self._states: dict[frozenset[int], _State] = {}
        self._start = self._state([self._first])

    def matches(self, text: str) -> bool:
        """Whether it does; 50 ns a character once the states are known."""
        state = self._start
        for char in text:
            state = state[char]
        return state.ends

    def _emit(self, step: Any) -> int:
        """A step of the automaton: where to go on, or the ranges of a character and where to go on behind it."""
        if len(self._program) > LARGEST:
            raise ValueError(f"it stands for more than {LARGEST:,} characters")
        self._program.append(step)
        return len(self._program) - 1

    def _chain(self, items: Sequence[Any], then: int) -> int:
        for op, given in reversed(items):
            then = self._part(op, given, then)
        return then

    def _part(self, op: Any, given: Any, then: int) -> int:
        if op is _PARSER.SUBPATTERN:
            return self._chain(given[3], then)
        if op is _PARSER.BRANCH:
            return self._emit([self._chain(branch, then) for branch in given[1]])
        if op is not _PARSER.MAX_REPEAT:
            return self._emit((_ranges(op, given), then))
        low, high, items = given
        if high is _PARSER.MAXREPEAT:
            loop = self._emit([then])
            self._program[loop].append(self._chain(items, loop))
            then = loop
        else:
            behind = then
            for _ in range(high - low):
                then = self._emit([self._chain(items, then), behind])
        for _ in range(low):
            then = self._chain(items, then)
        return then

    def _state(self, places: Iterable[int]) -> _State:
        reached: set[int] = set()
        waiting = list(places)
        while waiting:
            place = waiting.pop()
            if place not in reached:
                reached.add(place)
                step = self._program[place]
                waiting += step if isinstance(step, list) else ()
        if len(self._states) > _STATES:
            self._states.clear()
        key = frozenset(reached)
        return self._states.setdefault(key, _State(self, key))

    def _after(self, places: Iterable[int], code: int) -> _State:
        steps = (self._program[place] for place in places)
        found = [step for step in steps if isinstance(step, tuple)]
        return self._state(then for ranges, then in found if any(low <= code <= high for low, high in ranges))


class _State(dict[str, "_State"]):
    """Where the automaton may be; finds out what follows when it is first asked."""

    __slots__ = ("ends", "pattern", "places")

    def __init__(self, pattern: Pattern, places: frozenset[int]) -> None:
        super().__init__()
        self.pattern, self.places, self.ends = pattern, places, 0 in places

    def __missing__(self, char: str) -> _State:
        following = self.pattern._after(self.places, ord(char))
        if len(self) < LARGEST:
            self[char] = following
        return following


@lru_cache(256)
def read_pattern(text: str) -> Pattern:
    """The pattern.

    Raises:
        ValueError: it is none, or uses what the two dialects do not share.
    """
    return Pattern(text)


def _parsed(text: str) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            tree = _PARSER.parse(text, re.ASCII)
        except (re.error, RecursionError, OverflowError, FutureWarning, DeprecationWarning) as error:
            raise ValueError(str(error)) from error
    if tree.state.flags & ~re.ASCII:
        raise ValueError("flags such as (?i) are not offered")
    return tree


def _written(item: tuple[Any, Any]) -> str:
    """A part as RE2 reads it, every character by its number."""
    op, given = item
    if op is _PARSER.SUBPATTERN:
        if given[1] or given[2]:
            raise ValueError("flags such as (?i:...) are not offered")
        return f"(?:{''.join(map(_written, given[3]))})"
    if op is _PARSER.BRANCH:
        return f"(?:{'|'.join(''.join(map(_written, branch)) for branch in given[1])})"
    if op is _PARSER.MAX_REPEAT:
        low, high, items = given
        endless = high is _PARSER.MAXREPEAT
        if max(low, 0 if endless else high) > LARGEST:
            raise ValueError(f"it stands for more than {LARGEST:,} characters")
        if not items:
            raise ValueError("nothing is repeated")
        return f"(?:{''.join(map(_written, items))}){{{low},{'' if endless else high}}}"
    listed = (rf"\x{{{low:x}}}-\x{{{high:x}}}" for low, high in _ranges(op, given))
    return f"[{''.join(listed)}]"


def _ranges(op: Any, given: Any) -> Ranges:
    """The characters that one character may be, as ranges of code points in order."""
    if op is _PARSER.LITERAL:
        return ((given, given),)
    if op is _PARSER.NOT_LITERAL:
        return _without(((given, given),))
    if op is _PARSER.ANY:
        return _without(((10, 10),))
    if op is not _PARSER.IN:
        name = str(op).lower().replace("_", " ")
        raise ValueError(f"{name} is not offered: characters, classes, groups, | and repetitions are")
    negated = given[0][0] is _PARSER.NEGATE
    found: list[tuple[int, int]] = []
    for kind, value in given[negated:]:
        found += _class(kind, value)
    ranges = _without(_without(tuple(sorted(found))))
    ranges = _without(ranges) if negated else ranges
    if not ranges:
        raise ValueError("a class of no characters")
    return ranges


def _class(kind: Any, value: Any) -> Ranges:
    if kind is _PARSER.RANGE:
        return ((value[0], value[1]),)
    if kind is _PARSER.CATEGORY:
        name = str(value).removeprefix("CATEGORY_")
        ranges = _CATEGORIES[name.removeprefix("NOT_")]
        return _without(ranges) if name.startswith("NOT_") else ranges
    return _ranges(kind, value)


def _without(ranges: Ranges) -> Ranges:
    """All other characters."""
    return tuple(_gaps(ranges))


def _gaps(ranges: Ranges) -> Iterator[tuple[int, int]]:
    begin = 0
    for low, high in ranges:
        if low > begin:
            yield begin, low - 1
        begin = max(begin, high + 1)
    if begin <= _LAST:
        yield begin, _LAST
