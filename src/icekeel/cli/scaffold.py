"""`icekeel init`: a new project that runs and tests itself as it is."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

from icekeel.core.errors import Fault, StateError
from icekeel.core.time import Clock, wall_clock
from icekeel.serving import Access
from icekeel.settings import load_settings

from .sample_data import write_sample_data

_FILES = ("icekeel.toml", ".gitignore", "README.md", "project.py")


def scaffold(folder: Path, say: Callable[[str], None], *, clock: Clock = wall_clock) -> str:
    """Writes a project into an empty or new folder and gives its admin token, which is kept nowhere.

    Args:
        folder: Where to.
        say: Told what was written and what to do next.
        clock: The generated data end now.

    Raises:
        StateError: there is something in the folder, or it cannot be written; nothing was changed.
    """
    try:
        _make_empty(folder)
        with tempfile.TemporaryDirectory(prefix=".init-", dir=folder) as draft:
            made = Path(draft)
            (made / "data").mkdir()
            write_sample_data(made / "data", clock())
            for name in _FILES:
                template = files("icekeel.cli") / "template" / f"{name.removeprefix('.')}.txt"
                (made / name).write_text(template.read_text(encoding="utf-8"), encoding="utf-8")
            for name in ("data", *_FILES):  # the project file last: with it the folder is a project
                os.replace(made / name, folder / name)
    except OSError as error:
        fault = Fault(
            "cannot_write", "the project cannot be written", str(folder), error.strerror or str(error)
        )
        raise StateError(fault) from error
    token = Access(folder / load_settings(folder).state / "tokens.json").create("admin", ("admin",))
    say(f"wrote {', '.join(_FILES)} and data/ to {folder}")
    say(f"next: cd {folder} && icekeel check && icekeel ingest && icekeel train minutes && icekeel up")
    return token


def _make_empty(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    found = sorted(path.name for path in folder.iterdir() if path.name != ".git")
    if found:
        hint = "name a new folder: icekeel init my-project"
        raise StateError(
            Fault("not_empty", "the folder is not empty", str(folder), ", ".join(found[:3]), hint=hint)
        )
