"""Which events are noise: definitions of a meaningful event, by what they do to predictions of later rows.

A bounce is a click and a skim is a view: whoever counts them learns from accidents, and whoever drops them may drop what
says most. So each definition is tried on the rows of before, in each way of treating what does not meet it, and judged on
later rows, by the truth as it is and by the truth as the definition would have it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from icekeel.core.errors import TrainingError
from icekeel.core.frames import Bools, Column, Floats, Frame, Ints
from icekeel.core.kinds import Kind
from icekeel.define.features import Feature
from icekeel.define.formula import formula
from icekeel.define.nodes import Call, EventField, Node, Op, Outcome, Windowed, shallow, walk
from icekeel.features.events import EventStore
from icekeel.features.offline import historical_features
from icekeel.features.outcomes import Status, historical_outcomes
from icekeel.features.plan import make_plan

from ..days import day_codes
from ..ladder import Difference, difference
from ..linear import Linear
from ..problem import FEWEST_ROWS, Problem, TrainingSet, evenly
from .findings import Finding
from .input import AuditInput

ALL = "all events"
MOST = 40_000
"""Rows, evenly over time, that definitions are tried on."""
LATER = 0.3
NOTABLE = 0.01
"""Share of the error by which a definition must be better to be recommended, and may be worse by another truth."""
LEAST = 100
FEWEST_DAYS = 5


@dataclass(frozen=True, slots=True)
class Variant:
    """One definition of what counts, and what becomes of the events that do not meet it.

    Attributes:
        meaningful: The definition, as it is written.
        noise: `dropped`: the others are in no window, and questions that only they came of are not learnt from;
            `negative`: in no window either, but such questions are learnt, as ones that nothing came of; `weak`: windows
            of the meaningful stand beside those of all, so the model weighs both.
        predictions: Of each later row, by a model that learnt from earlier ones.
    """

    meaningful: str
    noise: str
    predictions: Floats


@dataclass(frozen=True, slots=True)
class Tried:
    """What a variant does to the error, against the present definition.

    Attributes:
        errors, gains: By truth: `ALL`, and what the definition makes of the outcome where it is about the same events.
    """

    meaningful: str
    noise: str
    errors: dict[str, float]
    gains: dict[str, Difference]

    @property
    def better(self) -> bool:
        """Whether one truth shows a notable gain for certain, and none a notable loss."""
        notable = {truth: NOTABLE * (self.errors[truth] + gain.gain) for truth, gain in self.gains.items()}
        sure = any(gain.low > 0 and gain.gain > notable[truth] for truth, gain in self.gains.items())
        return sure and all(gain.gain > -notable[truth] for truth, gain in self.gains.items())


def ranking_errors(truth: Floats, score: Floats) -> Floats:
    """Of each row that is true, the share of the false ones that are ranked above it, ties counted half; NaN of others.

    Their mean is 1 - AUC: it compares models of truths whose rates differ, which no likelihood does.
    """
    true, false = truth == 1, np.sort(score[truth == 0])
    below, upto = np.searchsorted(false, score[true], "left"), np.searchsorted(false, score[true], "right")
    found = np.full(len(truth), np.nan)
    found[true] = 1 - (below + upto) / (2 * max(len(false), 1))
    return found


def compare(
    problem: Problem,
    present: Floats,
    variants: Sequence[Variant],
    truths: Mapping[str, Mapping[str, Floats]],
    asked_at: Ints,
    *,
    rng: np.random.Generator,
) -> list[Tried]:
    """What each variant does to the error of the same later rows, with paired day-block intervals.

    Args:
        present: Predictions by the present definition, shape `(n_rows,)`.
        truths: By definition, and then by name, the outcome of each row; NaN where it has none. Of flags with several
            truths the ranking is compared, else the problem's own error.
    """
    found = []
    for one in variants:
        named = truths[one.meaningful]
        ranked = problem.task == "probability" and len(named) > 1
        errors, gains = {}, {}
        for name, truth in named.items():
            known = np.isfinite(truth)
            pair = [
                ranking_errors(truth, said) if ranked else _own(problem, truth, said, known)
                for said in (present, one.predictions)
            ]
            rows = np.isfinite(pair[0]) & np.isfinite(pair[1])
            if rows.sum() >= LEAST:
                gains[name] = difference(problem, pair[0][rows], pair[1][rows], asked_at[rows], rng=rng)
                errors[name] = float(problem.overall(np.asarray(pair[1][rows].mean())))
        found.append(Tried(one.meaningful, one.noise, errors, gains))
    return found


def _own(problem: Problem, truth: Floats, said: Floats, known: Bools) -> Floats:
    errors = np.full(len(truth), np.nan)
    errors[known] = problem.row_errors(truth[known], said[known])
    return errors


def narrowed(node: Node, table: str, meaningful: Node) -> Node:
    """The expression with its windows and outcomes of a table narrowed to the events that are meaningful."""
    if isinstance(node, Windowed | Outcome) and node.keyed.table == table:
        where = node.keyed.where
        both = meaningful if where is None else Call(Op.AND, (where, meaningful), Kind.FLAG)
        return replace(node, keyed=replace(node.keyed, where=both))
    if isinstance(node, Call):
        return replace(node, args=tuple(narrowed(one, table, meaningful) for one in node.args))
    return node


def table_of(meaningful: Node) -> str:
    """The event table that a definition is about."""
    return next(node.table for node in shallow(meaningful) if isinstance(node, EventField))


class _Trial:
    """The rows on which definitions are tried: earlier ones to learn from, later ones to judge by."""

    def __init__(self, given: AuditInput, store: EventStore) -> None:
        some = evenly(np.arange(len(given.rows)), MOST)
        self.given, self.store = given, store
        self.rows, self.requests = given.rows.take(some), given.requests.take(some)
        moment = int(self.rows.asked_at[int(len(some) * (1 - LATER))])
        self.earlier = self.rows.known_before(moment)
        self.later = self.rows.asked_at >= moment
        self.rung = Linear()  # no luck of a fit is taken for a gain

    def predict(
        self, columns: Sequence[Column], frame: Frame, target: Floats, learnt: Bools | bool
    ) -> Floats:
        """What a model of the earlier rows says to the later ones."""
        rows = TrainingSet(tuple(columns), frame, target, self.rows.asked_at, self.rows.known_at)
        fitted = self.rung.fit(self.given.problem, rows.take(self.earlier & learnt))
        return fitted.engine.predict_many(frame.take(self.later))

    def windows(self, meaningful: Node) -> tuple[list[Column], Frame]:
        """The features that read the definition's table, of meaningful events alone."""
        names, table = {column.name for column in self.rows.columns}, table_of(meaningful)
        features = [
            Feature(one.name, narrowed(one.node, table, meaningful))
            for one in self.given.plan.features
            if one.name in names
            and any(isinstance(node, Windowed) and node.keyed.table == table for node in walk(one.node))
        ]
        if not features:
            return [], Frame({})
        plan = make_plan(self.given.plan.fields, features)
        return list(plan.columns), historical_features(plan, self.requests, self.rows.asked_at, self.store)

    def outcome(self, meaningful: Node) -> Floats | None:
        """What came of the rows, of meaningful events alone; NaN for nothing; None where that is another table's."""
        model = self.given.model
        if model.outcome.keyed.table != table_of(meaningful):
            return None
        target = narrowed(model.target, table_of(meaningful), meaningful)
        outcome = next(node for node in shallow(target) if isinstance(node, Outcome))
        found = historical_outcomes(
            target, outcome, self.requests, self.rows.asked_at, self.store, now=self.given.now
        )
        return np.where(found.status == Status.KNOWN, found.target, np.nan)

    def variants(self, meaningful: Node) -> Iterator[Variant]:
        """Each way of treating what does not meet a definition."""
        columns, frame, target = self.rows.columns, self.rows.frame, self.rows.target
        own, windows = self.windows(meaningful)
        narrow, name = frame.with_columns(windows.columns), formula(meaningful)
        kept = self.outcome(meaningful)
        learnt = target if kept is None else np.nan_to_num(kept, nan=0.0)
        ways: list[tuple[str, tuple[Sequence[Column], Frame, Floats, Bools | bool]]] = []
        if own or kept is not None:
            only_noise = (learnt == 0) & (target > 0)
            ways.append(("dropped", (columns, narrow, learnt, ~only_noise)))
        if kept is not None and self.given.problem.error != "mape":
            ways.append(("negative", (columns, narrow, learnt, True)))
        if own:
            beside = {f"{column.name} of the meaningful": windows[column.name] for column in own}
            more = [Column(f"{column.name} of the meaningful", column.kind) for column in own]
            ways.append(("weak", ([*columns, *more], frame.with_columns(beside), target, True)))
        for noise, way in ways:
            with suppress(TrainingError):  # of what no event meets nothing can be learnt
                yield Variant(name, noise, self.predict(*way))

    def truths(self, meaningful: Node) -> dict[str, Floats]:
        """The outcome of the later rows as it is, and as the definition would have it."""
        kept = self.outcome(meaningful)
        named = {ALL: self.rows.target[self.later]}
        return named if kept is None else {**named, formula(meaningful): kept[self.later]}


