from __future__ import annotations

import math

import numpy as np
import pytest

from icekeel.core.errors import IcekeelError
from icekeel.experiments import (
    Claim,
    Metric,
    Moments,
    PairedDays,
    Question,
    Split,
    TwoSample,
    lasting,
    paired_days_needed,
    paired_detectable,
)


@pytest.mark.parametrize(("share", "effect"), [(0.5, 0.2), (0.5, -0.25), (0.2, 0.3)])
def test_so_many_units_find_the_effect_with_the_stated_power(share: float, effect: float) -> None:
    question = Question(0.1, 0.3, share, binary=True)
    units, looks, tests = question.units(effect), 60, 600
    rng = np.random.default_rng(33)
    in_b = rng.binomial(units // looks, share, (tests, looks))
    n = [(units // looks - in_b), in_b]
    arms = [
        Moments.counts(size.cumsum(axis=1), rng.binomial(size, rate).cumsum(axis=1))
        for size, rate in zip(n, (0.1, 0.1 * (1 + effect)), strict=True)
    ]
    split = Split({"": TwoSample(*arms, share)})  # type: ignore[call-arg, arg-type]
    claim = Metric("won", "conversion", lower_is_better=False).claim()
    log_e = split.log_e(claim, split.score())[0 if effect > 0 else 1]
    assert 0.72 <= (log_e >= math.log(20)).any(axis=1).mean() <= 0.9


def test_smaller_effects_and_uneven_shares_need_more() -> None:
    rate = Question.of_rate(0.03)
    assert rate.units(-0.05) > 10 * rate.units(-0.2)
    assert Question.of_rate(0.03, share=0.1).units(0.1) == pytest.approx(rate.units(0.1) / 0.36, rel=1e-5)
    assert Question(1.0, 1.0, margin=0.05).units(0.0) == Question(1.0, 1.0).units(0.05)


def test_the_detectable_effect_is_the_inverse() -> None:
    question = Question(10.0, 5.0, margin=0.02)
    assert question.detectable(question.units(0.03)) == pytest.approx(0.03, rel=1e-3)


def test_a_plan_tuned_for_its_effect_needs_fewer_units() -> None:
    rate = Question.of_rate(0.03)
    tuned = rate.tuned(-0.05)
    assert tuned.units(-0.05) < 0.8 * rate.units(-0.05)
    assert tuned.tuned_for == pytest.approx(tuned.units(-0.05) / 2, rel=0.01)


def test_the_answer_for_business() -> None:
    assert Question.of_rate(0.03).sentence(-0.05, 2_000) == (
        "To find -5.0% you need 800,000 users; at 2,000 a day 13 months."
    )


@pytest.mark.parametrize(
    ("days", "words"),
    [(0.5, "1 day"), (12.2, "13 days"), (30, "4 weeks"), (250, "8 months"), (800, "2 years")],
)
def test_durations_in_words(days: float, words: str) -> None:
    assert lasting(days) == words


def test_questions_without_an_answer_are_refused() -> None:
    with pytest.raises(IcekeelError) as caught:
        Question(0.0, -1.0, 1.0, 1.0, 0.5, 1.0, 0.0)
    assert {fault.code for fault in caught.value.faults} >= {"bad_mean", "bad_sd", "bad_share", "bad_power"}
    with pytest.raises(IcekeelError) as caught:
        Question(1.0, 1.0, margin=0.05).units(-0.05)
    assert caught.value.code == "bad_effect"


def past(days: int = 40, spread: float = 0.05) -> PairedDays:
    change = np.random.default_rng(34).normal(0, 1, days)
    change = (change - change.mean()) / change.std(ddof=1) * spread
    return PairedDays({day: (100, 100 * float(one), 50.0) for day, one in enumerate(change)})


def test_days_of_a_shadow_test_follow_from_the_spread_between_past_days() -> None:
    days = paired_days_needed(past(), 0.1, Claim())
    assert days is not None
    rng, found = np.random.default_rng(35), 0
    for _ in range(60):
        rows = {day: (100, 100 * (-0.05 + float(rng.normal(0, 0.05))), 50.0) for day in range(days)}
        found += any(
            PairedDays(dict(list(rows.items())[:day])).evidence(Claim()).e_better >= 20
            for day in range(10, days + 1)
        )
    assert 0.6 <= found / 60 <= 0.95
    assert paired_detectable(past(), days, Claim()) == pytest.approx(0.1, rel=0.1)


def test_what_the_past_cannot_tell_is_refused() -> None:
    with pytest.raises(IcekeelError) as caught:
        paired_days_needed(past(5), 0.1, Claim())
    assert caught.value.code == "too_few_days"
    with pytest.raises(IcekeelError):
        paired_days_needed(PairedDays({day: (1, 0.0, 1.0) for day in range(20)}), 0.1, Claim())
