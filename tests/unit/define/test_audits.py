"""What a project file may say of audits, and how it is told what it may not."""

from __future__ import annotations

from typing import Any

import pytest

import icekeel as ik
from icekeel.define.audits import AUDITS, audit_faults


class Quote(ik.Request):
    quote_id: ik.Id
    substrate: ik.Cat
    colors: ik.Num


class Other(ik.Request):
    other_id: ik.Id
    substrate: ik.Cat


def faults(**words: Any) -> list[tuple[str, str]]:
    return [(fault.code, fault.where) for fault in audit_faults(ik.Audits(**words), "Quote", "audits")]


def test_what_can_hold_has_no_fault() -> None:
    assert faults() == []
    assert (
        faults(
            groups=(Quote.substrate,), block=("labels",), warn=("skew",), off=AUDITS[:1], recent="2w", worse=2
        )
        == []
    )


@pytest.mark.parametrize(
    ("words", "code", "where"),
    [
        ({"groups": [Quote.substrate]}, "bad_audits", "audits"),
        ({"groups": (Quote.colors,)}, "bad_audits", "audits, groups"),
        ({"groups": (Other.substrate,)}, "bad_audits", "audits, groups"),
        ({"groups": ("substrate",)}, "bad_audits", "audits, groups"),
        ({"groups": (Quote.substrat,)}, "unknown_field", "audits, groups: Quote.substrat"),
        ({"block": "leakage"}, "bad_audits", "audits"),
        ({"off": ("leakage",), "block": ("leakage",)}, "bad_audits", "audits, off"),
        ({"recent": "a month"}, "bad_duration", "audits, recent"),
        ({"worse": 1}, "out_of_range", "audits, worse"),
        ({"worse": True}, "out_of_range", "audits, worse"),
    ],
)
def test_what_cannot_hold_is_told_with_its_place(words: dict[str, Any], code: str, where: str) -> None:
    ((found, place),) = faults(**words)
    assert (found, place) == (code, where)


def test_a_name_that_there_is_not_is_told_the_nearest() -> None:
    (fault,) = audit_faults(ik.Audits(warn=("leakge",)), "Quote", "audits")
    assert (fault.where, fault.got, fault.hint) == ("audits, warn", "'leakge'", 'did you mean "leakage"?')
    assert fault.allowed == ", ".join(AUDITS)
