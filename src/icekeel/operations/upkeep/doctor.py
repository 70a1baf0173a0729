"""What is wrong with an installation, asked at three in the morning: every part is looked at, whatever the others are.

Nothing is changed here, and nothing need run. A part that cannot be looked at, since one below it is broken, says so.
"""

from __future__ import annotations

import errno
import logging
import shutil
import sqlite3
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import lmdb

from icekeel.core.errors import IcekeelError
from icekeel.core.files import alone
from icekeel.core.ids import file_digest
from icekeel.core.time import DAY, MINUTE, SECOND, format_second, roughly
from icekeel.data import History
from icekeel.data.vault import Vault
from icekeel.define import Project
from icekeel.features.freshness import TableAge
from icekeel.features.live import State, StateCell
from icekeel.features.online.extent import Extent
from icekeel.features.online.lmdb import open_environment
from icekeel.journal.reader import verify
from icekeel.journal.segments import segment_sizes, started_at
from icekeel.operations.ledger import as_known
from icekeel.registry import CHAMPION, Registry, read
from icekeel.serving import Access
from icekeel.settings import Places, Settings

from .backup import Shelf, check, unfinished

BAD_FREE, WARN_FREE = 256 << 20, 2 << 30
"""Bytes of the disk that are left."""
LAG = 10 * SECOND
FAILED_FOR = 7 * DAY
BACKUP_AGE = 2 * DAY
ANSWER_S = 3.0
Verdict = Literal["ok", "warn", "bad"]
BROKEN: dict[str, Verdict] = {"failed": "bad", "killed": "warn"}
"""How a run may have ended that is named."""
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Check:
    """One part: how it is, what was found, and what to do."""

    part: str
    verdict: Verdict
    found: str
    todo: str = ""


@dataclass(frozen=True, slots=True)
class Patient:
    """What is looked at.

    Attributes:
        folder: Of the project.
        project: Its definitions; gives the error where the file cannot be read.
        ages: How old the rows of its tables are.
        now: Microseconds UTC.
        deep: Read every file of history and of the latest backup, and compare its digest.
    """

    folder: Path
    settings: Settings
    places: Places
    project: Callable[[], Project]
    ages: Callable[[], list[TableAge]]
    now: int
    deep: bool


def examine(patient: Patient) -> list[Check]:
    """Every part; what one lacks does not keep the next from being looked at."""
    seen: list[Check] = []
    for part, look in PARTS.items():
        if part in REGISTERED and not patient.places.registry.exists():
            seen.append(Check(part, "warn", "nothing is registered yet", "icekeel train MODEL"))
            continue
        try:
            seen.append(look(part, patient))
        except IcekeelError as error:
            found = "; ".join(str(replace(fault, hint="")) for fault in error.faults)
            known = next((before.part for before in seen if before.found == found), None)
            todo = "; ".join(dict.fromkeys(fault.hint for fault in error.faults if fault.hint))
            seen.append(Check(part, "bad", f"see {known}" if known else found, "" if known else todo))
        except (OSError, lmdb.Error, sqlite3.Error) as error:
            seen.append(Check(part, "bad", f"it cannot be read: {error}"))
        except Exception as error:  # what looks at broken things meets what nobody thought of
            log.error("check_failed", exc_info=error, extra={"part": part})
            seen.append(Check(part, "bad", f"{type(error).__name__}: {error}"))
    return seen


def _project(part: str, patient: Patient) -> Check:
    project = patient.project()
    return Check(part, "ok", f"{len(project.models)} models, {len(project.tables)} tables")


def _disk(part: str, patient: Patient) -> Check:
    place = patient.places.state if patient.places.state.exists() else patient.folder
    free = shutil.disk_usage(place).free
    verdict: Verdict = "bad" if free < BAD_FREE else "warn" if free < WARN_FREE else "ok"
    todo = "" if verdict == "ok" else "free space, or move the state to a larger disk"
    return Check(part, verdict, f"{free / 1e9:,.1f} GB free", todo)


def _files(part: str, patient: Patient) -> Check:
    """Whether others can read what is its owner's alone."""
    state = patient.places.state
    if not state.exists():
        return Check(part, "warn", "nothing is stored yet", "icekeel ingest takes the declared sources")
    alone = [state, patient.places.tokens, *state.glob("vault.*")]
    open_ = [path.name for path in alone if path.exists() and path.stat().st_mode & 0o077]
    if open_:
        todo = (
            f"chmod go= {' '.join(str(state / name) if name != state.name else str(state) for name in open_)}"
        )
        return Check(part, "bad", f"others may read {', '.join(open_)}", todo)
    return Check(part, "ok", "its owner's alone")


