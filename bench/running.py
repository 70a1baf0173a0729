"""Runs the tasks that figures follow from, each in a process of its own."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence

from .children import child
from .figures import Figure
from .report import Result


def measure(
    name: str, chosen: Sequence[Figure], extras: Mapping[str, Sequence[str]]
) -> Iterator[dict[str, Result]]:
    """What was found so far, after each task of `bench.NAME.tasks`; each makes its own rounds."""
    wanted = [task for figure in chosen for task in (*figure.tasks, *extras.get(figure.key, ()))]
    found: dict[str, Result] = {}
    for task in dict.fromkeys(wanted):
        print(f"{task} ...", end=" ", flush=True, file=sys.stderr)
        found[task] = child([sys.executable, "-m", f"bench.{name}.tasks", task])
        print(f"{found[task]['process_cpu_s']:.1f} CPU s", file=sys.stderr)
        yield found
