"""What is kept for ever: immutable, content-addressed Parquet files and the manifest that lists them.

    history/manifest.json           which files make up each table, and how far the journal is compacted
    history/<table>/<sha256>.parquet
    history/snapshots/<sha256>.json  what one training run saw

A manifest is replaced as a whole, so a reader sees either all of a change or none of it. A *snapshot* lists the files
of a moment, under the digest of that list; since files never change, naming them is keeping them: a pinned snapshot
outlives what the manifest forgets.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec

from icekeel.compile import literal
from icekeel.core.errors import Fault, StateError, nearest, shorten
from icekeel.core.files import locked, sync, write_whole
from icekeel.core.ids import digest, file_digest
from icekeel.core.time import DAY, FOREVER

AVAILABLE = "_available"
"""Column of a stored event version: from when it was known, microseconds UTC."""
DELETED = "_deleted"
"""Column of a stored event version: 1.0 where it deletes the event."""
SEQUENCE = "_sequence"
"""Column of a stored event version: the order in which versions of equal availability were taken in."""
SEGMENT, OFFSET = "_segment", "_offset"
"""Columns of a version that was pushed: where in the journal its record begins. Files taken in bulk lack them."""
ORIGIN = "_file"
"""Column of a file that was merged: the name of the one in which a row came. Others lack it."""

FORMAT = 1
QUESTIONS = "questions"
"""Table of the declared questions of a model, as a snapshot holds them: `questions/MODEL`."""
SNAPSHOTS = "snapshots"
LINGER = DAY
"""For how long a file that was merged into another stays, for who has just read the manifest."""
SPOOL = "spool"
"""Folder of what is on its way: copies of objects, the part that is being read."""
TAKEN = "taken"
"""State of a source that was read to its end."""
log = logging.getLogger(__name__)


class StoredFile(msgspec.Struct, frozen=True):
    """One file of a table.

    Attributes:
        name: File name, which is its SHA-256.
        source: Digest of the outside file it was made from; empty for rows from the journal, `merged` for those of several files.
        known_from: When the first of its rows became available, microseconds UTC; -FOREVER where that is not known.
        known_until: When the last one did; FOREVER where that is not known.
        of: Of one that was merged, the files that it holds, in order. Left out of what is stored of others, whose
            snapshots keep their digests so.
    """

    name: str
    rows: int
    source: str = ""
    known_from: int = -FOREVER
    known_until: int = FOREVER
    of: tuple[StoredFile, ...] | msgspec.UnsetType = msgspec.UNSET

    @property
    def origins(self) -> tuple[StoredFile, ...]:
        """The files in which its rows came: itself, unless it was merged."""
        return self.of or (self,)


class Manifest(msgspec.Struct, frozen=True):
    """The files of each table, in the order in which they came.

    Attributes:
        journal: Segment -> how far it was moved into history; it stays here when the segment is gone.
        taken: How many files were ever listed.
        types: Table and ending of its files -> column -> SQL type in the one that was taken last.
        sources: Table -> what rows come from -> how far it was read: the place in a file or `TAKEN`, the watermark of a query.
        replaced: `TABLE/NAME` of files that were merged -> when, by the machine's time, microseconds UTC.
    """

    tables: dict[str, list[StoredFile]] = {}
    journal: dict[str, int] = {}
    format: int = FORMAT
    taken: int = 0
    types: dict[str, dict[str, str]] = {}
    sources: dict[str, dict[str, str]] = {}
    replaced: dict[str, int] = {}

    @property
    def sequence(self) -> int:
        """The first `SEQUENCE` of what is added next: above all there are, and there were."""
        return max(self.taken, sum(len(files) for files in self.tables.values())) << 32

    def known(self, now: int) -> Manifest:
        """The files that say something that was known at `now`."""
        tables = {
            name: [file for file in files if file.known_from <= now] for name, files in self.tables.items()
        }
        return Manifest(tables, self.journal, taken=self.taken, types=self.types, sources=self.sources)

    def rows(self, table: str) -> int:
        """Rows of a table."""
        return sum(file.rows for file in self.tables.get(table, ()))

    def origins(self, table: str) -> Iterator[StoredFile]:
        """The files in which the rows of a table came, in order."""
        return (one for file in self.tables.get(table, ()) for one in file.origins)


class Snapshot(msgspec.Struct, frozen=True):
    """What a training run saw.

    Attributes:
        now: Up to which time anything was known, microseconds UTC.
        tables: The files of every event table, of the model's answers, and of its declared questions.
    """

    model: str
    now: int
    tables: dict[str, list[StoredFile]]
    format: int = FORMAT

    @property
    def content(self) -> bytes:
        """The snapshot as it is stored."""
        return msgspec.json.encode(self, order="sorted")

    @property
    def digest(self) -> str:
        """Its name: SHA-256 of its content."""
        return digest(self.content)

    @property
    def manifest(self) -> Manifest:
        """Its files alone."""
        return Manifest(self.tables)


class History:
    """The files of one project. Several processes may add; one at a time does."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def manifest(self) -> Manifest:
        """What there is now.

        Raises:
            StateError: the manifest is damaged or of another format.
        """
        path = self.folder / "manifest.json"
        if not path.exists():
            return Manifest()
        try:
            manifest = msgspec.json.decode(path.read_bytes(), type=Manifest)
        except msgspec.DecodeError as error:
            raise StateError(Fault("bad_manifest", f"the manifest is damaged: {error}", str(path))) from error
        if manifest.format != FORMAT:
            raise StateError(
                Fault("bad_format", "unknown format", str(path), str(manifest.format), str(FORMAT))
            )
        return manifest

    def files(self, table: str) -> list[Path]:
        """The Parquet files of a table."""
        return self.paths(self.manifest(), table)

    def paths(self, manifest: Manifest, table: str) -> list[Path]:
        """The Parquet files of a table in some manifest."""
        return [self.folder / table / file.name for file in manifest.tables.get(table, ())]

    def holding(self, table: str, name: str) -> tuple[Path, str]:
        """The file that has the rows of one of this name, and a SQL condition on them: it may have been merged."""
        path = self.folder / table / name
        if not path.exists():
            for file in self.manifest().tables.get(table, ()):
                if any(one.name == name for one in file.origins):
                    return path.with_name(file.name), f"{ORIGIN} = {literal(name)}"
        return path, "true"

    def adopt(
        self,
        table: str,
        written: Path,
        rows: int,
        source: str = "",
        *,
        known_from: int = -FOREVER,
        known_until: int = FOREVER,
    ) -> StoredFile:
        """Move a finished Parquet file to its place, named by its content. It counts once it is listed."""
        name = f"{file_digest(written)}.parquet"
        target = self.folder / table / name
        if not target.parent.exists():
            target.parent.mkdir(parents=True)
            for folder in {target.parent.parent, self.folder}:  # two where a name has two parts
                sync(folder)
        sync(written)
        os.replace(written, target)
        sync(target.parent)
        return StoredFile(name, rows, source, known_from, known_until)

    def make(self) -> None:
        """Make the folder, inside one for its owner alone, where there is none."""
        self.folder.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.folder.mkdir(exist_ok=True)

    @contextmanager
    def adding(self) -> Iterator[Manifest]:
        """Hold the right to replace the manifest; gives the present one."""
        self.make()
        with locked(self.folder / "lock"):
            yield self.manifest()

    def replace(
        self,
        manifest: Manifest,
        added: Mapping[str, Sequence[StoredFile]],
        *,
        journal: Mapping[str, int] | None = None,
        without: Collection[str] = (),
        types: Mapping[str, dict[str, str]] | None = None,
        sources: Mapping[str, Mapping[str, str]] | None = None,
    ) -> Manifest:
        """List more files (and how far the journal is compacted), all at once; call inside `adding`.

        Args:
            without: Tables, or files of tables by name, that are listed no longer; their files are left where they are.
            types: What changes of `Manifest.types`.
            sources: What changes of `Manifest.sources`.
        """
        tables = {
            name: [file for file in files if file.name not in without]
            for name, files in manifest.tables.items()
            if name not in without
        }
        taken = (manifest.sequence >> 32) + sum(map(len, added.values()))
        for name, files in added.items():
            listed = tables.setdefault(name, [])
            listed += [file for file in files if file not in listed]
        read = {name: {**manifest.sources.get(name, {}), **one} for name, one in (sources or {}).items()}
        after = Manifest(
            tables,
            dict(manifest.journal if journal is None else journal),
            taken=taken,
            types={**manifest.types, **(types or {})},
            sources={**manifest.sources, **read},
            replaced=manifest.replaced,
        )
        self._write(after)
        return after

    def swap(self, manifest: Manifest, table: str, file: StoredFile) -> Manifest:
        """List a merged file where the first of those stood that it holds; those linger. Call inside `adding`."""
        now = time.time_ns() // 1000
        held = {one for one in manifest.tables[table] if set(one.origins) <= set(file.origins)}
        first = next(one for one in manifest.tables[table] if one in held)
        listed = [
            file if one == first else one for one in manifest.tables[table] if one == first or one not in held
        ]
        recent = {name: at for name, at in manifest.replaced.items() if at > now - LINGER}
        replaced = recent | {f"{table}/{one.name}": now for one in held}
        tables = {**manifest.tables, table: listed}
        after = msgspec.structs.replace(
            manifest, tables=tables, replaced=replaced, taken=manifest.sequence >> 32
        )
        self._write(after)
        return after

    def _write(self, manifest: Manifest) -> None:
        text = msgspec.json.format(msgspec.json.encode(manifest, order="sorted"), indent=1)
        write_whole(self.folder / "manifest.json", text)

    def sweep(self, manifest: Manifest) -> int:
        """Delete the files that neither the manifest nor a snapshot lists, and give their bytes; inside `adding`.

        Such are those that were dropped or merged a while ago, and what a crash left. Nothing goes while a snapshot
        cannot be read.
        """
        try:
            kept = self.everything(manifest)
        except StateError as error:
            log.error("nothing_swept", extra={"why": str(error)})
            return 0
        listed, freed = {f"{name}/{file.name}" for name, files in kept.items() for file in files}, 0
        since = time.time_ns() // 1000 - LINGER
        listed |= {place for place, at in manifest.replaced.items() if at > since}
        for path in self.folder.rglob("*.parquet"):
            table = path.parent.relative_to(self.folder).as_posix()
            stored = table in kept or table.startswith(("answers/", "undefined/", f"{QUESTIONS}/"))
            if stored and f"{table}/{path.name}" not in listed:
                freed += path.stat().st_size
                path.unlink()
        return freed

    def everything(self, manifest: Manifest) -> dict[str, list[StoredFile]]:
        """Table -> every file that is kept, be it for a snapshot alone."""
        found = {name: dict.fromkeys(files) for name, files in manifest.tables.items()}
        for snapshot in self.snapshots():
            for name, files in snapshot.tables.items():
                found.setdefault(name, {}).update(dict.fromkeys(files))
        return {name: list(files) for name, files in found.items()}

    def pin(self, snapshot: Snapshot) -> None:
        """Keep a snapshot, and thereby its files; inside `adding`, or nothing keeps them from going meanwhile.

        Raises:
            StateError: one of its files is gone already.
        """
        for table in snapshot.tables:
            for path in self.paths(snapshot.manifest, table):
                if not path.exists():
                    raise StateError(Fault("file_gone", "a file of the snapshot is gone", str(path)))
        path = self.pinned(snapshot.digest)
        path.parent.mkdir(exist_ok=True)
        write_whole(path, snapshot.content)

    def unpin(self, identifier: str) -> None:
        """Forget a snapshot; its files go with the next `sweep`, unless something else lists them."""
        self.pinned(identifier).unlink(missing_ok=True)

    def snapshots(self) -> list[Snapshot]:
        """Every pinned snapshot, the oldest first.

        Raises:
            StateError: one of them is damaged.
        """
        found = [self.snapshot(path.stem) for path in (self.folder / SNAPSHOTS).glob("*.json")]
        return sorted(found, key=lambda one: (one.now, one.model, one.digest))

    def snapshot(self, identifier: str) -> Snapshot:
        """The pinned snapshot whose digest begins so.

        Raises:
            StateError: `unknown_snapshot`: there is none, or there are several; `bad_snapshot`: it is damaged.
        """
        paths = sorted((self.folder / SNAPSHOTS).glob("*.json"))
        found = [path for path in paths if identifier and path.stem.startswith(identifier)]
        if len(found) != 1:
            what = f"{len(found)} snapshots begin so" if found else "no such snapshot is kept"
            near = nearest(identifier, [path.stem[:12] for path in paths])
            hint = near or "icekeel snapshots lists them"
            raise StateError(Fault("unknown_snapshot", what, "snapshot", shorten(identifier), hint=hint))
        (path,) = found
        content = path.read_bytes()
        try:
            snapshot = msgspec.json.decode(content, type=Snapshot)
        except msgspec.DecodeError as error:
            raise StateError(Fault("bad_snapshot", f"the snapshot is damaged: {error}", str(path))) from error
        if digest(content) != path.stem:
            raise StateError(Fault("bad_snapshot", "the snapshot is not what its name says", str(path)))
        return snapshot

    def pinned(self, identifier: str) -> Path:
        """Where a pinned snapshot lies."""
        return self.folder / SNAPSHOTS / f"{identifier}.json"
