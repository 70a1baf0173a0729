"""The command that forgets a person, or any other entity that private fields name."""

from __future__ import annotations

import sys
from typing import Annotated

import msgspec
import typer

from icekeel.core.errors import Fault, SettingsError
from icekeel.core.time import format_time

from .options import HERE, AsJson, ProjectFolder, open_app, user
from .output import print_json, print_rows, say


def forget(
    entity: Annotated[
        str,
        typer.Argument(
            help="ENTITY=VALUE, as customer=C0001; customer=- reads the value from standard input."
        ),
    ] = "",
    reason: Annotated[str, typer.Option(help="Why, for the receipt.")] = "",
    by: Annotated[str, typer.Option(help="Who asked for it (default: the user of this machine).")] = "",
    receipts: Annotated[bool, typer.Option("--receipts", help="List what was forgotten before.")] = False,
    project: ProjectFolder = HERE,
    as_json: AsJson = False,
) -> None:
    """Forget a private value: what is stored of it stands for nobody from then on, in back-ups too."""
    from icekeel.operations.upkeep.forgetting import named

    app = open_app(project)
    if receipts and not entity:
        found = [] if app.vault is None else app.vault.receipts(finished=True)
        rows = [msgspec.to_builtins(one) | {"at": format_time(one.at)} for one in found]
        print_rows(rows, as_json=as_json, empty="nothing was forgotten yet")
        return
    if receipts or not entity:
        raise SettingsError(
            Fault("bad_argument", "expected ENTITY=VALUE or --receipts", hint="customer=C0001")
        )
    name, value = named(entity)
    if value == "-":
        value = sys.stdin.readline().rstrip("\n")
    receipt = app.forget(name, value, by=by or user(), reason=reason)
    if as_json:
        print_json({"forgotten": receipt is not None, "receipt": receipt and msgspec.to_builtins(receipt)})
    elif receipt is None:
        say(f"nothing is known of this {name}: nothing was to be forgotten")
    else:
        say(
            f"forgotten at {format_time(receipt.at)}, receipt {receipt.id}: {receipt.pseudonym} stands for nobody now"
        )
        print_rows(
            [{"where": where, "left without a name": count} for where, count in receipt.found.items()],
            as_json=False,
            empty="it stands nowhere",
        )
        for one in receipt.not_held:
            say(f"not held by Icekeel: {one}")
