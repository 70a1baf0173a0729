"""The small project, trained once, and a copy of it for each test; modules that need another one say so by `made`."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from .shipping import temporary_project


@pytest.fixture(scope="session")
def shipping() -> Iterator[Path]:
    """To be copied, not to be written to."""
    with temporary_project() as folder:
        yield folder


@pytest.fixture(scope="session")
def made(shipping: Path) -> Path:
    return shipping


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "small"))
