from __future__ import annotations

import numpy as np
import pytest

from icekeel.core.errors import ProjectError
from icekeel.experiments import (
    Metric,
    Moments,
    PairedDays,
    RolloutPlan,
    RolloutState,
    Split,
    TwoSample,
    decide,
)

PLAN = RolloutPlan(
    Metric("cost"), guardrails=(Metric("refusals", margin=0.1),), minimum_days=7, maximum_days=30
)


def split(rate_a: float, rate_b: float, n: int = 20_000) -> Split:
    a, b = rate_a * n, rate_b * n
    return Split({"1": TwoSample(Moments.counts(n, a), Moments.counts(n, b))})


GOOD, SAME, BAD = split(0.2, 0.17), split(0.2, 0.2), split(0.2, 0.24)


@pytest.mark.parametrize(
    ("days", "primary", "guardrail", "log_mismatch", "kind", "words"),
    [
        (8, GOOD, SAME, 0.0, "promote", "better"),
        (6, GOOD, SAME, 0.0, "continue", "at least 7 days"),
        (8, GOOD, SAME, 7.0, "continue", "sizes do not fit"),
        (8, GOOD, split(0.2, 0.2, 50), 0.0, "continue", "suffice for refusals"),
        (8, GOOD, BAD, 0.0, "stop", "harm: refusals"),
        (1, BAD, SAME, 7.0, "stop", "harm: cost"),
        (8, SAME, SAME, 0.0, "continue", "suffice for cost"),
        (30, SAME, SAME, 0.0, "stop", "Undecided"),
        (8, Split(), SAME, 0.0, "continue", "no data"),
    ],
)
def test_verdicts(
    days: float, primary: Split, guardrail: Split, log_mismatch: float, kind: str, words: str
) -> None:
    verdict = decide(PLAN, RolloutState(days, primary, {"refusals": guardrail}, log_mismatch))
    assert verdict.kind == kind
    assert words in verdict.reason
    assert set(verdict.evidence) == {"cost", "refusals"}


def test_a_guardrail_without_data_holds_the_promotion() -> None:
    verdict = decide(PLAN, RolloutState(8, GOOD))
    assert verdict.kind == "continue"
    assert "no data for refusals" in verdict.reason


def test_each_of_several_metrics_needs_more_evidence_of_harm() -> None:
    worse = split(0.2, 0.2125)
    alone = decide(RolloutPlan(Metric("cost")), RolloutState(8, worse))
    assert 20 < alone.evidence["cost"].e_worse < 40
    assert alone.kind == "stop"
    assert decide(PLAN, RolloutState(8, worse, {"refusals": SAME})).kind == "continue"


def test_the_reason_reads_as_a_sentence() -> None:
    verdict = decide(RolloutPlan(Metric("cost"), minimum_days=3), RolloutState(12, GOOD))
    assert verdict.reason == (
        "After 12 days, cost of the challenger is 0.03 better (15.0%) than the champion's 0.2, within +0.0189 to "
        "+0.0411 however often one looks, from 20,000 against 20,000 units. It is shown to be better; the "
        "chance that this is an error is at most 5%."
    )


def test_a_retrained_version_in_shadow_need_only_be_no_worse() -> None:
    rng = np.random.default_rng(1)
    day = np.repeat(np.arange(40), 50)
    cost = rng.random(2000)
    challenger = cost + rng.normal(0, 0.02, 2000)
    shadow = PairedDays.of(day, cost, challenger)
    strict = RolloutPlan(Metric("cost"))
    lenient = RolloutPlan(Metric("cost", margin=0.02))
    assert decide(strict, RolloutState(40, shadow)).kind == "continue"
    verdict = decide(lenient, RolloutState(40, shadow))
    assert verdict.kind == "promote"
    assert "no worse than 2.0%" in verdict.reason


STEPS = RolloutPlan(Metric("cost"), steps=(0.01, 0.1, 0.5), minimum_days=7)


@pytest.mark.parametrize(
    ("primary", "log_mismatch", "step", "step_days", "kind", "words"),
    [
        (SAME, 0.0, 0, 1.0, "advance", "on to 10.0%"),
        (GOOD, 0.0, 1, 1.0, "advance", "on to 50.0%"),  # better already, and yet no step is left out
        (SAME, 0.0, 0, 0.9, "continue", "at least 1 days"),
        (SAME, 7.0, 0, 1.0, "continue", "sizes do not fit"),
        (Split(), 0.0, 0, 1.0, "continue", "no data for cost"),
        (BAD, 0.0, 0, 0.1, "stop", "harm"),
        (SAME, 0.0, 2, 9.0, "continue", "suffice"),
        (GOOD, 0.0, 2, 0.5, "continue", "at least 1 days"),
        (GOOD, 0.0, 2, 1.0, "promote", "better"),
    ],
)
def test_steps(
    primary: Split, log_mismatch: float, step: int, step_days: float, kind: str, words: str
) -> None:
    state = RolloutState(8, primary, {}, log_mismatch, step, step_days)
    verdict = decide(STEPS, state)
    assert (verdict.kind, words in verdict.reason) == (kind, True)


def test_every_fault_of_a_plan_is_named_at_once() -> None:
    rails = (Metric("a"), Metric("a"))
    with pytest.raises(ProjectError) as caught:
        RolloutPlan(
            Metric("cost"),
            rails,
            (0.5, 0.1),
            step_days=-1,
            alpha=0,
            minimum_days=9,
            maximum_days=3,
            tuned_for=0,
        )
    assert [fault.code for fault in caught.value.faults] == [
        "bad_steps",
        "bad_step_days",
        "bad_alpha",
        "bad_maximum_days",
        "bad_tuned_for",
        "bad_guardrails",
    ]
