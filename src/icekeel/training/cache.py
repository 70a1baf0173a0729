"""Values of windows over past questions, computed once and kept.

What was known at a past moment does not change, unless files are taken in that say what was known then. So a window
over the questions of one month, a *part*, is computed again only if its definition, these questions or one of the
files that say something known before the last of them are other. Parts are files named by all that they follow from;
they may be deleted at any time, and what they hold is, to the last bit, what computing would give.
"""

from __future__ import annotations

import hashlib
import os
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from icekeel.core.files import write_whole
from icekeel.core.frames import Array, Frame, Ints
from icekeel.core.ids import digest
from icekeel.core.time import format_time
from icekeel.data import Manifest
from icekeel.define import EventTable
from icekeel.define.features import Feature
from icekeel.define.nodes import RequestField, Windowed, shallow, walk
from icekeel.features.events import EventStore
from icekeel.features.offline import evaluate, window_values
from icekeel.features.plan import Plan, make_plan

NEW = "new window"
FORMAT = 1
"""Goes up when the same definition gives other values."""
_DAMAGE = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, msgspec.MsgspecError)


@dataclass(frozen=True, slots=True)
class Part:
    """One window over the questions of one month.

    Attributes:
        file: What holds the values once they are computed: month, window, questions and events in its name.
        why: Why it is not there; empty where it is.
    """

    window: Windowed
    rows: Ints
    file: Path
    why: str


@dataclass(frozen=True, slots=True)
class Work:
    """What training would do about one feature.

    Attributes:
        compute: Questions for which a window of it would be computed.
        kept: All others.
        why: Why they would, or would not.
    """

    compute: int
    kept: int
    why: tuple[str, ...]


class _Seen(msgspec.Struct):
    """What there was when features were last computed: definitions by feature, files by table."""

    features: dict[str, str] = {}
    files: dict[str, list[str]] = {}


