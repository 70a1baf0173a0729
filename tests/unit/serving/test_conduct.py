"""Fall-backs one by one, over engines that say what they are told to."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import icekeel as ik
from icekeel.core.errors import Fault, RequestError
from icekeel.engines import Interval
from icekeel.engines.similar import Typical
from icekeel.features.plan import Plan, make_plan
from icekeel.guard import Verdict
from icekeel.serving.conduct import Conduct, Conducted, Flagged, reads_last_champion

VALUES = st.floats(-1e9, 1e9)


class Job(ik.Request):
    job_id: ik.Id
    cost: ik.Num = ik.optional()
    hours: ik.Num = ik.optional()


class Features(ik.Features):
    dear = Job.cost * 2
    long = Job.hours


class Done(ik.Events, time="done_at", id="job_id"):
    job_id: ik.Id
    price: ik.Num
    late: ik.Flag


done = Done.where(job_id=Job.job_id).within("9d")
PLAN: Plan = make_plan(tuple(Job.icekeel_fields.values()), Features.icekeel_features)


def model(guard: Any, *, flag: bool = False, **more: Any) -> ik.Model:
    target = (done.late if flag else done.price).latest(absent=ik.UNKNOWN)
    error = "log_loss" if flag else "mape"
    choose = ik.Simplest(within=ik.usd_per_year(1, error_point=1))
    history = ik.table_of(Job, "jobs.parquet", asked_at="at")
    made = ik.Model(
        "m", Job, Features, history=history, target=target, error=error, choose=choose, guard=guard, **more
    )
    assert made.faults() == []
    return made


def finish(answer: float, request: Sequence[Any]) -> float:
    """A floor at the cost, then multiples of 5."""
    if not math.isfinite(answer):
        raise RequestError(Fault("not_finite", "no finite answer"))
    return round(max(answer, request[1] or 0.0) / 5) * 5.0


def version(says: float, typical: Typical | None = None, *, damaged: bool = False) -> Any:
    cases = None if damaged else SimpleNamespace(typical=lambda values, k: typical)
    return SimpleNamespace(
        engine=SimpleNamespace(predict_one=lambda values: says),
        places=(0,),
        interval=Interval(10.0, relative=False, coverage=0.9),
        similar=SimpleNamespace(get=lambda: cases, places=(0, 1)),
    )


def conducted(
    guard: Any,
    *,
    kinds: Sequence[Any] = ("unseen_value",),
    request: Mapping[str, Any] | None = None,
    typical: Typical | None = None,
    damaged: bool = False,
    previous: Any = None,
    flags: bool = False,
    says: float = 1_000.0,
    **more: Any,
) -> Conducted:
    given: dict[str, Any] = {"job_id": "1", "cost": 100.0, "hours": 7.0} | dict(request or {})
    cost, hours = given["cost"], given["hours"]
    features = [None if cost is None else cost * 2, hours]
    champion = version(says, typical, damaged=damaged)
    conduct = Conduct(model(guard, **more), PLAN, finish=finish, previous=lambda: previous)
    verdicts = [Verdict(kind, kind, "why", (), 1.0) for kind in kinds]
    values = list(given.values())
    flagged = Flagged(values, features, champion, says, finish(says, values), (says - 10, says + 10))
    if not verdicts:
        return conduct.of_old(flagged, lambda *_: flags)
    return conduct.of(verdicts, flagged, lambda *_: flags)


def test_what_is_too_old_has_policies_of_its_own() -> None:
    fall_back = ik.last_champion(otherwise=ik.rule_of_thumb(Job.hours * 20))
    stale = ik.Stale(otherwise=fall_back)
    assert reads_last_champion(model(None, stale=stale)) and not reads_last_champion(model(None))
    assert conducted(None, kinds=(), stale=stale, previous=version(702.0)).source == "last_champion"
    assert conducted(ik.Guard(), kinds=(), stale=stale).answer == 140.0
    assert conducted(None, kinds=(), stale=stale, request={"hours": None}).refused
    assert conducted(None, kinds=(), stale=ik.Stale(otherwise=ik.refuse())).refused
    assert conducted(ik.Guard(otherwise=ik.refuse()), kinds=()).source == "model"


def test_marked_is_the_models_own_answer() -> None:
    assert conducted(ik.Guard()) == (1_000.0, (990.0, 1_010.0), "model", False, 1_000.0)


def test_the_last_champion_answers_with_its_own_interval() -> None:
    guard = ik.Guard(otherwise=ik.last_champion())
    found = conducted(guard, previous=version(702.0))
    assert found == (700.0, (690.0, 710.0), "last_champion", False, 702.0)
    assert conducted(guard, previous=version(702.0), flags=True).refused
    assert conducted(guard, previous=version(math.inf)).refused
    assert conducted(guard).refused
    assert reads_last_champion(model(guard)) and not reads_last_champion(model(ik.Guard()))


def test_a_fall_back_that_cannot_answer_passes_on() -> None:
    chain = ik.last_champion(otherwise=ik.similar_cases(otherwise=ik.rule_of_thumb(Job.hours * 11)))
    guard = ik.Guard(otherwise=chain)
    near = Typical(300.0, 200.0, 400.0)
    assert conducted(guard, previous=version(5.0), typical=near).source == "last_champion"
    assert conducted(guard, typical=near).source == "similar_cases"
    assert conducted(guard, damaged=True).source == "rule_of_thumb"
    assert conducted(guard).answer == 100.0  # 77 lies below the cost
    assert conducted(guard, request={"hours": None}).refused


def test_a_rule_reads_features_where_they_are_named() -> None:
    found = conducted(ik.Guard(otherwise=ik.rule_of_thumb(Features.dear + Job.hours)))
    assert (found.raw, found.answer, found.interval) == (207.0, 205.0, None)


@given(value=VALUES, low=VALUES, high=VALUES, cost=st.floats(0, 1e9) | st.none())
def test_an_answer_of_similar_cases_lies_in_its_interval_and_keeps_the_floor(
    value: float, low: float, high: float, cost: float | None
) -> None:
    low, value, high = sorted((low, value, high))
    guard = ik.Guard(otherwise=ik.similar_cases())
    found = conducted(guard, typical=Typical(value, low, high), request={"cost": cost})
    assert found.interval is not None and not found.refused
    assert found.interval[0] <= found.answer <= found.interval[1]
    assert found.answer >= (cost or 0) - 2.5


def test_probabilities_have_no_interval_and_act_on_what_stood_in() -> None:
    guard = ik.Guard(otherwise=ik.similar_cases())
    found = conducted(guard, flag=True, says=0.9, typical=Typical(0.2, 0.0, 1.0))
    assert (found.interval, found.raw) == (None, 0.2)


def test_of_several_findings_the_strictest_policy_counts() -> None:
    kinds: dict[str, Any] = {"unseen_value": ik.mark(), "out_of_range": ik.rule_of_thumb(50)}
    guard = ik.Guard(otherwise=ik.refuse(), kinds=kinds)
    assert conducted(guard).source == "model" and not conducted(guard).refused
    assert conducted(guard, kinds=["unseen_value", "out_of_range"]).source == "rule_of_thumb"
    assert conducted(guard, kinds=["out_of_range", "unseen_pair"]).refused


@pytest.mark.parametrize(
    ("guard", "request_", "refused"),
    [
        (ik.Guard(above=(1_000, ik.refuse())), {}, True),
        (ik.Guard(above=(1_001, ik.refuse())), {}, False),
        (
            ik.Guard(otherwise=ik.rule_of_thumb(2_000), above=(1_500, ik.refuse())),
            {},
            True,
        ),  # what would be given
        (ik.Guard(otherwise=ik.rule_of_thumb(10), above=(999, ik.refuse())), {}, True),  # what the model says
        (ik.Guard(above=(500, ik.refuse()), stake=Job.cost * 4), {}, False),
        (ik.Guard(above=(400, ik.refuse()), stake=Job.cost * 4), {}, True),
        (ik.Guard(above=(400, ik.refuse()), stake=Job.cost * 4), {"cost": None}, True),  # nobody knows
        (ik.Guard(otherwise=ik.refuse(), above=(400, ik.mark())), {}, False),
    ],
)
def test_from_an_amount_at_stake_on_another_policy_holds(
    guard: Any, request_: dict[str, Any], refused: bool
) -> None:
    assert conducted(guard, request=request_).refused is refused


def test_of_probabilities_the_larger_mistake_is_at_stake() -> None:
    action = ik.Act("warn", missed=5, false=1)
    for amount, refused in ((5, True), (6, False)):
        guard = ik.Guard(above=(amount, ik.refuse()))
        assert conducted(guard, flag=True, says=0.9, action=action).refused is refused
