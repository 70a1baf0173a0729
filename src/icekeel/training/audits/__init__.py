"""Audits: what may be wrong with the data a model learns from, what that may cost, and what to do about it.

Each looks at a training set and says one `Finding`. It must not know what becomes of a finding: a gate blocks, a
command prints.
"""

from .all import ALWAYS, AUDITS, examine, gates_of, under
from .findings import Finding, Verdict
from .input import Audit, AuditInput, out_of_time

__all__ = [
    "ALWAYS",
    "AUDITS",
    "Audit",
    "AuditInput",
    "Finding",
    "Verdict",
    "examine",
    "gates_of",
    "out_of_time",
    "under",
]
