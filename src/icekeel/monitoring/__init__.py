"""Is what comes in, goes out and comes true still what it used to be, and who should be told?

Mergeable profiles of columns, daily tests of their shape, detectors that look every minute within a stated
yearly budget of false alarms, summaries of error, and alerts that name one cause. Pure arithmetic on arrays
handed in: this room must not know where they come from, what time it is, or how an alert is sent.
"""

from .alerts import BAD_DATA, Alert, Diagnosis, Origins, Signal, alert_id, diagnose, group
from .detectors import Detector, Look, Standardiser, log_threshold
from .drift import Finding, Reference, examine
from .performance import DayPerformance, gap_series, loss_series, summarise
from .profiles import Profile, Profiler, psi

__all__ = [
    "BAD_DATA",
    "Alert",
    "DayPerformance",
    "Detector",
    "Diagnosis",
    "Finding",
    "Look",
    "Origins",
    "Profile",
    "Profiler",
    "Reference",
    "Signal",
    "Standardiser",
    "alert_id",
    "diagnose",
    "examine",
    "gap_series",
    "group",
    "log_threshold",
    "loss_series",
    "psi",
    "summarise",
]
