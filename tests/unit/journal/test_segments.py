from __future__ import annotations

from pathlib import Path

import pytest

from icekeel.journal.records import encode
from icekeel.journal.segments import (
    LARGEST,
    frame,
    frame_size,
    holds_a_frame,
    is_segment,
    segment_name,
    segment_sizes,
    split,
    started_at,
)

from .examples import PREDICTED


def test_names_sort_by_start_whatever_the_process() -> None:
    names = [segment_name(9, "z", 1), segment_name(10, "a", 1), segment_name(10**16, "keeper", 42)]
    assert names == sorted(names)
    assert names[2] == "010000000000000000-keeper-42.jnl"
    assert [started_at(name) for name in names] == [9, 10, 10**16]
    assert all(is_segment(name) for name in names)


def test_other_files_are_no_segments(tmp_path: Path) -> None:
    (tmp_path / "notes.jnl").write_bytes(b"x")
    (tmp_path / segment_name(2, "b", 1)).write_bytes(b"xyz")
    (tmp_path / segment_name(1, "c", 1)).write_bytes(b"")
    assert list(segment_sizes(tmp_path).items()) == [
        (segment_name(1, "c", 1), 0),
        (segment_name(2, "b", 1), 3),
    ]
    assert segment_sizes(tmp_path / "missing") == {}


def test_frames_split_into_their_payloads() -> None:
    data = frame(b"a") + frame(b"bc" * 1000)
    assert frame_size(data) == 9
    assert split(data) == ([b"a", b"bc" * 1000], len(data), False)
    assert split(b"") == ([], 0, False)


@pytest.mark.parametrize("missing", [1, 4, 6, 10])
def test_a_torn_frame_is_left(missing: int) -> None:
    assert split(frame(b"a") + frame(b"bcd")[:-missing]) == ([b"a"], 9, False)


@pytest.mark.parametrize(
    "bad",
    [
        bytes(64),  # its CRC-32 would fit an empty payload
        (LARGEST + 1).to_bytes(4, "little") + b"1234",
        frame(b"bcd")[:-1] + b"e",
    ],
)
def test_damage_is_told_from_a_torn_frame(bad: bytes) -> None:
    assert split(frame(b"a") + bad + frame(b"f")) == ([b"a"], 9, True)


def test_a_whole_frame_is_found_after_damage() -> None:
    whole = frame(encode(PREDICTED))
    assert holds_a_frame(b"\x00\x91\xa6ticked" + whole[:-1] + whole)
    assert not holds_a_frame(whole[:-1] + whole[:-1])
    assert not holds_a_frame(whole[1:] + bytes(100))
