"""Features of past questions, computed once and kept.

What was known at a past moment does not change, unless files are ingested that say what was known then; pushed
events are only ever known from when they came. So the features of the same questions under the same
definitions and the same ingested files are the same, and a retrain need not compute them again.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import duckdb

from icekeel.compile import literal
from icekeel.core.frames import Array, Frame, Ints
from icekeel.core.kinds import Column
from icekeel.data import Manifest
from icekeel.data.relations import create_table, fetch, parquet


class FeatureCache:
    """Computed features as Parquet files, each named by all that they depend on; may be deleted at any time."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def get(self, key: str, columns: Sequence[Column], compute: Callable[[], Frame]) -> Frame:
        """The features under `key`: read if they are kept, computed and kept otherwise."""
        path = self._folder / f"{key}.parquet"
        with duckdb.connect(config={"threads": 2}) as connection:
            if path.exists():
                with suppress(duckdb.Error):  # a damaged file, as after a power cut, is made anew
                    return fetch(
                        connection, f"SELECT * EXCLUDE (_row) FROM {parquet([path])} ORDER BY _row", columns
                    )
            frame = compute()
            self._folder.mkdir(parents=True, exist_ok=True)
            create_table(connection, "_computed", columns, frame)
            draft = path.with_suffix(f".{os.getpid()}")
            connection.execute(f"COPY _computed TO {literal(str(draft))} (FORMAT parquet)")
            os.replace(draft, path)
        return frame


def cache_key(definitions: str, manifest: Manifest, requests: Frame, asked_at: Ints) -> str:
    """Digest of everything that the features of some questions follow from.

    Args:
        definitions: Digest of the feature definitions.
        manifest: Whose ingested files they are computed from.
        requests, asked_at: The questions.
    """
    ingested = sorted(file.name for files in manifest.tables.values() for file in files if file.source)
    state = hashlib.blake2b(repr((definitions, ingested)).encode(), digest_size=16)
    for values in (asked_at, *requests.columns.values()):
        state.update(_bytes(values))
    return state.hexdigest()


def _bytes(values: Array) -> bytes:
    return repr(values.tolist()).encode() if values.dtype == object else values.tobytes()
