"""4, the request path: from what a caller sent to the answer in the journal.

Checks, assigns, reads features, guards, predicts, acts, journals. Knows definitions, features, engines, the guard,
the registry and the journal; nothing of HTTP, and nothing that trains or decides.
"""

from .access import SCOPES, Access
from .answers import Answer, Answerer, Draft
from .asked import Asked, AskedIndex
from .intake import Accepted, Intake
from .online import OnlineFeatures, OnlineReader
from .outcomes import Outcomes
from .routing import Router, Routing
from .versions import LoadedVersion, load_version
from .windows import KEEPER_BEHIND, Windows

__all__ = [
    "KEEPER_BEHIND",
    "SCOPES",
    "Accepted",
    "Access",
    "Answer",
    "Answerer",
    "Asked",
    "AskedIndex",
    "Draft",
    "Intake",
    "LoadedVersion",
    "OnlineFeatures",
    "OnlineReader",
    "Outcomes",
    "Router",
    "Routing",
    "Windows",
    "load_version",
]
