"""Jobs asked about by hand: ordinary ones, one never seen, one beyond all others, one before and after news."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from icekeel.core.errors import Fault, StateError
from icekeel.core.time import DAY, HOUR
from icekeel.journal import Predicted, scan
from icekeel.operations.rehearsal.replay import Connection, Played, Replay, Step
from icekeel.operations.rehearsal.system import System

from .simulate import NEVER_SEEN, Truth

MODEL = "price"
Job = Mapping[str, str | float]
Question = Mapping[str, Any]
"""A job with its quote and customer."""
BOX: Job = {
    "product": "box",
    "substrate": "coated",
    "colors": 4.0,
    "sides": 1.0,
    "die_cut": "none",
    "ink": "standard",
    "turnaround": "standard",
    "quantity": 280.0,
    "material_cost": 205.0,
}
NEWCOMER = "N0001"
REGULAR = "N0002"


@dataclass(frozen=True, slots=True)
class Case:
    """One question, what the caller got, and what the journal says of it.

    Attributes:
        truth: What the simulator says it costs, for a new customer at normal backlog and season.
        status: HTTP status: 200, or 422 where the guard refuses.
        body: What the caller got.
        record: The journal's record. Its `answer` is there also where the caller was refused it: what would
            have been charged without the guard.
    """

    name: str
    truth: float
    status: int
    body: Mapping[str, Any]
    record: Predicted

    @property
    def refused(self) -> bool:
        """Whether the guard refused to answer."""
        return self.status == 422

    @property
    def error(self) -> float:
        """How far the price without a guard lies from the truth, as a share of the truth."""
        return self.record.answer / self.truth - 1


class Desk:
    """Where sales asks and the books report, over HTTP.

    Args:
        system: The processes that run.
        token: With the scope `admin`.
        truth: What jobs really cost.
        journal: Where the answers can be looked up.
    """

    def __init__(self, system: System, token: str, truth: Truth, journal: Path) -> None:
        self._system = system
        self._token = token
        self._truth = truth
        self._journal = journal

    def play(self, steps: Sequence[Step]) -> Played:
        """Push and ask all of it, and let the keeper follow to the end."""
        replay = Replay(MODEL, self._system.port, self._token, alive=self._system.alive)
        # How far the keeper has to be counts from the beginning of the journal.
        return replay.play(steps, lambda *_: None)

    def ask_cases(self, *, at: int) -> list[Case]:
        """Ordinary jobs, then the one never seen, then one whose material exceeds all experience."""
        parts = list(NEVER_SEEN.items())
        pairs = [dict(pair) for pair in (parts[:2], parts[1:], parts[::2])]
        jobs: dict[str, Job] = {_words(changes): {**BOX, **changes} for changes in ({}, *pairs, NEVER_SEEN)}
        jobs["60,000 boxes of the dearest board"] = {**BOX, "quantity": 60_000.0, "material_cost": 412_346.0}
        questions = [
            {**job, "quote_id": f"case-{place}", "customer": NEWCOMER}
            for place, job in enumerate(jobs.values())
        ]
        return self._cases(list(jobs), questions, self._ask(questions, at=at))

    def ask_twice(self, *, at: int) -> tuple[Case, Case]:
        """The same job before and an hour after ten orders of its customer are pushed."""
        names = ["before its orders are known", "after ten orders are booked"]
        questions = [{**BOX, "quote_id": f"news-{place}", "customer": REGULAR} for place in range(2)]
        replies = self._ask(questions[:1], at=at)
        orders = [
            {
                "order_id": f"news-{place}",
                "customer": REGULAR,
                "revenue": 4_000.0,
                "margin": 0.35,
                "ordered_at": at - (10 + 20 * place) * DAY,
                "booked_at": at + HOUR // 2,
            }
            for place in range(10)
        ]
        self.play([Step(at, at + HOUR, {"Orders": orders}, [])])
        replies += self._ask(questions[1:], at=at + HOUR)
        before, after = self._cases(names, questions, replies)
        return before, after

    def _ask(self, questions: Sequence[Question], *, at: int) -> list[tuple[int, dict[str, Any]]]:
        """Status and body of each answer."""

        async def talk() -> list[tuple[int, dict[str, Any]]]:
            connection = Connection(self._system.port, self._token)
            replies = []
            for question in questions:
                body = msgspec.json.encode({**question, "asked_at": at})
                status, answer = await connection.send("POST", f"/v1/predict/{MODEL}", body)
                if status not in (200, 422):
                    text = answer.decode(errors="replace")[:300]
                    raise StateError(Fault("demo_failed", f"a question was answered with {status}", "", text))
                replies.append((status, msgspec.json.decode(answer)))
            connection.close()
            return replies

        return asyncio.run(talk())

    def _cases(
        self,
        names: Sequence[str],
        questions: Sequence[Question],
        replies: Sequence[tuple[int, dict[str, Any]]],
    ) -> list[Case]:
        records = {record.key: record for record in scan(self._journal, kinds=Predicted)}
        return [
            Case(name, self._truth.true_price(question), *reply, records[question["quote_id"]])
            for name, question, reply in zip(names, questions, replies, strict=True)
        ]


def _words(changes: Mapping[str, str]) -> str:
    """How a job differs from the plain one: `custom die_cut + metallic ink`."""
    words = [f"{value} {name.replace('_', '-')}" for name, value in changes.items()]
    return " + ".join(words) or "plain box"
