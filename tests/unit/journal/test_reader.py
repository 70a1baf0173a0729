from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from icekeel.core.errors import JournalError, StateError
from icekeel.journal import Positions, Predicted, Pushed, Tail, Ticked, Writer, scan, verify
from icekeel.journal.records import encode
from icekeel.journal.segments import MAGIC, frame, segment_name

from .examples import ONE_OF_EACH, PREDICTED


def segment(folder: Path, start: int, *parts: bytes) -> Path:
    path = folder / segment_name(start, "p", 1)
    path.write_bytes(MAGIC + b"".join(parts))
    return path


def ticks(*moments: int) -> bytes:
    return b"".join(frame(encode(Ticked(at=at))) for at in moments)


def test_a_tail_gives_each_record_once_while_the_journal_grows(tmp_path: Path) -> None:
    tail = Tail(tmp_path / "journal", Positions())
    assert (tail.read(), tail.behind()) == ([], 0)
    with Writer(tmp_path / "journal", "p", clock=lambda: 1) as writer:
        for record in ONE_OF_EACH:
            writer.append(record)
            assert tail.behind() == len(frame(encode(record))) + (8 if record is ONE_OF_EACH[0] else 0)
            assert tail.read() == [record]
            assert (tail.read(), tail.behind()) == ([], 0)


def test_a_tail_goes_on_from_saved_positions(tmp_path: Path) -> None:
    segment(tmp_path, 1, ticks(1, 2))
    tail = Tail(tmp_path, Positions())
    tail.read()
    saved = tail.positions.encode()
    segment(tmp_path, 2, ticks(3))
    again = Tail(tmp_path, Positions.decode(saved))
    assert again.positions == tail.positions
    assert again.read() == [Ticked(at=3)]


def test_reading_follows_the_order_of_segments_and_the_limit(tmp_path: Path) -> None:
    segment(tmp_path, 2, ticks(3, 4))
    segment(tmp_path, 1, ticks(1, 2))
    tail = Tail(tmp_path, Positions())
    frames = len(ticks(1))
    assert tail.read(max_bytes=frames) == [Ticked(at=1)]
    assert tail.read(max_bytes=2 * frames) == [Ticked(at=2), Ticked(at=3)]
    assert tail.read(max_bytes=2 * frames) == [Ticked(at=4)]
    assert tail.read() == []


def test_each_record_has_its_place(tmp_path: Path) -> None:
    segment(tmp_path, 2, ticks(3, 4))
    segment(tmp_path, 1, ticks(1, 2))
    tail = Tail(tmp_path, Positions())
    seen = {}
    while records := tail.read(max_bytes=1):
        before = tail.places[0]
        seen[before] = records
        assert before[1] < tail.positions.offsets[before[0]]
    assert len(seen) == 4
    whole = Tail(tmp_path, Positions())
    assert [[record] for record in whole.read()] == list(seen.values())
    assert whole.places == list(seen)


def test_a_record_larger_than_the_limit_is_read_whole(tmp_path: Path) -> None:
    large = Pushed(at=1, table="t", rows=[], source="x" * 10_000)
    segment(tmp_path, 1, frame(encode(large)), ticks(2))
    tail = Tail(tmp_path, Positions())
    assert tail.read(max_bytes=1) == [large]
    assert tail.read(max_bytes=1) == [Ticked(at=2)]


def test_a_torn_tail_neither_counts_as_behind_nor_hides_other_segments(tmp_path: Path) -> None:
    torn = segment(tmp_path, 1, ticks(1), ticks(2)[:-1])
    segment(tmp_path, 2, ticks(3))
    tail = Tail(tmp_path, Positions())
    assert tail.read() == [Ticked(at=1), Ticked(at=3)]
    assert tail.stopped == {torn.name: torn.stat().st_size}
    assert tail.behind() == 0
    torn.write_bytes(torn.read_bytes() + ticks(2)[-1:])
    assert tail.behind() == 1
    assert tail.read() == [Ticked(at=2)]
    assert tail.stopped == {}


def test_a_torn_tail_beyond_the_limit_does_not_end_in_a_loop(tmp_path: Path) -> None:
    large = frame(encode(Pushed(at=1, table="t", rows=[], source="x" * 10_000)))
    segment(tmp_path, 1, large[:-1])
    segment(tmp_path, 2, ticks(3))
    assert Tail(tmp_path, Positions()).read(max_bytes=100) == [Ticked(at=3)]


@pytest.mark.parametrize("head", [b"", MAGIC[:5], bytes(8), bytes(4096)])
def test_a_segment_that_has_not_begun_is_empty(tmp_path: Path, head: bytes) -> None:
    path = tmp_path / segment_name(1, "p", 1)
    path.write_bytes(head)
    tail = Tail(tmp_path, Positions())
    assert (tail.read(), tail.behind(), verify(tmp_path)) == ([], 0, 0)
    path.write_bytes(MAGIC + ticks(1))
    assert tail.read() == [Ticked(at=1)]


