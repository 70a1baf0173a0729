"""A version ready to answer: its bundle read, checked and turned into an engine."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from icekeel.core.errors import BundleError, Fault
from icekeel.engines import GOLDEN_FILE, Engine, Interval, check_golden, frame_of, load_engine
from icekeel.engines.similar import SIMILAR, SIMILAR_FILE, SimilarCases
from icekeel.features.plan import Plan
from icekeel.guard import Guard
from icekeel.registry import GUARD_FILE, INTERVAL_FILE, Contents, Version
from icekeel.registry import read as read_bundle

log = logging.getLogger(__name__)


class Similar:
    """The similar cases of a version, read when they are first asked for: only flagged requests need them.

    Args:
        contents, bundles, digest: Where they lie, and what they were made from.
        definitions: Feature -> digest of the present definition, in the plan's order.
        cases: They themselves where the version's engine has read them.

    Attributes:
        places: Place of each feature that they are found by among the plan's features; once they are read.
    """

    def __init__(
        self,
        contents: Contents,
        bundles: Path,
        digest: str,
        definitions: Mapping[str, str],
        cases: SimilarCases | None = None,
    ) -> None:
        self._contents, self._bundles, self._digest = contents, bundles, digest
        self._definitions = definitions
        self._lock = threading.Lock()
        self._read = False
        self._cases = cases
        self.places: tuple[int, ...] = ()

    def get(self) -> SimilarCases | None:
        """The cases; None where they are damaged, or found by a feature that is defined otherwise today."""
        with self._lock:
            if not self._read:
                try:
                    self._cases = self._load()
                except (BundleError, OSError) as error:
                    self._cases = None
                    log.error("similar_cases_refused", extra={"why": str(error)})
                self._read = True
            return self._cases

    def _load(self) -> SimilarCases:
        cases = self._cases or SimilarCases.load(
            read_bundle(self._bundles, self._digest, only=[SIMILAR_FILE]).files
        )
        names = [column.name for column in cases.columns]
        check_definitions(names, self._contents, self._definitions, "similar cases")
        order = list(self._definitions)
        self.places = tuple(order.index(name) for name in names)
        return cases


@dataclass(frozen=True, slots=True)
class LoadedVersion:
    """One version in memory.

    Attributes:
        places: Place of each feature the engine reads among the plan's features.
        guard, interval: None where the bundle has none.
        guarded: Place of each column that the guard checks among the request's fields.
        similar: Past cases that requests can be likened to.
    """

    name: str
    contents: Contents
    engine: Engine
    places: tuple[int, ...]
    guard: Guard | None
    guarded: tuple[int, ...]
    interval: Interval | None
    similar: Similar

    def predict_one(self, values: Sequence[Any]) -> float:
        """What the model says to one request, given the features of the plan."""
        return self.engine.predict_one([values[place] for place in self.places])

    def predict_many(self, rows: Sequence[Sequence[Any]]) -> list[float]:
        """The same for several requests, bit for bit."""
        held = [[row[place] for place in self.places] for row in rows]
        if not self.places:
            return [self.engine.predict_one(row) for row in held]
        found: list[float] = self.engine.predict_many(frame_of(self.engine.columns, held)).tolist()
        return found


def load_version(version: Version, bundles: Path, plan: Plan) -> LoadedVersion:
    """The version, after every check that can be made.

    Args:
        version: What the registry says of it, the bundle's digest above all.
        bundles: Folder of the bundles.
        plan: The present features, and the fields of requests.

    Raises:
        BundleError: a byte was changed, the golden rows come out otherwise, a feature is defined otherwise than when
            the version was trained, or the guard reads a field that requests no longer have.
    """
    bundle = read_bundle(bundles, version.digest, but=[SIMILAR_FILE])
    try:
        contents = msgspec.convert(bundle.meta, Contents)
        stated = bundle.files.get(INTERVAL_FILE)
        interval = None if stated is None else msgspec.json.decode(stated, type=Interval)
    except msgspec.MsgspecError as error:
        raise BundleError(Fault("bad_contents", str(error), version.name)) from error
    definitions = plan.definitions
    check_definitions(contents.features, contents, definitions, version.name)
    files = dict(bundle.files)
    if contents.rung == SIMILAR:  # it answers with what others only fall back to
        files |= read_bundle(bundles, version.digest, only=[SIMILAR_FILE]).files
    engine = load_engine(files)
    check_golden(engine, bundle.files.get(GOLDEN_FILE, b""))
    order = list(definitions)
    guard = Guard.load(bundle.files[GUARD_FILE]) if GUARD_FILE in bundle.files else None
    guarded = _guarded(guard, [field.name for field in plan.fields])
    places = tuple(order.index(column.name) for column in engine.columns)
    cases = engine if isinstance(engine, SimilarCases) else None
    similar = Similar(contents, bundles, version.digest, definitions, cases)
    return LoadedVersion(version.name, contents, engine, places, guard, guarded, interval, similar)


def check_definitions(
    names: Sequence[str], contents: Contents, definitions: Mapping[str, str], where: str
) -> None:
    """Refuse features that are defined otherwise than when a version was trained.

    Raises:
        BundleError: one fault for each.
    """
    faults = [
        Fault(
            "other_definition",
            f'feature "{name}" is not defined as when {where} was trained',
            where,
            hint="train again, or restore the definition",
        )
        for name in names
        if definitions.get(name) is None or contents.definitions.get(name) != definitions[name]
    ]
    if faults:
        raise BundleError(*faults)


def _guarded(guard: Guard | None, fields: Sequence[str]) -> tuple[int, ...]:
    """Found by name: requests may have other fields than when the version was trained."""
    names = [column.name for column in guard.columns] if guard is not None else []
    hint = "train again, or restore the field"
    faults = [
        Fault("other_request", f'its guard reads "{name}", which requests no longer have', hint=hint)
        for name in names
        if name not in fields
    ]
    if faults:
        raise BundleError(*faults)
    return tuple(fields.index(name) for name in names)
