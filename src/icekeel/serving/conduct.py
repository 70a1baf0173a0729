"""What a flagged or stale request gets in place of the plain answer, as `guard=` and `stale=` of its model say."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from icekeel.compile import compile_row, request_leaf
from icekeel.compile.closure import Row
from icekeel.core.errors import RequestError
from icekeel.define import Guard, LastChampion, Mark, Model, Refuse, RuleOfThumb, SimilarCases
from icekeel.define.expressions import lift
from icekeel.define.nodes import Node
from icekeel.define.policies import Policy
from icekeel.features.plan import Plan
from icekeel.guard import Verdict

from .versions import LoadedVersion

Value = float | int | str | None
MODEL, SIMILAR, RULE, LAST = "model", "similar_cases", "rule_of_thumb", "last_champion"


class Conducted(NamedTuple):
    """What becomes of one request.

    Attributes:
        answer: What the caller gets, unless `refused`.
        interval: Its lower and upper end; None where there is none.
        source: What gave it: `model`, or the fall-back that stood in.
        refused: Whether the caller gets no answer but a refusal.
        raw: The answer before the postprocessors.
    """

    answer: float
    interval: tuple[float, float] | None
    source: str
    refused: bool
    raw: float


class Flagged(NamedTuple):
    """A request that the guard has flagged, and what the model says of it.

    Attributes:
        request: Values of the request's fields.
        features: Values of the plan's features.
        version: What answered, `raw` before and `answer` after the postprocessors, with an interval around it.
    """

    request: Sequence[Value]
    features: Sequence[Value]
    version: LoadedVersion
    raw: float
    answer: float
    interval: tuple[float, float] | None


class Conduct:
    """Decides about flagged requests of one model, and resolves what stands in for their answers.

    Args:
        model, plan: The definitions.
        finish: The postprocessors: an answer and a request in, the answer out.
        previous: The version that was champion before.
    """

    def __init__(
        self,
        model: Model,
        plan: Plan,
        *,
        finish: Callable[[float, Sequence[Value]], float],
        previous: Callable[[], LoadedVersion | None],
    ) -> None:
        self._guard = model.guard or Guard()
        self._stale = model.stale.otherwise
        self._finish = finish
        self._previous = previous
        self._number = model.task == "number"
        self._amount = math.inf if self._guard.above is None else self._guard.above[0]
        self._mistake = max(model.action.missed, model.action.false) if model.action is not None else 0.0
        stake = self._guard.stake
        self._stake = None if stake is None else _compiled(lift(stake), plan)
        self._rules = {
            policy.node: _compiled(policy.node, plan)
            for _, policy in (*self._guard.policies(), *model.stale.policies())
            if isinstance(policy, RuleOfThumb)
        }

    def of(
        self,
        verdicts: Sequence[Verdict],
        flagged: Flagged,
        flags: Callable[[LoadedVersion, float], object],
    ) -> Conducted:
        """What becomes of a request that the guard has flagged.

        Args:
            verdicts: What was found, at least one.
            flagged: The request, and what the model says of it.
            flags: Whether the guard of another version, which predicts so much, finds something too.
        """
        policies = [self._guard.kinds.get(one.kind, self._guard.otherwise) for one in verdicts]
        found = self._resolve(max(policies, key=_strictness), flagged, flags)
        if self._guard.above is not None and self._at_stake(flagged, found) >= self._amount:
            return self._resolve(self._guard.above[1], flagged, flags)
        return found

    def of_old(self, flagged: Flagged, flags: Callable[[LoadedVersion, float], object]) -> Conducted:
        """What becomes of a request whose features are older than the project lets the model answer from."""
        return self._resolve(self._stale, flagged, flags)

    def _at_stake(self, flagged: Flagged, found: Conducted) -> float:
        """What is at stake; where that cannot be known, as much as there can be."""
        if self._stake is not None:
            value = self._stake(flagged.request, flagged.features)[0]
            return math.inf if value is None else float(value)
        return max(abs(flagged.answer), abs(found.answer)) if self._number else self._mistake

    def _resolve(
        self, policy: Policy, flagged: Flagged, flags: Callable[[LoadedVersion, float], object]
    ) -> Conducted:
        while not isinstance(policy, Refuse | Mark):
            if isinstance(policy, SimilarCases):
                found = self._similar(policy, flagged)
            elif isinstance(policy, RuleOfThumb):
                found = self._given(
                    self._rules[policy.node](flagged.request, flagged.features)[0], flagged, RULE
                )
            else:
                found = self._last(flagged, flags)
            if found is not None:
                return found
            policy = policy.otherwise
        refused = isinstance(policy, Refuse)
        return Conducted(flagged.answer, flagged.interval, MODEL, refused, flagged.raw)

    def _similar(self, policy: SimilarCases, flagged: Flagged) -> Conducted | None:
        """What is typical of similar cases, between the ends of nine in ten of their outcomes."""
        cases = flagged.version.similar.get()
        if cases is None:
            return None
        typical = cases.typical(
            [flagged.features[place] for place in flagged.version.similar.places], policy.k
        )
        if typical is None:
            return None
        found = self._given(typical.value, flagged, SIMILAR)
        if found is None or not self._number:
            return found
        low, high = (self._finish(end, flagged.request) for end in (typical.low, typical.high))
        return found._replace(interval=(low, high))

    def _last(self, flagged: Flagged, flags: Callable[[LoadedVersion, float], object]) -> Conducted | None:
        """What the champion before says, unless its guard finds something too."""
        version = self._previous()
        if version is None or version is flagged.version:
            return None
        raw = version.engine.predict_one([flagged.features[place] for place in version.places])
        if flags(version, raw):
            return None
        found = self._given(raw, flagged, LAST)
        if found is None or version.interval is None:
            return found
        return found._replace(interval=version.interval.around(found.answer))

    def _given(self, raw: float | None, flagged: Flagged, source: str) -> Conducted | None:
        """An answer without an interval; None where there is none."""
        if raw is None:
            return None
        try:
            return Conducted(self._finish(raw, flagged.request), None, source, refused=False, raw=raw)
        except RequestError:  # it is not finite
            return None


def _strictness(policy: Policy) -> int:
    return 2 if isinstance(policy, Refuse) else 0 if isinstance(policy, Mark) else 1


def _compiled(node: Node, plan: Plan) -> Row:
    """`row(r, f)`: an expression over a request and the plan's features."""
    field = request_leaf([field.name for field in plan.fields])
    features = {feature.node: place for place, feature in enumerate(plan.features)}

    def leaf(node: Node) -> tuple[str, bool] | None:
        return field(node) or ((f"f[{features[node]}]", True) if node in features else None)

    return compile_row([node], leaf, "r, f")


def reads_last_champion(model: Model) -> bool:
    """Whether the champion before may have to answer."""
    guarded = model.guard.policies() if model.guard is not None else ()
    return any(isinstance(policy, LastChampion) for _, policy in (*guarded, *model.stale.policies()))
