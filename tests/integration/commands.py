"""Commands of Icekeel in processes of their own, on a project that lies elsewhere in time."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from icekeel.core.time import wall_clock

PATIENCE_S = 60.0


@contextmanager
def command(
    folder: Path, name: str, *arguments: str, now: int | None = None
) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    """A command that keeps running, on the project's time if that is given, and what it says once it is ready."""
    shift = [] if now is None else [f"--shift={now - wall_clock()}"]
    called = [sys.executable, "-m", "icekeel", name, "--project", str(folder), *shift, *arguments]
    process = subprocess.Popen(
        called,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    try:
        assert process.stdout is not None
        text = process.stdout.readline()
        assert text, f"{name} ended"
        yield process, json.loads(text)
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=PATIENCE_S)


def icekeel(folder: Path, *arguments: str, status: int = 0) -> Any:
    done = subprocess.run(
        [sys.executable, "-m", "icekeel", *arguments, "--project", str(folder), "--json"],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == status, done.stderr
    return json.loads(done.stdout)
