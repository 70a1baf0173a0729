"""Flagged requests that wait for a person, and what people decide about them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from icekeel.compile import compile_row, request_leaf
from icekeel.core.errors import Fault, RequestError
from icekeel.core.ids import new_id
from icekeel.core.time import Clock, format_time, parse_duration
from icekeel.data.answers import Answers, Wanted
from icekeel.define import Model, Project
from icekeel.define.expressions import lift
from icekeel.define.nodes import EventField, Outcome
from icekeel.journal import Predicted, Reviewed, Writer
from icekeel.registry import Registry, Review
from icekeel.serving.teaching import Lesson, Taught, Value, finding

DECISIONS = ("accepted", "rejected")
MOST_WAITING = 10_000
"""Flagged answers of a model, the newest, among which those that wait are looked for."""
MOST_LISTED = 100
"""Cases that are listed at once, the first of the queue."""


@dataclass(frozen=True, slots=True)
class Case:
    """A flagged answer and what people decided about it, oldest first."""

    record: Predicted
    reviews: Sequence[Review]
    stake: float

    @property
    def status(self) -> str:
        """`waiting`, or the last decision."""
        return self.reviews[-1].decision if self.reviews else "waiting"

    @property
    def answer(self) -> float | None:
        """What people answer: the model's answer if the last of them accepted it, else their own, if any."""
        if not self.reviews:
            return None
        return self.record.answer if self.status == "accepted" else self.reviews[-1].answer

    def outcome(self) -> dict[str, Any]:
        """What the system that asked may know, as JSON."""
        return {"prediction_id": self.record.id, "status": self.status, "answer": self.answer}

    def as_dict(self) -> dict[str, Any]:
        """All of it, as JSON."""
        return {
            **self.outcome(),
            "model": self.record.model,
            "asked_at": format_time(self.record.at),
            "stake": self.stake,
            "refused": self.record.verdict == "refused",
            "said": self.record.answer,
            "request": self.record.request,
            "codes": self.record.codes,
            "reasons": self.record.reasons,
            "decisions": [
                {
                    "at": format_time(one.at),
                    "by": one.by,
                    "decision": one.decision,
                    "answer": one.answer,
                    "reason": one.reason,
                    "until": format_time(one.until),
                }
                for one in self.reviews
            ],
        }


class Reviews:
    """The queue of one project.

    Args:
        project: The definitions.
        answers: Finds the flagged ones.
        registry: Where decisions are looked up.
        clock: The time.
    """

    def __init__(self, project: Project, answers: Answers, registry: Registry, clock: Clock) -> None:
        self._project = project
        self._answers = answers
        self._registry = registry
        self._clock = clock

    def waiting(self, model: str | None = None) -> list[Case]:
        """The undecided cases, first those with the largest stake times the time they have waited."""
        now, found = self._clock(), list[Case]()
        decided = {review.prediction for review in self._registry.reviews()}
        for one in self._project.models.values():
            if model in (None, one.name) and (span := _span(one)):
                wanted = Wanted(model=one.name, since=now - span, verdict="flagged", limit=MOST_WAITING)
                records = self._answers.find(wanted)
                stake = stakes(one)
                found += [Case(record, (), stake(record)) for record in records if record.id not in decided]
        return sorted(found, key=lambda case: (-case.stake * max(now - case.record.at, 1), case.record.id))

    def case(self, prediction: str) -> Case:
        """One case.

        Raises:
            RequestError: `unknown_prediction`; `no_case`, an answer that does not wait for a person.
        """
        record = self._answers.one(prediction)
        model = self._project.models.get(record.model)
        if record.verdict == "pass" or model is None or not _span(model):
            what = (
                "this answer does not wait for a person: it was not flagged, or its model declares no review="
            )
            raise RequestError(Fault("no_case", what, "prediction_id", prediction))
        reviews = [one for one in self._registry.reviews(record.model) if one.prediction == prediction]
        return Case(record, reviews, stakes(model)(record))

    def lessons(self, model: str) -> list[Lesson]:
        """What people have taught the guard of a model."""
        return list(Taught(self._registry.reviews(model)).lessons(self._clock()))

    def decide(
        self,
        journal: Writer,
        prediction: str,
        decision: str,
        *,
        by: str,
        reason: str,
        answer: float | None = None,
    ) -> Case:
        """Record what a person decided; the same again changes nothing.

        Args:
            journal: The decision is in it first; what the registry keeps follows from it.
            decision: `accepted` or `rejected`.
            by: Who decides: what another person accepts too is taught.
            answer: The person's own answer; only where the model's is rejected.

        Raises:
            RequestError: as `case`; `bad_review`, one for each fault.
        """
        case = self.case(prediction)
        _refuse(decision, by, reason, answer, _ends(self._project, self._project.models[case.record.model]))
        now = self._clock()
        mine = [review for review in case.reviews if review.by == by]
        if mine and (mine[-1].decision, mine[-1].answer) == (decision, answer) and mine[-1].until > now:
            return case
        record = Reviewed(
            at=now,
            id=new_id(now),
            prediction=prediction,
            model=case.record.model,
            decision=decision,
            answer=answer,
            findings=findings(case.record),
            until=now + _span(self._project.models[case.record.model]),
            by=by,
            reason=reason,
        )
        journal.append(record)
        self._registry.record(review_of(record))
        return self.case(prediction)


