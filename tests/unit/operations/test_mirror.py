"""What a model in MLflow is made of; `tests/integration/test_mirror.py` has what is done with it."""

from __future__ import annotations

import re
from pathlib import Path

import icekeel
from icekeel.operations.accounts import mirror


def test_the_rooms_that_travel_with_a_model_need_no_other() -> None:
    source = Path(icekeel.__file__).parent
    read = {
        name
        for room in mirror.NEEDED
        for file in (source / room).rglob("*.py")
        for name in re.findall(r"^\s*(?:from|import) icekeel\.(\w+)", file.read_text(), re.MULTILINE)
    }
    assert read <= set(mirror.NEEDED)
    assert "core" in read
