"""Small files of a table into larger ones: a table that grows by the hour is not made of thousands of files.

Rows stay as they are, in their order, each with the name of the file in which it came. A merged file takes the place of
the small ones with one replacement of the manifest; they stay for who has just read that, and for as long as a pinned
snapshot names them. A crash leaves a file that nothing lists, which the next sweep removes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from functools import cache

import duckdb
import msgspec

from icekeel.compile import literal
from icekeel.core.errors import Fault, StateError
from icekeel.core.files import locked

from .answers import ANSWERS
from .compaction import UNDEFINED
from .history import ORIGIN, TAKEN, History, Manifest, StoredFile
from .relations import columns_of, connect, parquet, write_parquet

LARGE = 64 << 20
"""Bytes above which a file is not made larger."""
FEWEST, MOST = 8, 200
"""Files that are merged at once."""
TALLER = 4
"""A file joins newer ones that have together at least one in so many of its bytes: each row is written again a few times only."""
MERGED = "merged"
MEMORY = "512MB"
log = logging.getLogger(__name__)


def merge(history: History, fewest: int = FEWEST) -> dict[str, int]:
    """Merge what can be merged; gives how many files fewer each table has. A second call finds nothing to do.

    Answers are left alone: those that are older than `keep_answers` go by whole files.
    """
    history.make()
    before = history.manifest().tables
    with locked(history.folder / "merge.lock"):
        for table in before:
            if table.startswith((f"{ANSWERS}/", UNDEFINED)):
                continue
            try:
                while group := _next(history, table, fewest):
                    _merge(history, table, group)
            except (duckdb.Error, OSError, StateError) as error:  # the small files serve as before
                log.error("not_merged", extra={"table": table, "why": str(error)})
    after = history.manifest().tables
    fewer = {table: len(files) - len(after.get(table, ())) for table, files in before.items()}
    return {table: count for table, count in fewer.items() if count > 0}


def _next(history: History, table: str, fewest: int) -> list[StoredFile]:
    """Some files to merge, empty for none."""
    manifest = history.manifest()

    @cache
    def columns(file: StoredFile) -> frozenset[tuple[str, str]]:
        with connect(reads=(paths := [history.folder / table / file.name])) as connection:
            held = columns_of(connection, parquet(paths)).items()
        return frozenset((name, kind) for name, kind in held if not name.startswith("_"))

    def size(file: StoredFile) -> int:
        return (history.folder / table / file.name).stat().st_size

    groups = _groups(manifest.tables.get(table, ()), size, columns, _begun(manifest, table))
    return next((group for group in groups if len(group) >= fewest), [])


def _begun(manifest: Manifest, table: str) -> set[str]:
    """Sources that are not read to their end: what is left of one is compared with all but its own rows."""
    owner = table.rpartition("/")[2]
    return {content for content, state in manifest.sources.get(owner, {}).items() if state != TAKEN}


def _groups(
    files: Sequence[StoredFile],
    size: Callable[[StoredFile], int],
    columns: Callable[[StoredFile], object],
    begun: set[str],
) -> Iterator[list[StoredFile]]:
    """Neighbours of the same columns, the newest first, none much larger than those after it."""
    group, total = list[StoredFile](), 0
    for file in reversed(files):
        mine = size(file)
        fits = (
            mine <= TALLER * total
            and mine + total <= LARGE
            and len(group) < MOST
            and file.source not in begun
        )
        if group and not (fits and columns(file) == columns(group[0])):
            yield group
            group, total = [], 0
        if file.source not in begun:
            group, total = [file, *group], total + mine
    yield group


def _merge(history: History, table: str, files: Sequence[StoredFile]) -> None:
    """Write their rows into one file, and list it instead unless somebody took one of them away meanwhile."""
    draft = history.folder / "merge.draft"
    rows = " UNION ALL BY NAME ".join(
        f"SELECT *{'' if one.of else f', {literal(one.name)} AS {ORIGIN}'} FROM {parquet([history.folder / table / one.name])}"
        for one in files
    )
    with connect(folder=history.folder, memory_limit=MEMORY) as connection:
        count = write_parquet(connection, rows, draft)
    if count != sum(one.rows for one in files):
        what = "files do not hold the rows that the manifest says"
        raise StateError(Fault("bad_file", what, table, f"{count:,}", f"{sum(one.rows for one in files):,}"))
    with history.adding() as manifest:
        if not set(files) <= set(manifest.tables.get(table, ())):
            return
        since, until = min(one.known_from for one in files), max(one.known_until for one in files)
        file = history.adopt(table, draft, count, MERGED, known_from=since, known_until=until)
        origins = tuple(origin for one in files for origin in one.origins)
        history.swap(manifest, table, msgspec.structs.replace(file, of=origins))
    log.info("merged", extra={"table": table, "files": len(files), "rows": count})
