"""Experiments, as the history of aliases tells them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from .changes import CHAMPION
from .records import Change

CHALLENGER = "challenger"
SHADOW = "shadow"


@dataclass(frozen=True, slots=True)
class Trial:
    """One experiment: a challenger since it was drawn, with every share it has had.

    Attributes:
        since: When the comparison began: of the two versions, when the later one took its place.
        steps: (time, share) of each step.
        ended: When it was over; None while it runs.
        alias: `CHALLENGER`, or `SHADOW`, whose share is 0.
    """

    model: str
    champion: str
    version: str
    salt: str
    since: int
    steps: tuple[tuple[int, float], ...]
    ended: int | None = None
    why: str = ""
    alias: str = CHALLENGER

    def phases(self, *, even: bool) -> dict[str, float]:
        """Name of each stretch -> share of the challenger among the exposed; `even` as of the model's rollout."""
        return {f"{self.salt}@{share:g}": max(0.5, share) if even else share for _, share in self.steps}

    @property
    def share(self) -> float:
        """That of the challenger, at its last step."""
        return self.steps[-1][1]

    @property
    def in_shadow(self) -> bool:
        """Whether both versions are asked the same questions, and only the champion answers."""
        return self.alias == SHADOW


def trials(history: Sequence[Change], alias: str = CHALLENGER) -> list[Trial]:
    """Every experiment of one model, oldest first, told from the history of its aliases; with `SHADOW` those in shadow."""
    champion, began, open_, found = "", 0, None, list[Trial]()
    for change in history:
        if change.alias == CHAMPION and change.action != "drop":
            champion, began = change.version, change.at
            if open_ is not None and open_.version != champion:
                open_ = replace(open_, champion=champion, since=max(open_.since, began))
            continue
        if change.alias != alias:
            continue
        if open_ is not None and (change.action == "drop" or change.salt != open_.salt):
            found.append(replace(open_, ended=change.at, why=change.reason))
            open_ = None
        if change.action == "drop":
            continue
        step = (change.at, change.share)
        since = max(change.at, began)
        known = open_ or Trial(change.model, champion, change.version, change.salt, since, (), alias=alias)
        open_ = replace(known, steps=(*known.steps, step))
    return [*found, *([open_] if open_ is not None else [])]


def all_trials(history: Sequence[Change]) -> list[Trial]:
    """Every experiment of one model, in shadow and split, in the order in which they began."""
    return sorted([*trials(history, SHADOW), *trials(history)], key=lambda one: one.since)