def test_a_segment_of_another_format_is_refused(tmp_path: Path) -> None:
    path = segment(tmp_path, 1, ticks(1))
    path.write_bytes(b"icekjnl\x02" + ticks(1))
    with pytest.raises(JournalError) as caught:
        Tail(tmp_path, Positions()).read()
    assert caught.value.code == "bad_segment"
    assert caught.value.faults[0].where == f"{path.name}@0"
    with pytest.raises(JournalError):
        list(scan(tmp_path))


def test_a_segment_that_cannot_be_opened_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / segment_name(1, "p", 1)).mkdir()
    with pytest.raises(JournalError) as caught:
        Tail(tmp_path, Positions()).read()
    assert caught.value.code == "journal_unreadable"


def test_scan_gives_only_the_kinds_asked_for(tmp_path: Path) -> None:
    segment(tmp_path, 1, *(frame(encode(record)) for record in ONE_OF_EACH))
    assert tuple(scan(tmp_path)) == ONE_OF_EACH
    assert [answer.answer for answer in scan(tmp_path, kinds=Predicted)] == [PREDICTED.answer]
    assert [entry.at for entry in scan(tmp_path, kinds=(Ticked, Pushed))] == [1, 6]


def test_scan_goes_on_from_positions(tmp_path: Path) -> None:
    path = segment(tmp_path, 1, ticks(1))
    tail = Tail(tmp_path, Positions())
    tail.read()
    path.write_bytes(path.read_bytes() + ticks(2))
    segment(tmp_path, 2, ticks(3))
    assert [entry.at for entry in scan(tmp_path, since=tail.positions)] == [2, 3]
    assert [entry.at for entry in scan(tmp_path)] == [1, 2, 3]


def test_scan_reads_segments_in_several_stretches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("icekeel.journal.reader._STRETCH_BYTES", 50)
    segment(tmp_path, 1, ticks(*range(40)), ticks(40)[:-1])
    assert [entry.at for entry in scan(tmp_path)] == list(range(40))
    assert verify(tmp_path) == 40


def test_a_kind_from_a_later_version_is_passed_over(tmp_path: Path) -> None:
    segment(tmp_path, 1, ticks(1), frame(msgspec.msgpack.encode(["explained", 2, "why"])), ticks(3))
    assert list(scan(tmp_path)) == Tail(tmp_path, Positions()).read() == [Ticked(at=1), Ticked(at=3)]
    tail = Tail(tmp_path, Positions())
    assert [tail.read(max_bytes=1) for _ in range(3)] == [[Ticked(at=1)], [Ticked(at=3)], []]
    assert verify(tmp_path) == 2


def test_verify_names_every_damage_by_segment_and_offset(tmp_path: Path) -> None:
    good = ticks(1, 2)
    flipped = ticks(3)[:-1] + b"\xff"
    first = segment(tmp_path, 1, good, flipped, ticks(4))
    second = segment(tmp_path, 2, good, bytes(100), ticks(4))
    third = segment(tmp_path, 3, good, frame(msgspec.msgpack.encode(["ticked", "noon"])))
    segment(tmp_path, 4, good, flipped)  # the last write of a killed writer
    segment(tmp_path, 5, good, bytes(100))  # the last write before the power failed
    segment(tmp_path, 6, ticks(*range(1000)))
    with pytest.raises(JournalError) as caught:
        verify(tmp_path)
    place = len(MAGIC) + len(good)
    assert [(fault.code, fault.where) for fault in caught.value.faults] == [
        ("damaged_frame", f"{first.name}@{place}"),
        ("damaged_frame", f"{second.name}@{place}"),
        ("bad_record", f"{third.name}@{place}"),
    ]
    third.unlink()
    assert Tail(tmp_path, Positions()).read()[:4] == [Ticked(at=1), Ticked(at=2)] * 2


def test_a_record_that_cannot_be_decoded_leaves_the_positions(tmp_path: Path) -> None:
    path = segment(tmp_path, 1, ticks(1), frame(msgspec.msgpack.encode(["ticked", "noon"])))
    tail = Tail(tmp_path, Positions())
    with pytest.raises(JournalError) as caught:
        tail.read()
    assert caught.value.faults[0].where == f"{path.name}@{len(MAGIC) + len(ticks(1))}"
    assert tail.positions == Positions()


@pytest.mark.parametrize(
    "data", [b"", b"\xff", msgspec.msgpack.encode([2, {}]), msgspec.msgpack.encode([1, {"a": "b"}])]
)
def test_positions_of_another_format_are_refused(data: bytes) -> None:
    with pytest.raises(StateError) as caught:
        Positions.decode(data)
    assert caught.value.code == "bad_positions"
