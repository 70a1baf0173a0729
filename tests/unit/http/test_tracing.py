"""`traceparent` as W3C Trace Context has it."""

from __future__ import annotations

import re

import pytest

from icekeel.http.tracing import trace_of

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SPAN = "00f067aa0ba902b7"


@pytest.mark.parametrize(
    "given", [f"00-{TRACE}-{SPAN}-01", f"01-{TRACE}-{SPAN}-00", f"cc-{TRACE}-{SPAN}-01-more"]
)
def test_a_trace_is_taken_over_and_told(given: str) -> None:
    trace, headers = trace_of({b"traceparent": given.encode(), b"x-request-id": b"mine"})
    assert trace == TRACE
    ((name, value),) = headers
    assert name == b"traceresponse"
    assert re.fullmatch(rf"00-{TRACE}-(?!0{{16}}|{SPAN})[0-9a-f]{{16}}-{given.split('-')[3]}", value.decode())


@pytest.mark.parametrize(
    "given",
    [
        "",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-01-more",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE}-{SPAN}",
        f"00-{TRACE}-{SPAN}-1",
        f"01-{TRACE}-{SPAN}-01more",
        f"00-{TRACE}-{SPAN}-01\n",
    ],
)
def test_what_is_no_traceparent_is_as_none(given: str) -> None:
    assert trace_of({b"traceparent": given.encode()}) == ("", ())
    assert trace_of({b"traceparent": given.encode(), b"x-request-id": b"mine"}) == ("mine", ())
