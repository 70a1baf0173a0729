"""Backups: all that cannot be made again, copied while everything runs, and put back as a whole.

    TO/files/<sha256>          what any backup consists of, each content once
    TO/<time>-<digest>.json    one backup: path -> content, its size and mode; written last, so there is it all or none
    TO/vault.db, TO/vault.key  who is behind pseudonyms: one copy, that of the latest backup, for all of them
    TO/project                 the id of the project whose backups these are, which its state holds too

The vault only ever grows, but for what is forgotten: the latest one fits every earlier backup, and whom somebody
forgets is forgotten in all of them with the next backup. Projections are left out, since the keeper makes them from
the rest.
"""

from __future__ import annotations

import glob
import hashlib
import logging
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec

from icekeel.core.errors import Fault, StateError, nearest, shorten
from icekeel.core.files import alone, sync, write_whole
from icekeel.core.ids import digest, file_digest, new_id
from icekeel.core.time import format_time
from icekeel.data import History, Manifest
from icekeel.data.history import SNAPSHOTS
from icekeel.data.vault import Vault
from icekeel.journal import is_free
from icekeel.journal.segments import segment_sizes
from icekeel.settings import SETTINGS_FILE, Places, Settings, load_settings

FORMAT = 1
TRIES = 5
"""Files may go while they are copied, once history forgets them: then it is begun anew with what there is."""
CHUNK = 1 << 20
PROJECT = "project/"
IDENTITY = "backup.id"
"""File of the state that says whose backups are its own."""
DRAFT, WHOLE = ".restoring", ".restored-"
"""How a state that is being restored is called beside its place: while it is written, and once all of it is there."""
Say = Callable[[str], None]
log = logging.getLogger(__name__)


class Copied(msgspec.Struct, frozen=True):
    """One file of a backup: SHA-256 of its content, bytes, permissions."""

    content: str
    size: int
    mode: int


class Backup(msgspec.Struct, frozen=True):
    """What was copied.

    Attributes:
        at: When, microseconds UTC.
        files: Path under the state folder (the project's own under `project/`) -> what it held.
        vault: Whether the project hid private values then.
    """

    at: int
    files: dict[str, Copied]
    vault: bool = False
    format: int = FORMAT

    @property
    def content(self) -> bytes:
        """As it is stored."""
        return msgspec.json.encode(self, order="sorted")

    @property
    def name(self) -> str:
        """What it is called: when it was made, and the digest of all that it lists."""
        return f"{format_time(self.at)[:19].replace(':', '')}Z-{digest(self.content)[:16]}"

    @property
    def size(self) -> int:
        """Bytes of all its files."""
        return sum(file.size for file in self.files.values())


