"""Is what comes in, goes out and comes true still what it used to be, and who should be told?

Streams of rows counted in cells, minute by minute and day by day; what is usual for them, learnt from the past;
detectors and daily tests of shape that share a yearly budget of false alarms; and alerts that name one cause. Pure
arithmetic on arrays handed in: this room must not know where they come from, what time it is, or how an alert is sent.
"""

from .alerts import BAD_DATA, Alert, Diagnosis, Origins, Signal, alert_id, diagnose, group
from .baseline import HEARTBEATS, MINUTES, PROFILE_DAYS, SHAPES, Baseline, Monitored
from .detectors import SAMPLED, Bank, Seen, Series, State, log_bar
from .drift import Finding, Reference, examine
from .facts import Now, arrivals, signal, silence
from .learning import learn
from .performance import ASSUMED, expected_error
from .profiles import Profile, Profiler, psi
from .rates import Heartbeat, learn_heartbeat, learn_rate
from .streams import LATENESS, REPEATED, Cells, Counted, Stream, cells_of, declared

__all__ = [
    "ASSUMED",
    "BAD_DATA",
    "HEARTBEATS",
    "LATENESS",
    "MINUTES",
    "PROFILE_DAYS",
    "REPEATED",
    "SAMPLED",
    "SHAPES",
    "Alert",
    "Bank",
    "Baseline",
    "Cells",
    "Counted",
    "Diagnosis",
    "Finding",
    "Heartbeat",
    "Monitored",
    "Now",
    "Origins",
    "Profile",
    "Profiler",
    "Reference",
    "Seen",
    "Series",
    "Signal",
    "State",
    "Stream",
    "alert_id",
    "arrivals",
    "cells_of",
    "declared",
    "diagnose",
    "examine",
    "expected_error",
    "group",
    "learn",
    "learn_heartbeat",
    "learn_rate",
    "log_bar",
    "psi",
    "signal",
    "silence",
]
