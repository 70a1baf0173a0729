"""What the commands share: their common options, and how a project is opened."""

from __future__ import annotations

import getpass
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from icekeel.core.errors import Fault, SettingsError, nearest
from icekeel.core.time import wall_clock

if TYPE_CHECKING:
    from collections.abc import Sequence

    from icekeel.app import App

HERE = Path(".")
ProjectFolder = Annotated[Path, typer.Option("--project", help="Folder with project.py.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Reason = Annotated[str, typer.Option(help="Why, for the record.")]
By = Annotated[str, typer.Option(help="Who decides (default: the user).")]
Shift = Annotated[int, typer.Option(hidden=True, help="Microseconds added to the machine's time.")]


def open_app(project: Path, *, shift: int = 0, **flags: Any) -> App:
    """A project with its settings; `shift` is added to the machine's time, `flags` come before settings."""
    # The rooms behind the app take a second or two to load: `icekeel --help` should not.
    from icekeel.app import App
    from icekeel.settings import load_settings

    folder = project.resolve()
    return App(folder, load_settings(folder, flags), clock=lambda: wall_clock() + shift)


def check_action(action: str, actions: Sequence[str]) -> None:
    """Refuse a word that is none of a command's actions.

    Raises:
        SettingsError: it is none.
    """
    if action not in actions:
        allowed, hint = ", ".join(actions), nearest(action, actions)
        raise SettingsError(Fault("unknown_action", "no such action", "ACTION", action, allowed, hint))


def check_folder(out: Path | None) -> None:
    """Refuse a file to be written whose folder there is not, before any work is done.

    Raises:
        SettingsError: there is none, or the file is a folder.
    """
    if out is not None and not out.parent.is_dir():
        raise SettingsError(Fault("no_folder", "no such folder", "--out", str(out.parent)))
    if out is not None and out.is_dir():
        raise SettingsError(
            Fault("is_folder", "expected a file to write, and this is a folder", "--out", str(out))
        )


def user() -> str:
    """Who runs this command."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        return f"user {os.getuid()}"
