"""Whether what a guard says of flagged requests can hold."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Protocol

from icekeel.core.errors import Fault, IcekeelError, nearest, shorten
from icekeel.core.kinds import Kind
from icekeel.core.time import parse_duration

from .expressions import is_number, lift
from .nodes import Call, Literal, Node, RequestField, broken, walk
from .policies import KINDS, POLICIES, Guard, RuleOfThumb, SimilarCases


class Guarded(Protocol):
    """What the policies of a guard must fit: the model that is defined."""

    request: Any
    features: Any
    action: Any

    @property
    def task(self) -> str:
        """Whether answers are probabilities or numbers."""


ALLOWED = "ik.mark(), ik.refuse(), ik.similar_cases(), ik.rule_of_thumb(...), ik.last_champion()"
MOST_CASES = 1_000


def conduct_faults(model: Guarded, guard: Guard, where: str) -> list[Fault]:
    """Everything that cannot hold in the policies of a guard."""
    if not isinstance(guard.kinds, Mapping):
        what, allowed = "kinds= says what happens by kind", 'kinds={"unseen_value": ik.refuse()}'
        return [Fault("wrong_type", what, where, shorten(guard.kinds), allowed)]
    above: object = guard.above
    if above is not None and not (isinstance(above, tuple) and len(above) == 2 and is_number(above[0])):
        what = "above= is an amount and what happens from there on"
        return [Fault("bad_guard", what, where, shorten(above), "above=(20_000, ik.refuse())")]
    found = list[Fault]()
    for kind in guard.kinds:
        if kind not in KINDS:
            got, near = shorten(kind), nearest(str(kind), KINDS)
            found.append(Fault("bad_guard", "no such kind", f"{where}, kinds", got, ", ".join(KINDS), near))
    for place, policy in guard.policies():
        found += policy_faults(model, policy, place, f"{where}, {place}")
    if guard.stake is not None:
        found += _expression_faults(model, lift(guard.stake), f"{where}, stake", features=False)
        if guard.above is None:
            found.append(Fault("bad_guard", "stake= says nothing without above=", where))
    elif guard.above is not None and model.task == "probability" and model.action is None:
        hint = "stake= an expression over the request, or action=ik.Act(...)"
        found.append(Fault("bad_guard", "nobody knows what is at stake", f"{where}, above", hint=hint))
    if guard.review is not None:
        found += duration_faults(f"{where}, review", guard.review, allowed='"30d"')
    return found


def policy_faults(
    model: Guarded, policy: Any, place: str, where: str, code: str = "bad_guard"
) -> Iterator[Fault]:
    """Why what stands at some place is no policy, or one that cannot hold."""
    if not isinstance(policy, POLICIES):
        name = place.rsplit(".", maxsplit=1)[-1].split("[", maxsplit=1)[0]
        yield Fault(code, f"{name}= is a policy", where, shorten(policy), ALLOWED)
    elif isinstance(policy, SimilarCases):
        k: object = policy.k
        if not isinstance(k, int) or isinstance(k, bool) or not (k == 0 or 2 <= k <= MOST_CASES):
            allowed = f"2 to {MOST_CASES:,}, or 0 for as many as do best"
            yield Fault("out_of_range", "out of range", f"{where}, k", shorten(k), allowed)
    elif isinstance(policy, RuleOfThumb):
        yield from _expression_faults(model, policy.node, where, features=True)


def _expression_faults(model: Guarded, node: Node, where: str, *, features: bool) -> list[Fault]:
    """Why an expression is no number over the request, or over the request and the model's features."""
    if faults := broken(walk(node)):
        return [fault.inside(where) for fault in faults]
    if node.kind is not Kind.NUM:
        return [Fault("wrong_kind", "expected a number", where, f"a {node.kind}")]
    known = {feature.node for feature in model.features.icekeel_features} if features else set()
    if all(_is_own(model, leaf) for leaf in _leaves(node, known)):
        return []
    allowed = "fields of the request, features of the model" if features else "fields of the request"
    return [Fault("bad_guard", "read where nothing else is known", where, allowed=allowed)]


def _leaves(node: Node, known: set[Node]) -> Iterator[Node]:
    """What an expression is made of, down to the features it names."""
    if node in known:
        return
    if isinstance(node, Call):
        for below in node.args:
            yield from _leaves(below, known)
    else:
        yield node


def _is_own(model: Guarded, leaf: Node) -> bool:
    own = isinstance(leaf, RequestField) and leaf.request == model.request.__name__
    return own or isinstance(leaf, Literal)


def range_faults(where: str, checks: Iterable[tuple[str, object, bool, str]]) -> list[Fault]:
    """Those of what is out of range: the place, what it is, whether it may be that, and what it may be."""
    return [
        Fault("out_of_range", "out of range", f"{where}, {place}", shorten(got), allowed)
        for place, got, holds, allowed in checks
        if not holds
    ]


def duration_faults(where: str, text: str, *, least: int = 0, allowed: str) -> list[Fault]:
    """Why a text is no duration, or one too short."""
    try:
        if parse_duration(text) < least:
            what = "retraining more than daily is not offered"
            return [Fault("bad_duration", what, where, text, "1d or more")]
    except IcekeelError as error:
        fault = error.faults[0]
        return [Fault(fault.code, fault.what, where, fault.got, allowed, fault.hint)]
    return []
