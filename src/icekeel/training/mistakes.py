"""How often and how much a model is wrong, in terms a person can check: what the page about it says.

All of it is measured on rows the model had not learnt from. It becomes JSON in the registry.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from icekeel.core.frames import Bools, Floats, Frame, Ints
from icekeel.core.kinds import Column, Kind
from icekeel.core.time import format_time
from icekeel.define import Model
from icekeel.engines.encoder import Value, rows_of

from .backtest import Backtest

WITHIN = (0.05, 0.1, 0.25)
"""Relative errors, shares of the truth, for which it is told how many answers stay within."""
PER = 1000
"""Answers that costs are stated for."""


@dataclass(frozen=True, slots=True)
class Amounts:
    """Errors of a number, in the units of the target.

    Attributes:
        half, nine_in_ten, ninety_nine: Half, 90 in 100 and 99 in 100 of the answers are at most so far off.
        mean: Mean distance from the truth.
        bias: Mean of the answer less the truth: below 0 the answers are too low.
        typical: Median truth, to hold these against.
        within: Relative distance (`0.1`) -> share of answers that close; empty where a truth is not above 0.
        total: Sum of the truths; `total_off` is the sum of the answers less it.
    """

    rows: int
    half: float
    nine_in_ten: float
    ninety_nine: float
    mean: float
    bias: float
    typical: float
    within: dict[str, float]
    total: float
    total_off: float


@dataclass(frozen=True, slots=True)
class Choices:
    """What comes of acting on a probability.

    Attributes:
        rate: Share of them that came true.
        threshold: Probability from which on it acts.
        acted: Share in which it acts.
        right: Share of these that came true (precision).
        caught: Share of all that came true in which it acted (recall).
        cost, never, always: Cost of the mistakes of 1,000 answers: of the model's, of never acting, of always
            acting; in the costs that the project states for a missed and a false action, which are 1 each without any.
    """

    rows: int
    rate: float
    threshold: float
    acted: float
    right: float
    caught: float
    cost: float
    never: float
    always: float


@dataclass(frozen=True, slots=True)
class Example:
    """One request of the last fold and what the model said to it before it knew: the one with the median error.

    Attributes:
        id: What the request was called; empty where that is private.
        asked_at: ISO 8601.
        prediction, outcome: Before postprocessing; what came of it.
    """

    id: str
    asked_at: str
    request: dict[str, Value]
    features: dict[str, Value]
    prediction: float
    outcome: float


def mistakes(model: Model, truth: Floats, prediction: Floats) -> Amounts | Choices:
    """What the errors of some answers come to; both of shape `(n_rows,)`."""
    if model.task == "probability":
        return _choices(model, truth, prediction)
    off = prediction - truth
    far = np.abs(off)
    half, nine, most = (float(value) for value in np.quantile(far, (0.5, 0.9, 0.99)))
    above = bool((truth > 0).all())
    near = {f"{share:g}": float((far <= share * truth).mean()) for share in WITHIN} if above else {}
    return Amounts(
        rows=len(truth),
        half=half,
        nine_in_ten=nine,
        ninety_nine=most,
        mean=float(far.mean()),
        bias=float(off.mean()),
        typical=float(np.median(truth)),
        within=near,
        total=float(truth.sum()),
        total_off=float(off.sum()),
    )


def _choices(model: Model, truth: Floats, prediction: Floats) -> Choices:
    missed, false = (model.action.missed, model.action.false) if model.action else (1.0, 1.0)
    threshold = model.action.threshold if model.action else 0.5
    acted, true = prediction > threshold, truth > 0.5
    caught = acted & true

    def cost(acts: Bools) -> float:
        return float(PER * (missed * (true & ~acts).mean() + false * (acts & ~true).mean()))

    return Choices(
        rows=len(truth),
        rate=float(true.mean()),
        threshold=threshold,
        acted=float(acted.mean()),
        right=float(caught.sum() / max(1, acted.sum())),
        caught=float(caught.sum() / max(1, true.sum())),
        cost=cost(acted),
        never=cost(np.zeros_like(true)),
        always=cost(np.ones_like(true)),
    )


def public_columns(model: Model, *kinds: Kind) -> list[Column]:
    """The request's fields of these kinds that are not private."""
    fields = model.request.icekeel_fields.values()
    return [Column(one.name, one.kind) for one in fields if one.kind in kinds and not one.limits.private]


def public_keys(model: Model) -> list[str]:
    """The request's fields by which its outcome is found, but for private ones."""
    fields = model.request.icekeel_fields
    return [one.name for _, one in model.outcome.keyed.keys if not fields[one.name].limits.private]


def example(model: Model, requests: Frame, known: Ints, trial: Backtest, winner: str) -> Example:
    """The request of the last fold whose error is the median: neither a success nor a failure picked out.

    Args:
        known: Places of those with outcomes, of which the last ones are the rows of the trial.
    """
    last = trial.last_fold()
    tested = trial.rows
    errors = trial.problem.row_errors(tested.target[last], trial.predictions[winner][last])
    at = int(last[np.argsort(errors, kind="stable")[len(errors) // 2]])
    asked = requests.take(known[[len(known) - len(tested) + at]])
    shown = public_columns(model, Kind.CAT, Kind.NUM, Kind.FLAG)
    (request,) = rows_of(shown, asked)
    (features,) = rows_of(tested.columns, tested.frame.take(np.array([at])))
    return Example(
        id="/".join(str(asked[name][0]) for name in public_keys(model)),
        asked_at=format_time(int(tested.asked_at[at])),
        request={column.name: value for column, value in zip(shown, request, strict=True)},
        features={column.name: value for column, value in zip(tested.columns, features, strict=True)},
        prediction=float(trial.predictions[winner][at]),
        outcome=float(tested.target[at]),
    )
