"""What the workers of one server tell each other: a small file each, so that any of them can speak for all."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

SILENT_S = 5.0
"""A worker that has written nothing for so long does not serve: it is dead, or hangs."""
Tally = Counter[tuple[str, ...]]
"""Metric and its labels -> what was counted."""


class Told(msgspec.Struct, frozen=True):
    """What one worker says of itself.

    Attributes:
        pid: Its process.
        at_s: When, by the clock that runs since the machine started, the same in every process.
        serving: Model -> the version that is champion there; empty where none is.
        tally: All it has counted, and what those before it under its name had.
    """

    pid: int
    at_s: float
    serving: Mapping[str, str]
    tally: list[tuple[tuple[str, ...], float]]


class Workers:
    """The place of one worker among all.

    A worker that takes over from one that died begins with what that one had counted, so there are never more files
    than workers, and no count goes back: each is written before it is added up.

    Attributes:
        others: What the others said when this one last spoke.

    Args:
        folder: Where the files of all are.
        name: Of this one, `RUN.NUMBER`; empty where it is alone, which needs no file.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self._file = folder / name if name else None
        self._run = name.partition(".")[0]
        self.others: Sequence[Told] = ()
        if name:
            folder.mkdir(parents=True, exist_ok=True)

    def former(self) -> Tally:
        """What was counted under this name before."""
        told = _read(self._file) if self._file else None
        return Counter(dict(told.tally) if told else {})

    def tell(self, serving: Mapping[str, str], tally: Tally) -> list[Told]:
        """Say how it is here; gives what all say of themselves, this one first."""
        mine = Told(os.getpid(), time.monotonic(), serving, list(tally.items()))
        if self._file is None:
            return [mine]
        draft = self._file.with_name(f"new-{self._file.name}")
        draft.write_bytes(msgspec.json.encode(mine))
        draft.replace(self._file)
        paths = sorted(self._file.parent.glob(f"{self._run}.*"))
        self.others = [told for path in paths if path != self._file and (told := _read(path)) is not None]
        return [mine, *self.others]


def alive(told: Told) -> bool:
    """Whether a worker has spoken lately."""
    return time.monotonic() - told.at_s < SILENT_S


def _read(path: Path) -> Told | None:
    """What a worker said last; None of a file that is not there, or not one of these."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Told)
    except (OSError, msgspec.MsgspecError):
        return None
