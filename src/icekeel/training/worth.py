"""What the next rung earns and costs, and what features earn beside it, in money a year."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from icekeel.core.frames import Ints
from icekeel.core.time import DAY, parse_duration
from icekeel.define import Model

from .backtest import Backtest
from .catalog import UPKEEP
from .ladder import Difference, Ladder, Step, difference, paired
from .stack import Stack, stacked

YEAR_DAYS = 365.0
TRAFFIC_DAYS = 28
"""The latest days whose questions tell how many there are a year."""
FITS = 2
"""Of a rung in a retrain: one to backtest and one to ship."""


@dataclass(frozen=True, slots=True)
class Price:
    """What a rung costs in dollars a year, more than another.

    Attributes:
        training, serving: CPU at the price of a core hour.
        upkeep: What it costs people, in words.
    """

    training: float
    serving: float
    bytes: int
    upkeep: str


@dataclass(frozen=True, slots=True)
class RungWorth:
    """What one rung earns in a year beside a simpler one.

    Attributes:
        gain: In the error.
        earns, low, high: The same in dollars a year, and its 95 % interval.
    """

    rung: str
    over: str
    gain: Difference
    earns: float
    low: float
    high: float
    costs: Price
    told: str


@dataclass(frozen=True, slots=True)
class FeatureWorth:
    """The same algorithms on the baseline's features and on the model's, on the same rows.

    Attributes:
        errors: Rung -> its error on `raw` and on `engineered` features.
        rung: The winner; `features` is what engineered features gain it.
        other: Another rung; `algorithm` is what the more complex of both gains over the simpler on engineered features.
    """

    errors: dict[str, dict[str, float]]
    rung: str
    features: Difference
    other: str
    algorithm: Difference | None
    told: str


@dataclass(frozen=True, slots=True)
class Worth:
    """All of it, as it is recorded with a version.

    Attributes:
        error_point: Dollars a year that 0.01 of error costs.
        answers_per_year: As many questions as in the latest weeks.
        retrains_per_year, core_hour: By the schedule, and the price in dollars.
        rungs: Each beside the next simpler.
        next: The rung after the winner beside the winner; None where the winner is the last.
        stack: All rungs together beside the winner: what a challenger could gain that is never champion.
        features: None where there is no baseline to compare with.
    """

    winner: str
    error_point: float
    answers_per_year: float
    retrains_per_year: float
    core_hour: float
    rungs: tuple[RungWorth, ...]
    next: RungWorth | None
    stack: Stack | None
    features: FeatureWorth | None


class Accounts:
    """Turns errors and seconds to dollars a year.

    Args:
        asked_at: All questions there were, ascending.
        core_hour: Dollars.
    """

    def __init__(self, model: Model, asked_at: Ints, core_hour: float) -> None:
        self.error_point = model.choose.within.error_point
        self.core_hour = core_hour
        days = min(TRAFFIC_DAYS, max(1.0, float(asked_at[-1] - asked_at[0]) / DAY))
        self.answers = float((asked_at > asked_at[-1] - days * DAY).sum()) * YEAR_DAYS / days
        self.retrains = _retrains(model)

    def earned(self, gain: float) -> float:
        """Dollars a year of an error lower by so much."""
        return gain / 0.01 * self.error_point

    def price(self, rung: str, step: Step, over: Step) -> Price:
        """What one rung costs more than another."""
        hour = self.core_hour / 3600
        return Price(
            (step.fit_seconds - over.fit_seconds) * FITS * self.retrains * hour,
            (step.predict_us - over.predict_us) / 1e6 * self.answers * hour,
            step.bundle_bytes - over.bundle_bytes,
            UPKEEP.get(rung, ""),
        )

    def rung(self, step: Step, over: Step, gain: Difference) -> RungWorth:
        """One rung beside a simpler one."""
        earns, low, high = (self.earned(part) for part in (gain.gain, gain.low, gain.high))
        price = self.price(step.rung, step, over)
        told = (
            f"{step.rung} earns {dollars(earns)} a year more than {over.rung} ({dollars(low)} to {dollars(high)}) and costs "
            f"{dollars(price.training + price.serving)} a year of machine time, {price.bytes / 1000:+,.0f} kB, and in upkeep: "
            f"{price.upkeep}"
        )
        return RungWorth(step.rung, over.rung, gain, earns, low, high, price, told)


def worth_of(
    model: Model,
    ladder: Ladder,
    trial: Backtest,
    raw: Backtest | None,
    *,
    asked_at: Ints,
    core_hour: float,
    rng: np.random.Generator,
) -> Worth:
    """What each step of a climbed ladder earns and costs.

    Args:
        raw: The backtest of the rungs of `compared_rungs` on the baseline's features.
        asked_at: All questions there were.
    """
    accounts = Accounts(model, asked_at, core_hour)
    steps = {step.rung: step for step in ladder.steps}
    names = list(steps)
    pairs = [(step, over) for over, step in zip(ladder.steps, ladder.steps[1:], strict=False)]
    after = names[names.index(ladder.winner) + 1 :][:1]
    following = None
    if after:
        gain = paired(trial, ladder.winner, after[0], rng=rng)
        following = accounts.rung(steps[after[0]], steps[ladder.winner], gain)
    cost = {name: (step.fit_seconds, step.predict_us) for name, step in steps.items()}
    stack = stacked(trial, ladder.winner, cost, rng=rng)
    return Worth(
        ladder.winner,
        accounts.error_point,
        accounts.answers,
        accounts.retrains,
        core_hour,
        tuple(accounts.rung(step, over, step.over_simpler) for step, over in pairs if step.over_simpler),
        following,
        None if stack is None else replace(stack, told=_stack_told(stack, accounts)),
        None if raw is None else _features(model, ladder, trial, raw, accounts, rng),
    )


def compared_rungs(ladder: Ladder) -> list[str]:
    """The winner and the rung that it is held against on other features: the next one, or the one before the last."""
    names = [step.rung for step in ladder.steps]
    at = names.index(ladder.winner)
    others = names[at + 1 :] or names[1:at][-1:]
    return [ladder.winner, *others[:1]]


def _stack_told(stack: Stack, accounts: Accounts) -> str:
    parts = " + ".join(f"{weight:g} {name}" for name, weight in stack.weights.items())
    gain = stack.over_winner
    return (
        f"a stack ({parts}), never champion, gains {gain.gain:.3g} ({gain.low:.3g} to {gain.high:.3g}), "
        f"{dollars(accounts.earned(gain.gain))} a year, for {stack.predict_us:,.0f} us an answer and all their upkeep"
    )


def _features(
    model: Model, ladder: Ladder, trial: Backtest, raw: Backtest, accounts: Accounts, rng: np.random.Generator
) -> FeatureWorth:
    names = compared_rungs(ladder)
    winner, errors = ladder.winner, {}
    for name in names:
        both = [part.row_errors(name)[: len(trial.row_errors(name))] for part in (raw, trial)]
        means = [float(trial.problem.overall(np.asarray(part.mean()))) for part in both]
        errors[name] = dict(zip(("raw", "engineered"), means, strict=True))
    gain = difference(
        trial.problem, raw.row_errors(winner), trial.row_errors(winner), trial.rows.asked_at, rng=rng
    )
    algorithm, told = None, ""
    if len(names) > 1:
        simpler, complex_ = sorted(names, key=[step.rung for step in ladder.steps].index)
        algorithm = paired(trial, simpler, complex_, rng=rng)
        told = f"; {complex_} instead of {simpler} gains {algorithm.gain:.4g}, {dollars(accounts.earned(algorithm.gain))}"
    earns = f"{gain.gain:.4g} of {model.error}, {dollars(accounts.earned(gain.gain))} a year"
    told = f"engineered features gain {winner} {earns}{told}"
    return FeatureWorth(errors, winner, gain, names[1] if len(names) > 1 else "", algorithm, told)


def _retrains(model: Model) -> float:
    every = "" if model.retrain is None else model.retrain.every
    if every in ("month", "week"):
        return 12.0 if every == "month" else 52.0
    return YEAR_DAYS * DAY / parse_duration(every) if every else 1.0


def dollars(amount: float) -> str:
    """`$12,300`: three figures, cents below ten dollars, and where it is less than one cent so."""
    size = abs(amount)
    if 0 < size < 0.01:
        return "less than a cent"
    rounded = round(size, 2 if size < 10 else -max(0, len(f"{size:.0f}") - 3))
    return f"{'-' if amount < 0 else ''}${rounded:,.{2 if size < 10 else 0}f}"