@dataclass(frozen=True, slots=True)
class Shelf:
    """Where backups lie.

    Attributes:
        folder: Best on another disk.
    """

    folder: Path

    def listed(self) -> list[tuple[str, Backup]]:
        """Every backup by name, the oldest first.

        Raises:
            StateError: one of them is not what its name says.
        """
        return [(path.stem, self._read(path)) for path in sorted(self.folder.glob("*Z-*.json"))]

    def find(self, name: str) -> tuple[str, Backup]:
        """The backup whose name begins so; the latest where `name` is empty.

        Raises:
            StateError: `no_backup`, `unknown_backup`, `bad_backup`, `bad_format`.
        """
        paths = sorted(self.folder.glob("*Z-*.json"))
        if not paths:
            hint = "icekeel backup --to FOLDER makes one"
            raise StateError(Fault("no_backup", "there is no backup here", str(self.folder), hint=hint))
        found = [path for path in paths if path.stem.startswith(name)] if name else paths[-1:]
        if len(found) != 1:
            what = f"{len(found)} backups begin so" if found else "no such backup"
            hint = nearest(name, [path.stem for path in paths]) or f"the latest is {paths[-1].stem}"
            raise StateError(Fault("unknown_backup", what, str(self.folder), shorten(name), hint=hint))
        return found[0].stem, self._read(found[0])

    def stored(self, content: str) -> Path:
        """Where a content lies."""
        return self.folder / "files" / content

    def _read(self, path: Path) -> Backup:
        try:
            found = msgspec.json.decode(path.read_bytes(), type=Backup)
        except msgspec.DecodeError as error:
            raise StateError(Fault("bad_backup", f"the backup is damaged: {error}", str(path))) from error
        if found.format != FORMAT:
            allowed = f"format {FORMAT}"
            raise StateError(
                Fault("bad_format", "a backup of another format", str(path), str(found.format), allowed)
            )
        if found.name != path.stem:
            raise StateError(Fault("bad_backup", "the backup is not what its name says", str(path)))
        if bad := [name for name, file in found.files.items() if not _stays_inside(name, file)]:
            what = "the backup names files that no backup made here does: do not trust where it came from"
            raise StateError(Fault("bad_backup", what, str(path), shorten(bad[0])))
        return found

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Be the only one who writes here, and leave nothing half written.

        Raises:
            StateError: `backup_runs`; `backup_unwritable`: the folder is gone, full or not to be written.
        """
        try:
            (self.folder / "files").mkdir(parents=True, exist_ok=True, mode=0o700)
            with alone(self.folder / "lock") as mine:
                if not mine:
                    raise StateError(Fault("backup_runs", "another backup runs", str(self.folder)))
                for draft in self.folder.rglob("*.draft"):
                    if draft.is_dir():
                        shutil.rmtree(draft)
                    else:
                        draft.unlink(missing_ok=True)
                yield
        except OSError as error:
            if isinstance(error, StateError):
                raise
            what, hint = "the backup cannot be written", "those that are there stay as they were"
            got = error.strerror or str(error)
            raise StateError(Fault("backup_unwritable", what, str(self.folder), got, hint=hint)) from error

    def claim(self, state: Path, at: int) -> None:
        """Let only one project keep its backups here: others would replace its vault and prune what is its.

        Raises:
            StateError: `other_project`.
        """
        mine, theirs = state / IDENTITY, self.folder / "project"
        if not mine.exists():
            write_whole(mine, new_id(at).encode())
        if not theirs.exists():
            write_whole(theirs, mine.read_bytes())
        if theirs.read_bytes() != mine.read_bytes():
            what, hint = "the backups of another project lie here", "choose a folder of its own"
            raise StateError(Fault("other_project", what, str(self.folder), hint=hint))

    def keep(self, source: Path, size: int | None = None) -> Copied:
        """Copy a file, or its first bytes, unless its content is here; gives what it is."""
        mode = source.stat().st_mode & 0o777
        if size is None and source.suffix == ".parquet" and (at := self.stored(source.stem)).exists():
            return Copied(source.stem, at.stat().st_size, mode)
        with (
            source.open("rb") as read,
            tempfile.NamedTemporaryFile(dir=self.folder / "files", suffix=".draft", delete=False) as draft,
        ):
            told, left = hashlib.sha256(), size if size is not None else -1
            while left and (chunk := read.read(CHUNK if left < 0 else min(CHUNK, left))):
                told.update(chunk)
                draft.write(chunk)
                left -= len(chunk) if left > 0 else 0
            if left > 0:
                raise FileNotFoundError(f"{source} is shorter than it was")
            draft.flush()
            os.fsync(draft.fileno())
            written = draft.tell()
        os.replace(draft.name, self.stored(told.hexdigest()))
        return Copied(told.hexdigest(), written, mode)

    def prune(self, most: int) -> list[str]:
        """Forget all but the latest backups, and the contents that none of those has; gives which."""
        listed = self.listed()
        gone = [name for name, _ in listed[:-most]]
        for name in gone:
            (self.folder / f"{name}.json").unlink()
        needed = {file.content for _, one in listed[-most:] for file in one.files.values()}
        for path in (self.folder / "files").iterdir():
            if path.name not in needed:
                path.unlink()
        return gone


def back_up(
    folder: Path, places: Places, shelf: Shelf, *, at: int, most: int, say: Say
) -> tuple[str, Backup]:
    """Copy all of a project that cannot be made again, while servers and keepers go on.

    Args:
        folder: The project.
        at: Now, microseconds UTC.
        most: Backups that are kept, this one included.

    Raises:
        StateError: as `Shelf.alone`; or what is to be copied is damaged.
    """
    if shelf.folder.resolve().is_relative_to(places.state):
        what, hint = "a backup inside what it backs up", "choose a folder elsewhere, best on another disk"
        raise StateError(Fault("bad_backup_folder", what, str(shelf.folder), hint=hint))
    if not places.state.is_dir():
        what, hint = "the project has stored nothing yet", "icekeel ingest takes the declared sources"
        raise StateError(Fault("no_state", what, str(places.state), hint=hint))
    with shelf.alone():
        shelf.claim(places.state, at)
        for attempt in range(TRIES):
            try:
                made = Backup(at, _copy(folder, places, shelf), (places.state / "vault.db").exists())
                break
            except FileNotFoundError:
                if attempt == TRIES - 1 or not places.state.is_dir():
                    raise
                say("a file went while it was copied; once more with what there is")
        sync(shelf.folder / "files")
        write_whole(shelf.folder / f"{made.name}.json", made.content)
        shelf.prune(most)
    return made.name, made


def _copy(folder: Path, places: Places, shelf: Shelf) -> dict[str, Copied]:
    """Every file, in an order in which whatever names another is copied no later than that is looked for.

    What answers name must be in the vault and the registry: these come after the journal is cut. What the registry
    names, bundles and snapshots, comes after the registry.
    """
    history = History(places.history)
    with history.adding() as manifest:
        sizes = segment_sizes(places.journal)
        read = (places.history / "manifest.json").read_bytes() if manifest != Manifest() else b""
    _copy_vault(places.state, shelf.folder)
    found: dict[str, Copied] = {}
    with tempfile.TemporaryDirectory(dir=shelf.folder, suffix=".draft") as drafts:
        if places.registry.exists():
            _copy_database(places.registry, Path(drafts) / "registry.db")
            found["registry.db"] = shelf.keep(Path(drafts) / "registry.db")
        if read:
            (Path(drafts) / "manifest").write_bytes(read)
            found["history/manifest.json"] = shelf.keep(Path(drafts) / "manifest")
    for table, files in history.everything(manifest).items():
        for file in files:
            found[f"history/{table}/{file.name}"] = shelf.keep(places.history / table / file.name)
    for name, size in sizes.items():
        # One that is gone is in history as a whole.
        if (places.journal / name).exists() or manifest.journal.get(name, -1) < size:
            found[f"journal/{name}"] = shelf.keep(places.journal / name, size)
    whole = [*(places.history / SNAPSHOTS).glob("*.json"), *places.bundles.rglob("*"), places.tokens]
    whole.append(places.state / IDENTITY)
    named = {path.relative_to(places.state).as_posix(): path for path in whole}
    named |= {PROJECT + path.name: path for path in (*folder.glob("*.py"), folder / SETTINGS_FILE)}
    return found | {name: shelf.keep(path) for name, path in named.items() if path.is_file()}


def _copy_vault(state: Path, to: Path) -> None:
    if (state / "vault.db").exists():
        _copy_database(state / "vault.db", to / "vault.db")
    if (state / "vault.key").exists():
        write_whole(to / "vault.key", (state / "vault.key").read_bytes(), private=True)


def _copy_database(source: Path, target: Path) -> None:
    """A copy of a SQLite file at one moment, whoever writes to it; it replaces the one before as a whole."""
    draft = target.with_name(f"{target.name}.draft")
    draft.unlink(missing_ok=True)
    os.close(os.open(draft, os.O_RDWR | os.O_CREAT, 0o600))
    try:
        with closing(sqlite3.connect(source)) as read, closing(sqlite3.connect(draft)) as written:
            read.backup(written)
            written.execute("PRAGMA journal_mode = DELETE")
    except sqlite3.Error as error:
        raise StateError(Fault("bad_database", "it cannot be copied", str(source), str(error))) from error
    sync(draft)
    os.replace(draft, target)


def _stays_inside(name: str, file: Copied) -> bool:
    """Whether a file of a list goes where its path says, below the state, and is nothing but a file of its content."""
    plain = not any(part in ("", ".", "..") for part in name.split("/"))
    content = len(file.content) == 64 and file.content.isalnum()
    return plain and "\0" not in name and content and file.mode == file.mode & 0o777


def check(shelf: Shelf, backup: Backup) -> list[str]:
    """Paths whose content is missing or changed."""
    contents = {file.content: file for file in backup.files.values()}
    bad = {
        content
        for content, file in contents.items()
        if not (path := shelf.stored(content)).is_file()
        or path.stat().st_size != file.size
        or file_digest(path) != content
    }
    return [path for path, file in backup.files.items() if file.content in bad]


def settings_for(shelf: Shelf, backup: Backup, folder: Path) -> Settings:
    """The settings that a project will have once the backup is put back: its own, or those of the backup.

    Raises:
        SettingsError: they are faulty.
    """
    own = backup.files.get(PROJECT + SETTINGS_FILE)
    if own is None or (folder / SETTINGS_FILE).exists() or not shelf.stored(own.content).is_file():
        return load_settings(folder)
    with tempfile.TemporaryDirectory() as kept:
        shutil.copyfile(shelf.stored(own.content), Path(kept) / SETTINGS_FILE)
        return load_settings(Path(kept))


def restore(
    shelf: Shelf, backup: Backup, folder: Path, places: Places, *, aside: bool, vault_key: str
) -> Path | None:
    """Put a backup back as the state of a project; the project's own files only where there are none.

    Nobody may run there. All of it is written and checked beside its place before it gets there; where it is killed
    between moving the state of before aside and putting this one there, whoever opens the project next does the latter.

    Args:
        aside: Move a state that is there aside instead of refusing; who was forgotten there stays forgotten.
        vault_key: The setting, where the key of the vault is not in the backup.

    Returns:
        Where the state before lies; None where there was none.

    Raises:
        StateError: `state_there`; `damaged_backup`: a content is missing or changed; nothing is changed then.
            `state_in_use`: somebody writes there.
    """
    there = places.state.exists() and any(path.name != "keep.lock" for path in places.state.iterdir())
    if writing := [name for name in segment_sizes(places.journal) if not is_free(places.journal / name)]:
        what, hint = "a process writes to the journal here", "stop it first"
        raise StateError(Fault("state_in_use", what, str(places.state), ", ".join(writing[:3]), hint=hint))
    if there and not aside:
        hint = "--aside moves it to a folder beside it first"
        raise StateError(
            Fault("state_there", "the project has a state already", str(places.state), hint=hint)
        )
    if bad := check(shelf, backup):
        faults = [Fault("damaged_backup", "missing or changed", str(shelf.folder), path) for path in bad[:20]]
        raise StateError(*faults)
    for broken_off in unfinished(places.state):
        shutil.rmtree(broken_off)
    draft = places.state.with_name(f"{places.state.name}{DRAFT}")
    draft.mkdir(parents=True, mode=0o700)
    for path, file in backup.files.items():
        target = draft / path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(shelf.stored(file.content), target)
        target.chmod(file.mode)
    if backup.vault:
        _restore_vault(shelf, draft, places, vault_key)
    project = draft / PROJECT
    for own in project.iterdir() if project.exists() else ():
        if not (folder / own.name).exists():
            shutil.copyfile(own, folder / own.name)
    shutil.rmtree(project, ignore_errors=True)
    os.sync()
    return _put_in_place(draft, places.state, backup.name, aside=there)


def _put_in_place(draft: Path, state: Path, name: str, *, aside: bool) -> Path | None:
    """Let what is wholly written be the state; gives where the one of before lies, if that is to be moved aside."""
    if not aside:  # what is there later may be this backup, which somebody else put in place
        shutil.rmtree(state, ignore_errors=True)
    whole = draft.rename(state.with_name(f"{state.name}{WHOLE}{name}"))
    sync(state.parent)
    before = _move_aside(state) if aside else None
    finish_restore(state)
    if whole.exists():
        what, hint = "a process made a state here meanwhile", "stop it, and restore again with --aside"
        raise StateError(Fault("state_in_use", what, str(state), hint=hint))
    return before


def finish_restore(state: Path) -> str:
    """Put in place what a restore had ready when it was killed, the state of before being moved aside already.

    One that was killed earlier has changed nothing, and is made anew. Who else does this at the same time does no harm.

    Returns:
        The name of the backup that is in place now; empty where there was nothing to finish.
    """
    if state.exists():
        return ""
    for whole in state.parent.glob(f"{glob.escape(state.name)}{WHOLE}*"):
        with suppress(FileNotFoundError):  # another process was faster
            whole.rename(state)
            sync(state.parent)
            _, _, name = whole.name.partition(WHOLE)
            log.warning("restore_finished", extra={"backup": name})
            return name
    return ""


def unfinished(state: Path) -> list[Path]:
    """What lies beside a state of a restore that was broken off, or is under way."""
    kinds = (DRAFT, f"{WHOLE}*")
    return [path for kind in kinds for path in state.parent.glob(glob.escape(state.name) + kind)]


def _restore_vault(shelf: Shelf, draft: Path, places: Places, vault_key: str) -> None:
    """The vault, without whom the state that is replaced has forgotten since."""
    for name in ("vault.db", "vault.key"):
        if (shelf.folder / name).exists():
            write_whole(draft / name, (shelf.folder / name).read_bytes(), private=True)
    if (places.state / "vault.db").exists():
        with closing(Vault(places.state, vault_key)) as old, closing(Vault(draft, vault_key)) as new:
            new.forget_again([*old.receipts(finished=True), *old.receipts(finished=False)])


def _move_aside(state: Path) -> Path:
    for number in range(1, 1_000):
        target = state.with_name(f"{state.name}.before-{number}")
        if not target.exists():
            state.rename(target)
            return target
    raise StateError(Fault("too_many_states", "a thousand states were moved aside", str(state.parent)))
