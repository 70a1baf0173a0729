"""What is wrong with a declared source is said when the project is read, and never with a password."""

from __future__ import annotations

from typing import Any

import pytest

import icekeel as ik

SQL = ik.sql("orders", url="env:SHOP_DB", watermark="updated", look_back="2d")


def declared(source: Any) -> Any:
    class Orders(ik.Events, time="placed", available="updated", id="order_id", source=source):
        order_id: ik.Id
        serial: ik.Num

    return Orders


def test_a_sound_source_is_kept_as_it_is_said() -> None:
    for source in (SQL, "orders*.csv", "s3://shop/*.parquet", ik.sql("o", url="sqlite:///a.db", whole=True)):
        orders = declared(source)
        assert orders.icekeel_faults == []
        assert orders.icekeel_table.source == source
    assert str(SQL) == "orders of env:SHOP_DB"


@pytest.mark.parametrize(
    ("source", "code", "told"),
    [
        (5, "bad_source", "ik.sql"),
        ("postgresql://host/shop", "bad_source", 'ik.sql("table", url="postgresql://host/shop")'),
        ("sftp://me:hush@host/a.csv", "secret_in_project", "sftp://(secret)@host"),
        (ik.sql("orders", url="postgresql://me:hush@host/shop"), "secret_in_project", "env:SHOP_DB"),
        (ik.sql("orders", url="postgresql://me:hu/hush@host/shop"), "secret_in_project", "//(secret)@host"),
        (ik.sql("", url="env:SHOP_DB"), "bad_source", "no table and no query"),
        (ik.sql("orders", url="env:SHOP-DB"), "bad_source", "env:SHOP-DB"),
        (ik.sql("orders", url="SHOP_DB"), "bad_source", "SQLAlchemy URL"),
        (ik.sql("orders", url=5), "bad_source", "url= is a text"),  # type: ignore[arg-type]
        (ik.sql("orders", url="env:S", watermark="updatd"), "bad_watermark", 'did you mean "updated"?'),
        (ik.sql("orders", url="env:S", watermark="order_id"), "bad_watermark", "serial, placed, updated"),
        (ik.sql("orders", url="env:S", look_back="2d"), "bad_watermark", "needs a watermark"),
        (ik.sql("orders", url="env:S", watermark="serial", look_back="2d"), "bad_watermark", "ik.Time"),
        (ik.sql("orders", url="env:S", watermark="updated", look_back="2 days"), "bad_duration", '"2d"'),
        (ik.sql("orders", url="env:S", watermark="updated", whole=True), "bad_watermark", "not both"),
    ],
)
def test_what_cannot_be_is_a_fault(source: Any, code: str, told: str) -> None:
    (fault,) = declared(source).icekeel_faults
    assert fault.code == code
    assert told in str(fault) and "hush" not in str(fault)


def test_past_questions_are_read_whole() -> None:
    history = ik.table_of(None, SQL, asked_at="at")
    model = ik.Model(
        "m", None, None, history=history, target=None, error="mae", choose=None  # type: ignore[arg-type]
    )  # fmt: skip
    found = [fault for fault in model.faults() if fault.code == "bad_source"]
    assert ["watermark" in found[0].what, "look_back" in found[1].what] == [True, True]
