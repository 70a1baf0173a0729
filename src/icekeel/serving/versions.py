"""A version ready to answer: its bundle read, checked and turned into an engine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from icekeel.core.errors import BundleError, Fault
from icekeel.engines import GOLDEN_FILE, Engine, Interval, check_golden, load_engine
from icekeel.guard import Guard
from icekeel.registry import GUARD_FILE, INTERVAL_FILE, Contents, Version
from icekeel.registry import read as read_bundle


@dataclass(frozen=True, slots=True)
class LoadedVersion:
    """One version in memory.

    Attributes:
        places: Place of each feature the engine reads among the plan's features.
        guard, interval: None where the bundle has none.
    """

    name: str
    contents: Contents
    engine: Engine
    places: tuple[int, ...]
    guard: Guard | None
    interval: Interval | None


def load_version(version: Version, bundles: Path, definitions: Mapping[str, str]) -> LoadedVersion:
    """The version, after every check that can be made.

    Args:
        version: What the registry says of it, the bundle's digest above all.
        bundles: Folder of the bundles.
        definitions: Feature -> digest of the present definition, in the plan's order.

    Raises:
        BundleError: a byte was changed, the golden rows come out otherwise, or a feature is defined
            otherwise than when the version was trained.
    """
    bundle = read_bundle(bundles, version.digest)
    try:
        contents = msgspec.convert(bundle.meta, Contents)
        interval = _interval(bundle.files)
    except msgspec.MsgspecError as error:
        raise BundleError(Fault("bad_contents", str(error), version.name)) from error
    faults = [
        Fault(
            "other_definition",
            f'feature "{name}" is not defined as when {version.name} was trained',
            version.name,
            hint="train again, or restore the definition",
        )
        for name in contents.features
        if definitions.get(name) != contents.definitions.get(name)
    ]
    if faults:
        raise BundleError(*faults)
    engine = load_engine(bundle.files)
    check_golden(engine, bundle.files.get(GOLDEN_FILE, b""))
    order = list(definitions)
    guard = Guard.load(bundle.files[GUARD_FILE]) if GUARD_FILE in bundle.files else None
    places = tuple(order.index(column.name) for column in engine.columns)
    return LoadedVersion(version.name, contents, engine, places, guard, interval)


def _interval(files: Mapping[str, bytes]) -> Interval | None:
    return msgspec.json.decode(files[INTERVAL_FILE], type=Interval) if INTERVAL_FILE in files else None