def interactions(given: AuditInput) -> Finding:
    """Whether another definition of a meaningful event would predict later rows better than the present one."""
    definitions = [flag.node for flag in given.model.audits.meaningful]
    if not definitions:
        what = "no other definition of a meaningful event is declared to be tried"
        return Finding("interactions", "pass", what)
    if len(given.rows) < 10 * FEWEST_ROWS:
        what = f"{len(given.rows)} rows are too few to compare definitions by"
        return Finding("interactions", "pass", what)
    with closing(given.open_store(0)) as store:
        trial = _Trial(given, store)
        days, _ = day_codes(trial.rows.asked_at[trial.later])
        if days < FEWEST_DAYS:
            what = f"the later rows are of {days} days: too few to tell a gain from a good day"
            return Finding("interactions", "pass", what)
        try:
            present = trial.predict(trial.rows.columns, trial.rows.frame, trial.rows.target, True)
        except TrainingError as error:
            what = f"nothing can be learnt from the earlier rows: {error.faults[0].what}"
            return Finding("interactions", "pass", what)
        variants = [variant for node in definitions for variant in trial.variants(node)]
        truths = {formula(node): trial.truths(node) for node in definitions}
    asked_at = trial.rows.asked_at[trial.later]
    tried = compare(given.problem, present, variants, truths, asked_at, rng=given.rng)
    return _judged(given, tried, len(asked_at))


