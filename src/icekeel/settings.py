"""Settings of one installation: flag before environment before `icekeel.toml` before default; and where it keeps what."""

from __future__ import annotations

import math
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from icekeel.core.errors import Fault, IcekeelError, SettingsError, nearest, without_passwords, without_path
from icekeel.core.time import FOREVER, parse_duration

SETTINGS_FILE = "icekeel.toml"
_PREFIX = "ICEKEEL_"
FOR_EVER = "forever"
_ADDRESS = re.compile(r"[a-zA-Z][\w+.-]*://.")
NEVER = "never"
_DURATIONS = {
    **dict.fromkeys(("keep_journal", "keep_answers", "keep_snapshots"), FOR_EVER),
    **dict.fromkeys(("ingest_every", "audit_every", "backup_every"), NEVER),
    **dict.fromkeys(("longest_ingest", "longest_run"), "12h"),
}
"""Settings that are durations, with another value that each may have."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that may differ between two installations of the same project.

    Attributes:
        host: Address the server listens on; loopback unless told.
        port: Its port; 0 takes a free one.
        workers: Serving processes.
        threads: Threads of training; more than one pays only on a machine with nothing else to do.
        core_hour: Dollars that an hour of one core costs: what `icekeel worth` reckons with.
        state: Folder of all that Icekeel keeps, relative to the project.
        auth: Whether HTTP requests need a token.
        largest_body: Bytes of a request's body that are read at the most.
        rehearsal: Whether callers may set the clock: only for replaying history.
        keep_journal: How long a segment of the journal is kept after its last record, once it is in history.
        keep_answers: How long answers are kept in history; `forever`, since trainings learn from them.
        keep_snapshots: How long a snapshot is kept that no registered version learnt from.
        backup_to: Folder of the backups, relative to the project; best on another disk. Empty: there are none.
        keep_backups: How many of them stay.
        mlflow: Address of an MLflow that follows the registry, as `http://127.0.0.1:5000`; empty for none.
        ingest_every: How often the declared sources are taken in; `never` where that is done by hand.
        audit_every: How often each model that serves is audited; what blocks then blocks its scheduled training too.
        backup_every: How often a back-up is made, where `backup_to` says where.
        longest_ingest: How long an ingestion may take before it is ended.
        longest_run: The same of trainings, audits, back-ups and all else that is run beside the keeper.
        notify: Whom alerts are told: addresses of webhooks (`https://...`) and URLs of Apprise, a list or parted by
            spaces; `${NAME}` in one stands for a variable of the environment, where its secrets belong.
        notify_key: Key that webhooks are signed with, from the environment alone: it is a secret.
        vault_key: Key of the pseudonyms of private fields, from the environment alone: it is a secret. Where it is not
            given, the state folder holds one.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    workers: int = 1
    threads: int = 1
    core_hour: float = 0.05
    state: str = ".icekeel"
    auth: bool = True
    largest_body: int = 1_000_000
    rehearsal: bool = False
    keep_journal: str = "30d"
    keep_answers: str = FOR_EVER
    keep_snapshots: str = "30d"
    backup_to: str = ""
    keep_backups: int = 7
    mlflow: str = ""
    ingest_every: str = "15m"
    audit_every: str = "1w"
    backup_every: str = "1d"
    longest_ingest: str = "1h"
    longest_run: str = "12h"
    notify: str = field(default="", repr=False)
    notify_key: str = field(default="", repr=False)
    vault_key: str = field(default="", repr=False)


SECRET = frozenset({"vault_key", "notify_key"})
"""Settings whose values are never shown, nor taken from a file or a command line."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting and where its value comes from: `flag`, `environment`, `icekeel.toml` or `default`."""

    name: str
    value: object
    source: str

    @property
    def shown(self) -> object:
        """The value as it may be shown."""
        if self.name in SECRET and self.value:
            return "(secret)"
        if self.name == "notify":
            return " ".join(map(without_path, str(self.value).split()))
        return without_passwords(self.value) if isinstance(self.value, str) else self.value


def read_settings(
    folder: Path, flags: Mapping[str, Any] | None = None, environment: Mapping[str, str] | None = None
) -> list[Setting]:
    """Every setting with its source.

    Raises:
        SettingsError: unknown names and values of the wrong type, all at once.
    """
    faults: list[Fault] = []
    known = {one.name: type(one.default) for one in fields(Settings)}
    layers = [
        ("flag", {name: value for name, value in (flags or {}).items() if value is not None}),
        ("environment", _from_environment(os.environ if environment is None else environment)),
        (SETTINGS_FILE, _from_file(folder / SETTINGS_FILE)),
    ]
    found: dict[str, Setting] = {}
    for source, values in layers:
        for name, raw in values.items():
            if name not in known:
                hint = nearest(name, known)
                faults.append(
                    Fault("unknown_setting", f'unknown setting "{name}"', source, "", ", ".join(known), hint)
                )
                continue
            if name in SECRET and source != "environment":
                what, hint = f'"{name}" is a secret', f"set {_PREFIX}{name.upper()} in the environment"
                faults.append(Fault("secret_setting", what, source, hint=hint))
                continue
            value = _converted(raw, known[name])
            got = "" if name in SECRET or name == "notify" else repr(raw)
            if wrong := _wrong(name, value, known[name], source, got):
                faults.append(wrong)
            else:
                found.setdefault(name, Setting(name, value, source))
    if faults:
        raise SettingsError(*faults)
    return [found.get(one.name, Setting(one.name, one.default, "default")) for one in fields(Settings)]


