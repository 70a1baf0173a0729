"""Laws of the journal: torn anywhere, whatever was whole is read; each record is seen exactly once."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from icekeel.core.errors import JournalError
from icekeel.journal import Positions, Pushed, Record, Tail, Ticked, Writer, scan, verify
from icekeel.journal.records import encode
from icekeel.journal.segments import MAGIC, frame, segment_name

values = st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False) | st.text()
pushes = st.builds(
    Pushed,
    at=st.integers(0, 2**60),
    table=st.text(max_size=8),
    rows=st.lists(st.dictionaries(st.text(max_size=4), values, max_size=3), max_size=3),
)
records = st.lists(pushes | st.builds(Ticked, at=st.integers(0, 2**60)), min_size=1, max_size=6)


def drained(tail: Tail, max_bytes: int) -> list[Record]:
    seen: list[Record] = []
    while batch := tail.read(max_bytes):
        seen += batch
    return seen


def whole_before(frames: list[bytes], offset: int) -> int:
    """How many frames end at or before `offset` of their segment."""
    ends = [len(MAGIC) + sum(map(len, frames[: i + 1])) for i in range(len(frames))]
    return sum(end <= offset for end in ends)


@settings(max_examples=50, deadline=None, derandomize=True)
@given(written=records, data=st.data())
def test_a_segment_cut_anywhere_gives_all_whole_records(written: list[Record], data: st.DataObject) -> None:
    frames = [frame(encode(record)) for record in written]
    stored = MAGIC + b"".join(frames)
    cut = data.draw(st.integers(0, len(stored)))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / segment_name(1, "p", 1)).write_bytes(stored[:cut])
        whole = written[: whole_before(frames, cut)]
        tail = Tail(folder, Positions())
        assert list(scan(folder)) == whole
        assert drained(tail, data.draw(st.integers(1, 200))) == whole
        assert (verify(folder), tail.behind()) == (len(whole), 0)
        (folder / segment_name(1, "p", 1)).write_bytes(stored)
        assert whole + tail.read() == written


@settings(max_examples=50, deadline=None, derandomize=True)
@given(written=records, data=st.data())
def test_a_changed_byte_is_never_read_as_a_record(written: list[Record], data: st.DataObject) -> None:
    frames = [frame(encode(record)) for record in written]
    stored = bytearray(MAGIC + b"".join(frames))
    at = data.draw(st.integers(len(MAGIC), len(stored) - 1))
    stored[at] ^= data.draw(st.integers(1, 255))
    count = whole_before(frames, at)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / segment_name(1, "p", 1)).write_bytes(bytes(stored))
        assert list(scan(folder)) == Tail(folder, Positions()).read() == written[:count]
        if count == len(frames) - 1:
            assert verify(folder) == count  # the last frame: nothing tells it from a torn one
        else:
            with pytest.raises(JournalError) as caught:
                verify(folder)
            place = len(MAGIC) + sum(map(len, frames[:count]))
            assert caught.value.faults[0].where == f"{segment_name(1, 'p', 1)}@{place}"


steps = st.one_of(
    st.tuples(st.just("append"), st.integers(0, 2)),
    st.tuples(st.just("many"), st.integers(0, 2)),
    st.tuples(st.just("read"), st.integers(1, 300)),
    st.tuples(st.just("restart tail"), st.just(0)),
    st.tuples(st.just("restart writer"), st.integers(0, 2)),
)


class Story:
    """Three writers, and a tail that forgets everything but its saved positions."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.writers = [self.start(who) for who in range(3)]
        self.tail = Tail(folder, Positions())
        self.written: list[list[int]] = [[], [], []]
        self.seen: list[tuple[str, int]] = []

    def start(self, who: int) -> Writer:
        return Writer(self.folder, f"w{who}", clock=lambda: 1_000, roll_bytes=120)

    def next_record(self, who: int) -> Pushed:
        self.written[who].append(len(self.written[who]))
        return Pushed(at=self.written[who][-1], table=str(who), rows=[], source="x" * who * 20)

    def step(self, what: str, number: int) -> None:
        if what == "append":
            self.writers[number].append(self.next_record(number))
        elif what == "many":
            self.writers[number].append_many([self.next_record(number) for _ in range(3)])
        elif what == "read":
            self.note(self.tail.read(number))
        elif what == "restart tail":
            self.tail = Tail(self.folder, Positions.decode(self.tail.positions.encode()))
        else:
            self.writers[number].close()
            self.writers[number] = self.start(number)

    def note(self, batch: list[Record]) -> None:
        self.seen += [(record.table, record.at) for record in batch if isinstance(record, Pushed)]


@settings(max_examples=20, deadline=None, derandomize=True)
@given(plot=st.lists(steps, max_size=25), last=st.integers(1, 300))
def test_a_tail_sees_each_record_of_several_writers_once(plot: list[tuple[str, int]], last: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        story = Story(Path(name))
        for what, number in plot:
            story.step(what, number)
        for writer in story.writers:
            writer.close()
        story.note(drained(story.tail, last))
        for who in range(3):
            assert [at for table, at in story.seen if table == str(who)] == story.written[who]
        assert len(story.seen) == sum(map(len, story.written)) == verify(story.folder)
        assert story.tail.behind() == 0
