"""The online feature store: windows of events kept up to date as events arrive, read in microseconds.

The keeper applies event versions in the order of the journal; serving workers read, in other processes. The
room knows views and encoded keys; it must not know the user's language, the journal or who asks. What an
aggregate means is stated in `icekeel.features.aggregates`. `OnlineStore` is the port; `lmdb` implements it.
"""

from .lmdb import LmdbWindows, TextCodes, open_environment, writing
from .store import GRACE, OnlineStore
from .versions import Applied, Batch, EventVersion, Keys

__all__ = [
    "GRACE",
    "Applied",
    "Batch",
    "EventVersion",
    "Keys",
    "LmdbWindows",
    "OnlineStore",
    "TextCodes",
    "open_environment",
    "writing",
]
