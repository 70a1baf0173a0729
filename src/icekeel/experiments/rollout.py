"""What to do with a challenger: wait, promote or stop, with the reason as a sentence."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from icekeel.core.errors import Fault, ProjectError

from .comparisons import Claim, Evidence, PairedDays, Split
from .sequential import MISMATCH, bounded_exp

Tally = Split | PairedDays


@dataclass(frozen=True, slots=True)
class Guardrail:
    """A metric that may not become worse by more than `margin`, a share of the champion's mean."""

    name: str
    margin: float
    lower_is_better: bool = True


@dataclass(frozen=True, slots=True)
class RolloutPlan:
    """How a challenger is judged, stated before it starts.

    Attributes:
        metric: Name of the primary metric, as it appears in reasons.
        share: Share of units that see the challenger; 0 in shadow.
        lower_is_better: Direction of the primary metric.
        alpha: Chance, over all looks, of promoting what is not better, and of stopping what does no harm.
        margin: 0 promotes only what is better; above 0, also what is worse by less than this share.
        minimum_days: Full days before a promotion: a whole week sees each weekday once.
        maximum_days: Days after which an undecided challenger is stopped.
        tuned_for: Size at which the evidence is strongest; see `Claim`.
        guardrails: Metrics that must all be shown to hold before a promotion.

    Raises:
        ProjectError: a number out of its range; all at once.
    """

    metric: str = "cost"
    share: float = 0.5
    lower_is_better: bool = True
    alpha: float = 0.05
    margin: float = 0.0
    minimum_days: float = 7.0
    maximum_days: float = 90.0
    tuned_for: float | None = None
    guardrails: tuple[Guardrail, ...] = ()

    def __post_init__(self) -> None:
        margins = [self.margin, *(guardrail.margin for guardrail in self.guardrails)]
        checks = (
            ("share", 0 <= self.share <= 1, self.share, "0 to 1"),
            ("alpha", 0 < self.alpha < 0.5, self.alpha, "above 0, below 0.5"),
            ("margin", all(0 <= margin < 1 for margin in margins), margins, "0 or more, below 1"),
            ("minimum_days", self.minimum_days >= 0, self.minimum_days, "0 or more"),
            ("maximum_days", self.maximum_days > self.minimum_days, self.maximum_days, "above minimum_days"),
            ("tuned_for", self.tuned_for is None or self.tuned_for > 0, self.tuned_for, "above 0"),
        )
        faults = [
            Fault(f"bad_{name}", "expected a number in range", f"rollout.{name}", repr(got), allowed)
            for name, holds, got, allowed in checks
            if not holds
        ]
        if faults:
            raise ProjectError(*faults)


@dataclass(frozen=True, slots=True)
class RolloutState:
    """What has been seen so far; outcomes count once their window has closed.

    Attributes:
        days: Days since the challenger started.
        primary: Tally of the primary metric, split or paired.
        guardrails: Tallies by name of guardrail.
        log_mismatch: Log Bayes factor against the declared shares, summed over phases.
    """

    days: float
    primary: Tally
    guardrails: Mapping[str, Tally] = field(default_factory=dict)
    log_mismatch: float = 0.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """What to do, why in a sentence, and the evidence by metric."""

    kind: Literal["continue", "promote", "stop"]
    reason: str
    evidence: Mapping[str, Evidence]


def decide(plan: RolloutPlan, state: RolloutState) -> Verdict:
    """The verdict at this look; valid at every look.

    Harm stops at once, at `k / alpha` for k metrics (Bonferroni). A promotion needs every claim to hold at
    `1 / alpha`, which needs no correction (intersection-union, Berger 1982).
    """
    watched = {
        plan.metric: (_claim(plan, plan.margin, plan.lower_is_better), state.primary),
        **{
            rail.name: (
                _claim(plan, rail.margin, rail.lower_is_better),
                state.guardrails.get(rail.name, Split()),
            )
            for rail in plan.guardrails
        },
    }
    evidence = {name: tally.evidence(claim) for name, (claim, tally) in watched.items()}
    bar, harm_bar = 1 / plan.alpha, len(watched) / plan.alpha
    primary = f"After {state.days:.0f} days, {describe(plan.metric, evidence[plan.metric])}."
    harmed = [name for name, found in evidence.items() if found.e_worse >= harm_bar]
    open_claims = [name for name, found in evidence.items() if found.e_better < bar]
    if harmed:
        facts = "; ".join(describe(name, evidence[name]) for name in harmed)
        return Verdict("stop", f"The challenger does harm: {facts}.", evidence)
    blocked = _blocked(plan, state, open_claims)
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
    if math.isinf(found.low):
        return "too early to give bounds"
    return f"within {found.low:+.3g} to {found.high:+.3g} however often one looks"


def _claim(plan: RolloutPlan, margin: float, lower_is_better: bool) -> Claim:
    harm = plan.alpha / (1 + len(plan.guardrails))
    return Claim(lower_is_better, margin, plan.alpha, harm, plan.tuned_for)


def _blocked(plan: RolloutPlan, state: RolloutState, open_claims: list[str]) -> str:
    """What stands in the way of a promotion, the gravest first; empty if nothing does."""
    if state.log_mismatch >= MISMATCH:
        odds = bounded_exp(state.log_mismatch)
        return f"the arms' sizes do not fit their shares ({odds:.3g} to 1), so the data cannot be trusted"
    missing = [rail.name for rail in plan.guardrails if rail.name not in state.guardrails]
    if missing:
        return f"no data for {', '.join(missing)}"
    if state.days < plan.minimum_days:
        return f"a promotion needs at least {plan.minimum_days:g} days"
    if open_claims:
        return f"the evidence does not yet suffice for {', '.join(open_claims)}"
    return ""


def _held(plan: RolloutPlan) -> str:
    shown = f"no worse than {plan.margin:.1%}" if plan.margin else "better"
    rails = (
        f" and every guardrail holds ({', '.join(r.name for r in plan.guardrails)})"
        if plan.guardrails
        else ""
    )
    return f"It is shown to be {shown}{rails}; the chance that this is an error is at most {plan.alpha:.0%}."
