from __future__ import annotations

from pathlib import Path

import pytest

from icekeel.core.errors import ProjectError
from icekeel.define import load_project

PROJECT = """
import icekeel as ik

class Quote(ik.Request):
    quote_id: ik.Id
    customer: ik.Id = ik.private()
    payer: ik.Id = ik.private("customer", optional=True)
    seller: ik.Id = ik.private()
    colors: ik.Num

class Orders(ik.Events, time="ordered_at", id="order_id"):
    order_id: ik.Id
    customer: ik.Id = ik.private()
    buyer: ik.Id = ik.private("customer")
    rep: ik.Id
    revenue: ik.Num
    #RULE

class Results(ik.Events, time="decided_at", id="quote_id"):
    quote_id: ik.Id
    price: ik.Num

mine = Orders.where(customer=Quote.customer).last("30d")

class Features(ik.Features):
    colors = Quote.colors
    own = mine.revenue.sum()
    #FEATURE

price = ik.Model(
    "price", Quote, Features,
    history=ik.table_of(Quote, "quotes.csv", asked_at="sent_at"),
    target=Results.where(quote_id=Quote.quote_id).within("30d").price.latest(absent=ik.UNKNOWN),
    error="mape",
    choose=ik.Simplest(within=ik.usd_per_year(1, error_point=1)),
)
"""


def write(folder: Path, feature: str = "", rule: str = "", extra: str = "") -> Path:
    text = PROJECT.replace("#FEATURE", feature).replace("#RULE", rule) + extra
    (folder / "project.py").write_text(text)
    return folder


@pytest.mark.parametrize(
    "feature",
    [
        'bought = Orders.where(buyer=Quote.customer).last("30d").count()',
        'paid = Orders.where(customer=Quote.payer).last("30d").count()',
        "self_paid = Quote.customer == Quote.payer",
        "known = Quote.payer.known()",
        'buyers = Orders.where().last("1d").buyer.distinct()',
        'share = Orders.where().last("1d").buyer.share_of(Quote.customer)',
        'gift = Orders.where(Orders.buyer != Orders.customer, customer=Quote.customer).last("30d").count()',
    ],
)
def test_private_fields_are_joined_compared_and_counted(tmp_path: Path, feature: str) -> None:
    project = load_project(write(tmp_path, feature))
    fields = project.models["price"].request.icekeel_fields
    assert [fields[name].entity for name in ("quote_id", "customer", "payer", "seller")] == [
        *("", "customer", "customer", "seller")
    ]


@pytest.mark.parametrize(
    ("feature", "code"),
    [
        ("long = Quote.customer.length()", "private_value"),
        ('north = Quote.customer.piece("-", 0)', "private_value"),
        ('vip = Quote.customer == "C1"', "private_value"),
        ('vip = Quote.customer.one_of("C1", "C2")', "private_value"),
        ("worth = ik.table(Quote.customer, {'C1': 3}, default=1)", "private_value"),
        ("same = Quote.customer == Quote.seller", "private_value"),
        ("same = Quote.customer == Quote.quote_id", "private_value"),
        ('vip = Orders.where(customer="C1").last("30d").count()', "private_value"),
        ('share = Orders.where().last("1d").buyer.share_of(Quote.seller)', "private_value"),
        ('n = Orders.where(rep=Quote.customer).last("30d").count()', "bad_private"),
        ('n = Orders.where(customer=Quote.quote_id).last("30d").count()', "bad_private"),
        ('n = Orders.where(customer=Quote.seller).last("30d").count()', "bad_private"),
    ],
)
def test_what_a_private_field_says_is_not_used(tmp_path: Path, feature: str, code: str) -> None:
    with pytest.raises(ProjectError) as caught:
        load_project(write(tmp_path, feature))
    assert {fault.code for fault in caught.value.faults} == {code}
    assert all("Features." in fault.where and fault.hint for fault in caught.value.faults)


def test_a_join_of_a_private_field_says_how_to_mend_it(tmp_path: Path) -> None:
    with pytest.raises(ProjectError) as caught:
        load_project(write(tmp_path, 'n = Orders.where(rep=Quote.customer).last("30d").count()'))
    (fault,) = caught.value.faults
    assert fault.got == "Orders.rep (not private) = Quote.customer (customer)"
    assert fault.hint == 'Orders.rep: ik.Id = ik.private("customer")'


def test_a_rule_cannot_read_a_private_field(tmp_path: Path) -> None:
    rule = '@ik.rule("customers begin with C")\n    def named(row): return row.customer.starts_with("C")'
    with pytest.raises(ProjectError) as caught:
        load_project(write(tmp_path, rule=rule))
    assert [fault.code for fault in caught.value.faults] == ["private_value"]


@pytest.mark.parametrize(
    ("extra", "code"),
    [
        ("class Other(ik.Request):\n    note: ik.Text = ik.private()", "bad_private"),
        ("class Other(ik.Request):\n    age: ik.Num = ik.private()", "bad_private"),
        ('class Other(ik.Request):\n    who: ik.Id = ik.private("a=b")', "bad_name"),
    ],
)
def test_only_identifiers_are_private(tmp_path: Path, extra: str, code: str) -> None:
    with pytest.raises(ProjectError) as caught:
        load_project(write(tmp_path, extra=extra))
    assert [fault.code for fault in caught.value.faults] == [code]


@pytest.mark.parametrize(
    "guard",
    [
        "otherwise=ik.rule_of_thumb(ik.table(Quote.customer, {'C1': 3}, default=1))",
        "above=(5, ik.refuse()), stake=Quote.customer.length()",
    ],
)
def test_a_guard_cannot_read_a_private_field(tmp_path: Path, guard: str) -> None:
    (write(tmp_path) / "project.py").write_text(
        PROJECT.replace('    error="mape",', f'    error="mape",\n    guard=ik.Guard({guard}),')
    )
    with pytest.raises(ProjectError) as caught:
        load_project(tmp_path)
    assert [fault.code for fault in caught.value.faults] == ["private_value"]
