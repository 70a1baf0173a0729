"""Runs each measurement in a process of its own, and tells what that used."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from .report import ROOT, Result

CACHE = ROOT / "bench" / ".cache"


def child(command: list[str], limit_s: float | None = None) -> Result:
    """What a program says in its last line, and what it used.

    All that needs memory is done in one of these: a process counts what its parent held as its own.
    """
    path = os.pathsep.join([str(ROOT / "src"), str(ROOT)])
    limit = f"ulimit -t {int(limit_s) + 1}; " if limit_s is not None else ""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(dir=CACHE) as folder,  # where DuckDB spills to
        Path(folder, "said").open("w+") as said,
        Path(folder, "errors").open("w+") as errors,
    ):
        process = subprocess.Popen(
            ["bash", "-c", f'{limit}exec "$@"', "bench", *command],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
            stdout=said,
            stderr=errors,
        )
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        said.seek(0)
        errors.seek(0)
        lines, wrong = said.read().splitlines(), errors.read()
    spent = {"process_cpu_s": usage.ru_utime + usage.ru_stime, "peak_gb": usage.ru_maxrss * 1024 / 1e9}
    if process.returncode < 0 and limit_s is not None:
        return {"cpu_s": limit_s, "stopped": f"after {limit_s:.0f} CPU s"} | spent
    if process.returncode:
        print(wrong[-4000:], file=sys.stderr)
        return {"failed": f"exit code {process.returncode}: {wrong[-300:]}"} | spent
    return dict(json.loads(lines[-1])) | spent
