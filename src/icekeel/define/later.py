"""What happened after a question: the columns of outcomes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from icekeel.core.errors import Fault
from icekeel.core.kinds import Kind

from .columns import Columns, Fields, no_aggregate
from .expressions import Num, Unfinished, Wrong, expression, invalid
from .nodes import Invalid, Keyed, Node, Outcome, Scalar

_NUMERIC = (Kind.NUM, Kind.FLAG)

UNKNOWN = None
"""For `absent=`: a question without an outcome is left out of training and of the error."""


class Later(Columns):
    """Events after the question, from which an outcome is made: `later.price.latest(absent=ik.UNKNOWN)`."""

    __slots__ = ("_within",)

    def __init__(self, keyed: Keyed, fields: Fields, within: int, faults: list[Fault]) -> None:
        super().__init__(keyed, fields, faults)
        self._within = within

    def __getattr__(self, name: str) -> LaterValues:
        return LaterValues(self, self._node(name))

    def count(self, *, absent: float | None = 0) -> Num:
        """Number of events."""
        result: Num = self._outcome("count", None, absent)
        return result

    def _outcome(self, function: str, value: Node | None, absent: Scalar) -> Any:
        faults = [*self._faults, *(value.faults if isinstance(value, Invalid) else ())]
        kind = Kind.NUM if value is None or function not in ("last", "first") else value.kind
        if value is not None and value.kind not in _NUMERIC and not faults:
            faults.append(
                Fault("wrong_kind", "an outcome is a Num or Flag", self._keyed.table, f"a {value.kind}")
            )
        if absent is UNSAID:
            what = "absent= says what it means that nothing came"
            hint = "absent=ik.UNKNOWN leaves such questions out, absent=0 counts them as 0"
            faults.append(Fault("missing_absent", what, self._keyed.table, hint=hint))
        if faults:
            return invalid(kind, *faults)
        # With a value for "nothing came", early outcomes alone would be a sample of those that came.
        early = function in ("last", "first") and absent is None
        return expression(Outcome(function, self._keyed, self._within, value, kind, early, absent))


UNSAID: Any = object()
"""For an `absent=` that was left out, which is a fault to be reported with all others."""


class LaterValues(Unfinished):
    """One column of what happened later."""

    __slots__ = ("_later", "_value")

    def __init__(self, later: Later, value: Node) -> None:
        self._later = later
        self._value = value

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Wrong:
            return no_aggregate(self, name, f"{self._later._keyed.table}.{name}")

    def latest(self, *, absent: float | None = UNSAID) -> Any:
        """Value of the latest event; known as soon as there is one, with `absent=` when the time is over."""
        return self._later._outcome("last", self._value, absent)

    def first(self, *, absent: float | None = UNSAID) -> Any:
        """Value of the first event; known as soon as there is one, with `absent=` when the time is over."""
        return self._later._outcome("first", self._value, absent)

    def sum(self, *, absent: float | None = UNSAID) -> Num:
        """Sum; known when the time is over."""
        result: Num = self._later._outcome("sum", self._value, absent)
        return result

    def mean(self, *, absent: float | None = UNSAID) -> Num:
        """Mean; known when the time is over."""
        result: Num = self._later._outcome("mean", self._value, absent)
        return result

    def max(self, *, absent: float | None = UNSAID) -> Num:
        """Largest value; known when the time is over."""
        result: Num = self._later._outcome("max", self._value, absent)
        return result
