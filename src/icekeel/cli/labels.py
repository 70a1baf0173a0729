"""The command about labels in doubt: a list out to people, and what they said back in."""

from __future__ import annotations

import csv
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from icekeel.core.errors import Fault, SettingsError, SourceError

from .options import HERE, AsJson, By, ProjectFolder, Reason, check_action, check_folder, open_app, user
from .output import print_json, print_rows, say
from .versions import ModelName, registry_of

ACTIONS = ("list", "take")


def labels(
    action: Annotated[str, typer.Argument(help="list or take.")],
    model: ModelName,
    file: Annotated[Path | None, typer.Argument(help="The reviewed list, for take.")] = None,
    *,
    budget: Annotated[
        float,
        typer.Option(help="Labels to list: a share below 1, or a number (default: the model's review=)."),
    ] = 0.0,
    out: Annotated[Path | None, typer.Option(help="CSV file for the list; printed without it.")] = None,
    by: By = "",
    reason: Reason = "",
    project: ProjectFolder = HERE,
    as_json: AsJson = False,
) -> None:
    """List the labels that most likely are wrong, for people to review, and take in what they said of them."""
    check_action(action, ACTIONS)
    if (action == "take") is not (file is not None):
        raise SettingsError(Fault("missing_option", "take, and only take, reads a file", "FILE"))
    check_folder(out)
    app = open_app(project)
    with registry_of(app, model) as registry:
        desk = app.labelling(registry)
        if file is not None:
            reviewed = _read(file)
            with app.journal("labels") as journal:
                taken = desk.take(model, reviewed, registry, journal, by=by or user(), reason=reason, say=say)
            print_json(taken) if as_json else print_rows([asdict(taken)], as_json=False)
            return
        found = desk.in_doubt(model, budget or app.model(model).audits.review, say)
    if out is not None:
        _write(out, found.rows)
        say(f"wrote {out}")
    if as_json:
        print_json(found)
        return
    if out is None:
        print_rows(found.rows, as_json=False, empty="no label waits for a review")
    say(
        f"{found.labels:,} labels, of which {found.wrong:.1%} may be wrong ({found.low:.1%} to {found.high:.1%}); "
        f"{found.reviewed:,} reviewed, {found.corrected:,} corrected; {len(found.rows):,} listed"
    )


def _write(path: Path, rows: list[dict[str, Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]) if rows else ["id", "given", "label"])
        writer.writeheader()
        writer.writerows(rows)


def _read(path: Path) -> list[dict[str, Any]]:
    """The rows of a reviewed list, whatever else a spreadsheet has made of it.

    Raises:
        SourceError: no such file, no text, or not the columns of a list.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            sample = file.readline()
            file.seek(0)
            reader = csv.DictReader(file, delimiter=";" if sample.count(";") > sample.count(",") else ",")
            missing = [name for name in ("id", "given", "label") if name not in (reader.fieldnames or ())]
            if missing:
                what, got = f"no column {', '.join(missing)}", ", ".join(reader.fieldnames or ())
                hint = "icekeel labels list MODEL --out review.csv"
                raise SourceError(Fault("missing_column", what, str(path), got, "", hint))
            return list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        what = getattr(error, "strerror", None) or str(error)
        raise SourceError(Fault("unreadable", what, str(path))) from error
