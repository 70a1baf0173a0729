"""A body that is made to cost much is refused for little."""

from __future__ import annotations

import json
import time

import pytest

from icekeel.core.errors import RequestError
from icekeel.http.incoming import DEEPEST, parse_json


def refused(body: bytes) -> tuple[RequestError, float]:
    started = time.process_time()
    with pytest.raises(RequestError) as caught:
        parse_json(body)
    return caught.value, time.process_time() - started


def repeated(count: int) -> bytes:
    members = ", ".join(f'"{n}": 1' for n in [*range(count), *range(count)])
    return f"{{{members}}}".encode()


def test_many_repeated_names_are_counted_in_linear_time() -> None:
    _, small = refused(repeated(400))
    error, large = refused(repeated(40_000))
    assert [fault.code for fault in error.faults] == ["duplicate_key"] * 50 + ["more_faults"]
    assert error.faults[-1].what == "and 39,950 more"
    assert large < 1_000 * small + 0.1


def test_the_deepest_body_is_read_and_a_deeper_one_is_not() -> None:
    deepest = b"[" * DEEPEST + b"]" * DEEPEST
    assert json.dumps(parse_json(deepest)).encode() == deepest
    for body in (b"[" + deepest + b"]", b'{"a": [1, ' + b'{"b": ' * 63 + b"1" + b"}" * 63 + b"]}"):
        assert refused(body)[0].code == "too_deep"


def test_brackets_in_texts_and_in_breadth_are_no_depth() -> None:
    for value in ("[" * 200, {"rows": [{"a": [1]}] * 200}):
        assert parse_json(json.dumps(value).encode()) == value
