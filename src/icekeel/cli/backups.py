"""The commands for bad days: make, list and check backups, put one back, and find out what is wrong."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from icekeel.core.errors import Fault, IcekeelError, SettingsError
from icekeel.core.time import format_second, wall_clock

from .options import HERE, AsJson, ProjectFolder, Shift, check_action
from .output import print_json, print_rows, print_text, say
from .running import only_keeper

ACTIONS = ("make", "list", "check")


def backup(
    action: Annotated[str, typer.Argument(help="make, list or check.")] = "make",
    name: Annotated[
        str, typer.Argument(help="With check: the beginning of a name (default: the latest).")
    ] = "",
    to: Annotated[str, typer.Option(help="Folder of the backups (default: the setting backup_to).")] = "",
    keep: Annotated[
        int, typer.Option(min=0, help="Backups that stay (default: the setting keep_backups).")
    ] = 0,
    project: ProjectFolder = HERE,
    as_json: AsJson = False,
) -> None:
    """Copy all that cannot be made again while everything runs; list what there is; check a copy byte by byte."""
    from icekeel.operations.upkeep.backup import back_up, check
    from icekeel.settings import Places, load_settings

    check_action(action, ACTIONS)
    if name and action != "check":
        raise SettingsError(Fault("extra_option", "only check takes a name", "NAME", name))
    folder = project.resolve()
    settings = load_settings(folder)
    shelf = _shelf(folder, to or settings.backup_to)
    if action == "list":
        rows = [_row(*one) for one in shelf.listed()]
        print_rows(rows, as_json=as_json, empty="there is no backup yet")
        return
    if action == "check":
        name, found = shelf.find(name)
        bad = check(shelf, found)
        if as_json:
            print_json({**_row(name, found), "damaged": bad})
        else:
            print_text(f"{name}: {len(found.files):,} files, {len(bad)} of them missing or changed")
            for path in bad:
                print_text(f"  {path}")
        if bad:
            raise typer.Exit(1)
        return
    places = Places((folder / settings.state).resolve())
    most = keep or settings.keep_backups
    name, made = back_up(folder, places, shelf, at=wall_clock(), most=most, say=say)
    if as_json:
        print_json(_row(name, made))
    else:
        print_text(f"{name}: {len(made.files):,} files, {made.size / 1e6:,.1f} MB")


def restore(
    source: Annotated[Path, typer.Argument(help="Folder of the backups.")],
    name: Annotated[str, typer.Argument(help="The beginning of a name (default: the latest).")] = "",
    aside: Annotated[
        bool, typer.Option(help="Move a state that is there aside, instead of refusing.")
    ] = False,
    project: ProjectFolder = HERE,
    as_json: AsJson = False,
) -> None:
    """Put a backup back, checked byte by byte before it counts; nothing may run there meanwhile."""
    from icekeel.operations.upkeep.backup import Shelf, finish_restore, restore, settings_for
    from icekeel.settings import Places

    name, found = Shelf(source).find(name)
    project.mkdir(parents=True, exist_ok=True)
    folder = project.resolve()
    settings = settings_for(Shelf(source), found, folder)
    places = Places((folder / settings.state).resolve())
    before = None
    if finish_restore(places.state) == name:
        say(
            f"an earlier restore was broken off and is finished; what was there lies in {places.state}.before-N"
        )
    else:
        with only_keeper(places.state) if places.state.exists() else nullcontext():
            before = restore(Shelf(source), found, folder, places, aside=aside, vault_key=settings.vault_key)
    if as_json:
        print_json({**_row(name, found), "before": str(before) if before else None})
        return
    if before is not None:
        say(f"the state of before lies in {before}")
    print_text(f"{name} is restored; icekeel up --project {project} makes the projections and serves")


def _shelf(folder: Path, to: str) -> Any:
    from icekeel.operations.upkeep.backup import Shelf

    if not to:
        hint = "icekeel backup --to FOLDER, or backup_to in icekeel.toml"
        raise SettingsError(Fault("no_backup_folder", "nobody said where backups go", "--to", hint=hint))
    return Shelf((folder / to).resolve())


def _row(name: str, made: Any) -> dict[str, Any]:
    return {"backup": name, "at": format_second(made.at), "files": len(made.files), "bytes": made.size}


def doctor(
    deep: Annotated[bool, typer.Option(help="Read every file of history and of the latest backup.")] = False,
    project: ProjectFolder = HERE,
    shift: Shift = 0,
    as_json: AsJson = False,
) -> None:
    """What is wrong with an installation, part by part, and what to do; exit status 1 where something is bad."""
    from icekeel.app import App
    from icekeel.define import load_project
    from icekeel.operations.upkeep.backup import finish_restore
    from icekeel.operations.upkeep.doctor import Check, Patient, examine
    from icekeel.settings import Places, Settings, load_settings

    folder = project.resolve()
    checks, settings, places = [], Settings(), Places(folder / Settings().state)
    try:
        settings = load_settings(folder)
        places = Places((folder / settings.state).resolve())
        if finished := finish_restore(places.state):
            say(f"a restore was broken off and is finished: {finished} is in place")
        places = App(folder, settings).places
    except SettingsError as error:
        checks.append(Check("settings", "bad", str(error), "icekeel config"))
    except IcekeelError:  # the project's own check says so
        pass
    now = wall_clock() + shift
    patient = Patient(
        folder,
        settings,
        places,
        lambda: load_project(folder),
        lambda: App(folder, settings, clock=lambda: now).freshness(),
        now,
        deep,
    )
    checks.extend(examine(patient))
    if as_json:
        print_json([asdict(check) for check in checks])
    else:
        for check in checks:
            print_text(f"{check.verdict:5} {check.part:10} {check.found}")
            if check.todo:
                print_text(f"{'':16} {check.todo}")
    if any(check.verdict == "bad" for check in checks):
        raise typer.Exit(1)
