"""Audits: what may be wrong with the data a model learns from, what that may cost, and what to do about it.

Each looks at the rows of a training set and says one `Finding`. It must not know where data came from, nor what
becomes of a finding: a gate blocks, a command prints.
"""

from .findings import Finding, Verdict

__all__ = ["Finding", "Verdict"]
