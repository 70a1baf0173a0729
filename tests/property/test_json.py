from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from icekeel.core.errors import RequestError
from icekeel.http.incoming import parse_json

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8"))
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(st.characters(codec="utf-8")), inner, max_size=3)
    ),
    max_leaves=10,
)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(values)
def test_every_json_text_without_repeats_is_read_as_it_is(value: object) -> None:
    assert parse_json(json.dumps(value).encode()) == value


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.binary(max_size=30) | st.text('{}[]":,\\ua1e.-', max_size=30).map(str.encode))
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    try:
        parse_json(body)
    except RequestError as error:
        assert error.code in ("not_json", "too_deep", "duplicate_key")


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.dictionaries(st.text("ab:", max_size=3), scalars, min_size=1, max_size=4), st.data())
def test_a_member_named_twice_is_found_wherever_it_is(
    members: dict[str, object], data: st.DataObject
) -> None:
    name = data.draw(st.sampled_from(sorted(members)))
    inner = json.dumps(members)[:-1] + f", {json.dumps(name)} : null}}"
    for text in (inner, f'{{"rows": [{inner}]}}', f'{{"x": {inner}}}', f"[[{inner}]]"):
        with pytest.raises(RequestError) as caught:
            parse_json(text.encode())
        assert [(fault.code, fault.where) for fault in caught.value.faults] == [("duplicate_key", repr(name))]
