"""Identifiers, digests and the salted hash behind every random-looking but repeatable choice."""

from __future__ import annotations

import hashlib
import itertools
import os
import re
from pathlib import Path

_counter = itertools.count()
_ID = re.compile(r"[0-9a-f]{28}")


def digest(data: bytes) -> str:
    """SHA-256 of `data` as 64 hexadecimal characters."""
    return hashlib.sha256(data).hexdigest()


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes as 64 hexadecimal characters."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def unit_interval(salt: str, unit: str) -> float:
    """A number in [0, 1) that depends on `salt` and `unit` alone, uniform over units.

    `blake2b-64(salt, unit) / 2**64`, rounded down to 53 bits so that it stays below 1. The salt is the
    key of the hash, so no pair of salt and unit can be mistaken for another. Unlike Python's `hash` it is
    the same in every process and on every machine.
    """
    key = salt.encode()
    if len(key) > 64:
        key = hashlib.blake2b(key).digest()
    value = hashlib.blake2b(unit.encode(), digest_size=8, key=key).digest()
    return (int.from_bytes(value, "big") >> 11) / 9007199254740992.0


def new_id(now: int) -> str:
    """A new identifier, unique across processes and ordered by `now` (microseconds UTC).

    13 hexadecimal characters of time, 4 of a per-process counter, 11 of randomness: sorting the text
    sorts by time.
    """
    return f"{now:013x}{next(_counter) & 0xFFFF:04x}{int.from_bytes(os.urandom(6), 'big') >> 4:011x}"


def time_of(identifier: str) -> int | None:
    """The time in an identifier of `new_id`; None for any other text."""
    return int(identifier[:13], 16) if _ID.fullmatch(identifier) else None


def id_range(since: int, until: int) -> tuple[str, str]:
    """Identifiers made in `[since, until)` sort from the first on, and before the second."""
    low, high = (min(max(time, 0), 16**13 - 1) for time in (since, until))
    return f"{low:013x}", f"{high:013x}"
