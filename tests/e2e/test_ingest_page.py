"""The page on ingestion: its project is read, its commands are run."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "ingest.md"


def test_the_page_can_be_followed(tmp_path: Path) -> None:
    blocks = dict(re.findall(r"^```(\w+)\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL))
    (tmp_path / "project.py").write_text(blocks["python"])
    environment = {
        "HOME": str(tmp_path),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
    }
    command = ["bash", "-euc", f'icekeel() {{ python -m icekeel "$@"; }}\n{blocks["sh"]}']
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"Orders +orders of env:SHOP_DB +1 +1 ", done.stdout)  # the second run: a correction
    assert re.search(r"Visits +march.csv +0 +0 +0 +0 +3 ", done.stdout)
    for reason in ("line: fewer columns than the header", "minutes: not 0 to 600"):
        assert reason in done.stdout
