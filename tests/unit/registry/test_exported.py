from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pandas as pd
import pytest

from icekeel.app import App
from icekeel.core.errors import BundleError, RegistryError, RequestError
from icekeel.engines import Golden, load_engine
from icekeel.registry import Bundle, Version, read
from icekeel.registry.exported import BUNDLE, DIGEST, RECORD, export, load
from icekeel.testing.small import TRAINED_TO, train_small, write_small_project

ROWS = {
    "depot": ["north", None, "nowhere"],
    "service": ["express", "standard", None],
    "weight": [3.5, None, 1e9],
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Version, Bundle]:
    folder = tmp_path_factory.mktemp("projects") / "small"
    write_small_project(folder)
    version = train_small(folder, baseline=True, rung="lightgbm")
    return version, read(App(folder, clock=lambda: TRAINED_TO).places.bundles, version.digest)


def test_what_is_exported_predicts_the_same_bits(made: tuple[Version, Bundle], tmp_path: Path) -> None:
    version, bundle = made
    digest = export(version, bundle, tmp_path / "out", {"project.py": b"# as it was"})
    exported = load(tmp_path / "out", digest)
    assert [column.name for column in exported.columns] == ["depot", "service", "weight"]
    assert exported.record["name"] == "late-1"
    assert exported.record["definitions"]["weight"]["expression"] == "Parcel.weight"
    golden = msgspec.json.decode(bundle.files["golden.json"], type=Golden)
    expected = load_engine(bundle.files).predict_many(golden.frame())
    frame = pd.DataFrame(golden.frame().columns)
    assert exported.predict(frame).tolist() == expected.tolist()
    assert (
        exported.predict(frame[["weight", "service", "depot"]].assign(other=1)).tolist() == expected.tolist()
    )
    mapped = exported.predict(ROWS)
    assert exported.predict(pd.DataFrame(ROWS)).tolist() == mapped.tolist()
    assert exported.predict(pd.DataFrame(ROWS).convert_dtypes(), params={}).tolist() == mapped.tolist()
    assert np.isfinite(mapped).all()


def test_the_same_version_gives_the_same_folder(made: tuple[Version, Bundle], tmp_path: Path) -> None:
    digests = {export(*made, tmp_path / name, {}) for name in ("a", "b")}
    assert len(digests) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


@pytest.mark.parametrize("name", [RECORD, DIGEST, "project.py", "manifest.json", "engine.json", "model.txt"])
def test_a_changed_byte_is_refused(made: tuple[Version, Bundle], tmp_path: Path, name: str) -> None:
    digest = export(*made, tmp_path / "out", {"project.py": b"# as it was"})
    inside = tmp_path / "out" / BUNDLE / made[0].digest[:16]
    path = next(place / name for place in (tmp_path / "out", inside) if (place / name).exists())
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(BundleError) as caught:
        load(tmp_path / "out")
    assert caught.value.code in ("changed", "bad_export")
    path.unlink()
    with pytest.raises(BundleError):
        load(tmp_path / "out", digest)


def test_another_version_under_its_own_digest_is_not_the_one_asked_for(
    made: tuple[Version, Bundle], tmp_path: Path
) -> None:
    export(*made, tmp_path / "out", {})
    with pytest.raises(BundleError) as caught:
        load(tmp_path / "out", "0" * 64)
    assert caught.value.code == "changed"


def test_nothing_is_written_over(made: tuple[Version, Bundle], tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    for place in (tmp_path, tmp_path / "mine.txt"):
        with pytest.raises(RegistryError) as caught:
            export(*made, place, {})
        assert caught.value.code == "exists"
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize(
    ("change", "code", "where"),
    [
        ({"weight": ["heavy"] * 3}, "wrong_kind", "weight"),
        ({"weight": [1, 2, float("inf")]}, "wrong_kind", "weight"),
        ({"weight": [[1], [2], [3]]}, "wrong_kind", "weight"),
        ({"depot": [1, 2, 3]}, "wrong_kind", "depot"),
        ({"depot": None}, "missing_feature", "rows"),
    ],
)
def test_rows_that_do_not_fit_are_refused(
    made: tuple[Version, Bundle], tmp_path: Path, change: dict[str, Any], code: str, where: str
) -> None:
    export(*made, tmp_path / "out", {})
    rows = {name: values for name, values in {**ROWS, **change}.items() if values is not None}
    with pytest.raises(RequestError) as caught:
        load(tmp_path / "out").predict(rows)
    assert [(fault.code, fault.where) for fault in caught.value.faults] == [(code, where)]
