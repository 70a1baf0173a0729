"""1, the data pipeline: what comes in is checked, kept for ever or set aside with the reason.

Contracts for single records, ingestion of files, quarantine, and the history of immutable Parquet files. Knows
definitions and files; not features, models or servers.
"""

from .contracts import EventContract, RecordParser
from .history import AVAILABLE, DELETED, SEQUENCE, History, Manifest, Snapshot, StoredFile
from .ingest import Ingested, Taking, ingest, ingest_table
from .sources import find_sources
from .vault import Hide, Receipt, Vault

__all__ = [
    "AVAILABLE",
    "DELETED",
    "SEQUENCE",
    "EventContract",
    "Hide",
    "History",
    "Ingested",
    "Manifest",
    "Receipt",
    "RecordParser",
    "Snapshot",
    "StoredFile",
    "Taking",
    "Vault",
    "find_sources",
    "ingest",
    "ingest_table",
]
