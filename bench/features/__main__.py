"""Measures the feature store: `python -m bench.features [--only KEY,KEY] [--rounds 3]`.

Prints the table and writes `bench/out/features.json`, into which figures measured alone are merged.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from .figures import CHECKS, EXTRAS, FIGURES, NOTES, Figure
from .online import environment_version
from .running import Result, measure
from .tasks import ROOT

OUT = ROOT / "bench" / "out" / "features.json"


def main() -> int:
    """Exit code 1 where a bar is missed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="", help="keys of figures, with commas between")
    parser.add_argument("--rounds", type=int, default=3, help="of short measurements; the best counts")
    wanted = parser.parse_args()
    keys = [key for key in wanted.only.split(",") if key]
    if unknown := set(keys) - {figure.key for figure in FIGURES}:
        known = ", ".join(figure.key for figure in FIGURES)
        parser.error(f"no figure {', '.join(sorted(unknown))}; there are {known}")
    chosen = [figure for figure in FIGURES if not keys or figure.key in keys]
    lines: list[Result] = []
    for found in measure(tasks_of(chosen), wanted.rounds):
        lines = [line_of(figure, found) for figure in chosen if {*figure.tasks} <= found.keys()]
        _write(lines)
    for line in lines:
        mark = "  " if line["pass"] else "NO"
        value = "failed" if line["value"] is None else f"{line['value']:,.3f}"
        print(f"{mark} {line['key']:18} {value:>12}  {line['bar']:>9}  {line['what']}")
    return 0 if all(line["pass"] for line in lines) else 1


def tasks_of(chosen: Sequence[Figure]) -> list[str]:
    """What must be measured, ours before the peer that is checked by it."""
    wanted = [task for figure in chosen for task in (*figure.tasks, *EXTRAS.get(figure.key, ()))]
    return list(dict.fromkeys(one for task in wanted for one in (CHECKS.get(task, task), task)))


def line_of(figure: Figure, found: Mapping[str, Result]) -> Result:
    """What the file says of a figure; its value is null where a task failed."""
    listed = {task: found[task] for task in (*figure.tasks, *EXTRAS.get(figure.key, ())) if task in found}
    failed = any("failed" in found[task] for task in figure.tasks)
    agree = all(not result.get("differ") for result in listed.values())
    value = math.nan if failed else figure.value(found)
    return {
        "key": figure.key,
        "what": figure.what,
        "value": None if failed else round(value, 4),
        "bar": f"{'<=' if figure.most else '>='} {figure.bar:g}",
        "pass": figure.holds(value) and agree,
        "measured": listed,
        "note": NOTES.get(figure.key, ""),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": _machine(),
        "versions": _versions(),
    }


def _machine() -> Result:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "processor": names[0] if names else platform.machine(),
        "cores": os.cpu_count(),
        "memory_gb": round(memory / 1e9, 1),
        "load": os.getloadavg()[0],
    }


def _versions() -> Result:
    names = ("icekeel", "duckdb", "numpy", "lmdb", "msgspec")
    found = {name: version(name) for name in names}
    return {"python": platform.python_version(), "liblmdb": environment_version(), **found}


def _write(lines: Sequence[Result]) -> None:
    """Merge into the file, in the order of the table."""
    kept = {line["key"]: line for line in json.loads(OUT.read_text())} if OUT.exists() else {}
    kept |= {line["key"]: line for line in lines}
    OUT.parent.mkdir(parents=True, exist_ok=True)
    listed = [kept[figure.key] for figure in FIGURES if figure.key in kept]
    OUT.write_text(json.dumps(listed, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
