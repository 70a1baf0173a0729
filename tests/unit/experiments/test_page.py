"""What the page about experiments shows is what its code prints."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[3] / "docs" / "experiments.md").read_text()


def test_the_code_of_the_page_runs_and_prints_what_it_says(capsys: pytest.CaptureFixture[str]) -> None:
    held: dict[str, object] = {}
    for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL):
        if "icekeel.experiments" in block:
            exec(block, held)  # the page's own code
    decided, needed = capsys.readouterr().out.splitlines()
    assert decided.startswith("After 9 days, won of the challenger is 0.081")
    assert "every guardrail holds (revenue)" in decided
    assert f"```\n{needed}\n```" in PAGE
