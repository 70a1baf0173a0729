"""How long what is kept is kept: the journal moved into history, segments and old answers removed.

A segment goes once every record in it is in history, the keeper's projections are behind it, no process writes to it,
and `keep_journal` has passed since it was last written to. Answers in history go as whole files, once the newest of
one is older than `keep_answers`. Versions of events never go: features, trainings and audits of any time are made of
them. What goes is written down first, so that nothing is ever gone without an entry.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from icekeel.core.time import FOREVER, SECOND, format_duration
from icekeel.data import History, Manifest, Snapshot
from icekeel.data.answers import ANSWERS
from icekeel.data.merging import merge
from icekeel.journal import Writer, ends_at, is_free, remove
from icekeel.journal.segments import segment_sizes
from icekeel.operations.projections.projections import GRACE
from icekeel.operations.snapshots import spare
from icekeel.operations.workshop.workshop import decide
from icekeel.operations.workspace import Workspace
from icekeel.registry import Registry

MOST_UNMOVED = 64 << 20
"""Bytes in the journal alone at which they are moved before the day ends."""
KIND = "retention"
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Kept:
    """How long, in microseconds: segments after they were last written to, answers after they were asked, snapshots.

    Answers whose outcome may still come stay in any case: a rebuild waits for it again. So do snapshots that a
    registered version learnt from, with every file of theirs.
    """

    journal: int
    answers: int = FOREVER
    snapshots: int = FOREVER


class Spent(NamedTuple):
    """What nobody needs any more: segments with their sizes, and files of answers by their table."""

    segments: Mapping[str, int]
    files: Mapping[str, Sequence[str]]


def spent(
    history: History, manifest: Manifest, journal: Path, projected: Mapping[str, int], kept: Kept, now: int
) -> Spent:
    """What may go.

    Args:
        history, manifest: What was moved.
        journal: Folder of the segments.
        projected: Segment -> how far the keeper has read it; it must be on disk that it has.
        now: The time by which answers are old; segments are by the machine's.
    """
    segments: dict[str, int] = {}
    oldest = time.time() - kept.journal / SECOND
    for name, size in segment_sizes(journal).items():
        offset = manifest.journal.get(name, 0)
        old = (journal / name).stat().st_mtime < oldest
        if not old or projected.get(name, 0) < offset or not is_free(journal / name):
            continue
        if ends_at(journal / name, offset):
            segments[name] = size
        else:
            log.warning("segment_kept", extra={"segment": name, "why": "it is damaged", "offset": offset})
    files = {
        table: [file.name for file in listed if file.known_until < now - kept.answers]
        for table, listed in manifest.tables.items()
        if table.startswith(f"{ANSWERS}/")
    }
    return Spent(segments, {table: names for table, names in files.items() if names})


def unmoved(workspace: Workspace) -> int | None:
    """Bytes that are in the journal alone, where they are so many that they are moved before the day ends; else None."""
    moved = workspace.history.manifest().journal
    sizes = segment_sizes(workspace.journal)
    alone = sum(max(0, size - moved.get(name, 0)) for name, size in sizes.items())
    return alone if alone >= MOST_UNMOVED else None


class Retention:
    """Removes, for one keeper.

    Args:
        workspace: Where journal and history lie.
        registry, journal: Where it is written down what goes.
        kept: How long what is kept.
    """

    def __init__(self, workspace: Workspace, registry: Registry, journal: Writer, *, kept: Kept) -> None:
        self._workspace = workspace
        self._registry = registry
        self._journal = journal
        outcomes = [model.outcome.within + GRACE for model in workspace.project.models.values()]
        self._kept = replace(kept, answers=max(kept.answers, *outcomes))

    def remove(self, projected: Mapping[str, int], *, at: int, sync: Callable[[], None]) -> list[str]:
        """Remove what may go; gives the segments that are gone and still have a position.

        Args:
            projected: Segment -> how far the keeper has read it.
            at: End of the day.
            sync: Makes that outlast a power cut.
        """
        history, folder = self._workspace.history, self._workspace.journal
        manifest = self._workspace.compact()
        merge(history)
        found = spent(history, manifest, folder, projected, self._kept, at)
        spared = spare(history, self._registry, self._kept.snapshots, at)
        if found.segments or found.files or spared:
            sync()
            self._write_down(found, spared, at)
        with history.adding() as listed:
            for snapshot in spared:
                history.unpin(snapshot.digest)
            if found.files:
                gone = [name for names in found.files.values() for name in names]
                listed = history.replace(listed, {}, without=gone)  # noqa: PLW2901
            history.sweep(listed)
        remove(folder, found.segments)
        there = segment_sizes(folder)
        return [name for name in projected if name not in there] if there else []

    def _write_down(self, found: Spent, spared: Sequence[Snapshot], at: int) -> None:
        parts = []
        if found.segments:
            size = sum(found.segments.values()) / 1e6
            parts.append(
                f"{len(found.segments)} segments of the journal ({size:,.1f} MB), in history and written to more than "
                f"{format_duration(self._kept.journal)} ago"
            )
        if found.files:
            count = sum(map(len, found.files.values()))
            parts.append(
                f"{count} files of answers, all asked more than {format_duration(self._kept.answers)} ago"
            )
        if spared:
            parts.append(f"{len(spared)} snapshots that no registered version learnt from")
        decide(
            self._registry,
            self._journal,
            "journal",
            KIND,
            "",
            reason=f"removed {'; '.join(parts)}",
            at=at,
            evidence={
                "segments": dict(found.segments),
                "answers": {k: list(v) for k, v in found.files.items()},
                "snapshots": [snapshot.digest for snapshot in spared],
            },
        )
