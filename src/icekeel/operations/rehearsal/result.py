"""What a rehearsal showed: found after how long, called what, answered by what, and what the gap cost."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any

import numpy as np

from icekeel.core.frames import Floats
from icekeel.core.time import DAY, MINUTE
from icekeel.define import Model
from icekeel.registry import CHALLENGER, Alert
from icekeel.training.problem import Problem, action_costs

from .course import Course
from .faults import CHALLENGED, KINDS, Change
from .plan import Plan

YEAR = 365 * DAY
MONTH = YEAR / 12
FOUND, ABSORBED, MISSED, UNSEEN = "found", "absorbed", "missed", "not shown"
VERDICTS = ("promote", "stop")
ECHO = 30 * MINUTE
"""An alert that says it began so long before a fault is about something else."""
HARMLESS = 1e-9
"""Largest relative difference of answers that are still the same."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one fault.

    Attributes:
        kind, says, where, size: The fault.
        start, end, shown: When it was injected, and when it first showed, microseconds UTC.
        status: `found`, `absorbed` (shown to be harmless), `missed`, or `not shown` (nothing of it touched anything).
        minutes: From the moment it showed to the first sign of it; None where there was none.
        called, expected: What the alert names as cause, and what it should.
        right: Whether that is so; None for what was absorbed.
        sentence: The alert's title, or what was done.
        actions: Decisions and alerts that followed.
        cost: Dollars that its answers cost more than those without it, until it was found.
        unanswered: Questions that got no answer in that time, which no cost is reckoned for.
        differ: Answers that differ from those without the fault.
    """

    kind: str
    says: str
    where: str
    size: float
    start: int
    end: int
    shown: int
    status: str
    minutes: float | None
    called: str
    expected: Sequence[str]
    right: bool | None
    sentence: str
    actions: Sequence[str]
    cost: float
    unanswered: int
    differ: int


@dataclass(frozen=True, slots=True)
class Alarm:
    """An alert where nothing was wrong."""

    at: int
    cause: str
    title: str


@dataclass(frozen=True, slots=True)
class Worth:
    """What a mechanism was worth: dollars that the same rehearsal cost more without it, and what was found."""

    mechanism: str
    usd: float
    found: float


@dataclass(frozen=True, slots=True)
class Rehearsed:
    """The result of a rehearsal.

    Attributes:
        false_alarms: Alerts of the quiet replay, and those of the other before its first fault.
        quiet_days: Virtual days in which nothing was wrong.
        money: `$`; empty where costs are those of an action's mistakes, in whatever unit they are declared.
        alerts: Cause of each alert of the replay with faults, and when it was opened and resolved.
        walls: What depends on the machine: wall seconds, requests per second, CPU seconds.
    """

    model: str
    seed: int
    start: int
    end: int
    asked: int
    pushed: int
    quarantined: int
    outcomes: Sequence[Outcome]
    false_alarms: Sequence[Alarm]
    quiet_days: float
    skipped: Sequence[str]
    worth: Sequence[Worth] = ()
    money: str = "$"
    alerts: Sequence[tuple[str, int, int]] = ()
    walls: Mapping[str, float] = field(default_factory=dict)

    @property
    def shown(self) -> list[Outcome]:
        """Faults that touched anything."""
        return [one for one in self.outcomes if one.status != UNSEEN]

    @property
    def found(self) -> float:
        """Share of the faults that showed which were found, or shown to be harmless."""
        shown = self.shown
        return sum(one.status in (FOUND, ABSORBED) for one in shown) / len(shown) if shown else math.nan

    @property
    def cause_right(self) -> float:
        """Share of those that were found whose cause was named."""
        named = [one.right for one in self.outcomes if one.right is not None]
        return sum(named) / len(named) if named else math.nan

    @property
    def minutes(self) -> list[float]:
        """Virtual minutes to the alert of those that were found; a challenger is decided about by evidence, not found."""
        found = [one for one in self.outcomes if one.kind not in CHALLENGED and one.status == FOUND]
        return [one.minutes for one in found if one.minutes is not None]

    @property
    def false_alarms_per_month(self) -> float:
        """Alerts a month where nothing was wrong."""
        return len(self.false_alarms) * MONTH / (self.quiet_days * DAY) if self.quiet_days else math.nan

    def as_dict(self) -> dict[str, Any]:
        """For JSON; `walls` holds all that differs between two runs of the same seed."""
        minutes = self.minutes
        figures = {
            "found": self.found,
            "cause_right": self.cause_right,
            "minutes_median": median(minutes) if minutes else None,
            "minutes_worst": max(minutes, default=None),
            "cost": sum(one.cost for one in self.outcomes),
            "false_alarms_per_month": self.false_alarms_per_month,
        }
        found = {
            name: None if value is None or not math.isfinite(value) else value
            for name, value in figures.items()
        }
        rest = asdict(self)
        walls = rest.pop("walls")
        return {**found, **rest, "walls": walls}


def costs(model: Model, answers: Floats, targets: Floats, per_year: float) -> Floats:
    """What each answer cost, in dollars: of the action's two mistakes, or by the declared worth of an error point.

    Args:
        per_year: Answers a year, over which the worth of an error point is spread.
    """
    if model.action is not None:
        return action_costs(model.action, answers, targets)
    problem = Problem(model.task, model.error)  # type: ignore[arg-type]  # checked with the project
    with np.errstate(all="ignore"):
        errors = problem.row_errors(targets, answers)
    each = model.choose.within.error_point / 0.01 / max(per_year, 1.0)
    return np.where(np.isfinite(errors), errors, 0.0) * each


class Judge:
    """Holds a replay with faults against one without.

    Args:
        per_year: Answers a year.
    """

    def __init__(self, model: Model, plan: Plan, course: Course, quiet: Course, per_year: float) -> None:
        self._model, self._plan, self._course, self._quiet = model, plan, course, quiet
        keys = [key for key, (_, said) in course.given.items() if said is not None and key in quiet.given]
        keys = [key for key in keys if quiet.given[key][1] is not None]
        self._at = np.array([course.given[key][0] for key in keys], dtype=np.int64)
        mine, theirs = (
            np.array([one.given[key][1] for key in keys], dtype=np.float64) for one in (course, quiet)
        )
        self._differ = np.abs(mine - theirs) > HARMLESS * np.abs(theirs)
        known = np.array([key in course.targets and key in quiet.targets for key in keys], dtype=np.bool_)
        self._more = np.zeros(len(keys))
        targets = [
            np.array([one.targets[key] for key, on in zip(keys, known, strict=True) if on])
            for one in (course, quiet)
        ]
        self._more[known] = costs(model, mine[known], targets[0], per_year) - costs(
            model, theirs[known], targets[1], per_year
        )
        answered = {key for key, (_, said) in quiet.given.items() if said is not None}
        lost = [at for key, (at, said) in course.given.items() if said is None and key in answered]
        self._lost = np.array(sorted(lost), dtype=np.int64)

    def outcomes(self) -> list[Outcome]:
        """What became of each fault."""
        changes = sorted(self._course.changes, key=lambda one: one.fault.start)
        ends = [*(one.fault.start for one in changes[1:]), self._plan.end]
        return [self._outcome(change, until) for change, until in zip(changes, ends, strict=True)]

    def total(self) -> float:
        """Dollars that all answers cost more than those without faults."""
        return float(self._more.sum())

    def _outcome(self, change: Change, until: int) -> Outcome:
        fault, kind = change.fault, KINDS[change.fault.kind]
        expected = tuple(kind.causes(fault.where))
        seen, called, sentence = self._first_sign(change, expected, until)
        shown = change.shown or fault.start
        status, right = (FOUND, called in expected) if called else (MISSED, None)
        told = [f"{one.kind}: {one.reason}" for one in self._course.decisions if shown < one.at <= until]
        differ = int((self._differ & self._between(shown, until)).sum())
        if not change.touched:
            status, right = UNSEEN, None
        elif kind.absorbed and not right and not differ and not self._unanswered(shown, until):
            status, right, sentence = ABSORBED, None, "no answer differs, and none is missing"
        if kind.decides is not None and change.touched:
            seen, status, called, right, sentence = self._decided(kind.decides, shown, until)
        end = seen if status == FOUND else until
        return Outcome(
            kind=fault.kind,
            says=kind.says,
            where=fault.where,
            size=fault.size,
            start=fault.start,
            end=fault.end,
            shown=change.shown,
            status=status,
            minutes=max(0.0, (seen - shown) / MINUTE) if status == FOUND else None,
            called=called if status == FOUND else "",
            expected=expected,
            right=right,
            sentence=sentence,
            actions=told,
            cost=float(self._more[self._between(shown, end)].sum()),
            unanswered=self._unanswered(shown, end),
            differ=differ,
        )

    def _decided(self, deserved: str, shown: int, until: int) -> tuple[int, str, str, bool | None, str]:
        """What the loop decided about a challenger, and whether it deserved it."""
        mine = [one for one in self._course.decisions if shown < one.at < until and one.kind in VERDICTS]
        if not mine:
            undecided = "still undecided when it was taken away"
            return until, MISSED if deserved else ABSORBED, "", None, undecided
        first = mine[0]
        right = first.kind == deserved
        return first.at, FOUND, f"{CHALLENGER} {first.kind}", right, first.reason

    def _between(self, since: int, until: int) -> Any:
        return (self._at >= since) & (self._at < until)

    def _unanswered(self, since: int, until: int) -> int:
        low, high = np.searchsorted(self._lost, [since, until])
        return int(high - low)

    def _first_sign(self, change: Change, expected: Sequence[str], until: int) -> tuple[int, str, str]:
        """When the fault was first noticed, as what, and in which words: by an alert, or by the guard on the spot."""
        shown = change.shown or change.fault.start
        usual = {(one.cause, one.at) for one in self._quiet.alerts}  # would have come without the fault
        alerts = [one for one in self._course.alerts if shown <= one.at < until]
        alerts = [one for one in alerts if (one.cause, one.at) not in usual]
        # What began before is told again where it was resolved when this fault began.
        alerts = [one for one in alerts if int(one.evidence.get("since") or shown) >= shown - ECHO]
        alerts.sort(key=lambda one: (one.cause not in expected, one.at))
        signs = [(one.at, one.cause, _title(one)) for one in alerts[:1]]
        flags = [one for one in self._course.flagged if shown <= one[0] < change.fault.end]
        if "guard" in expected and flags:
            became = ", ".join(
                f"{source} {count}" for source, count in Counter(one[1] for one in flags).most_common()
            )
            signs.append(
                (flags[0][0], "guard", f"{len(flags)} requests were flagged before the answer: {became}")
            )
        return min(signs, key=lambda one: (one[1] not in expected, one[0]), default=(0, "", ""))


def _title(alert: Alert) -> str:
    return str(alert.evidence.get("title", alert.cause))


def judged(
    model: Model, plan: Plan, course: Course, quiet: Course, *, seed: int, without: Mapping[str, Course]
) -> Rehearsed:
    """The result of a replay with faults, one without, and those without a mechanism."""
    days = (plan.end - plan.start) / DAY
    per_year = len(quiet.given) / days * 365
    judge = Judge(model, plan, course, quiet, per_year)
    first = min((one.start for one in plan.faults), default=plan.end)
    alarms = [*quiet.alerts, *(one for one in course.alerts if one.at < first)]
    unique = {(one.at, one.cause): Alarm(one.at, one.cause, _title(one)) for one in alarms}
    worth = []
    for name, other in without.items():
        there = Judge(model, plan, other, quiet, per_year)
        found = [one for one in there.outcomes() if one.status != UNSEEN]
        share = sum(one.status in (FOUND, ABSORBED) for one in found) / max(len(found), 1)
        worth.append(Worth(name, there.total() - judge.total(), share))
    courses = [course, quiet, *without.values()]
    seconds = sum(one.seconds for one in courses)
    walls = {
        "seconds": seconds,
        "requests_per_second": sum(one.asked for one in courses) / seconds if seconds else 0.0,
        **{f"{name}_cpu_s": cpu for name, cpu in course.cpu.items()},
    }
    return Rehearsed(
        model=model.name,
        seed=seed,
        start=plan.start,
        end=plan.end,
        asked=course.asked,
        pushed=course.pushed,
        quarantined=course.quarantined,
        outcomes=judge.outcomes(),
        false_alarms=list(unique.values()),
        quiet_days=days,
        skipped=plan.skipped,
        worth=worth,
        money="$" if model.action is None else "",
        alerts=[(one.cause, one.at, one.resolved_at or plan.end) for one in course.alerts],
        walls=walls,
    )
