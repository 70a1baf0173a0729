from __future__ import annotations

import math

import numpy as np

from icekeel.experiments import Failures, Metric, RolloutPlan, RolloutState, Split, decide, failing


def test_a_failing_canary_is_named_after_a_handful_of_units() -> None:
    assert failing({"errors": Failures(((0, 2, 0.01),))}) == ""  # one odd caller and another
    found = failing({"errors": Failures(((0, 4, 0.01),)), "guard flags": Failures(((50, 1, 0.01),))})
    assert found == "errors struck 4 of its units and 0 of the champion's"


def test_what_strikes_both_arms_is_not_laid_at_the_challengers_door() -> None:
    assert failing({"errors": Failures(((5_000, 5_000, 0.5),))}) == ""
    assert failing({"late": Failures(((100, 190, 0.5),))}) == ""  # less than twice the champion's
    assert failing({"late": Failures(((100, 400, 0.5),))}) != ""


def test_failures_of_phases_add_up() -> None:
    assert Failures(((1, 4, 0.1), (1, 3, 0.5))).struck == (2, 7)


def test_without_shares_nothing_is_claimed() -> None:
    assert Failures(((0, 50, 1.0),)).log_e == 0.0
    assert failing({}) == ""


def test_at_the_tolerated_rate_an_alarm_is_rarer_than_stated() -> None:
    rng = np.random.default_rng(31)
    in_b = 2 * 0.1 / (2 * 0.1 + 0.9)
    struck = (rng.random((1_000, 60)) < in_b).cumsum(axis=1)
    alarms = sum(
        any(failing({"errors": Failures(((n - int(b), int(b), 0.1),))}) for n, b in enumerate(row, 1))
        for row in struck
    )
    assert alarms <= 5  # 0.1 % are stated


def test_a_hard_failure_stops_the_rollout_at_once() -> None:
    state = RolloutState(0.1, Split(), failures={"NaN": Failures(((0, 30, 0.5),))})
    verdict = decide(RolloutPlan(Metric("cost")), state)
    assert verdict.kind == "stop"
    assert "fails: NaN struck 30" in verdict.reason
    assert math.isnan(verdict.evidence["cost"].estimate)
