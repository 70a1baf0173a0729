"""What a flagged request gets in place of the plain answer, as `guard=` of its model says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from icekeel.define import Model, Refuse
from icekeel.guard import Verdict

from .versions import LoadedVersion

Value = float | int | str | None
MODEL = "model"


class Conducted(NamedTuple):
    """What becomes of one request.

    Attributes:
        answer: What the caller gets, unless `refused`.
        interval: Its lower and upper end; None where there is none.
        source: What gave it: `model`, or the fall-back that stood in.
        refused: Whether the caller gets no answer but a refusal.
    """

    answer: float
    interval: tuple[float, float] | None
    source: str
    refused: bool


class Conduct:
    """Decides about flagged requests of one model, and resolves what stands in for their answers.

    Args:
        model: Its definition.
        fields: Names of the request's fields, in the order in which their values are given.
    """

    def __init__(self, model: Model, fields: Sequence[str]) -> None:
        del fields
        self._refuses = model.guard is not None and isinstance(model.guard.otherwise, Refuse)

    def of(
        self,
        verdicts: Sequence[Verdict],
        request: Sequence[Value],
        features: Sequence[Value],
        *,
        version: LoadedVersion,
        answer: float,
        interval: tuple[float, float] | None,
    ) -> Conducted:
        """What becomes of a request that the guard has flagged.

        Args:
            verdicts: What was found, at least one.
            request: Values of the request's fields.
            features: Values of the plan's features.
            version: What answered.
            answer: What the model said, after the postprocessors.
            interval: Around it.
        """
        return Conducted(answer, interval, MODEL, self._refuses)
