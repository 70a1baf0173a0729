"""What a server must not load: it starts in less than a second."""

from __future__ import annotations

import subprocess
import sys

NOT_LOADED = ("lightgbm", "pandas", "pyarrow", "rich", "scipy", "sklearn", "vl_convert")


def test_a_server_loads_nothing_that_only_training_and_pages_need() -> None:
    program = "import sys, icekeel.http, icekeel.cli.running; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert set(NOT_LOADED) & set(done.stdout.split()) == set()