def _clock(part: str, patient: Patient) -> Check:
    """Whether the machine's time has stepped back behind what was written."""
    newest = max(map(started_at, segment_sizes(patient.places.journal)), default=0)
    ahead = newest - patient.now
    if ahead > MINUTE and not patient.settings.rehearsal:
        todo = "set the machine's time: until then new answers seem to come before old ones"
        return Check(part, "bad", f"the journal is {roughly(ahead)} ahead of the clock", todo)
    return Check(part, "ok", format_second(patient.now))


def _journal(part: str, patient: Patient) -> Check:
    sizes = segment_sizes(patient.places.journal)
    records = verify(patient.places.journal)
    return Check(
        part, "ok", f"{records:,} records in {len(sizes)} segments, {sum(sizes.values()) / 1e6:,.1f} MB"
    )


def _history(part: str, patient: Patient) -> Check:
    history = History(patient.places.history)
    kept = history.everything(history.manifest())
    paths = [history.folder / table / file.name for table, files in kept.items() for file in files]
    gone = [path for path in paths if not path.is_file()]
    changed = (
        [path for path in paths if path not in gone and file_digest(path) != path.stem]
        if patient.deep
        else []
    )
    if bad := [*gone, *changed]:
        names = ", ".join(str(path.relative_to(history.folder)) for path in bad[:5])
        return Check(part, "bad", f"{len(bad)} files missing or changed: {names}", "icekeel restore FOLDER")
    looked = "every byte read" if patient.deep else "their bytes not read: --deep reads them"
    return Check(part, "ok", f"{len(paths)} files, {looked}")


def _registry(part: str, patient: Patient) -> Check:
    """Its file, and every bundle that it names."""
    if not patient.places.registry.exists():
        return Check(part, "warn", "no version yet", "icekeel train MODEL")
    with closing(sqlite3.connect(f"file:{patient.places.registry}?mode=ro", uri=True)) as connection:
        (said,) = connection.execute("PRAGMA quick_check").fetchone()
    if said != "ok":
        return Check(part, "bad", f"the registry is damaged: {said}", "icekeel restore FOLDER")
    with closing(_opened(patient)) as registry:
        versions = registry.versions()
        for version in versions:
            read(patient.places.bundles, version.digest)
    return Check(part, "ok", f"{len(versions)} versions, every byte of their bundles as registered")


def _champions(part: str, patient: Patient) -> Check:
    with closing(_opened(patient)) as registry:
        serving = {name: registry.aliases(name).get(CHAMPION) for name in patient.project().models}
    if without := [name for name, alias in serving.items() if alias is None]:
        return Check(part, "warn", f"no version serves {', '.join(without)}", f"icekeel train {without[0]}")
    return Check(part, "ok", ", ".join(alias.version for alias in serving.values() if alias is not None))


def _online(part: str, patient: Patient) -> Check:
    if not (patient.places.online / "data.mdb").exists():
        return Check(part, "warn", "there is none for these definitions", "icekeel up: the keeper makes it")
    Extent(patient.places.online).check()
    state = _state(patient)
    return Check(part, "ok", f"knows events up to {format_second(state.known_until)}")


def _keeper(part: str, patient: Patient) -> Check:
    todo = f"icekeel up --project {patient.folder}"
    if not (patient.places.state / "keep.lock").exists():
        return Check(part, "warn", "it has never run", todo)
    with alone(patient.places.state / "keep.lock") as free:
        if free:
            return Check(part, "warn", "it does not run: nothing is projected, watched or trained", todo)
    state = _state(patient)
    behind = max(0, patient.now - state.seen)
    if state.seen and behind > LAG:
        found = f"it is {roughly(behind)} behind"
        return Check(part, "warn", found, "wait, or look at its log: answers use features of before")
    return Check(part, "ok", "it runs and is up to date")


def _server(part: str, patient: Patient) -> Check:
    host = patient.settings.host
    address = f"http://{f'[{host}]' if ':' in host else host}:{patient.settings.port}"
    direct = urllib.request.build_opener(
        urllib.request.ProxyHandler({})
    )  # a proxy knows nothing of this machine
    try:
        with direct.open(f"{address}/readyz", timeout=ANSWER_S):
            return Check(part, "ok", f"{address} is ready")
    except urllib.error.HTTPError as error:
        why = error.read(500).decode(errors="replace")
        return Check(part, "bad", f"{address} answers {error.code}: {why}", "see champion, keeper and online")
    except (OSError, urllib.error.URLError) as error:
        reason = getattr(error, "reason", error)
        refused = isinstance(reason, OSError) and reason.errno == errno.ECONNREFUSED
        found = f"nothing listens at {address}" if refused else f"{address} does not answer: {reason}"
        return Check(part, "warn", found, f"icekeel up --project {patient.folder}")


