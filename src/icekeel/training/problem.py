"""What is to be predicted, how a wrong prediction counts, and the rows to learn from."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from icekeel.core.errors import Fault, TrainingError
from icekeel.core.frames import Array, Bools, Column, Floats, Frame, Ints, Kind
from icekeel.core.statistics import absolute_percentage_error, log_loss
from icekeel.define import Act
from icekeel.engines.encoder import READABLE
from icekeel.engines.links import Link

FEWEST_ROWS = 20


@dataclass(frozen=True, slots=True)
class Problem:
    """A number or a probability to predict, and the error by which candidates are compared.

    Attributes:
        task: `number`, or `probability` of a target that is 0 or 1.
        error: `log_loss` (nats) for probabilities; `mape` (a share), `mae` or `rmse` (units of the target)
            for numbers.
    """

    task: Literal["number", "probability"]
    error: Literal["log_loss", "mape", "mae", "rmse"]
    seed: int = 0

    def __post_init__(self) -> None:
        if (self.task == "probability") is not (self.error == "log_loss"):
            allowed = "log_loss" if self.task == "probability" else "mape, mae, rmse"
            raise TrainingError(
                Fault("bad_error", f"not an error of a {self.task}", "error", self.error, allowed)
            )

    @property
    def log_target(self) -> bool:
        """Whether models learn the logarithm of the target: equal factors then count alike, as in MAPE."""
        return self.error == "mape"

    @property
    def link(self) -> Link:
        """From the scale that a model adds on to that of the target."""
        return "logit" if self.task == "probability" else "exp" if self.log_target else "identity"

    def row_errors(self, truth: Floats, prediction: Floats) -> Floats:
        """The error of each row, shape `(n_rows,)`; squared for `rmse`."""
        if self.error == "log_loss":
            return log_loss(truth, prediction)
        if self.error == "mape":
            return absolute_percentage_error(truth, prediction)
        gaps = np.abs(prediction - truth)
        return np.asarray(gaps if self.error == "mae" else gaps**2, dtype=np.float64)

    def overall(self, mean_row_error: Floats) -> Floats:
        """The error in its own units, of means of row errors: the root for `rmse`."""
        return np.sqrt(mean_row_error) if self.error == "rmse" else mean_row_error

    def error_of(self, truth: Floats, prediction: Floats) -> float:
        """The error over all rows."""
        return float(self.overall(np.asarray(self.row_errors(truth, prediction).mean())))

    def check(self, data: TrainingSet) -> None:
        """Make sure that a model can be fitted.

        Raises:
            TrainingError: too few rows, targets that the error is not defined for, or a single class.
        """
        faults = []
        target = data.target
        if len(data) < FEWEST_ROWS:
            what, allowed = "too few rows with a known outcome", f">= {FEWEST_ROWS}"
            hint = "" if len(data) else "icekeel ingest takes in the events that outcomes come from"
            faults.append(Fault("few_rows", what, "", str(len(data)), allowed, hint))
        if self.error == "mape" and not (target > 0).all():
            faults.append(
                Fault("bad_target", "MAPE needs targets above 0", "target", str(target.min(initial=0)))
            )
        if self.task == "probability":
            classes = np.unique(target).tolist()
            if classes != [0.0, 1.0]:
                faults.append(
                    Fault("bad_target", "both outcomes must occur", "target", str(classes[:5]), "0 and 1")
                )
        if self.task == "number" and len(data) and target.min() == target.max():
            what, hint = "every outcome is the same: there is nothing to learn", "look at target="
            faults.append(Fault("bad_target", what, "target", f"{target[0]:g}", hint=hint))
        if faults:
            raise TrainingError(*faults)


@dataclass(frozen=True, slots=True)
class TrainingSet:
    """Rows with known outcomes, in the order in which they were asked.

    Attributes:
        frame: Their values (other columns are ignored).
        target: What came of each row, shape `(n_rows,)`, finite.
        asked_at: Time of each question, ascending.
    """

    columns: tuple[Column, ...]
    frame: Frame
    target: Floats
    asked_at: Ints
    known_at: Ints

    def __post_init__(self) -> None:
        faults = [
            Fault("missing_column", "no values for this feature", column.name)
            for column in self.columns
            if column.name not in self.frame
        ]
        faults += [
            Fault("bad_column", "no model reads this kind", column.name, column.kind, ", ".join(READABLE))
            for column in self.columns
            if column.kind not in READABLE
        ]
        lengths = {len(part) for part in (self.target, self.asked_at, self.known_at)}
        if self.frame.columns:
            lengths.add(len(self.frame))
        if len(lengths) > 1:
            faults.append(Fault("bad_rows", "features, targets and times differ in length", "", str(lengths)))
        if (np.diff(self.asked_at) < 0).any():
            faults.append(Fault("bad_rows", "rows must be sorted by the time they were asked", "asked_at"))
        if not np.isfinite(self.target).all():
            faults.append(
                Fault("bad_target", "only rows with a known, finite outcome may be learnt from", "target")
            )
        if faults:
            raise TrainingError(*faults)

    def __len__(self) -> int:
        return len(self.target)

    def take(self, rows: Array) -> TrainingSet:
        """The rows chosen by a mask or by ascending positions."""
        return TrainingSet(
            self.columns, self.frame.take(rows), self.target[rows], self.asked_at[rows], self.known_at[rows]
        )

    def of_kinds(self, *kinds: Kind) -> TrainingSet:
        """The same rows with the columns of these kinds alone, for a rung that reads no others."""
        columns = tuple(column for column in self.columns if column.kind in kinds)
        return self if columns == self.columns else replace(self, columns=columns)

    def known_before(self, moment: int) -> Bools:
        """Which rows could have been learnt from at `moment`: asked and known before it (open)."""
        return np.asarray((self.known_at < moment) & (self.asked_at < moment))

    def thinned(self, most: int) -> TrainingSet:
        """At most so many of the rows, evenly spread."""
        return self if len(self) <= most else self.take(evenly(np.arange(len(self)), most))

    def split(self, later_share: float) -> tuple[TrainingSet, TrainingSet]:
        """The rows known before the later ones were asked, and that later share (by rows, ties together).

        Rows asked earlier whose outcome was not yet known are in neither, as they would be in production.
        """
        moment = int(self.asked_at[int(len(self) * (1 - later_share))])
        return self.take(self.known_before(moment)), self.take(self.asked_at >= moment)


def action_costs(action: Act, predictions: Floats, targets: Floats) -> Floats:
    """What each answer cost by which an action was taken or not: of its two mistakes, in the unit they are declared in."""
    acted, true = predictions > action.threshold, targets > 0.5
    return np.where(acted & ~true, action.false, np.where(~acted & true, action.missed, 0.0))


def evenly(places: Ints, most: int) -> Ints:
    """At most so many of some places, evenly spread; all of them where they are no more."""
    return places[:: max(1, -(-len(places) // most))]


def vocabulary(values: Array, *, most: int, fewest_rows: int) -> tuple[str, ...]:
    """The category values worth a parameter: the commonest first, equally common ones by name."""
    counts = Counter(value for value in values if value is not None)
    kept = sorted((value for value in counts if counts[value] >= fewest_rows), key=lambda v: (-counts[v], v))
    return tuple(kept[:most])
