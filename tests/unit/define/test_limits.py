"""Limits join with `&`; what cannot hold is named when the class is read."""

from __future__ import annotations

from typing import Any

import pytest

import icekeel as ik
from icekeel.core.errors import ProjectError


class Customers(ik.Events, time="since", id="customer"):
    customer: ik.Id


def faults(kind: Any, limits: Any, contract: Any = None) -> list[tuple[str, str]]:
    options = {} if contract is None else {"contract": contract}
    namespace = {"__annotations__": {"key": ik.Id, "value": kind}, "__module__": __name__, "value": limits}
    meta: Any = type(ik.Events)
    made = meta("Made", (ik.Events,), namespace, time="moment", id="key", **options)
    return [(fault.code, fault.where) for fault in made.icekeel_faults]


def test_limits_join() -> None:
    joined = ik.matches("a+") & ik.length(2, 9, breach="warn") & ik.optional(most=0.5) & ik.unique()
    assert (joined.pattern, joined.shortest, joined.longest, joined.optional, joined.most_null) == (
        "a+",
        2,
        9,
        True,
        0.5,
    )
    assert (joined.unique, joined.breach) == (True, (("wrong_length", "warn"),))
    assert faults(ik.Text, joined) == []
    with pytest.raises(ProjectError, match="low"):
        ik.at_least(0) & ik.between(1, 2)
    with pytest.raises(TypeError):
        ik.at_least(0) & 5
    with pytest.raises(ProjectError, match="breach="):
        ik.at_least(0, breach="shout")


@pytest.mark.parametrize(
    ("kind", "limits", "code"),
    [
        (ik.Num, ik.matches("a"), "bad_limits"),
        (ik.Num, ik.length(1), "bad_limits"),
        (ik.Text, ik.length(5, 2), "bad_limits"),
        (ik.Text, ik.length(-1), "bad_limits"),
        (ik.Text, ik.matches("(?i)a"), "bad_pattern"),
        (ik.Text, ik.matches(5), "bad_pattern"),  # type: ignore[arg-type]
        (ik.Id, ik.references("Customers.customer"), "bad_limits"),
        (ik.Num, ik.references(Customers.customer), "bad_limits"),
        (ik.Num, ik.optional(most=2), "bad_limits"),
        (ik.Num, ik.optional(most=0.5, breach="quarantine"), "bad_limits"),
    ],
)
def test_limits_that_cannot_hold_are_named(kind: Any, limits: Any, code: str) -> None:
    assert [found for found, _ in faults(kind, limits)] == [code]


@pytest.mark.parametrize(
    "contract",
    [
        ik.Contract(breach="shout"),
        ik.Contract(types="quarantine"),
        ik.Contract(rows=(5, 2)),
        ik.Contract(change=("a", None)),  # type: ignore[arg-type]
        ik.Contract(unique=("key", "other")),
        "block",
    ],
)
def test_contracts_that_cannot_hold_are_named(contract: Any) -> None:
    assert faults(ik.Num, ik.optional(), contract) == [("bad_contract", "class Made, contract")]


def test_a_request_has_no_batch() -> None:
    class Quote(ik.Request):
        quote_id: ik.Id = ik.matches("q.*")
        customer: ik.Id = ik.unique()
        net: ik.Num = ik.at_least(0, breach="warn")

    assert [fault.where for fault in Quote.icekeel_faults] == ["Quote.customer", "Quote.net"]
