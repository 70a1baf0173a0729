"""A version is loaded whole, or refused."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

from icekeel.app import App
from icekeel.core.errors import BundleError
from icekeel.engines.loading import ENGINE_FILE
from icekeel.engines.similar import SIMILAR_FILE
from icekeel.registry import GUARD_FILE, Version, read, write
from icekeel.serving import load_version
from icekeel.testing.small import TRAINED_TO, train_small, write_small_project


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[App, Version]:
    folder = tmp_path_factory.mktemp("versions")
    write_small_project(folder)
    version = train_small(folder, rung="lightgbm")
    return App(folder, clock=lambda: TRAINED_TO), version


@pytest.fixture
def folder(made: tuple[App, Version]) -> Iterator[Path]:
    """The bundle's folder, as it was again afterwards."""
    app, version = made
    found = app.places.bundles / version.digest[:16]
    before = {path: path.read_bytes() for path in found.iterdir()}
    yield found
    for path, data in before.items():
        path.write_bytes(data)


def test_a_changed_byte_of_any_file_is_refused_and_named(made: tuple[App, Version], folder: Path) -> None:
    app, version = made
    rng = np.random.default_rng(1)
    files = sorted(folder.iterdir())
    assert {ENGINE_FILE, "model.txt", "golden.json", GUARD_FILE, SIMILAR_FILE, "manifest.json"} <= {
        path.name for path in files
    }
    for path in files:
        whole = path.read_bytes()
        flipped = [
            whole[:at] + bytes([whole[at] ^ 1 << int(rng.integers(8))]) + whole[at + 1 :]
            for at in [0, len(whole) - 1, *rng.integers(len(whole), size=6).tolist()]
        ]
        for damaged in (*flipped, whole[:-1], whole + b" ", b""):
            path.write_bytes(damaged)
            with pytest.raises(BundleError) as raised:
                read(app.places.bundles, version.digest)
            (fault,) = raised.value.faults
            assert (fault.code, fault.where) == ("changed", str(path)) and "roll back" in fault.hint
            if path.name == SIMILAR_FILE:  # read when it is first needed: requests are answered without it
                loaded = load_version(version, app.places.bundles, app.plans["late"])
                assert loaded.similar.get() is None
            else:
                with pytest.raises(BundleError):
                    load_version(version, app.places.bundles, app.plans["late"])
        path.write_bytes(whole)
    assert load_version(version, app.places.bundles, app.plans["late"]).similar.get() is not None


def test_an_engine_that_answers_otherwise_than_its_golden_rows_is_refused(made: tuple[App, Version]) -> None:
    app, version = made
    bundle = read(app.places.bundles, version.digest)
    spec = msgspec.json.decode(bundle.files[ENGINE_FILE])
    spec["fills"] = {}  # nulls then count otherwise
    other = write(
        app.places.bundles, {**bundle.files, ENGINE_FILE: msgspec.json.encode(spec)}, dict(bundle.meta)
    )
    with pytest.raises(BundleError) as raised:
        load_version(replace(version, digest=other.digest), app.places.bundles, app.plans["late"])
    assert {fault.code for fault in raised.value.faults} == {"disagreement"}
