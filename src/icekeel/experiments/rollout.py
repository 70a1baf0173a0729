"""What to do with a challenger: wait, go a step further, promote or stop, with the reason as a sentence."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from .evidence import Claim, Evidence, refuse
from .failures import Failures, failing
from .metrics import Metric
from .paired import PairedDays
from .sequential import MISMATCH, bounded_exp
from .split import MOST_SKEW, Split, Tally

Counted = Tally | Split | PairedDays


@dataclass(frozen=True, slots=True)
class RolloutPlan:
    """How a challenger is judged, stated before it starts.

    Attributes:
        primary: What must be shown to be better, or no worse than its margin.
        guardrails: Metrics that must all be shown to be no worse than their margins before a promotion.
        steps: Shares of the challenger, rising; it goes from one to the next while no harm is shown. The last decides.
            Empty in shadow.
        step_days: Days at least on each step.
        alpha: Chance, over all looks, of promoting what is not better, and of stopping what does no harm.
        minimum_days: Full days before a promotion: a whole week sees each weekday once.
        maximum_days: Days after which an undecided challenger is stopped.
        tuned_for: Size at which the evidence is strongest; see `Claim`.

    Raises:
        ProjectError: a number out of its range, a metric named twice; all at once.
    """

    primary: Metric
    guardrails: tuple[Metric, ...] = ()
    steps: tuple[float, ...] = (0.5,)
    step_days: float = 1.0
    alpha: float = 0.05
    minimum_days: float = 7.0
    maximum_days: float = 90.0
    tuned_for: float | None = None

    def __post_init__(self) -> None:
        rising = [0.0, *self.steps] == sorted({0.0, *self.steps}) and max(self.steps, default=0) <= 1
        names = [metric.name for metric in self.metrics]
        refuse(
            "rollout",
            (
                ("steps", rising, self.steps, "rising, above 0, at most 1"),
                ("step_days", self.step_days >= 0, self.step_days, "0 or more"),
                ("alpha", 0 < self.alpha < 0.5, self.alpha, "above 0, below 0.5"),
                ("minimum_days", self.minimum_days >= 0, self.minimum_days, "0 or more"),
                (
                    "maximum_days",
                    self.maximum_days > self.minimum_days,
                    self.maximum_days,
                    "above minimum_days",
                ),
                ("tuned_for", self.tuned_for is None or self.tuned_for > 0, self.tuned_for, "above 0"),
                ("guardrails", len(set(names)) == len(names), names, "each metric once"),
            ),
        )

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """The primary one first."""
        return (self.primary, *self.guardrails)

    @property
    def harm_bar(self) -> float:
        """E-value of "worse" at which any of the metrics stops the challenger: they share `alpha` (Bonferroni)."""
        return len(self.metrics) / self.alpha

    def claim(self, metric: Metric) -> Claim:
        """What is asked of a metric."""
        return metric.claim(self.alpha, self.alpha / len(self.metrics), self.tuned_for)


@dataclass(frozen=True, slots=True)
class RolloutState:
    """What has been seen so far; outcomes count once their window has closed.

    Attributes:
        days: Days since the challenger started.
        primary: Tally of the primary metric, split or paired.
        guardrails: Tallies by name of guardrail.
        log_mismatch: Log Bayes factor against the declared shares, summed over phases.
        step: Place in the plan's steps; None: the last.
        step_days: Days since it was reached.
        failures: Kind of hard failure -> how often it struck each arm.
    """

    days: float
    primary: Counted
    guardrails: Mapping[str, Counted] = field(default_factory=dict)
    log_mismatch: float = 0.0
    step: int | None = None
    step_days: float = math.inf
    failures: Mapping[str, Failures] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What to do, why in a sentence, and the evidence by metric."""

    kind: Literal["continue", "advance", "promote", "stop"]
    reason: str
    evidence: Mapping[str, Evidence]


