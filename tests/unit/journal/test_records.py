from __future__ import annotations

from typing import Any

import msgspec
import pytest

from icekeel.journal import Entry, Pushed, Record, Ticked
from icekeel.journal.records import KINDS, decode, encode, tag_of, tags_of

from .examples import ONE_OF_EACH, PREDICTED


def test_every_kind_has_an_example() -> None:
    assert tuple(type(record) for record in ONE_OF_EACH) == KINDS


@pytest.mark.parametrize("record", ONE_OF_EACH)
def test_a_record_comes_back_as_it_was(record: Record) -> None:
    back = decode(encode(record))
    assert back == record
    assert repr(back) == repr(record)  # 1.0 is no 1 and True is neither


@pytest.mark.parametrize("record", ONE_OF_EACH)
def test_the_tag_is_known_without_decoding(record: Record) -> None:
    tag = tag_of(encode(record))
    assert tag.decode() == type(record).__name__.lower()
    assert {tag} == tags_of((type(record),))


@pytest.mark.parametrize("data", [b"", b"\xdc", b"\xdc\x00", b"\x91", b"\x93\x01\x02\x03", b"\xff\xff\xff"])
def test_other_bytes_have_no_known_tag(data: bytes) -> None:
    assert tag_of(data) not in tags_of(KINDS)


def test_the_stored_form_is_pinned() -> None:
    """Fields may only be added at the end: a change to these lists makes old journals unreadable."""
    fields = {str(kind.__struct_config__.tag): " ".join(kind.__struct_fields__) for kind in KINDS}
    assert fields == {
        "pushed": "at table rows source",
        "ingested": "at table file sha256 rows",
        "quarantined": "at table rows",
        "predicted": "at id model version arm share unit key request features prediction answer low high "
        "action verdict reasons position degraded cpu_us served_at definitions codes source trace phase",
        "decided": "at id model kind version reason evidence",
        "alerted": "at id model cause severity title evidence",
        "reviewed": "at id prediction model decision answer findings until by reason",
        "forgotten": "at id entity pseudonym by reason",
        "ticked": "at",
        "refused": "at model asked faults",
    }
    assert encode(Ticked(at=6)) == b"\x92\xa6ticked\x06"


def test_an_older_reader_ignores_fields_added_at_the_end() -> None:
    plain: list[Any] = msgspec.msgpack.decode(encode(PREDICTED))
    assert decode(msgspec.msgpack.encode([*plain, {"new": 1}])) == PREDICTED


def test_a_newer_reader_fills_in_what_an_older_writer_left_out() -> None:
    assert decode(msgspec.msgpack.encode(["pushed", 1, "orders", []])) == Pushed(
        at=1, table="orders", rows=[]
    )


def test_records_are_values() -> None:
    ticked: Entry = Ticked(at=1)
    with pytest.raises(AttributeError):
        ticked.at = 2  # type: ignore[misc]
