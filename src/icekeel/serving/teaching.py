"""What people have taught the guard: findings that two of them accepted, each for a time.

A finding is its code and the values of its columns: `unseen_triple:die_cut+ink+turnaround` with `custom`, `metallic`,
`rush`. Of a number beyond its range it is all numbers on that side up to the one accepted, where its category has
the same value. Nothing of this is in a bundle: it holds for every version, and ends by itself.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from icekeel.core.time import format_time
from icekeel.guard import Verdict
from icekeel.guard.check import MOST_COMBINATIONS
from icekeel.registry import Review

Value = float | int | str | bool | None
PEOPLE = 2
"""Different people who must have accepted such a case."""


@dataclass(frozen=True, slots=True)
class Lesson:
    """A finding that was accepted.

    Attributes:
        code: The finding's.
        values: Column -> value; of a number the farthest that is accepted.
        by: Who accepted it.
        cases: In which predictions.
        until: Until when it is ordinary, microseconds UTC; None while it waits for a second person.
    """

    code: str
    values: Mapping[str, Value]
    by: Sequence[str]
    cases: Sequence[str]
    until: int | None

    def as_dict(self) -> dict[str, Any]:
        """As JSON; `until` is null while it waits for a second person."""
        until = None if self.until is None else format_time(self.until)
        return {**asdict(self), "until": until}


@dataclass(frozen=True, slots=True)
class _Acceptance:
    by: str
    until: int
    prediction: str
    bound: float

    def reaches(self, code: str, bound: float) -> bool:
        """Whether a finding with this number is one of those accepted; always where there is no number."""
        return bound >= self.bound if code.endswith(":below") else bound <= self.bound


_Key = tuple[str, tuple[Value, ...]]


class Taught:
    """The findings that are ordinary since people said so.

    Args:
        reviews: All decisions about one model, oldest first.
    """

    def __init__(self, reviews: Sequence[Review] = ()) -> None:
        self._accepted: dict[_Key, list[_Acceptance]] = {}
        for review in reviews:
            for code, values in review.findings.items():
                self._take(review, code, values)

    def _take(self, review: Review, code: str, values: Sequence[Value]) -> None:
        key, bound = _key(code, values)
        before = self._accepted.get(key, [])
        mine = _Acceptance(review.by, review.until, review.prediction, bound)
        if review.decision == "accepted":
            others = [one for one in before if (one.by, one.prediction) != (mine.by, mine.prediction)]
            self._accepted[key] = [*others, mine]
        else:  # it ends what has been accepted of such cases
            self._accepted[key] = [one for one in before if not one.reaches(code, bound)]

    def remaining(
        self, verdicts: list[Verdict], request: Mapping[str, Value], prediction: float, at: int
    ) -> list[Verdict]:
        """The verdicts that nobody has taught to be ordinary.

        A request with as many findings as are ever named keeps them all: there may be more.

        Args:
            request: Values of the request's fields.
            prediction: What the model said.
            at: Time of the question.
        """
        if not self._accepted or len(verdicts) >= MOST_COMBINATIONS:
            return verdicts
        return [
            one for one in verdicts if not self._covers(one.code, finding(one.code, request, prediction), at)
        ]

    def _covers(self, code: str, values: Sequence[Value], at: int) -> bool:
        key, bound = _key(code, values)
        accepted = self._accepted.get(key, ())
        return len({one.by for one in accepted if at < one.until and one.reaches(code, bound)}) >= PEOPLE

    def lessons(self, at: int) -> Iterator[Lesson]:
        """What is ordinary at a time, and what would be if another person accepted it."""
        for (code, others), accepted in self._accepted.items():
            live = [one for one in accepted if at < one.until]
            if live:
                yield _lesson(code, others, live)


def _lesson(code: str, others: Sequence[Value], live: Sequence[_Acceptance]) -> Lesson:
    below = code.endswith(":below")
    farthest: dict[str, float] = {}
    for one in live:
        farthest[one.by] = (min if below else max)(one.bound, farthest.get(one.by, one.bound))
    bound = sorted(farthest.values(), reverse=not below)[min(PEOPLE, len(farthest)) - 1]
    ends: dict[str, int] = {}
    for one in live:
        if one.reaches(code, bound):
            ends[one.by] = max(one.until, ends.get(one.by, 0))
    until = sorted(ends.values(), reverse=True)[PEOPLE - 1] if len(ends) >= PEOPLE else None
    values = others if math.isinf(bound) else (bound, *others)
    columns = code.split(":")[1].split("+")
    return Lesson(
        code, dict(zip(columns, values, strict=True)), list(farthest), [o.prediction for o in live], until
    )


def finding(code: str, request: Mapping[str, Value], prediction: float) -> list[Value]:
    """The values of a finding's columns."""
    values = [request.get(name) for name in code.split(":")[1].split("+")]
    return [prediction, *values[1:]] if code.startswith("odd_prediction:") else values


def _key(code: str, values: Sequence[Value]) -> tuple[_Key, float]:
    """What must be the same, and the number that may be less far: infinite where there is none."""
    if code.endswith((":above", ":below")):
        return (code, tuple(values[1:])), float(values[0] or 0)
    return (code, tuple(values)), math.inf
