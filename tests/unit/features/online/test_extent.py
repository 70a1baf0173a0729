"""A file that has become shorter is refused; one that grows, or of which nothing is known, is not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from icekeel.core.errors import StateError
from icekeel.features.online.extent import Extent


def test_a_file_that_has_become_shorter_is_refused(tmp_path: Path) -> None:
    extent, file = Extent(tmp_path), tmp_path / "data.mdb"
    extent.check()
    extent.note()  # nothing there
    file.write_bytes(b"x" * 8192)
    Extent(tmp_path).check()  # nothing noted
    extent.note()
    file.write_bytes(b"x" * 12288)
    Extent(tmp_path).check()
    extent.note()
    os.truncate(file, 8192)
    with pytest.raises(StateError) as caught:
        Extent(tmp_path).check()
    fault = caught.value.faults[0]
    assert (fault.code, fault.got, fault.allowed) == ("state_damaged", "8,192 bytes", "12,288 or more")
    file.unlink()
    extent.note()
    Extent(tmp_path).check()  # missing is another matter
