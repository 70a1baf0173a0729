"""How long an LMDB file has been: one that has become shorter must not be read.

LMDB maps its file into memory, and a page behind the end of the file is no error there but the end of the process
(SIGBUS). Its own header does not tell: pages that are free may lie behind the end of an intact file. A file that is
written to never becomes shorter, so the writer notes its length beside it, and whoever opens it looks there first.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from icekeel.core.errors import Fault, StateError

REBUILD = "icekeel rebuild makes it anew from the journal; a keeper that starts does so too"


class Extent:
    """The length of an environment's file."""

    def __init__(self, folder: Path) -> None:
        self._file, self._noted = folder / "data.mdb", folder / "length"
        self._length = 0

    def note(self) -> None:
        """Note how long the file is now; after a commit, by its writer.

        What was noted before stays where the file was taken away, or the disk is full, which is found out elsewhere.
        """
        with suppress(OSError):
            length = self._file.stat().st_size
            if length > self._length:
                draft = self._noted.with_suffix(".new")
                draft.write_text(str(length))
                draft.replace(self._noted)
                self._length = length

    def check(self) -> None:
        """Refuse a file that has become shorter.

        Raises:
            StateError: it was longer once. Without a note nothing is known, and nothing said.
        """
        try:
            noted, length = int(self._noted.read_text() or 0), self._file.stat().st_size
        except (OSError, ValueError):
            return
        if length < noted:
            what = "the online state is damaged: its file has become shorter"
            got, allowed = f"{length:,} bytes", f"{noted:,} or more"
            raise StateError(Fault("state_damaged", what, str(self._file), got, allowed, REBUILD))
