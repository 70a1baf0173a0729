"""A new project, taken through its first commands once; and a way to call the command line in this process."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest

from icekeel.app import App
from icekeel.cli.main import main
from icekeel.cli.scaffold import scaffold
from icekeel.core.time import parse_time
from icekeel.testing.small import train_once

NOW = parse_time("2025-03-05T15:00:00Z")


@dataclass(frozen=True)
class Said:
    """What a command left: its exit status and its two outputs."""

    status: object
    out: str
    err: str

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.out)


Call = Callable[..., Said]


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    def run(*arguments: object) -> Said:
        monkeypatch.setattr(sys, "argv", ["icekeel", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as done:
            main()
        out, err = capsys.readouterr()
        return Said(done.value.code, out, err)

    return run


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A scaffolded project whose files were taken in and whose model was trained."""
    folder = tmp_path_factory.mktemp("projects") / "shop"
    scaffold(folder, lambda text: None, clock=lambda: NOW)
    app = App(folder, clock=lambda: NOW)
    app.ingest([])
    train_once(app, "minutes")
    return folder