def _wrong(name: str, value: object, kind: type, source: str, got: str) -> Fault | None:
    """What is wrong with a value that was converted; None where nothing is."""
    if name in _DURATIONS and not is_duration(value, _DURATIONS[name]):
        what, allowed = f'"{name}" is no duration', f'"30d", "{_DURATIONS[name]}"'
        return Fault("bad_setting", what, source, got, allowed)
    if name == "core_hour" and not (isinstance(value, float) and 0 <= value < math.inf):
        return Fault("bad_setting", '"core_hour" is no price', source, got, "dollars, 0 or more")
    if name == "keep_backups" and not (isinstance(value, int) and value > 0):
        return Fault("bad_setting", '"keep_backups" is no number of backups', source, got, "1 or more")
    if value is None:
        return Fault(
            "bad_setting", f'"{name}" has the wrong type', source, got, f"a value of type {kind.__name__}"
        )
    if name == "notify" and not all(map(_is_address, str(value).split())):
        allowed = "https://..., mailto://..., slack://..."
        hint = "in a password write / as %2F, ? as %3F, # as %23, @ as %40"
        return Fault("bad_setting", '"notify" holds what is no address', source, "", allowed, hint)
    return None


def _is_address(text: str) -> bool:
    """Whether something can be told there; what a variable of the environment holds is known only then."""
    if not _ADDRESS.match(text):
        return False
    try:
        parts = urlsplit(text)
        web = parts.scheme in ("http", "https") and "${" not in text
        return not web or (bool(parts.hostname) and parts.port != 0)
    except ValueError:  # a port that is no number, as where a password has a slash
        return False


def load_settings(folder: Path, flags: Mapping[str, Any] | None = None) -> Settings:
    """The settings in force for a project.

    Raises:
        SettingsError: as `read_settings`.
    """
    return Settings(**{setting.name: setting.value for setting in read_settings(folder, flags)})  # type: ignore[arg-type]


def _from_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    return {
        name[len(_PREFIX) :].lower(): value for name, value in environment.items() if name.startswith(_PREFIX)
    }


def _from_file(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(Fault("bad_toml", str(error), str(path))) from error
    if isinstance(addresses := values.get("notify"), list):
        values["notify"] = " ".join(map(str, addresses))
    return values


def is_duration(value: object, word: str = FOR_EVER) -> bool:
    """Whether a value says how long something is, or is the word that stands beside durations."""
    try:
        return isinstance(value, str) and (value == word or parse_duration(value) > 0)
    except IcekeelError:
        return False


def lasting(text: str) -> int:
    """Microseconds of a duration, or `FOREVER`."""
    return FOREVER if text == FOR_EVER else parse_duration(text)


def pace(text: str) -> int:
    """Microseconds from one time to the next; 0 for never."""
    return 0 if text == NEVER else parse_duration(text)


def _converted(raw: object, kind: type) -> object:
    if isinstance(raw, kind) and not (kind is int and isinstance(raw, bool)):
        return raw
    if isinstance(raw, str) and kind is bool:
        return {"true": True, "1": True, "false": False, "0": False}.get(raw.lower())
    if isinstance(raw, str) and kind is int and raw.lstrip("-").isdigit():
        return int(raw)
    if kind is float and isinstance(raw, str | int) and not isinstance(raw, bool):
        try:
            return float(raw)
        except ValueError:
            return None
    return None


@dataclass(frozen=True, slots=True)
class Places:
    """Where a project keeps what.

    Attributes:
        state: Folder of everything.
        views: Digest of the windows that are kept online.
    """

    state: Path
    views: str = ""

    def make(self) -> None:
        """Make the folder, for its owner alone, where there is none."""
        self.state.mkdir(parents=True, exist_ok=True, mode=0o700)

    def ask_anew(self, damage: str = "") -> None:
        """Have the keeper make all projections anew, now or when it next starts.

        Args:
            damage: What is wrong with those that there are, where that is why: of that there will be an alert.
        """
        self.make()
        with self.rebuild.open("a", encoding="utf-8") as file:
            file.write("" if file.tell() else damage)  # what was said first

    @property
    def journal(self) -> Path:
        """Segments of the journal."""
        return self.state / "journal"

    @property
    def history(self) -> Path:
        """Parquet files and their manifest."""
        return self.state / "history"

    @property
    def online(self) -> Path:
        """The LMDB environment of all projections; other windows find none here and have it made."""
        return self.state / "online" / self.views

    @property
    def rebuild(self) -> Path:
        """There while the projections are to be made anew."""
        return self.state / "rebuild"

    @property
    def runs(self) -> Path:
        """Locks of what runs beside the keeper, and what that says."""
        return self.state / "runs"

    @property
    def bundles(self) -> Path:
        """One folder per bundle."""
        return self.state / "bundles"

    @property
    def pages(self) -> Path:
        """Pages about models."""
        return self.state / "pages"

    @property
    def registry(self) -> Path:
        """The registry's SQLite file."""
        return self.state / "registry.db"

    @property
    def tokens(self) -> Path:
        """Hashes of the access tokens."""
        return self.state / "tokens.json"
