"""What every rung of the ladder offers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from icekeel.core.frames import Floats, Frame
from icekeel.engines import Engine

from .problem import Problem, TrainingSet


@dataclass(frozen=True, slots=True)
class Fitted:
    """One fit of a rung.

    Attributes:
        files: What the bundle ships; the same data and seed give the same bytes.
        engine: Loaded from those files: what will serve.
        reference: Predictions of the library that was trained with, to hold the engine against.
        again: The rung with what this fit has found out held fixed, for a fit on more rows; None where it
            found out nothing.
    """

    files: dict[str, bytes]
    engine: Engine
    reference: Callable[[Frame], Floats]
    again: Rung | None = None

    @property
    def size_bytes(self) -> int:
        """Bytes of all files together."""
        return sum(map(len, self.files.values()))


class Rung(Protocol):
    """One kind of model, with its settings."""

    @property
    def name(self) -> str:
        """Stable name: `group`, `linear`, `lightgbm`."""
        ...

    def fit(self, problem: Problem, data: TrainingSet) -> Fitted:
        """The model of these rows.

        Raises:
            TrainingError: no model can be fitted to them.
        """
        ...
