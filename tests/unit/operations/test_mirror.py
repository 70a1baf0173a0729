"""What a model in MLflow is made of; `tests/integration/test_mirror.py` has what is done with it."""

from __future__ import annotations

import re
from pathlib import Path
from threading import Thread

import icekeel
from icekeel.operations import mirror


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


def test_of_two_mirrorings_the_second_waits(tmp_path: Path) -> None:
    done = []

    def second() -> None:
        with mirror._alone(tmp_path):
            done.append("second")

    waiting = Thread(target=second)
    with mirror._alone(tmp_path):
        waiting.start()
        waiting.join(0.2)
        done.append("first")
    waiting.join()
    assert done == ["first", "second"]
