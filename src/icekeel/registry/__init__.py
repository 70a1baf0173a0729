"""Which versions exist, what they are made of, which of them serve, and why: versions, bundles, aliases, decisions.

It knows files, digests and rows. It must not know how a model is trained, encoded or served: what a bundle's
files mean, and what metrics, gates and evidence say, is the business of those who write and read them.
"""

from .bundles import Bundle, read, write
from .changes import CHAMPION
from .contents import GUARD_FILE, INTERVAL_FILE, PROFILE_FILE, Contents
from .records import GRADES, Alert, AlertChange, Alias, Change, Decision, Delivery, Json, Review, Run, Version
from .store import Registry
from .trials import CHALLENGER, SHADOW, Trial, all_trials, trials

__all__ = [
    "CHALLENGER",
    "CHAMPION",
    "GRADES",
    "GUARD_FILE",
    "INTERVAL_FILE",
    "PROFILE_FILE",
    "SHADOW",
    "Alert",
    "AlertChange",
    "Alias",
    "Bundle",
    "Change",
    "Contents",
    "Decision",
    "Delivery",
    "Json",
    "Registry",
    "Review",
    "Run",
    "Trial",
    "Version",
    "all_trials",
    "read",
    "trials",
    "write",
]
