"""Runs tasks, each in a process of its own: what it used, and whether a peer's values are ours."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence

from bench.children import child
from bench.peers import HERE as PEERS
from bench.peers import python_of
from bench.report import Result

from .figures import CHECKS
from .tasks import DATA, FEASTS, RESULTS, STATEMENTS

SHORT_S = 40
"""What takes more CPU than this is done once; the others in every round, of which the best counts."""
SQL_LIMIT = 10
"""SQL that needs so many times our own CPU is stopped, and counts as having taken that."""


def measure(tasks: Sequence[str], rounds: int) -> Iterator[dict[str, Result]]:
    """What was found so far, after each task."""
    found: dict[str, Result] = {}
    for number in range(rounds):
        for task in tasks:
            if number == 0 or found[task].get("process_cpu_s", SHORT_S) < SHORT_S:
                result = _run(task, found)
                found[task] = better(found[task], result) if task in found else result
                yield found


def better(one: Result, other: Result) -> Result:
    """The better of two rounds, number by number: noise only ever adds to time and memory."""
    most = ("per_s", "differ", "mismatches")
    return {
        name: (max if name in most else min)(value, other[name])
        if isinstance(value, int | float) and name in other
        else value
        for name, value in one.items()
    } | {"rounds": one.get("rounds", 1) + 1}


def _run(task: str, found: Mapping[str, Result]) -> Result:
    """One task; `failed` says why it gave nothing, `differ` how many of a peer's values are not ours."""
    print(f"{task} ...", end=" ", flush=True, file=sys.stderr)
    if task in DATA:
        child(_python("make", task), None)
    ours = found.get(CHECKS.get(task, ""), {})
    limit_s = SQL_LIMIT * ours["cpu_s"] if task in STATEMENTS and "cpu_s" in ours else None
    result = child(_command(task), limit_s)
    if task == "windows_of_100m":
        DATA[task].remove()
    if "cpu_s" in ours and not {"stopped", "failed"} & result.keys():
        result["differ"] = child(_python("differ", task), None)["differ"]
    print(f"{result['process_cpu_s']:.1f} CPU s", file=sys.stderr)
    return result


def _command(task: str) -> list[str]:
    if task not in FEASTS:
        return _python("run", task)
    data = DATA[task]
    files = [str(file) for file in (*data.peer_files, RESULTS / f"{task}.parquet")]
    program = [str(python_of("feast")), "-W", "ignore", str(PEERS / "feast_store.py")]
    return [*program, FEASTS[task], str(data.columns), *files]


def _python(what: str, task: str) -> list[str]:
    return [sys.executable, "-m", "bench.features.tasks", what, task]
