"""The command about what trainings have seen: list it, compare it, let go of what nobody needs."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from icekeel.core.errors import Fault, SettingsError
from icekeel.settings import is_duration

from .options import HERE, AsJson, ProjectFolder, check_action, open_app
from .output import print_json, print_rows, print_text, say
from .versions import registry_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from icekeel.operations.snapshots import TableChange

ACTIONS = ("list", "diff", "prune")
MOST_COLUMNS = 10
_SHOWN = ("nulls", "mean", "p5", "p50", "p95", "distinct", "top")


def snapshots(
    action: Annotated[str, typer.Argument(help="list, diff or prune.")] = "list",
    before: Annotated[
        str, typer.Argument(help="With diff: a version, the beginning of a digest, or now.")
    ] = "",
    after: Annotated[str, typer.Argument(help="With diff: the other one (default: now).")] = "",
    keep: Annotated[str, typer.Option(help="With prune: for how long (default: keep_snapshots).")] = "",
    project: ProjectFolder = HERE,
    as_json: AsJson = False,
) -> None:
    """What each training saw: list it with what needs it, compare two in rows, columns and distributions, prune."""
    check_action(action, ACTIONS)
    if (action == "diff") is not bool(before):
        raise SettingsError(Fault("missing_option", "diff alone takes what is compared", "BEFORE", before))
    if keep and action != "prune":
        raise SettingsError(Fault("extra_option", "only prune takes it", "--keep", keep))
    if keep and not is_duration(keep):
        raise SettingsError(Fault("bad_duration", "expected a duration", "--keep", keep, '"30d", "for ever"'))
    app = open_app(project, keep_snapshots=keep or None)
    with registry_of(app) as registry:
        known = app.snapshots(registry)
        if action == "diff":
            _diff(known.diff(before, after or "now"), as_json=as_json)
        elif action == "prune":
            gone, freed = known.prune(app.kept.snapshots, app.clock())
            if as_json:
                removed = [{"snapshot": one.digest, "model": one.model} for one in gone]
                print_json({"removed": removed, "freed_bytes": freed})
            else:
                print_text(f"{len(gone)} snapshots removed, {freed / 1e6:,.1f} MB freed")
        else:
            rows = [asdict(one) for one in known.listed()]
            if not as_json:
                rows = [{**row, "digest": row["digest"][:12], "runs": len(row["runs"])} for row in rows]
            print_rows(rows, as_json=as_json, empty="no training has pinned a snapshot yet")


def _diff(changes: Sequence[TableChange], *, as_json: bool) -> None:
    if as_json:
        print_json([asdict(one) for one in changes])
        return
    counted = ("table", "before", "after", "added", "removed", "corrected")
    print_rows([{name: getattr(one, name) for name in counted} for one in changes], as_json=False)
    for one in changes:
        for what, names in (
            ("columns added", one.columns_added),
            ("columns removed", one.columns_removed),
            ("columns of another type", [f"{name}: {types}" for name, types in one.columns_retyped.items()]),
        ):
            if names:
                say(f"{one.table}, {what}: {', '.join(names)}")
    rows: list[dict[str, Any]] = [
        {
            "column": f"{one.table}.{column.column}",
            "distance": column.distance,
            "psi": column.psi,
            "before": _words(column.before),
            "after": _words(column.after),
        }
        for one in changes
        for column in one.columns
        if column.before != column.after
    ]
    rows.sort(key=lambda row: -(row["distance"] or 0))
    print_rows(rows[:MOST_COLUMNS], as_json=False, empty="every column is distributed as it was")


def _words(summary: Mapping[str, object]) -> str:
    """A summary in few words."""
    return ", ".join(f"{name} {_number(summary[name])}" for name in _SHOWN if summary.get(name))


def _number(value: object) -> str:
    if isinstance(value, dict):
        return " ".join(f"{name} {share:.0%}" for name, share in list(value.items())[:3])
    return f"{value:.4g}" if isinstance(value, float) else str(value)
