"""The queue of flagged requests over HTTP: what waits, what was decided, and deciding."""

from __future__ import annotations

from typing import Any

import msgspec

from icekeel.core.errors import Fault, RequestError, first_faults, shorten
from icekeel.journal import Writer
from icekeel.operations.loop.reviews import MOST_LISTED, Reviews

from .problems import Reply

_encode = msgspec.json.Encoder().encode


def waiting(reviews: Reviews, model: str | None) -> Reply:
    """The first cases that wait, with the guard's reasons, and how many more there are."""
    cases = reviews.waiting(model)
    first = [case.as_dict() for case in cases[:MOST_LISTED]]
    return Reply(200, _encode({"waiting": first, "more": len(cases) - len(first)}))


def decision(reviews: Reviews, prediction: str) -> Reply:
    """What became of one case, for the system that asked: none of the guard's reasons."""
    return Reply(200, _encode(reviews.case(prediction).outcome()))


def decide(reviews: Reviews, journal: Writer, prediction: str, body: Any, *, by: str) -> Reply:
    """Take a person's decision.

    Args:
        by: Name of the token, which says who decides; empty where no tokens are asked for: the body says it then.

    Raises:
        RequestError: `bad_review`, one for each fault; or there is no such case.
    """
    given = body if isinstance(body, dict) else {}
    texts = ("decision", "reason") if by else ("decision", "reason", "by")
    allowed = ", ".join((*texts, "answer"))
    faults = [
        Fault("bad_review", "no such member", shorten(name), "", allowed)
        for name in given
        if name not in (*texts, "answer")
    ]
    faults += [
        Fault("bad_review", "expected a text", name, shorten(given.get(name)))
        for name in texts
        if not isinstance(given.get(name), str)
    ]
    answer = given.get("answer")
    if answer is not None and (isinstance(answer, bool) or not isinstance(answer, int | float)):
        faults.append(Fault("bad_review", "expected a number", "answer", shorten(answer)))
    if faults:
        raise RequestError(*first_faults(faults, len(faults)))
    case = reviews.decide(
        journal,
        prediction,
        given["decision"],
        by=by or given["by"],
        reason=given["reason"],
        answer=None if answer is None else float(answer),
    )
    return Reply(200, _encode(case.as_dict()))
