"""Part of a plan: the same numbers from the same views, and no more of the request than they need."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from typing import Any

import pytest

import icekeel as ik
from icekeel.core.errors import RequestError
from icekeel.features.plan import Plan, make_plan, select_features


class Quote(ik.Request):
    customer: ik.Id
    product: ik.Cat
    colors: ik.Num
    note: ik.Cat


class Orders(ik.Events, time="at", id="order"):
    order: ik.Id
    customer: ik.Id
    product: ik.Cat
    net: ik.Num


class Features(ik.Features):
    product = Quote.product
    bought = Orders.where(customer=Quote.customer).last("7d").product.last()
    spent = Orders.where(customer=Quote.customer).last("7d").net.sum()
    sold = Orders.where(product=Quote.product).last("1d").count()
    price = Orders.where(product=Quote.product).last("1d").net.mean() * Quote.colors
    kind = Orders.where(product=Quote.product).last("2d").product.first()
    everything = Orders.where().last("1d").count()


PLAN = make_plan(tuple(Quote.icekeel_fields.values()), Features.icekeel_features)
NAMES = list(PLAN.definitions)
REQUEST: dict[str, Any] = {"customer": "a", "product": "p", "colors": 2.0, "note": "n"}
READS = {
    "product": {"product"},
    "bought": {"customer"},
    "spent": {"customer"},
    "sold": {"product"},
    "price": {"product", "colors"},
    "kind": {"product"},
    "everything": set[str](),
}


def answer(plan: Plan, request: dict[str, Any]) -> list[Any]:
    """Features where each slot holds its view and aggregate: another slot, another value."""
    slots: list[Any] = []
    for lookup in plan.lookups:
        for one in lookup.view.aggregates:
            text = len(slots) in plan.text_slots
            number = float(abs(hash((lookup.view.name, one))) % 1_000_003)
            slots.append(f"t{number}" if text else number)
    return plan.compile()([request.get(field.name) for field in plan.fields], 0, slots)


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_every_part_gives_what_the_whole_does(count: int) -> None:
    whole = dict(zip(NAMES, answer(PLAN, REQUEST), strict=True))
    for names in combinations(reversed(NAMES), count):
        part = select_features(PLAN, names)
        needed = set().union(*(READS[name] for name in names))
        assert {field.name for field in part.fields if not field.limits.optional} == needed
        assert answer(part, {name: REQUEST[name] for name in needed}) == [whole[name] for name in names]
        assert {lookup.view for lookup in part.lookups} <= {lookup.view for lookup in PLAN.lookups}


def test_only_the_views_that_are_needed_are_read() -> None:
    assert [lookup.view.keys for lookup in select_features(PLAN, ["everything"]).lookups] == [()]
    assert select_features(PLAN, ["product"]).lookups == ()


def test_a_field_that_only_an_unasked_window_compares_with_may_be_left_out() -> None:
    (lookup,) = select_features(PLAN, ["spent"]).lookups
    about = replace(lookup, params=((Quote.colors * 2).node,))
    part = replace(select_features(PLAN, ["spent"]), lookups=(about,))
    assert part.compile_params(about)([None] * 4, 0) == [None]


@pytest.mark.parametrize(
    ("names", "codes"),
    [([], ["no_features"]), (["sold", "sold"], ["twice"]), (["solt", "x"], ["unknown_feature"] * 2)],
)
def test_names_that_cannot_be_are_told_all_at_once(names: list[str], codes: list[str]) -> None:
    with pytest.raises(RequestError) as caught:
        select_features(PLAN, names)
    assert [fault.code for fault in caught.value.faults] == codes
    assert names != ["solt", "x"] or caught.value.faults[0].hint == 'did you mean "sold"?'


def test_names_that_are_not_known_are_counted_beyond_the_first_ones() -> None:
    with pytest.raises(RequestError) as raised:
        select_features(PLAN, [f"none{at}" for at in range(100_000)])
    assert len(raised.value.faults) == 51
    assert raised.value.faults[-1].what == "and 99,950 more"
