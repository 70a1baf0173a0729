"""The projections made anew: where there are none for these definitions, they are damaged, or somebody asked."""

from __future__ import annotations

import logging
import shutil
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

import lmdb

from icekeel.core.errors import StateError
from icekeel.features.online.extent import Extent
from icekeel.features.online.lmdb import DAMAGE, open_environment
from icekeel.operations.projections.reach import carry
from icekeel.settings import Places

from .keeper import Keeper

log = logging.getLogger(__name__)


class Renewal:
    """Keeps one keeper running over projections that can be read.

    Args:
        places: Where the projections lie.
        make: A keeper over an environment, which it closes.
    """

    def __init__(self, places: Places, make: Callable[[lmdb.Environment], Keeper]) -> None:
        self._places = places
        self._make = make
        self._damage = ""

    def keeper(self) -> Keeper:
        """A keeper over the projections, which are made anew before where that is needed."""
        if self._places.rebuild.exists():
            self._damage = self._damage or self._places.rebuild.read_text(encoding="utf-8", errors="replace")
        else:
            try:
                if (self._places.online / "data.mdb").exists():
                    return self._make(open_environment(self._places.online, readonly=False))
            except (StateError, *DAMAGE) as error:
                log.error("online_state_unreadable", extra={"why": str(error)})
                self._damage = str(error)
        self._rebuild()
        keeper = self._make(open_environment(self._places.online, readonly=False))
        if self._damage:
            keeper.tell_damage(self._damage)
            self._damage = ""
        return keeper

    def keep(self, stop: threading.Event, *, ready: Callable[[], None]) -> None:
        """Run a keeper until told to stop, and another after it wherever the projections are made anew."""
        keeper = self.keeper()
        ready()
        while True:
            try:
                keeper.run(stop, anew=partial(self._anew, _inode(self._places.online / "data.mdb")))
            except (StateError, *DAMAGE) as error:
                if isinstance(error, StateError) and error.code != "state_damaged":
                    raise
                log.error("online_state_damaged", extra={"why": str(error)})
                self._damage = str(error)
                self._places.ask_anew()
            except lmdb.PanicError as error:  # the disk failed in the middle of a commit: none of it is there
                log.error("online_state_reopened", extra={"why": str(error)})
            if stop.is_set():
                return
            keeper = self.keeper()

    def _anew(self, opened: int) -> bool:
        """Whether the projections are to be made anew: asked for, or what was opened is gone or damaged."""
        try:
            Extent(self._places.online).check()
        except StateError as error:
            self._damage = str(error)
            return True
        file = _inode(self._places.online / "data.mdb")
        return self._places.rebuild.exists() or not file or file != opened

    def _rebuild(self) -> None:
        """Make the projections beside their place, and put them there when they are whole.

        Servers read the old ones until then. They look for another file a few times a second, and take its absence
        for a loss only when they find none twice.
        """
        folder = self._places.online
        draft, old = folder.with_suffix(".draft"), folder.with_suffix(".old")
        if old.exists() and not folder.exists():  # a crash came between the two renames below
            old.rename(folder)
        for left in (draft, old):
            shutil.rmtree(left, ignore_errors=True)
        with open_environment(draft) as online:
            self._carry(online)
            self._make(online).rebuild()
            online.sync(True)
        if folder.exists():
            folder.rename(old)
        draft.rename(folder)
        self._places.rebuild.unlink(missing_ok=True)
        for other in folder.parent.iterdir():
            if other != folder:
                shutil.rmtree(other, ignore_errors=True)

    def _carry(self, fresh: lmdb.Environment) -> None:
        """What old serials stood for; without it, answers of before are not audited, and nothing else is lost."""
        for folder in self._places.online.parent.iterdir():
            if folder.suffix or not (folder / "data.mdb").exists():
                continue
            try:
                with open_environment(folder) as old:
                    carry(old, fresh)
            except (StateError, lmdb.Error) as error:
                log.warning("reach_not_carried", extra={"why": str(error)})


def _inode(path: Path) -> int:
    """Which file a path names; 0 for none."""
    try:
        return path.stat().st_ino
    except FileNotFoundError:
        return 0
