"""A figure, its bar, and how it follows from what was measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Measured = Mapping[str, Mapping[str, Any]]
"""Task -> what it found."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table.

    Attributes:
        what: What is measured, in a line.
        bar: What it must reach.
        most: True where `bar` is the most that it may be, False where it is the least.
        tasks: What must have been measured.
        value: The figure, from that.
    """

    key: str
    what: str
    bar: float
    most: bool
    tasks: tuple[str, ...]
    value: Callable[[Measured], float]

    def holds(self, value: float) -> bool:
        """Whether the bar is reached."""
        return value <= self.bar if self.most else value >= self.bar


def ratio(key: str, what: str, bar: float, *, of: tuple[str, str], to: tuple[str, str], most: bool) -> Figure:
    """`of` divided by `to`, each a task and the name of what it found."""
    tasks = tuple(dict.fromkeys((of[0], to[0])))
    return Figure(key, what, bar, most, tasks, lambda found: float(found[of[0]][of[1]] / found[to[0]][to[1]]))


def plain(key: str, what: str, bar: float, *, of: tuple[str, str], most: bool = True) -> Figure:
    """What a task found, by its name."""
    return Figure(key, what, bar, most, (of[0],), lambda found: float(found[of[0]][of[1]]))
