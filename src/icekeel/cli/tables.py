"""Commands about tables: take files into history, tell how old rows are, write a training set."""

from __future__ import annotations

import os
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from icekeel.core.errors import Fault, SettingsError
from icekeel.core.time import SECOND, format_time, parse_time, roughly

from .options import HERE, AsJson, ProjectFolder, Shift, open_app
from .output import print_json, print_rows, say
from .versions import ModelName, registry_of

if TYPE_CHECKING:
    from icekeel.app import App

Tables = Annotated[list[str] | None, typer.Argument(help="Event tables; all of them by default.")]


def ingest(
    tables: Tables = None, project: ProjectFolder = HERE, shift: Shift = 0, as_json: AsJson = False
) -> None:
    """Take what is new of the declared sources into history; rows that break their contract go to quarantine."""
    quiet = as_json or not sys.stderr.isatty()
    found = open_app(project, shift=shift).ingest(tables or [], (lambda line: None) if quiet else say)
    rows = [
        {
            "table": one.table,
            "source": Path(one.source).name if one.source.startswith("/") else one.source,
            "kept": one.kept,
            "changed": one.changed,
            "deleted": one.deleted,
            "quarantined": one.quarantined,
            "skipped": one.skipped,
            "reasons": dict(one.reasons),
            "warned": dict(one.warned),
            "notes": list(one.notes),
        }
        for one in found
    ]
    print_rows(rows, as_json=as_json, empty="no table has a source")
    if not as_json and all(one.known for one in found):
        say("everything had been taken in before")


def freshness(
    tables: Annotated[list[str] | None, typer.Argument(help="Event tables (default: all).")] = None,
    project: ProjectFolder = HERE,
    as_json: AsJson = False,
) -> None:
    """How old the newest row of each table and of each of its keys is, and whether `fresh=` allows that."""
    app = open_app(project)
    found = app.freshness(tables or ())
    rows = [
        {
            "table": one.table,
            "state": one.state,
            "newest": None if one.newest is None else format_time(one.newest),
            "age_s": None if one.age is None else one.age / SECOND,
            "warn": app.project.tables[one.table].fresh.warn,
            "error": app.project.tables[one.table].fresh.error,
            "by": list(app.project.tables[one.table].fresh.keys),
            "keys": one.keys,
            "keys_past_warn": one.warn,
            "keys_past_error": one.error,
            "oldest_keys": [{"key": key, "age_s": age / SECOND} for key, age in one.worst],
        }
        for one in found
    ]
    if as_json:
        print_json(rows)
        return
    shown = [
        row
        | {
            "newest": "" if one.age is None else f"{roughly(one.age)} ago",
            "oldest_keys": [f"{key} ({roughly(age)})" for key, age in one.worst],
        }
        for row, one in zip(rows, found, strict=True)
    ]
    for row in shown:
        del row["age_s"]
    print_rows(shown, as_json=False, empty="the project has no event tables")


_WRITERS = {".parquet": "write_parquet", ".csv": "write_csv"}


def dataset(
    model: ModelName,
    out: Annotated[Path, typer.Option(help="File to write: .parquet or .csv.")],
    questions: Annotated[Path | None, typer.Option(help="Past requests (default: all of the model).")] = None,
    asked_at: Annotated[str, typer.Option(help="Column of QUESTIONS that tells when each was asked.")] = "",
    now: Annotated[str, typer.Option(help="Time up to which anything is known (default: now).")] = "",
    snapshot: Annotated[
        str, typer.Option(help="What a version, or the training of a digest, learnt from; instead of --now.")
    ] = "",
    features: Annotated[str, typer.Option(help="Names with commas between them (default: all).")] = "",
    *,
    project: ProjectFolder = HERE,
    as_json: AsJson = False,
) -> None:
    """Write a training set: past questions, features and outcomes, all as they were known at a time."""
    faults = []
    if out.suffix not in _WRITERS:
        allowed = ", ".join(_WRITERS)
        faults.append(Fault("unknown_format", "unknown kind of file", "--out", str(out), allowed))
    if not out.parent.is_dir():
        faults.append(Fault("no_folder", "no such folder", "--out", str(out.parent)))
    if (questions is None) != (not asked_at):
        what = "questions from a file need the column of their time, and the other way round"
        faults.append(Fault("missing_option", what, "--questions, --asked-at"))
    if snapshot and (now or questions):
        what = "a snapshot says itself up to when what was known, and has its own questions"
        faults.append(Fault("extra_option", what, "--snapshot", hint="leave out --now and --questions"))
    if faults:
        raise SettingsError(*faults)
    from icekeel.store import FeatureStore

    with FeatureStore(open_app(project)) as store:
        chosen = [name.strip() for name in features.split(",")] if features else None
        at = parse_time(now) if now else store.app.clock()
        if snapshot:
            at = _told(store.app, model, snapshot)
        if questions is None:
            found = store.get_training_set(model, now=at, snapshot=snapshot, features=chosen, say=say)
        else:
            found = store.get_historical_features(
                model, questions, asked_at=asked_at, features=chosen, outcome=True, now=at
            )
    draft = out.with_name(f"{out.name}.new")
    try:
        getattr(found, _WRITERS[out.suffix])(str(draft))
        os.replace(draft, out)
    finally:
        draft.unlink(missing_ok=True)
    status = Counter(status for (status,) in found.select("_status").fetchall())
    counts = {name: status[name] for name in ("known", "absent", "pending")}
    names = [name.removeprefix("feature.") for name in found.columns if name.startswith("feature.")]
    if as_json:
        total = sum(counts.values())
        print_json({"out": str(out), "now": format_time(at), "rows": total, **counts, "features": names})
    else:
        say(f"{out}: {len(names)} features as of {format_time(at)}")
        print_rows([{"outcome": name, "rows": rows} for name, rows in counts.items()], as_json=False)


def _told(app: App, model: str, name: str) -> int:
    """When the snapshot is from; says where features have been defined otherwise since."""
    with registry_of(app, model) as registry:
        snapshot = app.snapshots(registry).find(name, model)
        learnt = [one for one in registry.versions(model) if one.snapshot == snapshot.digest]
    learnt = [one for one in learnt if one.name == name] or learnt
    now = app.plans[model].definitions
    then = [{feature: one["digest"] for feature, one in version.definitions.items()} for version in learnt]
    if then and now not in then:
        say(
            f"the features of {model} are defined otherwise than when {name} was trained: these are the present ones"
        )
    return snapshot.now
