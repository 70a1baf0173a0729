"""A whole rehearsal: prepare, replay with faults and without, and once more without each mechanism."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from icekeel.core.errors import Fault, SettingsError
from icekeel.core.time import DAY, HOUR

from .course import Player, prepare
from .faults import CHALLENGED
from .past import Past
from .places import Places
from .plan import Plan, Wishes, make_plan
from .result import Rehearsed, judged

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Asked:
    """What is to be rehearsed.

    Attributes:
        wishes: The faults.
        days: Days of history that are replayed; None for as many as the faults need.
        seed: Of all randomness.
        without: Mechanisms whose worth is measured, by one more replay each.
        rung: Of the version that is trained for it; empty for the whole ladder.
    """

    wishes: Wishes
    days: int | None = None
    seed: int = 0
    without: Collection[str] = ()
    rung: str = ""


def rehearse(past: Past, folder: Path, asked: Asked, say: Say) -> Rehearsed:
    """Play the end of a project's history through copies of it, and judge what they found.

    Args:
        folder: Where the copies go; what was there is removed.

    Raises:
        SettingsError: the plan does not fit the project, or the days do not hold it.
        StateError: there is no history to replay, or a copy does not run.
    """
    plan, places = _fitting(past, asked)
    rivals = any(one.kind in CHALLENGED for one in plan.faults)
    prepare(past, folder / "base", plan.start, say, rung=asked.rung, rivals=rivals)
    player = Player(past, folder / "base", places, asked.seed)
    say("replaying with the faults")
    course = player.play(plan, folder / "faults", say)
    say("replaying without any")
    quiet = player.play(plan, folder / "quiet", say, faults=False)
    without = {}
    for name in sorted(asked.without):
        say(f"replaying without {name}")
        without[name] = player.play(plan, folder / f"without-{name}", say, without=[name])
    return judged(past.model, plan, course, quiet, seed=asked.seed, without=without)


def _fitting(past: Past, asked: Asked) -> tuple[Plan, Places]:
    """The plan at the end of the history, over so many days as were told, or as few as hold it."""
    end = past.end() // HOUR * HOUR
    days = asked.days or asked.wishes.days()
    while True:
        start = (end - days * DAY) // DAY * DAY
        places = Places(past, start)
        plan = make_plan(asked.wishes, places, start)
        if plan.end <= end:
            return plan.until(-(-plan.end // HOUR) * HOUR), places
        if asked.days is not None:
            what, needs = "the faults do not fit into the days that are replayed", (plan.end - start) / DAY
            raise SettingsError(Fault("too_few_days", what, "--days", str(days), f"{needs:.1f} or more"))
        days += 1
