"""The format of a segment: 8 bytes of magic and version, then frames.

A frame is the payload's length (u32, little-endian), its CRC-32 (u32) and the payload. Segments are named
`<start_us>-<process>-<pid>.jnl`, so that sorting their names sorts them by the time they were opened.
"""

from __future__ import annotations

import os
import re
import struct
import zlib
from pathlib import Path
from typing import NamedTuple

MAGIC = b"icekjnl\x01"
"""The first bytes of a segment; the last of them is the version of the format."""

LARGEST = 64 << 20
"""Most bytes in one payload. A greater length in a frame is damage."""

FRAME = struct.Struct("<II")
_NAME = re.compile(r"(\d{18})-[\w.-]+-\d+\.jnl")
_LIKE_A_FRAME = re.compile(rb"(?=[\s\S]{8}(?:[\x90-\x9f]|\xdc[\s\S]{2})[\xa1-\xbf][a-z]{3})")


def segment_name(start: int, process: str, pid: int) -> str:
    """The name of a segment opened at `start` (microseconds UTC, 0 or later)."""
    return f"{start:018d}-{process}-{pid}.jnl"


def is_segment(name: str) -> bool:
    """Whether a file of this name is a segment."""
    return _NAME.fullmatch(name) is not None


def started_at(name: str) -> int:
    """When the segment of this name was opened, microseconds UTC."""
    return int(name[:18])


def segment_sizes(folder: Path) -> dict[str, int]:
    """Name -> size in bytes of every segment, in order of name; none where there is no such folder."""
    try:
        with os.scandir(folder) as entries:
            sizes = {entry.name: entry.stat().st_size for entry in entries if is_segment(entry.name)}
    except FileNotFoundError:
        return {}
    return dict(sorted(sizes.items()))


def frame(payload: bytes) -> bytes:
    """The frame of a payload of 1 to `LARGEST` bytes."""
    return FRAME.pack(len(payload), zlib.crc32(payload)) + payload


def frame_size(data: bytes, start: int = 0) -> int:
    """The size of the frame that begins at `start`; 0 where there is no possible beginning of one."""
    if len(data) < start + FRAME.size:
        return 0
    length: int = FRAME.unpack_from(data, start)[0]
    return FRAME.size + length if 0 < length <= LARGEST else 0


class Split(NamedTuple):
    """Whole frames at the beginning of some bytes.

    Attributes:
        payloads: What was in them.
        used: Bytes that they took.
        damaged: Whether what follows can be no frame, however many bytes come after it.
    """

    payloads: list[bytes]
    used: int
    damaged: bool


def split(data: bytes) -> Split:
    """Take whole and undamaged frames from the beginning of `data`.

    A length of 0 counts as damage, not as an empty frame whose CRC-32 happens to be 0: it is what a file
    holds where the power failed between its growth and its data.
    """
    payloads: list[bytes] = []
    start, end = 0, len(data)
    while start + FRAME.size <= end:
        length, checksum = FRAME.unpack_from(data, start)
        if not 0 < length <= LARGEST:
            return Split(payloads, start, True)
        begin = start + FRAME.size
        if begin + length > end:
            break
        payload = data[begin : begin + length]
        if zlib.crc32(payload) != checksum:
            return Split(payloads, start, True)
        payloads.append(payload)
        start = begin + length
    return Split(payloads, start, False)


def holds_a_frame(data: bytes) -> bool:
    """Whether a whole frame with a record begins anywhere in `data`: what follows damage, but no torn tail."""
    starts = (match.start() for match in _LIKE_A_FRAME.finditer(data))
    return any(split(data[start : start + frame_size(data, start)]).used for start in starts)
