"""Measures trust in data and models: `python -m bench.trust [--only KEY,KEY]`.

Prints the table and writes `bench/out/trust.json`, into which figures measured alone are merged.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence

from bench.children import child
from bench.figures import Figure
from bench.report import Report, Result

from .figures import EXTRAS, FIGURES, NOTES


def measure(chosen: Sequence[Figure]) -> Iterator[dict[str, Result]]:
    """What was found so far, after each task; each makes its own rounds."""
    wanted = [task for figure in chosen for task in (*figure.tasks, *EXTRAS.get(figure.key, ()))]
    found: dict[str, Result] = {}
    for task in dict.fromkeys(wanted):
        print(f"{task} ...", end=" ", flush=True, file=sys.stderr)
        found[task] = child([sys.executable, "-m", "bench.trust.tasks", task])
        print(f"{found[task]['process_cpu_s']:.1f} CPU s", file=sys.stderr)
        yield found


if __name__ == "__main__":
    report = Report("trust", FIGURES, extras=EXTRAS, notes=NOTES)
    wanted = report.arguments(str(__doc__))
    sys.exit(report.fill(wanted.chosen, measure(wanted.chosen)))
