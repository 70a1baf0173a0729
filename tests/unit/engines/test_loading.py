from __future__ import annotations

import pytest

from icekeel.core.errors import BundleError
from icekeel.engines import load_engine

CONSTANT = b'{"kind":"group","columns":[],"groups":[],"otherwise":2.5,"format":1}'


def test_the_kind_in_the_file_decides() -> None:
    assert load_engine({"engine.json": CONSTANT}).predict_one([]) == 2.5
    linear = b'{"kind":"linear","columns":[],"terms":[],"intercept":0.0,"link":"exp","format":1}'
    assert load_engine({"engine.json": linear}).predict_one([]) == 1.0


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\xff\xfe",
        CONSTANT[:-1],
        CONSTANT.replace(b"group", b"pickle", 1),
        CONSTANT.replace(b'"format":1', b'"format":2'),
        CONSTANT.replace(b"2.5", b"NaN"),
        CONSTANT.replace(b"2.5", b'"2.5"'),
        CONSTANT.replace(b"2.5", b'2.5,"more":1'),
        CONSTANT.replace(b'"columns":[]', b'"columns":[{"name":"k","kind":"id"}]'),
        CONSTANT.replace(b'"columns":[]', b'"columns":[{"name":"k","kind":"colour"}]'),
    ],
)
def test_a_damaged_description_is_refused(text: bytes) -> None:
    with pytest.raises(BundleError) as raised:
        load_engine({"engine.json": text})
    assert raised.value.code in ("bad_engine", "bad_column")


def test_a_missing_description_is_refused() -> None:
    with pytest.raises(BundleError) as raised:
        load_engine({"model.txt": b""})
    assert (raised.value.code, raised.value.faults[0].where) == ("missing_file", "engine.json")
