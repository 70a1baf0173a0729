"""Kept features are read again; a file that cannot be read is made anew."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from icekeel.core.frames import Frame
from icekeel.core.kinds import Column, Kind
from icekeel.training.cache import FeatureCache

COLUMNS = (Column("a", Kind.NUM), Column("b", Kind.CAT))


def test_what_is_kept_is_not_computed_again(tmp_path: Path) -> None:
    calls: list[int] = []
    assert values(tmp_path, calls) == values(tmp_path, calls) == ([1.0, 2.0], ["x", None])
    assert len(calls) == 1


@pytest.mark.parametrize("damage", [b"", b"PAR1 and nothing else"])
def test_a_damaged_file_is_computed_again_and_kept(tmp_path: Path, damage: bytes) -> None:
    calls: list[int] = []
    first = values(tmp_path, calls)
    (tmp_path / "key.parquet").write_bytes(damage)
    assert values(tmp_path, calls) == first == values(tmp_path, calls)
    assert len(calls) == 2


def values(folder: Path, calls: list[int]) -> tuple[list[float], list[str | None]]:
    def compute() -> Frame:
        calls.append(1)
        return Frame({"a": np.array([1.0, 2.0]), "b": np.array(["x", None], dtype=object)})

    frame = FeatureCache(folder).get("key", COLUMNS, compute)
    return frame["a"].tolist(), frame["b"].tolist()