def decide(plan: RolloutPlan, state: RolloutState) -> Verdict:
    """The verdict at this look; valid at every look.

    A hard failure stops at once; so does harm, at `k / alpha` for k metrics (Bonferroni). A step further needs data and
    that no harm is shown. A promotion needs every claim to hold at `1 / alpha`, which needs no correction
    (intersection-union, Berger 1982). Neither is made on data that do not fit the declared shares.
    """
    tallies = {plan.primary.name: state.primary, **state.guardrails}
    evidence = {
        metric.name: tallies.get(metric.name, Split()).evidence(plan.claim(metric)) for metric in plan.metrics
    }
    primary = f"After {state.days:.0f} days, {describe(plan.primary.name, evidence[plan.primary.name])}."
    if broken := failing(state.failures):
        return Verdict("stop", f"The challenger fails: {broken}.", evidence)
    harmed = [name for name, found in evidence.items() if found.e_worse >= plan.harm_bar]
    if harmed:
        facts = "; ".join(describe(name, evidence[name]) for name in harmed)
        return Verdict("stop", f"The challenger does harm: {facts}.", evidence)
    last = state.step is None or state.step >= len(plan.steps) - 1
    blocked = _untrusted(state, evidence) or _open(plan, state, evidence if last else {})
    if not blocked and not last:
        share = plan.steps[(state.step or 0) + 1]
        return Verdict("advance", f"{primary} No harm is shown: on to {share:.1%}.", evidence)
    if not blocked:
        return Verdict("promote", f"{primary} {_held(plan)}", evidence)
    if state.days >= plan.maximum_days:
        return Verdict("stop", f"{primary} Undecided at the longest time allowed: {blocked}.", evidence)
    return Verdict("continue", f"{primary} Not yet: {blocked}.", evidence)


def describe(metric: str, found: Evidence) -> str:
    """One metric's evidence in words and figures, without a full stop."""
    if math.isnan(found.estimate):
        return f"{metric} has no data in both arms ({found.n_a:,} and {found.n_b:,})"
    word = "better" if found.estimate >= 0 else "worse"
    share = f" ({abs(found.estimate / found.control):.1%})" if found.control else ""
    return (
        f"{metric} of the challenger is {abs(found.estimate):.4g} {word}{share} than the champion's "
        f"{found.control:.4g}, {_bounds(found)}, from {found.n_b:,} against {found.n_a:,} units"
    )


def _bounds(found: Evidence) -> str:
    if abs(found.skew) > MOST_SKEW:
        return "too rare or too unequal in size to give bounds for arms this uneven"
    if math.isinf(found.low):
        return "too early to give bounds"
    return f"within {found.low:+.3g} to {found.high:+.3g} however often one looks"


def _untrusted(state: RolloutState, evidence: Mapping[str, Evidence]) -> str:
    """Why the data cannot be vouched for; empty if they can."""
    if state.log_mismatch >= MISMATCH:
        odds = bounded_exp(state.log_mismatch)
        return f"the arms' sizes do not fit their shares ({odds:.3g} to 1), so the data cannot be trusted"
    missing = [name for name, found in evidence.items() if math.isnan(found.estimate)]
    return f"no data for {', '.join(missing)}" if missing else ""


def _open(plan: RolloutPlan, state: RolloutState, asked: Mapping[str, Evidence]) -> str:
    """What stands in the way of a promotion or, where nothing is asked, of a step; empty if nothing does."""
    if asked and state.days < plan.minimum_days:
        return f"a promotion needs at least {plan.minimum_days:g} days"
    open_claims = [name for name, found in asked.items() if found.e_better < 1 / plan.alpha]
    if open_claims:
        return f"the evidence does not yet suffice for {', '.join(open_claims)}"
    return f"a step lasts at least {plan.step_days:g} days" if state.step_days < plan.step_days else ""


def _held(plan: RolloutPlan) -> str:
    margin = plan.primary.margin
    shown = f"no worse than {margin:.1%}" if margin else "better"
    names = ", ".join(metric.name for metric in plan.guardrails)
    rails = f" and every guardrail holds ({names})" if names else ""
    return f"It is shown to be {shown}{rails}; the chance that this is an error is at most {plan.alpha:.0%}."
