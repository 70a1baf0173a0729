"""Measures trust in data and models: `python -m bench.trust [--only KEY,KEY]`.

Prints the table and writes `bench/out/trust.json`, into which figures measured alone are merged.
"""

from __future__ import annotations

import sys

from bench.report import Report
from bench.running import measure

from .figures import EXTRAS, FIGURES, NOTES

if __name__ == "__main__":
    report = Report("trust", FIGURES, extras=EXTRAS, notes=NOTES)
    wanted = report.arguments(str(__doc__))
    sys.exit(report.fill(wanted.chosen, measure("trust", wanted.chosen, EXTRAS)))