def _tokens(part: str, patient: Patient) -> Check:
    if not patient.settings.auth:
        here = patient.settings.host in ("127.0.0.1", "::1", "localhost")
        found = "requests need no token" + ("" if here else ", and the server listens beyond this machine")
        return Check(part, "warn" if here else "bad", found, "set auth = true")
    known = Access(patient.places.tokens).named()
    if not known:
        return Check(part, "warn", "nobody has a token", "icekeel token NAME --scope predict")
    return Check(part, "ok", ", ".join(known))


def _vault(part: str, patient: Patient) -> Check:
    if not (patient.places.state / "vault.db").exists():
        return Check(part, "ok", "nothing is private")
    with closing(Vault(patient.places.state, patient.settings.vault_key)) as vault:
        unfinished = len(vault.receipts(finished=False))
    if unfinished:
        return Check(
            part, "warn", f"{unfinished} receipts are unfinished", "icekeel forget ENTITY=VALUE again"
        )
    return Check(part, "ok", "it opens with its key")


def _freshness(part: str, patient: Patient) -> Check:
    ages = patient.ages()
    stale = [age.table for age in ages if age.state == "error"]
    old = [age.table for age in ages if age.state == "warn"]
    if stale or old:
        names = ", ".join([*stale, *old])
        return Check(part, "bad" if stale else "warn", f"too old: {names}", "icekeel freshness tells more")
    return Check(part, "ok", f"{len(ages)} tables as fresh as they must be")


def _runs(part: str, patient: Patient) -> Check:
    with closing(_opened(patient)) as registry:
        late = [run for run in registry.runs() if run.started_at >= patient.now - FAILED_FOR]
    late = as_known(late, patient.places.runs)
    last = {(run.kind, str(run.details.get("model", ""))): run for run in late}
    for status, verdict in BROKEN.items():
        broken = [f"{kind} {model}".strip() for (kind, model), run in last.items() if run.status == status]
        if broken:
            found = f"{status} when last tried: {', '.join(broken)}"
            return Check(part, verdict, found, "icekeel runs tells why")
    return Check(part, "ok", f"{len(late)} in the last week")


def _alerts(part: str, patient: Patient) -> Check:
    with closing(_opened(patient)) as registry:
        known = registry.alerts(open_only=True)
    if known:
        causes = ", ".join(f"{one.model}: {one.cause}" for one in known[:5])
        return Check(part, "warn", f"{len(known)} open: {causes}", known[0].todo)
    return Check(part, "ok", "none is open")


def _backup(part: str, patient: Patient) -> Check:
    latest = _latest_backup(part, patient)
    if not (left := unfinished(patient.places.state)):
        return latest
    names = ", ".join(path.name for path in left)
    found = f"{latest.found}; a restore is under way, or was broken off before it changed anything: {names}"
    todo = "; ".join(filter(None, (latest.todo, "icekeel restore FOLDER again, or remove what it left")))
    return Check(part, "bad" if latest.verdict == "bad" else "warn", found, todo)


def _latest_backup(part: str, patient: Patient) -> Check:
    to = patient.settings.backup_to
    todo = "set backup_to and let icekeel up make them, or run icekeel backup --to FOLDER"
    if not to:
        return Check(part, "warn", "nobody said where backups go", todo)
    shelf = Shelf((patient.folder / to).resolve())
    listed = shelf.listed()
    if not listed:
        return Check(part, "warn", f"there is none in {shelf.folder}", todo)
    name, latest = listed[-1]
    if patient.deep and (bad := check(shelf, latest)):
        return Check(part, "bad", f"{len(bad)} files of {name} missing or changed", "icekeel backup")
    age = patient.now - latest.at
    found = f"the latest is {roughly(age)} old"
    return Check(part, "warn" if age > BACKUP_AGE else "ok", found, todo if age > BACKUP_AGE else "")


def _state(patient: Patient) -> State:
    with open_environment(patient.places.online, readonly=True) as online:
        cell = StateCell(online)
        with online.begin() as txn:
            return cell.read(txn)


def _opened(patient: Patient) -> Registry:
    return Registry(patient.places.registry, clock=lambda: patient.now)


PARTS: dict[str, Callable[[str, Patient], Check]] = {
    "project": _project,
    "disk": _disk,
    "files": _files,
    "clock": _clock,
    "journal": _journal,
    "history": _history,
    "registry": _registry,
    "champions": _champions,
    "online": _online,
    "keeper": _keeper,
    "server": _server,
    "tokens": _tokens,
    "vault": _vault,
    "freshness": _freshness,
    "runs": _runs,
    "alerts": _alerts,
    "backup": _backup,
}
REGISTERED = ("champions", "runs", "alerts")
"""Parts that the registry knows of; to look at them must not make one."""