def _judged(given: AuditInput, tried: Sequence[Tried], rows: int) -> Finding:
    evidence: dict[str, Any] = {
        "later_rows": rows,
        "tried": [asdict(one) for one in tried],
        "recommended": None,
    }
    better = [one for one in tried if one.better]
    if not better:
        what = f"of {len(tried)} other ways to count events none predicts {rows:,} later rows better than the present one"
        return Finding("interactions", "pass", what, evidence=evidence)
    best = max(better, key=lambda one: sum(gain.gain for gain in one.gains.values()))
    evidence["recommended"] = {"meaningful": best.meaningful, "noise": best.noise}
    told = ", ".join(
        f"{gain.gain:.3g} [{gain.low:.3g}, {gain.high:.3g}] of {best.errors[truth] + gain.gain:.3g} ({truth})"
        for truth, gain in best.gains.items()
    )
    alike = len(best.gains) == 1
    measure = given.model.error if alike or given.problem.task == "number" else "wrongly ranked pairs"
    what = f"{best.meaningful}, the other events {best.noise}, lowers {measure} by {told}"
    todo = f"narrow the windows to {best.meaningful}: .where({best.meaningful}, ...)"
    if best.noise == "weak":
        todo = f"put windows of {best.meaningful} beside the present ones"
    cost = given.usd_a_year(best.gains[ALL].gain) if alike else None
    return Finding("interactions", "warn", what, todo, cost, evidence)
