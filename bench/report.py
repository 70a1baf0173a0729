"""The table that a run of measurements prints and the file that it leaves."""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from .figures import Figure

ROOT = Path(__file__).parent.parent
OUT = ROOT / "bench" / "out"
Result = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What was asked for on the command line."""

    chosen: Sequence[Figure]
    rounds: int


@dataclass(frozen=True, slots=True)
class Report:
    """What is measured under one name, and where it is written: `bench/out/NAME.json`.

    Attributes:
        figures: In the order of the table.
        extras: Figure -> tasks that are shown beside it.
        notes: Figure -> what a reader must know of it.
        versions: Of what is no Python package.
    """

    name: str
    figures: Sequence[Figure]
    extras: Mapping[str, Sequence[str]] = field(default_factory=dict)
    notes: Mapping[str, str] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)

    def arguments(self, description: str) -> Wanted:
        """Of the command line: `--only KEY,KEY --rounds N`."""
        parser = argparse.ArgumentParser(
            description=description, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        parser.add_argument("--only", default="", help="keys of figures, with commas between")
        parser.add_argument("--rounds", type=int, default=3, help="of short measurements; the best counts")
        wanted = parser.parse_args()
        keys = [key for key in wanted.only.split(",") if key]
        if unknown := set(keys) - {figure.key for figure in self.figures}:
            known = ", ".join(figure.key for figure in self.figures)
            parser.error(f"no figure {', '.join(sorted(unknown))}; there are {known}")
        chosen = [figure for figure in self.figures if not keys or figure.key in keys]
        return Wanted(chosen, wanted.rounds)

    def fill(self, chosen: Sequence[Figure], measured: Iterable[Mapping[str, Result]]) -> int:
        """Write after each task, print in the end; exit code 1 where a bar is missed."""
        lines: list[Result] = []
        for found in measured:
            lines = [self.line_of(figure, found) for figure in chosen if {*figure.tasks} <= found.keys()]
            self._write(lines)
        for line in lines:
            mark = "  " if line["pass"] else "NO"
            value = "failed" if line["value"] is None else f"{line['value']:,.3f}"
            print(f"{mark} {line['key']:18} {value:>12}  {line['bar']:>9}  {line['what']}")
        return 0 if len(lines) == len(chosen) and all(line["pass"] for line in lines) else 1

    def line_of(self, figure: Figure, found: Mapping[str, Result]) -> Result:
        """What the file says of a figure; its value is null where a task failed."""
        tasks = (*figure.tasks, *self.extras.get(figure.key, ()))
        listed = {task: found[task] for task in tasks if task in found}
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
            "note": self.notes.get(figure.key, ""),
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": _machine(),
            "versions": _versions() | dict(self.versions),
        }

    def _write(self, lines: Sequence[Result]) -> None:
        """Merge into the file, in the order of the table."""
        path = OUT / f"{self.name}.json"
        kept = {line["key"]: line for line in json.loads(path.read_text())} if path.exists() else {}
        kept |= {line["key"]: line for line in lines}
        path.parent.mkdir(parents=True, exist_ok=True)
        listed = [kept[figure.key] for figure in self.figures if figure.key in kept]
        path.write_text(json.dumps(listed, indent=1) + "\n")


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
    names = ("icekeel", "duckdb", "numpy", "lmdb", "msgspec", "uvicorn", "lightgbm")
    return {"python": platform.python_version()} | {name: version(name) for name in names}
