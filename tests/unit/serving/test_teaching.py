"""What two people's acceptances make ordinary, and until when."""

from __future__ import annotations

from itertools import count
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from icekeel.guard import Verdict
from icekeel.guard.check import MOST_COMBINATIONS
from icekeel.registry import Review
from icekeel.serving.teaching import Taught

PAIR = "unseen_pair:ink+rush"
ABOVE, BELOW = "out_of_range:size+ink:above", "out_of_range:size:below"
_ids = count()


def review(
    by: str, findings: dict[str, list[Any]], *, until: int = 100, decision: str = "accepted"
) -> Review:
    number = next(_ids)
    return Review(
        id=f"{number:09}", at=number, prediction=f"p{number}", model="m", decision=decision, by=by, reason="",
        answer=None, findings=findings, until=until,
    )  # fmt: skip


def passes(taught: Taught, code: str, at: int = 50, **values: Any) -> bool:
    columns = tuple(code.split(":")[1].split("+"))
    verdict = Verdict("unseen_pair", code, "", columns, 1.0)
    return taught.remaining([verdict], values, 7.0, at) == []


def test_two_people_make_a_finding_ordinary_and_one_does_not() -> None:
    one = review("ann", {PAIR: ["metal", "yes"]})
    assert not passes(Taught([one, review("ann", {PAIR: ["metal", "yes"]})]), PAIR, ink="metal", rush="yes")
    both = Taught([one, review("bob", {PAIR: ["metal", "yes"]})])
    assert passes(both, PAIR, ink="metal", rush="yes")
    assert not passes(both, PAIR, ink="metal", rush="no")
    assert not passes(both, "unseen_pair:ink+die", ink="metal", die="yes")


def test_it_ends_when_the_first_of_the_two_expires() -> None:
    both = Taught([review("ann", {PAIR: ["a", "b"]}, until=60), review("bob", {PAIR: ["a", "b"]}, until=90)])
    assert passes(both, PAIR, at=59, ink="a", rush="b")
    assert not passes(both, PAIR, at=60, ink="a", rush="b")
    assert [lesson.until for lesson in both.lessons(59)] == [60]
    assert [lesson.until for lesson in both.lessons(60)] == [None]
    assert list(both.lessons(90)) == []


@pytest.mark.parametrize(("code", "near", "far"), [(ABOVE, 80.0, 120.0), (BELOW, 3.0, 1.0)])
def test_a_number_is_ordinary_as_far_as_both_went(code: str, near: float, far: float) -> None:
    rest = ["metal"] if code == ABOVE else []
    taught = Taught([review("ann", {code: [far, *rest]}), review("bob", {code: [near, *rest]})])
    assert passes(taught, code, size=near, ink="metal")
    assert not passes(taught, code, size=(near + far) / 2, ink="metal")
    assert passes(taught, code, size=near, ink="uv") is (code == BELOW)
    (lesson,) = taught.lessons(50)
    assert lesson.values == {"size": near, **({"ink": "metal"} if rest else {})}
    # Who rejects a number ends what reached it, and nothing that did not.
    assert passes(Taught([*_both(code, near, rest), _no(code, far, rest)]), code, size=near, ink="metal")
    assert not passes(Taught([*_both(code, far, rest), _no(code, near, rest)]), code, size=near, ink="metal")


def _both(code: str, value: float, rest: list[Any]) -> list[Review]:
    return [review(who, {code: [value, *rest]}) for who in ("ann", "bob")]


def _no(code: str, value: float, rest: list[Any]) -> Review:
    return review("cleo", {code: [value, *rest]}, decision="rejected")


def test_an_odd_prediction_is_taught_by_what_was_predicted() -> None:
    code = "odd_prediction:price+ink:above"
    taught = Taught(_both(code, 7.0, ["metal"]))
    assert passes(taught, code, price=1e9, ink="metal")  # a field of that name is something else
    assert not passes(Taught(_both(code, 6.9, ["metal"])), code, ink="metal")


def test_what_was_ended_needs_two_people_again() -> None:
    before = [review(who, {PAIR: ["a", "b"]}) for who in ("ann", "bob")]
    ended = [*before, review("ann", {PAIR: ["a", "b"]}, decision="rejected")]
    assert not passes(Taught(ended), PAIR, ink="a", rush="b")
    again = [*ended, review("cleo", {PAIR: ["a", "b"]})]
    assert not passes(Taught(again), PAIR, ink="a", rush="b")
    assert passes(Taught([*again, review("ann", {PAIR: ["a", "b"]})]), PAIR, ink="a", rush="b")


def test_a_request_with_as_many_findings_as_are_named_keeps_them() -> None:
    codes = [f"unseen_pair:a+c{number}" for number in range(MOST_COMBINATIONS)]
    found = {code: ["x", "y"] for code in codes}
    taught = Taught([review("ann", {**found}), review("bob", {**found})])
    values = {"a": "x", **{f"c{number}": "y" for number in range(MOST_COMBINATIONS)}}
    verdicts = [Verdict("unseen_pair", code, "", tuple(code.split(":")[1].split("+")), 1.0) for code in codes]
    assert taught.remaining(verdicts[1:], values, 7.0, 50) == []
    assert taught.remaining(verdicts, values, 7.0, 50) == verdicts


acceptances = st.lists(
    st.tuples(st.sampled_from("abc"), st.integers(1, 9), st.integers(1, 9), st.booleans()), max_size=12
)


@given(acceptances, st.integers(0, 10), st.integers(0, 10))
def test_it_equals_a_naive_reading(given_: list[tuple[str, int, int, bool]], value: int, at: int) -> None:
    reviews = [
        review(by, {ABOVE: [float(bound), "x"]}, until=until, decision="accepted" if yes else "rejected")
        for by, bound, until, yes in given_
    ]
    people = {
        by
        for place, (by, bound, until, yes) in enumerate(given_)
        if yes and value <= bound and at < until
        and not any(not no and other <= bound for _, other, _, no in given_[place + 1 :])
    }  # fmt: skip
    assert passes(Taught(reviews), ABOVE, at=at, size=value, ink="x") is (len(people) >= 2)
