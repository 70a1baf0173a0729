from __future__ import annotations

import numpy as np
import pytest

from icekeel.experiments import Metric, Moments, Split, TwoSample, course, naive, naive_sentence

DAY = 86_400_000_000
CLAIM = Metric("won", "conversion", lower_is_better=False).claim()


def split(hits_a: int, hits_b: int, n: int = 1_000) -> Split:
    return Split({"": TwoSample(Moments.counts(n, hits_a), Moments.counts(n, hits_b), 0.5)})


def test_the_naive_rules_alarm_where_the_sequence_does_not() -> None:
    looks = course([(0, Split()), (DAY, split(100, 94)), (2 * DAY, split(200, 160, 2_000))], CLAIM)
    assert [look.below for look in looks] == [False, True, True]
    assert [look.significant for look in looks] == [False, False, True]
    assert all(look.evidence.e_worse < 20 for look in looks)
    assert looks[2].evidence.low < looks[2].evidence.estimate < looks[2].evidence.high
    assert naive_sentence(looks) == (
        "On the same data, the rule `below 0.95 x control` would have stopped it after 1.0 days, at 2,000 units and a "
        "z-test looked at as often would have called it decided after 2.0 days, at 4,000 units."
    )


def test_a_naive_rule_that_never_alarmed_is_said_so() -> None:
    assert "would never have stopped it" in naive_sentence(course([(0, split(100, 100))], CLAIM))


def test_looked_at_often_the_naive_rules_cry_wolf() -> None:
    rng = np.random.default_rng(32)
    hits = rng.binomial(50, 0.03, (2, 300, 300)).cumsum(axis=2)
    n = 50 * np.arange(1, 301) * np.ones((300, 1))
    a, b = (Moments.counts(n, one) for one in hits)
    below, significant = naive(Split({"": TwoSample(a, b, 0.5)}).score(), CLAIM)
    assert below.any(axis=1).mean() == pytest.approx(0.9, abs=0.1)
    assert significant.any(axis=1).mean() > 0.25