class FeatureCache:
    """The parts of one model's features over some questions."""

    def __init__(
        self,
        folder: Path,
        plan: Plan,
        tables: Mapping[str, EventTable],
        manifest: Manifest,
        requests: Frame,
        asked_at: Ints,
    ) -> None:
        self._folder = folder
        self._plan = plan
        self._requests = requests
        self._asked_at = asked_at
        self._files = {
            window.keyed.table: list(manifest.origins(window.keyed.table)) for window in plan.windows
        }
        self._seen = self._read_seen()
        self._digests = {
            window: _digest((FORMAT, window, tables[window.keyed.table].time, tables[window.keyed.table].id))
            for window in plan.windows
        }
        self._months = asked_at.astype("datetime64[us]").astype("datetime64[M]")
        self.parts = self._find_parts()

    def _find_parts(self) -> list[Part]:
        held = {path.name for path in self._folder.glob("*.npz")}
        known = {name.split("_")[1] for name in held}
        parts = []
        questions: dict[tuple[str, ...], str] = {}
        for month in np.unique(self._months):
            rows = np.flatnonzero(self._months == month)
            last = int(self._asked_at[rows].max())
            questions.clear()
            for window, name in self._digests.items():
                fields = tuple(sorted({node.name for node in walk(window) if isinstance(node, RequestField)}))
                if fields not in questions:
                    questions[fields] = _digest_rows(
                        [self._asked_at, *map(self._requests.__getitem__, fields)], rows
                    )
                files = self._files[window.keyed.table]
                events = _digest(sorted(file.name for file in files if file.known_from <= last))
                begin = f"{month}_{name}_"
                file = f"{begin}{questions[fields]}_{events}.npz"
                why = (
                    ""
                    if file in held
                    else self._why(window, name in known, f"{begin}{questions[fields]}", held)
                )
                parts.append(Part(window, rows, self._folder / file, why))
        return parts

    def _why(self, window: Windowed, known: bool, asked: str, held: Iterable[str]) -> str:
        if not known:
            return NEW
        if not any(name.startswith(asked) for name in held):
            return "new questions"
        before = self._seen.files.get(window.keyed.table, [])
        since = min(
            (file.known_from for file in self._files[window.keyed.table] if file.name not in before),
            default=0,
        )
        table = window.keyed.table
        return f"new events in {table} since {format_time(since)}" if since > 0 else f"new events in {table}"

    def work(self, feature: Feature) -> Work:
        """What is to be computed of a feature, and why."""
        windows = {node for node in shallow(feature.node) if isinstance(node, Windowed)}
        if not windows:
            return Work(len(self._asked_at), 0, ("reads no events: never kept",))
        wanted = [part for part in self.parts if part.window in windows and part.why]
        rows = np.unique(np.concatenate([np.zeros(0, dtype=np.int64), *(part.rows for part in wanted)]))
        before = self._seen.features.get(feature.name)
        fresh = "new" if before is None else "not kept" if before == feature.digest else "changed definition"
        why = dict.fromkeys(fresh if part.why == NEW else part.why for part in wanted)
        return Work(len(rows), len(self._asked_at) - len(rows), tuple(why) or ("unchanged",))

    def features(self, store: EventStore) -> Frame:
        """The features of each question, as `historical_features` gives them; what is not kept is computed and kept."""
        slots = {
            window: np.full(len(self._asked_at), None if window.kind.is_text else np.nan)
            for window in self._plan.slots
        }
        missing: dict[Windowed, list[Part]] = {}
        for part in self.parts:
            values = None if part.why else _load(part)
            if values is None:
                missing.setdefault(part.window, []).append(part)
            else:
                slots[part.window][part.rows] = values
        alike: dict[tuple[str, ...], list[Windowed]] = {}
        for window, parts in missing.items():
            alike.setdefault(tuple(part.file.name[:7] for part in parts), []).append(window)
        for windows in alike.values():
            self._compute(windows, missing, slots, store)
        self._tidy()
        return evaluate(self._plan, self._requests, self._asked_at, list(slots.values()), store.connection)

    def _compute(
        self,
        windows: Sequence[Windowed],
        missing: Mapping[Windowed, Sequence[Part]],
        slots: Mapping[Windowed, Array],
        store: EventStore,
    ) -> None:
        """Windows of which the same months are missing, with one reading of the events."""
        rows = np.sort(np.concatenate([part.rows for part in missing[windows[0]]]))
        plan = make_plan(self._plan.fields, [Feature(str(at), window) for at, window in enumerate(windows)])
        requests, asked_at = self._requests.take(rows), self._asked_at[rows]
        months = self._months[rows].astype(np.int64)
        values = [
            array
            for lookup in plan.lookups
            for array in window_values(plan, lookup, requests, asked_at, store, months)
        ]
        for window in windows:
            slots[window][rows] = values[plan.slots[window]]
            for part in missing[window]:
                _save(part, slots[window][part.rows])

    def _tidy(self) -> None:
        """Delete what no definition or question needs any more, and note what there was."""
        self._folder.mkdir(parents=True, exist_ok=True)
        used = {part.file.name for part in self.parts}
        asked = {name[:7] for name in used}
        for path in self._folder.glob("*.npz"):
            month, window, *_ = path.name.split("_")
            if window not in self._digests.values() or (month in asked and path.name not in used):
                path.unlink(missing_ok=True)
        files = {table: [file.name for file in files] for table, files in self._files.items()}
        write_whole(self._folder / "seen.json", msgspec.json.encode(_Seen(self._plan.definitions, files)))

    def _read_seen(self) -> _Seen:
        try:
            return msgspec.json.decode((self._folder / "seen.json").read_bytes(), type=_Seen)
        except _DAMAGE:
            return _Seen()


def _digest(value: object) -> str:
    return digest(repr(value).encode())[:16]


def _digest_rows(columns: Sequence[Array], rows: Ints) -> str:
    state = hashlib.blake2b(digest_size=8)
    for column in columns:
        values = column[rows]
        state.update(repr(values.tolist()).encode() if values.dtype == object else values.tobytes())
    return state.hexdigest()


def _load(part: Part) -> Array | None:
    try:
        with np.load(part.file, allow_pickle=False) as kept:
            values: Array = kept["values"]
            texts = kept.get("texts")
            if len(values) != len(part.rows):
                return None
            if texts is None:
                return values
            named = msgspec.json.decode(texts.tobytes(), type=list[str])
            return np.asarray(np.array([*named, None], dtype=object)[values])
    except _DAMAGE:
        return None  # as after a power cut: it is computed again


def _save(part: Part, values: Array) -> None:
    arrays = {"values": values}
    if values.dtype == object:
        texts = sorted({text for text in values if text is not None})
        places = {text: at for at, text in enumerate(texts)} | {None: -1}
        codes = np.array([places[text] for text in values], dtype=np.int64)
        arrays = {"values": codes, "texts": np.frombuffer(msgspec.json.encode(texts), dtype=np.uint8)}
    part.file.parent.mkdir(parents=True, exist_ok=True)
    draft = part.file.with_suffix(f".{os.getpid()}")
    with draft.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)
    os.replace(draft, part.file)