def review_of(record: Reviewed) -> Review:
    """A decision as the registry keeps it."""
    return Review(**{name: getattr(record, name) for name in Review.__dataclass_fields__})


def stakes(model: Model) -> Callable[[Predicted], float]:
    """Gives what hangs on an answer: what `stake=` says of its request, without end where that is null.

    Without it the answer's amount, and of an action the cost that is to be expected of its being wrong.
    """
    if model.guard is None or model.guard.stake is None:
        return partial(_hanging, model)
    names = list(model.request.icekeel_fields)
    row = compile_row([lift(model.guard.stake)], request_leaf(names), "r")

    def stated(record: Predicted) -> float:
        value = row([record.request.get(name) for name in names])[0]
        return math.inf if value is None else float(value)

    return stated


def _hanging(model: Model, record: Predicted) -> float:
    if model.action is None:
        return abs(record.answer)
    acted = record.prediction > model.action.threshold
    wrong, cost = (
        (1 - record.prediction, model.action.false) if acted else (record.prediction, model.action.missed)
    )
    return wrong * cost


def findings(record: Predicted) -> dict[str, list[Value]]:
    """Code of each of the guard's findings -> the values of its columns."""
    return {code: finding(code, record.request, record.prediction) for code in record.codes}


def _span(model: Model) -> int:
    """How long what is accepted is ordinary, and a case waits; 0 where the model has no queue."""
    review = model.guard.review if model.guard is not None else None
    return parse_duration(review) if review else 0


def _ends(project: Project, model: Model) -> tuple[float, float]:
    """Between what an answer can lie: a probability, or what its outcome's field allows."""
    if model.task == "probability":
        return 0.0, 1.0
    value = model.target.value if isinstance(model.target, Outcome) else None
    if not isinstance(value, EventField):
        return -math.inf, math.inf
    limits = project.tables[model.outcome.keyed.table].fields[value.name].limits
    low, high = (-math.inf if limits.low is None else limits.low), limits.high
    return low, math.inf if high is None else high


def _refuse(decision: str, by: str, reason: str, answer: float | None, ends: tuple[float, float]) -> None:
    faults = []
    if decision not in DECISIONS:
        faults.append(Fault("bad_review", "no such decision", "decision", decision, ", ".join(DECISIONS)))
    faults += [
        Fault("bad_review", "a decision needs who decides, and why", name)
        for name, text in (("by", by), ("reason", reason))
        if not text.strip()
    ]
    if answer is not None and decision != "rejected":
        what = "an answer of one's own goes with a rejection: to accept is to say that the model's is right"
        faults.append(Fault("bad_review", what, "answer", f"{answer:g}"))
    elif answer is not None and not (math.isfinite(answer) and ends[0] <= answer <= ends[1]):
        allowed = f"{ends[0]:g} to {ends[1]:g}"
        faults.append(Fault("bad_review", "no such thing can come", "answer", f"{answer:g}", allowed))
    if faults:
        raise RequestError(*faults)
