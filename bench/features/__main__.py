"""Measures the feature store: `python -m bench.features [--only KEY,KEY] [--rounds 3]`.

Prints the table and writes `bench/out/features.json`, into which figures measured alone are merged.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from bench.figures import Figure
from bench.report import Report

from .figures import CHECKS, EXTRAS, FIGURES, NOTES
from .online import environment_version
from .running import measure


def tasks_of(chosen: Sequence[Figure]) -> list[str]:
    """What must be measured, ours before the peer that is checked by it."""
    wanted = [task for figure in chosen for task in (*figure.tasks, *EXTRAS.get(figure.key, ()))]
    return list(dict.fromkeys(one for task in wanted for one in (CHECKS.get(task, task), task)))


if __name__ == "__main__":
    report = Report(
        "features", FIGURES, extras=EXTRAS, notes=NOTES, versions={"liblmdb": environment_version()}
    )
    wanted = report.arguments(str(__doc__))
    sys.exit(report.fill(wanted.chosen, measure(tasks_of(wanted.chosen), wanted.rounds)))
