"""Definitions as text, in the words and with the brackets of the language."""

from __future__ import annotations

import pytest

import icekeel as ik
from icekeel.define.formula import formula


class Ask(ik.Request):
    customer: ik.Id
    colors: ik.Num
    rush: ik.Flag
    ink: ik.Cat


class Orders(ik.Events, time="ordered_at", id="order_id"):
    order_id: ik.Id
    customer: ik.Id
    revenue: ik.Num


mine = Orders.where(customer=Ask.customer).last("30d")
a, b = Ask.colors, mine.revenue.sum()
B = "[Orders by customer, last 30d: sum of revenue]"


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        (a, "Ask.colors"),
        (b, B),
        (a + b * 2, f"Ask.colors + {B} * 2"),
        ((a + b) * 2.5, f"(Ask.colors + {B}) * 2.5"),
        (a - (b - 1), f"Ask.colors - ({B} - 1)"),
        ((a - b) - 1, f"Ask.colors - {B} - 1"),
        (a / (b / 2), f"Ask.colors / ({B} / 2)"),
        (-(a + 1), "-(Ask.colors + 1)"),
        ((a > 3) & ~Ask.rush, "Ask.colors > 3 and not Ask.rush"),
        (ik.exp(a / 365), "exp(Ask.colors / 365)"),
        (ik.table(Ask.ink, {"gold": 2.0, "blue": 1.0}, default=1), "table(Ask.ink, 2 entries, default=1.0)"),
    ],
)
def test_a_definition_reads_as_it_was_written(expression: ik.Num, text: str) -> None:
    assert formula(expression.node) == text
