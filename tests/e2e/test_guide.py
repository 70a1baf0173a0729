"""The guide, followed to the letter: its shell blocks are run, its Python blocks go into the project file."""

from __future__ import annotations

import os
import re
import shlex
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

GUIDE = Path(__file__).parents[2] / "docs" / "guide.md"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INSERT = """
import pathlib, sys
path = pathlib.Path("project.py")
head, body, rest = path.read_text().partition("class Features(ik.Features):")
inside, gap, after = rest.partition("\\n\\n\\n")
text = sys.argv[1]
path.write_text(head + body + inside + "\\n" + text.rstrip() + gap + after if text.startswith("    ")
    else path.read_text() + "\\n\\n" + text)
"""


def script(port: int) -> Iterator[str]:
    """The guide as one shell script; indented Python goes to the end of `Features`, other to the end of the file."""
    yield "set -euo pipefail"
    yield "trap 'kill $(jobs -p) 2>/dev/null || true; wait' EXIT"
    for language, text in BLOCK.findall(GUIDE.read_text()):
        assert language in ("sh", "python")
        if language == "sh":
            yield text.replace("localhost:8000", f"localhost:{port}")
        else:
            yield shlex.join([sys.executable, "-c", INSERT, text])


def test_the_guide_can_be_followed_in_an_empty_home(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {
        "HOME": str(tmp_path),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "ICEKEEL_PORT": str(port),
        "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
    }
    command = ["bash", "-c", "\n".join(script(port))]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    assert "3 passed" in done.stdout  # the test the reader added
    assert '"prediction_id"' in done.stdout
    assert "start_shadow" in done.stdout
    assert "load_carried" in (tmp_path / "shop" / "project.py").read_text()
